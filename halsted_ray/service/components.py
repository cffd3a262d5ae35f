"""The components of the service that one replica of the API works with, opened once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from halsted_ray.service.clip_tagging import ClipAnswer, ClipRefusal
from halsted_ray.service.database import Database
from halsted_ray.service.jobs import Jobs
from halsted_ray.service.object_store import ObjectStore, open_store
from halsted_ray.service.oidc import OidcProvider, SingleSignOn
from halsted_ray.service.prometheus import Metrics
from halsted_ray.service.served_model import ModelSource, ModelStamp, model_source
from halsted_ray.service.settings import Settings
from halsted_ray.service.uploads import Uploads
from halsted_ray.service.videos import Videos

TagClip = Callable[[bytes | str, str, float | None, float | None], Awaitable[ClipAnswer | ClipRefusal]]
"""(bytes of a clip or its location, instruction, start_s, stop_s) → the answer, or why there is none. Raises
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
    jobs: Jobs
    model_source: ModelSource
    metrics: Metrics
    tag_clip: TagClip | None = None
    serving_model: ServingModel | None = None
    single_sign_on: SingleSignOn | None = None
    replicas: int = 1

    @classmethod
    def open(
        cls,
        settings: Settings,
        tag_clip: TagClip | None = None,
        serving_model: ServingModel | None = None,
        replicas: int = 1,
    ) -> ServiceComponents:
        """Opens the database and the store, and brings the database up to date."""
        database, store = Database(settings.database), open_store(settings.store)
        database.migrate()
        single_sign_on = None
        if settings.oidc_issuer:
            provider = OidcProvider(settings.oidc_issuer, settings.oidc_audience, settings.oidc_secret)
            single_sign_on = SingleSignOn(provider, database)
        return cls(
            settings=settings,
            database=database,
            store=store,
            uploads=Uploads(database, store, settings.presign, settings.link_s),
            videos=Videos(database, store),
            jobs=Jobs(database, settings.lease_s),
            model_source=model_source(settings.model, settings.model_poll_s),
            metrics=Metrics(database),
            tag_clip=tag_clip,
            serving_model=serving_model,
            single_sign_on=single_sign_on,
            replicas=replicas,
        )
