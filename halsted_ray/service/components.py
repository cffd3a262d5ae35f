"""All that one replica of the API works with, put together once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from halsted_ray.service.database import Database
from halsted_ray.service.jobs import Jobs
from halsted_ray.service.object_store import FolderStore, S3Store, open_store
from halsted_ray.service.oidc import Provider, SignOn
from halsted_ray.service.prometheus import Metrics
from halsted_ray.service.served_model import ModelSource, source_of
from halsted_ray.service.settings import Settings
from halsted_ray.service.uploads import Uploads
from halsted_ray.service.videos import Videos

TagClip = Callable[[bytes | str, str, float | None, float | None], Awaitable[dict]]
"""(bytes of a clip or its location, instruction, start_s, stop_s) → the answer of ``ClipTagger``, or
``{"refused": code, "message": …}``. Raises Busy."""
Serving = Callable[[], Awaitable[dict]]
"""The stamp of the model that answers clips now. Raises where none does."""


class Busy(Exception):
    """The queue is full; the same request will do later."""


@dataclass
class ServiceComponents:
    """``tag_clip`` is None where no model answers clips here (only then ``clips:map`` is 503). ``replicas``: how many
    of these share the requests, this one counted."""

    settings: Settings
    database: Database
    store: FolderStore | S3Store
    uploads: Uploads
    videos: Videos
    jobs: Jobs
    source: ModelSource
    metrics: Metrics
    tag_clip: TagClip | None = None
    serving: Serving | None = None
    sign_on: SignOn | None = None
    replicas: int = 1

    @classmethod
    def open(
        cls, settings: Settings, tag_clip: TagClip | None = None, serving: Serving | None = None, replicas: int = 1
    ) -> ServiceComponents:
        """Opens database and store and brings the database up to date."""
        database, store = Database(settings.database), open_store(settings.store)
        database.migrate()
        sign_on = None
        if settings.oidc_issuer:
            sign_on = SignOn(Provider(settings.oidc_issuer, settings.oidc_audience, settings.oidc_secret), database)
        return cls(
            settings,
            database,
            store,
            Uploads(database, store, settings.presign, settings.link_s),
            Videos(database, store),
            Jobs(database, settings.lease_s),
            source_of(settings.model, settings.model_poll_s),
            Metrics(database),
            tag_clip,
            serving,
            sign_on,
            replicas,
        )
