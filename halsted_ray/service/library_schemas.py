"""The bodies and answers of the library and of the summary of one's own cases."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from halsted_ray.service.case_descriptions import LONGEST_LABEL, LONGEST_PROCEDURE, MOST_LABELS
from halsted_ray.service.case_timelines import axis_of
from halsted_ray.service.library import MOST_FILES, LibraryCase
from halsted_ray.service.schemas import CauseShown, JobShown
from halsted_ray.service.suggested_procedure import MapOfFile, suggested_procedure
from halsted_ray.service.tables import Job, StoredVideo, VideoSummary

CaseState = Literal["cleaning", "review", "failed", "new", "queued", "mapping", "mapped", "partial"]
SHARE_DECIMALS = 4
Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class ProcedureShown(BaseModel):
    """Which procedure it is: as the map suggests, with the model's confidence, and as a person says."""

    suggested: str | None
    chosen: str | None
    confidence: float | None


class CaseStatus(BaseModel):
    """How far a case is. ``reason``: why it failed, has gaps or waits."""

    state: CaseState = Field(
        description="cleaning: its files are being cleaned. review: somebody should look through what was hidden. new: "
        "nobody has asked for a map. partial: the map has gaps, or some files have none."
    )
    done_share: float = Field(description="Of the work that is under way, 0 to 1; 1 for what is mapped.")
    asked: list[str] = Field(description="The tasks that the maps of all mapped files answer.")
    not_asked: list[str] = Field(description="The other tasks of the model.")
    reason: str | None
    cause: CauseShown | None = Field(None, description="The same for a program, where something failed.")


class FileShown(BaseModel):
    """A file of a case on the case's axis of time. Times are seconds."""

    video_id: str
    number: int = Field(description="Among those that the caller may see, from 1 on.")
    offset_s: float = Field(
        description="When it begins on the axis of the case: the length of the files before it. How much time really "
        "lies between two files nobody knows."
    )
    duration_s: float
    state: CaseState
    after_hidden: bool = Field(description="true: files lie before it that the caller may not see.")


class CaseShown(BaseModel):
    """A case: the files of one operation that the caller may see. Times are seconds."""

    case_id: str
    videos: list[str] = Field(description="Its files in order.")
    durations_s: list[float] = Field(description="Of each file, in the same order.")
    files: list[FileShown] = Field(description="The same files, on one axis of time.")
    ends_hidden: bool = Field(description="true: files lie behind the last one that the caller may not see.")
    title: str
    procedure: ProcedureShown
    operated_on: str | None = Field(description="null also for those who may not know whose case it is.")
    created_s: float = Field(description="When the first file came, in seconds since 1970, UTC.")
    duration_s: float
    labels: list[str] = Field(description="Empty also for those who may not know whose case it is.")
    strip: list[tuple[float, float, int]] = Field(
        description="[start, stop, index of strip_categories] of each step, as shares of the length of the case."
    )
    strip_categories: list[str]
    status: CaseStatus
    poster: str | None = Field(description="The address of a picture of it, relative to the service's.")
    mine: bool
    rights: list[str] = Field(description="What the caller may do with each of its files.")
    stitches: int | None = Field(description="null until each of its files has a map by the tasks that tell.")


class LooksLike(BaseModel):
    """A text that looks as if it named a patient. ``kind``: person, record, birth or address."""

    text: str
    kind: str


class DescribedCase(CaseShown):
    """A case after a change. ``warnings``: what looks as if it named a patient, in words; ``looks_like``: the same for
    programs."""

    warnings: list[str]
    looks_like: list[LooksLike]


class CasesShown(BaseModel):
    """One page of cases."""

    cases: list[CaseShown]
    total: int = Field(description="On all pages.")
    next: str | None = Field(description="The cursor of the next page; null on the last one.")


class CaseChanges(BaseModel):
    """What changes of a case; what is left out stays. null takes it away."""

    procedure: str | None = Field(None, max_length=LONGEST_PROCEDURE)
    operated_on: Day | None = None
    labels: list[Annotated[str, Field(max_length=LONGEST_LABEL)]] | None = Field(None, max_length=MOST_LABELS)


class NewCase(BaseModel):
    """Files that belong together, in order."""

    video_ids: list[Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")]] = Field(min_length=1, max_length=MOST_FILES)


class PhaseTime(BaseModel):
    """How long a phase of suturing takes: the median over ``n`` stitches."""

    category: str
    median_s: float
    n: int


class Week(BaseModel):
    """One week, by the day on which it begins."""

    week: str
    cases: int
    hours: float
    stitches: int
    high_share: float | None


class Moment(BaseModel):
    """A row of a map that is worth a look."""

    video_id: str
    start_s: float
    stop_s: float
    tag: str
    category: str
    why: Literal["least sure", "longest", "unlike the others"]


class HomeShown(BaseModel):
    """The caller's own cases of the last days. ``high_share``: of the ``high_n`` stitches whose proficiency a map
    states, with its 95% interval."""

    days: int
    cases: int
    hours: float
    stitches: int
    high_share: float | None
    high_low: float | None
    high_high: float | None
    high_n: int
    model_versions: list[str]
    phases: list[PhaseTime]
    trend: list[Week]
    moments: list[Moment]
    jobs: list[JobShown]


class SampleShown(BaseModel):
    """The sample case."""

    video_id: str


def show_case(case: LibraryCase) -> CaseShown:
    """The answer that shows a case."""
    suggested, confidence = _suggested(case)
    chosen = case.description.procedure
    strip, categories = _strip(case)
    counts = [summary.stitches for summary in case.summaries.values() if summary.stitches is not None]
    return CaseShown(
        case_id=case.case_id,
        videos=[file.video_id for file in case.files],
        durations_s=[file.video.duration_s for file in case.files],
        files=show_files(case),
        ends_hidden=case.ends_hidden,
        title=chosen or suggested or f"Case {case.case_id[:6]}",
        procedure=ProcedureShown(suggested=suggested, chosen=chosen, confidence=confidence),
        operated_on=case.description.operated_on if case.knows_people else None,
        created_s=min(file.video.created_s for file in case.files),
        duration_s=sum(file.video.duration_s for file in case.files),
        labels=list(case.description.labels) if case.knows_people else [],
        strip=strip,
        strip_categories=categories,
        status=_status(case),
        poster=_poster(case),
        mine=case.is_mine,
        rights=sorted(case.rights),
        stitches=sum(counts) if len(counts) == len(case.files) else None,
    )


def show_files(case: LibraryCase) -> list[FileShown]:
    """The files of a case on one axis of time."""
    return [
        FileShown(
            video_id=one.file.video_id,
            number=one.number,
            offset_s=one.offset_s,
            duration_s=one.file.video.duration_s,
            state=one.state,  # type: ignore[arg-type]  # one of CaseState
            after_hidden=one.after_hidden,
        )
        for one in axis_of(case)
    ]


class CaseTimelineShown(BaseModel):
    """What happens when in a case, over all of its files."""

    case_id: str
    duration_s: float
    files: list[FileShown]
    ends_hidden: bool
    rows: list[CaseRowShown]


class CaseRowShown(BaseModel):
    """A row of a case's timeline. Times are seconds of the case, but for ``file_start_s``."""

    video_id: str = Field(description="The file in which it begins. A row that goes on into the next file is one row.")
    file: int = Field(description="The number of that file.")
    file_start_s: float = Field(description="When it begins, in seconds of that file.")
    case_id: str
    start_s: float
    end_s: float
    task: str
    tag: str
    category: str = Field(
        description="Of a gap over a whole file: its state, or hidden where the caller may not read its map."
    )
    confidence: float
    source: str
    model_version: str


def _suggested(case: LibraryCase) -> tuple[str | None, float | None]:
    of_files = ((case.summaries.get(file.video_id), file.video.duration_s) for file in case.files)
    return suggested_procedure(
        MapOfFile(summary.state, summary.procedure, summary.procedure_confidence, duration_s)
        for summary, duration_s in of_files
        if summary is not None
    )


def _strip(case: LibraryCase) -> tuple[list[tuple[float, float, int]], list[str]]:
    """The steps of all files on one axis."""
    whole_s = sum(file.video.duration_s for file in case.files)
    places: dict[str, int] = {}
    strip, before_s = list[tuple[float, float, int]](), 0.0
    for file in case.files:
        summary = case.summaries.get(file.video_id)
        for start, stop, index in summary.strip if summary and whole_s else ():
            assert summary is not None  # it has a strip
            place = places.setdefault(summary.strip_categories[index], len(places))
            shares = [(before_s + share * file.video.duration_s) / whole_s for share in (start, stop)]
            strip.append((round(shares[0], SHARE_DECIMALS), round(shares[1], SHARE_DECIMALS), place))
        before_s += file.video.duration_s
    return strip, list(places)


def _status(case: LibraryCase) -> CaseStatus:
    mapped = [summary for summary in case.summaries.values() if summary.state != "failed"]
    asked = [task for task in (mapped[0].asked if mapped else []) if all(task in one.asked for one in mapped)]
    known = dict.fromkeys(task for one in mapped for task in (*one.asked, *one.not_asked))
    done_s = [min(job.done_s, job.total_s) for job in case.jobs.values()]
    total_s = sum(job.total_s for job in case.jobs.values())
    is_done = case.state in ("mapped", "partial")
    with_reason: list[Job | StoredVideo | VideoSummary] = [
        *case.jobs.values(),
        *(file.video for file in case.files),
        *case.summaries.values(),
    ]
    told = next((one for one in with_reason if one.reason), None)
    return CaseStatus(
        state=case.state,  # type: ignore[arg-type]  # one of case_search.STATES
        done_share=round(sum(done_s) / total_s, 3) if total_s else float(is_done),
        asked=asked,
        not_asked=[task for task in known if task not in asked],
        reason=told.reason if told else None,
        cause=CauseShown.model_validate(told.cause) if told and told.cause else None,
    )


def _poster(case: LibraryCase) -> str | None:
    """The address of the poster of the first file that has one, or can have one."""
    for file in case.files:
        is_clean = file.video.state in ("ready", "review")
        if is_clean and "watch" in file.rights and "none" not in (file.video.poster or {}):
            return f"v1/videos/{file.video_id}/poster"
    return None
