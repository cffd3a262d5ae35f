"""What the service does by itself, in a thread of each gateway: exports the audit log's digest, deletes what is due,
makes the summaries of maps that have none.

A mapper does not do this, since one job can take it hours.
"""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy.exc import SQLAlchemyError

from halsted_ray.errors import HalstedError
from halsted_ray.service import audit_export
from halsted_ray.service.components import ServiceComponents
from halsted_ray.service.prepared_timelines import PreparedTimelines
from halsted_ray.service.summaries import make_missing

log = logging.getLogger(__name__)
LOOK_EVERY_S = 60.0
"""How often it looks for cases whose time has come."""


class Housekeeper:
    """Does everything that is due at each ``look``. ``timelines``: the texts that this process keeps."""

    def __init__(self, components: ServiceComponents, timelines: PreparedTimelines) -> None:
        self.components, self.timelines = components, timelines
        self._exported_s = -float("inf")
        self._without_summary: set[tuple[str, str]] = set()

    def look(self) -> None:
        """Makes some of the summaries that are missing, exports the digest if its time has come, deletes the cases
        whose time has come, drops what is kept in memory of deleted ones, and takes their samples out of the atlas. A
        failure of one leaves the others alone, goes into the log, and is tried again at the next look."""
        settings = self.components.settings
        try:
            make_missing(self.components.videos, self.components.model_source().taxonomy, self._without_summary)
        except (HalstedError, SQLAlchemyError) as error:
            log.error("summaries of maps were not made: %s", type(error).__name__)
        try:
            self.components.cases.delete_due()
            self.timelines.drop_gone()
            self.components.atlas_entries.withdraw_due()
        except (HalstedError, SQLAlchemyError) as error:
            log.error("cases whose time has come were not deleted: %s", type(error).__name__)
        if settings.audit_to is None or time.monotonic() - self._exported_s < settings.audit_every_s:
            return
        try:
            audit_export.export(self.components.database, settings.audit_to)
            self._exported_s = time.monotonic()
        except (HalstedError, SQLAlchemyError) as error:
            log.error("the digest of the audit log was not exported: %s", error)

    def look_forever(self) -> None:
        """Calls ``look`` again and again: for a thread of its own, which ends with the process."""
        pause = threading.Event()
        every_s = min(LOOK_EVERY_S, self.components.settings.audit_every_s)
        while True:
            try:
                self.look()
            except Exception:
                log.exception("the housekeeping goes on after an error")
            pause.wait(every_s)
