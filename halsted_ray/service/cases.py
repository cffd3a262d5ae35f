"""Cases: whose a video is, who else may do what with it, its consent, and until when it is kept.

``Cases.require`` is the only door to a video for a request. It knows nothing of HTTP; ``case_access.py`` makes
dependencies of it, and writes refused looks into the audit log. What happens within the service (the mapping of a job,
the removal of deleted bytes) does not come through this door.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from halsted_ray.errors import UsageError
from halsted_ray.service import audit, links, users
from halsted_ray.service.atlas_entries import withdraw_from_atlas
from halsted_ray.service.database import Database, lock_row, now_s
from halsted_ray.service.errors import Forbidden, NotFound, StateConflict
from halsted_ray.service.links import LinkOfCase, LinkUse
from halsted_ray.service.rights import PERMISSION_OF, RELATIONS, SHARED_AS, relations_of, rights_of
from halsted_ray.service.shares import add_share, is_running
from halsted_ray.service.stored_videos import video_of_tenant
from halsted_ray.service.tables import AuditEntry, Job, Share, StoredVideo, Upload, User
from halsted_ray.service.users import DAY_S, PERMISSIONS, Caller
from halsted_ray.service.videos import Videos

log = logging.getLogger(__name__)
CONSENTS = ("unknown", "given", "withdrawn")
"""The states of a patient's consent. Once it is withdrawn, only administrators still see picture and map."""
MAX_SHARE_DAYS = 366.0
"""No share that somebody grants lasts longer."""


@dataclass(frozen=True)
class Case:
    """A video as one caller sees it. ``relations``: what the caller is to it. ``rights``: what they may do with it
    (``rights.RIGHTS``), where both relation and role allow it. ``shares``: relation → the id of the share that gives
    it. ``link``: what the link shows through which the caller looks; None for a user."""

    caller: Caller
    video: StoredVideo
    relations: tuple[str, ...]
    rights: frozenset[str]
    shares: Mapping[str, str] = field(default_factory=dict)
    link: LinkUse | None = None

    @property
    def span(self) -> tuple[float, float] | None:
        """The only part [start_s, stop_s) of the video that the caller may see; None for all of it."""
        return self.link.span if self.link else None

    @property
    def hides_proficiency(self) -> bool:
        """Whether the caller sees the map without how well something was done."""
        return self.link is not None and self.link.hides_proficiency

    @property
    def video_id(self) -> str:
        """The id of the video."""
        return self.video.video_id

    def is_withdrawn(self, right: str) -> bool:
        """Whether the caller would have ``right``, were the patient's consent not withdrawn."""
        if self.video.consent != "withdrawn" or right in self.rights:
            return False
        return right in _allowed(self.caller, self.relations, "given")

    def share_for(self, right: str) -> str | None:
        """The id of the share through which the caller has ``right``; None where they have it without a share."""
        relation = next((one for one in self.relations if right in RELATIONS[one]), "")
        return self.shares.get(relation)

    def record_look(self, session: Session, action: str, right: str, **detail: Any) -> None:
        """Writes into the audit log that the caller looks at the picture or the map, with the share or the link where
        it is through one. ``detail``: JSON values, with the span that is looked at."""
        share_id = self.share_for(right)
        through = {"share": share_id} if share_id else {"link": self.link.link_id} if self.link else {}
        audit.record_by(session, self.caller, action, self.video_id, **through, **detail)


@dataclass(frozen=True)
class Person:
    """Somebody with whom a case is shared. ``user``, ``granted_by``: the names by which the service knows them;
    ``name``, ``granted_by_name``: those that people read. ``expires_s``: None where the share ends with the case
    only."""

    share_id: str
    user: str
    name: str
    relation: str
    granted_by: str
    granted_by_name: str
    created_s: float
    expires_s: float | None


@dataclass(frozen=True)
class Cases:
    """The cases of all tenants. ``retention_days``: how long a case is kept that says nothing else; None: for good.
    ``withdrawn_days``: how long it is kept once its consent is withdrawn."""

    database: Database
    videos: Videos
    retention_days: float | None = None
    withdrawn_days: float = 7.0

    def require(self, caller: Caller, video_id: str, right: str) -> Case:
        """The case, where the caller has ``right``. Raises NotFound where they may not know of it, else Forbidden."""
        with self.database.reading() as session:
            case = _case(session, caller, video_of_tenant(session, caller.tenant_id, video_id))
        return _checked(case, right)

    def require_job(self, caller: Caller, job_id: str, right: str) -> Job:
        """The job, where the caller has ``right`` to its case. Of a case that is deleted only administrators and
        whoever asked for the job see it. Raises NotFound, Forbidden."""
        with self.database.reading() as session:
            job = session.get(Job, job_id)
            if job is None or job.tenant_id != caller.tenant_id:
                raise NotFound(f"no job {job_id!r}")
            video = session.get(StoredVideo, (job.tenant_id, job.video_id))
            if video is None or video.deleted_s is not None:
                if caller.role == "admin" or job.user_id == caller.user_id:
                    return job
                raise NotFound(f"no job {job_id!r}")
            case = _case(session, caller, video)
        try:
            _checked(case, right)
        except NotFound:
            raise NotFound(f"no job {job_id!r}") from None
        return job

    def require_upload(self, caller: Caller, upload_id: str) -> None:
        """Raises NotFound unless the caller began the upload or is an administrator of its tenant."""
        with self.database.reading() as session:
            upload = session.get(Upload, upload_id)
        is_theirs = upload is not None and (upload.user_id == caller.user_id or caller.role == "admin")
        if upload is None or upload.tenant_id != caller.tenant_id or not is_theirs:
            raise NotFound(f"no upload {upload_id!r}")

    def require_place(self, caller: Caller, place: str, right: str) -> Case | None:
        """The case whose bytes lie at ``place`` within the tenant's storage, where the caller has ``right``; None for
        a file that belongs to no case. Raises NotFound also for places where the service keeps other things."""
        with self.database.reading() as session:
            video = session.scalar(
                select(StoredVideo).where(StoredVideo.tenant_id == caller.tenant_id, StoredVideo.place == place)
            )
        if video is not None:
            return self.require(caller, video.video_id, right)
        if place.split("/", 1)[0] in ("videos", "maps"):
            raise NotFound("nothing of yours is there")
        return None

    def list_cases(self, caller: Caller, after: str = "", limit: int = 100) -> list[Case]:
        """At most ``limit`` cases that the caller may see, in the order of their ids, behind the id ``after``."""
        query = _known_to(caller).where(StoredVideo.video_id > after)
        with self.database.reading() as session:
            videos = session.scalars(query.order_by(StoredVideo.video_id).limit(limit)).all()
            return seen_cases(session, caller, videos)

    def newest(self, caller: Caller, right: str, limit: int) -> list[Case]:
        """Those of the newest ``limit`` cases that the caller knows of to which they have ``right``, the newest
        first."""
        query = _known_to(caller).order_by(StoredVideo.created_s.desc(), StoredVideo.video_id)
        with self.database.reading() as session:
            videos = session.scalars(query.limit(limit)).all()
            return [case for video in videos if right in (case := _case(session, caller, video)).rights]

    def people(self, case: Case) -> tuple[User | None, list[Person]]:
        """The owner, None where nobody knows, and with whom the case is shared now, the oldest share first."""
        with self.database.reading() as session:
            owner = session.get(User, case.video.owner_id) if case.video.owner_id else None
            rows = session.execute(
                select(Share, User)
                .join(User, User.user_id == Share.user_id)
                .where(Share.tenant_id == case.video.tenant_id, Share.video_id == case.video_id, is_running())
                .order_by(Share.created_s)
            ).all()
            granting = {share.granted_by for share, _ in rows}
            givers = {user.user_id: user for user in session.scalars(select(User).where(User.user_id.in_(granting)))}
        return owner, [_person(share, user, givers.get(share.granted_by)) for share, user in rows]

    def links(self, case: Case) -> list[LinkOfCase]:
        """The links to the case that run, the oldest first."""
        with self.database.reading() as session:
            return links.links_of(session, case.video)

    def looks(self, case: Case, after: int = 0, limit: int = 100) -> list[AuditEntry]:
        """The entries of the audit log about the case behind the number ``after``, also those of refused looks."""
        with self.database.reading() as session:
            return list(
                session.scalars(
                    select(AuditEntry)
                    .where(
                        AuditEntry.tenant_id == case.video.tenant_id,
                        AuditEntry.subject == case.video_id,
                        AuditEntry.seq > after,
                    )
                    .order_by(AuditEntry.seq)
                    .limit(limit)
                )
            )

    def share(self, case: Case, user_name: str, relation: str, days: float) -> Person:
        """Shares the case with a user of the tenant for ``days``; a share of the same kind is replaced. Raises
        UsageError for an unknown user, relation or time, and for a user whose role sees no case."""
        if relation not in SHARED_AS:
            raise UsageError(f"relation {relation!r}: expected one of {', '.join(SHARED_AS)}")
        if not 0 < days <= MAX_SHARE_DAYS:
            raise UsageError(f"days: expected more than 0 and at most {MAX_SHARE_DAYS:g}, got {days:g}").named(
                "share-days", most=MAX_SHARE_DAYS
            )
        with self.database.writing() as session:
            video = video_of_tenant(session, case.video.tenant_id, case.video_id, is_held=True)
            user = users.user_of_tenant(session, case.video.tenant_id, user_name)
            if "read" not in PERMISSIONS[user.role]:
                raise UsageError(f"user {user_name!r} has the role {user.role!r}, which sees no case").named(
                    "user-sees-none", user=user_name
                )
            if user.user_id == video.owner_id:
                raise UsageError(f"user {user_name!r} owns this case").named("user-owns", user=user_name)
            giver = session.get_one(User, case.caller.user_id)
            share = add_share(session, video, user.user_id, relation, giver.user_id, now_s() + days * DAY_S)
            audit.record_by(
                session,
                case.caller,
                "share.add",
                case.video_id,
                share=share.share_id,
                user=user_name,
                relation=relation,
                expires_s=share.expires_s,
            )
            return _person(share, user, giver)

    def end_share(self, case: Case, share_id: str) -> None:
        """Ends a share of the case at once. Raises NotFound."""
        with self.database.writing() as session:
            share = session.get(Share, share_id)
            if share is None or (share.tenant_id, share.video_id) != (case.video.tenant_id, case.video_id):
                raise NotFound(f"no share {share_id!r} of this case")
            user = session.get_one(User, share.user_id)
            session.delete(share)
            audit.record_by(
                session,
                case.caller,
                "share.end",
                case.video_id,
                share=share_id,
                user=user.name,
                relation=share.relation,
            )

    def give(self, case: Case, user_name: str) -> None:
        """Makes a user of the tenant the owner. Raises UsageError for an unknown user and one who can't own a case."""
        with self.database.writing() as session:
            user = users.user_of_tenant(session, case.video.tenant_id, user_name)
            if "write" not in PERMISSIONS[user.role]:
                raise UsageError(
                    f"user {user_name!r} has the role {user.role!r}; a surgeon or an administrator owns a case"
                ).named("user-owns-none", user=user_name)
            video = video_of_tenant(session, case.video.tenant_id, case.video_id, is_held=True)
            video.owner_id = user.user_id
            audit.record_by(session, case.caller, "case.owner", case.video_id, user=user_name)

    def keep(
        self, case: Case, consent: str | None = None, keep_until_s: float | None = None, legal_hold: bool | None = None
    ) -> StoredVideo:
        """Writes down what is not None: the consent, until when the case is kept, whether it is under a legal hold.

        A withdrawn consent makes the case due after ``withdrawn_days`` and takes its samples out of the site's
        atlas; a consent that is given again makes the first undone. Raises UsageError for an unknown consent and a time
        that has passed.
        """
        if consent is not None and consent not in CONSENTS:
            raise UsageError(f"consent {consent!r}: expected one of {', '.join(CONSENTS)}")
        if keep_until_s is not None and keep_until_s <= now_s():
            raise UsageError(
                "the time until which to keep the case has passed; to remove the case now, delete it"
            ).named("keep-passed")
        with self.database.writing() as session:
            video = video_of_tenant(session, case.video.tenant_id, case.video_id, is_held=True)
            if consent is not None and consent != video.consent:
                if consent == "withdrawn":
                    due_s = now_s() + self.withdrawn_days * DAY_S
                    video.keep_until_s = min(due_s, video.keep_until_s or due_s)
                    withdraw_from_atlas(session, video)
                elif video.consent == "withdrawn":
                    kept = self.retention_days
                    video.keep_until_s = None if kept is None else max(video.created_s + kept * DAY_S, now_s() + DAY_S)
                video.consent = consent
                audit.record_by(session, case.caller, "case.consent", case.video_id, consent=consent)
            if keep_until_s is not None:
                if video.consent == "withdrawn":
                    raise StateConflict("the consent is withdrawn: the time until the case is deleted is fixed").named(
                        "keep-fixed"
                    )
                video.keep_until_s = keep_until_s
                audit.record_by(session, case.caller, "case.retention", case.video_id, keep_until_s=keep_until_s)
            if legal_hold is not None and legal_hold != video.legal_hold:
                video.legal_hold = legal_hold
                audit.record_by(session, case.caller, "case.hold", case.video_id, legal_hold=legal_hold)
            return video

    def delete_due(self) -> int:
        """Deletes the cases whose time has come and returns how many. A case under a legal hold stays.

        Replicas take turns: while one deletes, another waits and then finds nothing left.
        """
        due = (
            select(StoredVideo)
            .where(
                StoredVideo.deleted_s.is_(None),
                StoredVideo.legal_hold.is_(False),
                StoredVideo.keep_until_s.is_not(None),
                StoredVideo.keep_until_s < now_s(),
            )
            .limit(1000)
        )
        with self.database.reading() as session:
            if session.scalar(due) is None:
                return 0
        with self.database.writing() as session:
            lock_row(session, "retention")
            found = session.scalars(due.order_by(StoredVideo.video_id).with_for_update()).all()
            for video in found:
                self.videos.mark_deleted(session, Caller(video.tenant_id, "", "service", "admin", "-"), video, "due")
        self.videos.purge()
        return len(found)


def _known_to(caller: Caller) -> Select[StoredVideo]:
    """The query for the videos of the caller's tenant that are theirs, shared with them or nobody's; for an
    administrator all."""
    query = select(StoredVideo).where(StoredVideo.tenant_id == caller.tenant_id, StoredVideo.deleted_s.is_(None))
    if caller.role == "admin":
        return query
    shared = select(Share.video_id).where(
        Share.tenant_id == caller.tenant_id, Share.user_id == caller.user_id, is_running()
    )
    return query.where(
        or_(
            StoredVideo.owner_id == caller.user_id,
            StoredVideo.owner_id.is_(None),
            StoredVideo.video_id.in_(shared),
        )
    )


def _person(share: Share, user: User, giver: User | None) -> Person:
    """A share of ``user`` that ``giver`` granted, as people read it."""
    return Person(
        share.share_id,
        user.name,
        users.shown_name(user),
        share.relation,
        giver.name if giver else "",
        users.shown_name(giver) if giver else "",
        share.created_s,
        share.expires_s,
    )


def record_looks(session: Session, cases: Sequence[Case], action: str, right: str) -> None:
    """Within a transaction: as ``Case.record_look`` over the whole length of each of ``cases``, of one caller."""
    looks = []
    for case in cases:
        share_id = case.share_for(right)
        through = {"share": share_id} if share_id else {}
        looks.append((case.video_id, {**through, "seconds": [0.0, case.video.duration_s]}))
    audit.record_many(session, cases[0].caller, action, looks)


def seen_cases(session: Session, caller: Caller, videos: Sequence[StoredVideo]) -> list[Case]:
    """Those of ``videos``, all of the caller's tenant, that the caller may see, in the same order."""
    rows = session.execute(
        select(Share.video_id, Share.relation, Share.share_id).where(
            Share.tenant_id == caller.tenant_id,
            Share.user_id == caller.user_id,
            Share.video_id.in_([video.video_id for video in videos]),
            is_running(),
        )
    )
    shares: dict[str, dict[str, str]] = {}
    for video_id, relation, share_id in rows:
        shares.setdefault(video_id, {})[relation] = share_id
    cases = (_case_with(caller, video, shares.get(video.video_id, {})) for video in videos)
    return [case for case in cases if "see" in case.rights]


def _case(session: Session, caller: Caller, video: StoredVideo) -> Case:
    """The video as ``caller`` sees it."""
    if caller.is_link:
        use = links.use_of(session, caller.key_id)
        if use is None or (use.tenant_id, use.video_id) != (video.tenant_id, video.video_id):
            return Case(caller, video, ("none",), frozenset())
        return Case(caller, video, ("link",), use.rights & RELATIONS["link"], link=use)
    rows = session.execute(
        select(Share.relation, Share.share_id).where(
            Share.tenant_id == video.tenant_id,
            Share.video_id == video.video_id,
            Share.user_id == caller.user_id,
            is_running(),
        )
    )
    return _case_with(caller, video, {relation: share_id for relation, share_id in rows})


def _case_with(caller: Caller, video: StoredVideo, shares: Mapping[str, str]) -> Case:
    """The video as ``caller`` sees it who has ``shares`` of it (relation → the id of the share)."""
    relations = relations_of(caller.role, video.owner_id == caller.user_id, video.owner_id is not None, shares)
    return Case(caller, video, relations, _allowed(caller, relations, video.consent), shares)


def _allowed(caller: Caller, relations: tuple[str, ...], consent: str) -> frozenset[str]:
    """The rights that both relation and role allow."""
    return frozenset(
        right
        for right in rights_of(relations, consent)
        if (permission := PERMISSION_OF[right]) is None or caller.may(permission)
    )


def _checked(case: Case, right: str) -> Case:
    """``case`` where it has ``right``. Raises NotFound where the caller has no right at all, else Forbidden."""
    if not case.rights:
        raise NotFound(f"no video {case.video_id!r}")
    if right not in case.rights:
        told = f"as {' and '.join(case.relations)} of this case you do not have the right {right!r}"
        if case.is_withdrawn(right):
            raise Forbidden(f"{told} now that the consent is withdrawn").named("right-withdrawn", right=right)
        raise Forbidden(told).named("right", right=right)
    return case
