"""The library: cases as the files of one operation, found, shown, described, put together and taken apart.

A case is shown with those of its files that the caller may see, and says of each only what the caller may see of it.
Whoever describes it needs the right to describe each of its files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from halsted_ray.errors import UsageError
from halsted_ray.service import audit
from halsted_ray.service.case_descriptions import (
    NOTHING,
    Description,
    forget_description,
    merged,
    read_descriptions,
    write_description,
)
from halsted_ray.service.case_search import CasePage, CaseQuery, search, states_of
from halsted_ray.service.cases import Case, Cases, record_looks, seen_cases
from halsted_ray.service.database import Database
from halsted_ray.service.errors import Forbidden, NotFound
from halsted_ray.service.tables import Job, StoredVideo, Upload, VideoSummary, new_case_id
from halsted_ray.service.users import Caller
from halsted_ray.service.videos import check_deletable

MOST_FILES = 100
"""Files of a case."""


@dataclass(frozen=True)
class LibraryCase:
    """A case as one caller sees it. ``files``: those that the caller may see, in order, at least one. ``summaries``,
    ``jobs``: of these, by video id, for those that have one; a summary only where the caller may read the map.
    ``is_whole``: whether the caller sees all of its files. ``after_hidden``: the ids of files before which some are
    that the caller may not see; ``ends_hidden``: whether there are such behind the last one. Of those nothing else is
    known."""

    case_id: str
    state: str
    files: tuple[Case, ...]
    description: Description
    summaries: Mapping[str, VideoSummary]
    jobs: Mapping[str, Job]
    is_whole: bool
    after_hidden: frozenset[str] = frozenset()
    ends_hidden: bool = False

    @cached_property
    def rights(self) -> frozenset[str]:
        """What the caller may do with each of the files. To describe a case one must see all of it."""
        common = frozenset[str].intersection(*(file.rights for file in self.files))
        return common if self.is_whole else common - {"describe"}

    @property
    def is_mine(self) -> bool:
        """Whether all files that are shown are the caller's."""
        return all(file.video.owner_id == file.caller.user_id for file in self.files)

    @property
    def knows_people(self) -> bool:
        """Whether the caller may know whose case it is: reviewers and annotators may not, and labels and dates could
        tell."""
        return any("people" in file.rights for file in self.files)


@dataclass(frozen=True)
class Library:
    """The cases of all tenants."""

    database: Database
    cases: Cases

    def find(self, caller: Caller, query: CaseQuery) -> tuple[list[LibraryCase], CasePage]:
        """One page of the cases that the caller may see, and where it lies among all that ``query`` finds. Raises
        UsageError for a query that can't be read."""
        with self.database.reading() as session:
            page = search(session, caller, query)
            return _shown(session, caller, page.found), page

    def show(self, caller: Caller, case_id: str) -> LibraryCase:
        """One case. Raises NotFound where the caller may see none of its files."""
        with self.database.reading() as session:
            found = _shown(session, caller, states_of(session, caller, [case_id]))
        if not found:
            raise NotFound(f"no case {case_id!r}")
        return found[0]

    def require(self, caller: Caller, case_id: str, right: str) -> LibraryCase:
        """The case, where the caller has ``right`` to each of its files. Raises NotFound, Forbidden."""
        shown = self.show(caller, case_id)
        _check_each(shown.files, right, is_whole=shown.is_whole or right in shown.rights)
        return shown

    def require_any(self, caller: Caller, case_id: str, right: str) -> LibraryCase:
        """The case, where the caller has ``right`` to one of its files or more. Raises NotFound, Forbidden."""
        shown = self.show(caller, case_id)
        if not any(right in file.rights for file in shown.files):
            _check_each(shown.files, right, is_whole=True)
        return shown

    def require_place(self, caller: Caller, case_id: str) -> None:
        """Raises NotFound or Forbidden unless the caller may add a file to this case: one that they may describe, or
        one that they began by an upload and that has no file yet."""
        with self.database.reading() as session:
            of_case = (StoredVideo.tenant_id == caller.tenant_id, StoredVideo.case_id == case_id)
            count = session.scalar(
                select(func.count()).select_from(StoredVideo).where(*of_case, StoredVideo.deleted_s.is_(None))
            )
            begun = session.scalar(
                select(Upload.upload_id)
                .where(
                    Upload.case_id == case_id,
                    Upload.tenant_id == caller.tenant_id,
                    Upload.user_id == caller.user_id,
                    Upload.state.in_(("open", "complete")),
                )
                .limit(1)
            )
        if count:
            self.require(caller, case_id, "describe")
        elif begun is None:
            raise NotFound(f"no case {case_id!r}; begin its first upload without a case_id, and use the one it answers")

    def describe(self, caller: Caller, shown: LibraryCase, description: Description) -> LibraryCase:
        """Writes down ``description`` in place of the one before; the case as it is now. Raises UsageError."""
        with self.database.writing() as session:
            _hold_files(session, shown)
            write_description(session, caller.tenant_id, shown.case_id, description)
            for file in shown.files:  # which words were written stands in no log
                audit.record_by(session, caller, "case.describe", file.video_id, case=shown.case_id)
        return self.show(caller, shown.case_id)

    def group(self, caller: Caller, files: Sequence[Case]) -> LibraryCase:
        """Makes one case of ``files``, in this order, to each of which the caller has the right to describe it. Other
        files of their cases stay where they are. What was written about the cases that end is kept, as far as it has
        room. Raises UsageError for too many files and for one that is named twice."""
        video_ids = [file.video_id for file in files]
        if len(video_ids) > MOST_FILES or len(set(video_ids)) < len(video_ids):
            raise UsageError(f"video_ids: expected 1 to {MOST_FILES} different files").named(
                "files-many", most=MOST_FILES
            )
        with self.database.writing() as session:
            videos = {video.video_id: video for video in _of_tenant(session, caller, video_ids)}
            if missing := [video_id for video_id in video_ids if video_id not in videos]:
                raise NotFound(f"no video {missing[0]!r}")
            before = list(dict.fromkeys(videos[video_id].case_id for video_id in video_ids))
            leaving = {case_id for case_id in before if _files_of(session, caller, case_id) <= set(video_ids)}
            case_id = next((one for one in before if one in leaving), new_case_id())
            written = read_descriptions(session, caller.tenant_id, before)
            kept = [written[one] for one in before if one in leaving and one in written]
            for one in leaving:
                forget_description(session, caller.tenant_id, one)
            if kept:
                write_description(session, caller.tenant_id, case_id, merged(kept))
            was = {video_id: video.position for video_id, video in videos.items()}
            for position, video_id in enumerate(video_ids, start=1):
                _place(session, videos[video_id], case_id, position)
                if before != [case_id]:
                    audit.record_by(session, caller, "case.group", video_id, case=case_id)
                elif was[video_id] != position:
                    audit.record_by(session, caller, "case.order", video_id, case=case_id, position=position)
        return self.show(caller, case_id)

    def take_apart(self, caller: Caller, shown: LibraryCase) -> None:
        """Makes each file a case of its own. The first keeps what was written about the case, and its id."""
        if len(shown.files) == 1:
            return
        with self.database.writing() as session:
            _hold_files(session, shown)
            for video in _of_tenant(session, caller, [file.video_id for file in shown.files]):
                if video.video_id != shown.files[0].video_id:
                    _place(session, video, new_case_id(), 1)
            for file in shown.files:
                audit.record_by(session, caller, "case.ungroup", file.video_id, case=shown.case_id)

    def delete(self, caller: Caller, shown: LibraryCase) -> None:
        """Deletes the files of ``shown`` for everybody, all or none: each is looked at again before the first goes.
        Files that the caller may not see stay. Raises Forbidden where the case has other files by now or one of them
        may not be deleted any more, and StateConflict where one is under a legal hold."""
        with self.database.writing() as session:
            videos = _of_tenant(session, caller, list(_files_of(session, caller, shown.case_id)))
            files = seen_cases(session, caller, videos)
            _check_same({file.video_id for file in files}, shown)
            _check_each(files, "delete", is_whole=True)
            for file in files:
                check_deletable(file.video)
            for file in files:
                self.cases.videos.mark_deleted(session, caller, file.video)
        self.cases.videos.purge()

    def record_looks(self, shown: Sequence[LibraryCase]) -> None:
        """Writes into the audit log of which maps ``shown`` says something: an entry for each of these files."""
        looked_at = [file for case in shown for file in case.files if file.video_id in case.summaries]
        if not looked_at:
            return
        with self.database.writing() as session:
            record_looks(session, looked_at, "summary.read", "timeline")


def _shown(session: Session, caller: Caller, states: Mapping[str, str]) -> list[LibraryCase]:
    """The cases of ``states`` (case id → state) in this order, with a fixed number of queries."""
    found = session.scalars(
        select(StoredVideo)
        .where(
            StoredVideo.tenant_id == caller.tenant_id,
            StoredVideo.case_id.in_(list(states)),
            StoredVideo.deleted_s.is_(None),
        )
        .order_by(StoredVideo.position, StoredVideo.created_s, StoredVideo.video_id)
    ).all()
    files: dict[str, list[Case]] = defaultdict(list)
    for file in seen_cases(session, caller, found):
        files[file.video.case_id].append(file)
    readable = [file.video_id for of_case in files.values() for file in of_case if "timeline" in file.rights]
    summaries = {
        summary.video_id: summary
        for summary in session.scalars(
            select(VideoSummary).where(VideoSummary.tenant_id == caller.tenant_id, VideoSummary.video_id.in_(readable))
        )
    }
    jobs = _jobs_of(session, caller, [file.video_id for of_case in files.values() for file in of_case])
    descriptions = read_descriptions(session, caller.tenant_id, list(states))
    hidden = _hidden_places(found, {file.video_id for of_case in files.values() for file in of_case})
    return [
        LibraryCase(
            case_id,
            state,
            tuple(files[case_id]),
            descriptions.get(case_id, NOTHING),
            {file.video_id: summaries[file.video_id] for file in files[case_id] if file.video_id in summaries},
            {file.video_id: jobs[file.video_id] for file in files[case_id] if file.video_id in jobs},
            not hidden.get(case_id),
            frozenset(hidden.get(case_id, ())) - {""},
            "" in hidden.get(case_id, ()),
        )
        for case_id, state in states.items()
        if case_id in files
    ]


def _hidden_places(videos: Sequence[StoredVideo], seen: Collection[str]) -> dict[str, set[str]]:
    """Case id → the ids of the files of ``seen`` before which files are that are not; '' for those behind the last one.
    ``videos``: all files of the cases, in order."""
    waiting: set[str] = set()
    places: dict[str, set[str]] = defaultdict(set)
    for video in videos:
        if video.video_id not in seen:
            waiting.add(video.case_id)
        elif video.case_id in waiting:
            waiting.discard(video.case_id)
            places[video.case_id].add(video.video_id)
    for case_id in waiting:
        places[case_id].add("")
    return places


def _jobs_of(session: Session, caller: Caller, video_ids: Sequence[str]) -> dict[str, Job]:
    """Video id → the job that works on it now, else the newest one that waits."""
    open_jobs = session.scalars(
        select(Job)
        .where(Job.tenant_id == caller.tenant_id, Job.video_id.in_(video_ids), Job.state.in_(("queued", "running")))
        .order_by(Job.state, Job.created_s)  # queued comes before running, and the last one stays
    )
    return {job.video_id: job for job in open_jobs}


def _of_tenant(session: Session, caller: Caller, video_ids: Sequence[str]) -> list[StoredVideo]:
    """Those of the videos that are there. Nobody else changes them until the transaction ends."""
    return list(
        session.scalars(
            select(StoredVideo)
            .where(
                StoredVideo.tenant_id == caller.tenant_id,
                StoredVideo.video_id.in_(video_ids),
                StoredVideo.deleted_s.is_(None),
            )
            .order_by(StoredVideo.video_id)  # two transactions that hold some of the same never wait for each other
            .with_for_update()
        )
    )


def _files_of(session: Session, caller: Caller, case_id: str) -> set[str]:
    of_case = (StoredVideo.tenant_id == caller.tenant_id, StoredVideo.case_id == case_id)
    return set(session.scalars(select(StoredVideo.video_id).where(*of_case, StoredVideo.deleted_s.is_(None))))


def _hold_files(session: Session, shown: LibraryCase) -> None:
    """Raises Forbidden where the case has other files by now than the caller was allowed to describe."""
    _check_same(_files_of(session, shown.files[0].caller, shown.case_id), shown)


def _check_same(video_ids: Collection[str], shown: LibraryCase) -> None:
    """Raises Forbidden where ``video_ids`` are other files than those of ``shown``."""
    if set(video_ids) != {file.video_id for file in shown.files}:
        raise Forbidden("the files of this case have just changed; look at it again").named("case-changed")


def _check_each(files: Sequence[Case], right: str, is_whole: bool) -> None:
    """Raises Forbidden, with the cause, where the caller lacks ``right`` to one of ``files``, those of a case that they
    see. ``is_whole``: no others belong to it, or they do not matter."""
    lacking = [file for file in files if right not in file.rights]
    told = f"you do not have the right {right!r} to {'any' if len(lacking) == len(files) else 'each'} file of this case"
    if any(file.is_withdrawn(right) for file in lacking):
        raise Forbidden(f"{told} now that the consent is withdrawn").named("right-withdrawn", right=right)
    if len(lacking) == len(files):
        raise Forbidden(told).named("right", right=right)
    if lacking:
        raise Forbidden(told).named("right-each-file", right=right)
    if not is_whole:
        raise Forbidden(
            f"you do not have the right {right!r} to each file of this case; somebody else's file belongs to it"
        ).named("right-hidden-file", right=right)


def _place(session: Session, video: StoredVideo, case_id: str, position: int) -> None:
    own = (StoredVideo.tenant_id == video.tenant_id, StoredVideo.video_id == video.video_id)
    session.execute(update(StoredVideo).where(*own).values(case_id=case_id, position=position))
