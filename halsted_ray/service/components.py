"""The components of the service that one replica of the API works with, opened once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from halsted_ray.errors import ModelError, UsageError
from halsted_ray.search.text_question import TextSearch
from halsted_ray.service.annotations import Annotations
from halsted_ray.service.atlas_entries import AtlasEntries
from halsted_ray.service.cases import Cases
from halsted_ray.service.clip_tagging import ClipAnswer, ClipRefusal
from halsted_ray.service.comments import Comments
from halsted_ray.service.database import Database
from halsted_ray.service.dicom_instances import DicomInstances
from halsted_ray.service.jobs import Jobs
from halsted_ray.service.library import Library
from halsted_ray.service.object_store import ObjectStore, open_store
from halsted_ray.service.oidc import OidcProvider, SingleSignOn
from halsted_ray.service.prometheus import Metrics
from halsted_ray.service.served_model import ModelSource, ModelStamp, model_source
from halsted_ray.service.settings import Settings
from halsted_ray.service.storage_room import StorageRoom
from halsted_ray.service.uploaded_videos import NewVideoRules
from halsted_ray.service.uploads import Uploads
from halsted_ray.service.videos import Videos
from halsted_ray.video.limits import VideoLimits

log = logging.getLogger(__name__)
TagClip = Callable[[str, bytes | str, str, float | None, float | None], Awaitable[ClipAnswer | ClipRefusal]]
"""(tenant, bytes of a clip or its location, instruction, start_s, stop_s) → the answer, or why there is none. Raises
Overloaded."""
ServingModel = Callable[[], Awaitable[ModelStamp]]
"""→ the stamp of the model that tags clips now. Raises Overloaded where no model does."""


class Overloaded(Exception):
    """The queue for the model is full. The client may send the same request again."""


@dataclass
class ServiceComponents:
    """``model_source``: which model new jobs use. ``tag_clip``, ``serving_model``: None where no model tags clips;
    then only ``clips:map`` and ``readyz`` answer 503. ``replicas``: how many replicas share the requests, with this
    one."""

    settings: Settings
    database: Database
    store: ObjectStore
    uploads: Uploads
    videos: Videos
    cases: Cases
    jobs: Jobs
    model_source: ModelSource
    metrics: Metrics
    tag_clip: TagClip | None = None
    serving_model: ServingModel | None = None
    single_sign_on: SingleSignOn | None = None
    replicas: int = 1
    _words: TextSearch | None = field(default=None, repr=False)
    _loading: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def dicom_instances(self) -> DicomInstances:
        """Takes DICOM instances into ``uploads``."""
        return DicomInstances(self.database, self.uploads)

    @property
    def annotations(self) -> Annotations:
        """What people say about the maps."""
        return Annotations(self.database)

    @property
    def comments(self) -> Comments:
        """What people write at a time of a case."""
        return Comments(self.database)

    @property
    def atlas_entries(self) -> AtlasEntries:
        """What of the annotations is in the site's atlas."""
        return AtlasEntries(self.database, self.videos, self.settings.atlas)

    def words(self) -> TextSearch | None:
        """What questions in words are asked with, loaded once; None where the site has no model for them. Raises
        ModelError where the model or its text encoder can't be read; the log says why."""
        with self._loading:
            if self._words is None and self.settings.search_model:
                try:
                    self._words = TextSearch.load(self.settings.search_model)
                except UsageError as error:
                    log.error("HALSTED_SEARCH_MODEL: %s", error)
                    raise ModelError(
                        "the model for questions in words can't be loaded; the operator finds the reason in the log"
                    ) from error
            return self._words

    @property
    def library(self) -> Library:
        """The cases as the files of one operation."""
        return Library(self.database, self.cases)

    @classmethod
    def open(
        cls,
        settings: Settings,
        tag_clip: TagClip | None = None,
        serving_model: ServingModel | None = None,
        replicas: int = 1,
    ) -> ServiceComponents:
        """Opens the database and the store, brings the database up to date, and holds room for it on its disk."""
        database, store = Database(settings.database, settings.connections), open_store(settings.store)
        database.migrate()
        if database.ballast is not None:
            database.ballast.take()
        single_sign_on = None
        if settings.oidc_issuer:
            provider = OidcProvider(settings.oidc_issuer, settings.oidc_audience, settings.oidc_secret)
            single_sign_on = SingleSignOn(provider, database)
        videos = Videos(database, store)
        return cls(
            settings=settings,
            database=database,
            store=store,
            uploads=Uploads(
                database,
                store,
                StorageRoom(
                    store,
                    settings.quota_bytes,
                    settings.reserve_bytes,
                    settings.open_uploads,
                    is_cleaned=settings.deidentify != "off",
                ),
                VideoLimits(settings.video_hours, settings.video_frames),
                NewVideoRules(settings.retention_days, settings.deidentify, settings.proxies),
                settings.presign,
                settings.link_s,
            ),
            videos=videos,
            cases=Cases(database, videos, settings.retention_days, settings.withdrawn_days),
            jobs=Jobs(database, settings.lease_s, settings.review_first, settings.proxies),
            model_source=model_source(settings.model, settings.model_poll_s),
            metrics=Metrics(database),
            tag_clip=tag_clip,
            serving_model=serving_model,
            single_sign_on=single_sign_on,
            replicas=replicas,
        )
