"""What the map of a video, or the maps of a case, say of one moment, as one caller may see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from halsted_ray.errors import UsageError
from halsted_ray.maps.stitch_table import taxonomy_of
from halsted_ray.sequences.explanation import Explanation, Row, explain
from halsted_ray.service.case_timelines import axis_of, read_case_map
from halsted_ray.service.cases import Case
from halsted_ray.service.errors import Forbidden, StateConflict
from halsted_ray.service.library import LibraryCase
from halsted_ray.service.proficiency import hidden_tags
from halsted_ray.service.videos import Videos
from halsted_ray.taxonomy import Taxonomy
from halsted_ray.taxonomy.parsing import shipped_of_digest


def check_link_shows(case: Case, at_s: float) -> None:
    """Raises Forbidden where the caller looks through a link to a part of the video in which ``at_s`` is not."""
    if case.span and not case.span[0] <= at_s < case.span[1]:
        raise Forbidden(
            f"this link shows {case.span[0]:.3f} to {case.span[1]:.3f} s of the video; got {at_s:g} s"
        ).named("link-moment")


def explain_video(videos: Videos, case: Case, at_s: float, served: Callable[[], Taxonomy]) -> Explanation:
    """The explanation of ``at_s`` (seconds of the video). A link to a part explains from the rows of this part alone,
    cut at its ends and numbered within it; one that does not show proficiency says nothing of it. ``served``: as of
    ``Videos.stitches``.

    Raises as ``check_link_shows``, UsageError outside of the video, NotMapped, and StateConflict where the taxonomy of
    the map is known no more.
    """
    check_link_shows(case, at_s)
    _check(at_s, case.video.duration_s, f"video {case.video_id}")
    timeline = videos.timeline(case.video.tenant_id, case.video_id)
    hidden = hidden_tags(timeline, served) if case.hides_proficiency else frozenset[str]()
    rows: list[Row] = timeline.to_pylist()
    if case.span:
        start_s, stop_s = case.span
        rows = [
            {**row, "start_s": max(row["start_s"], start_s), "stop_s": min(row["stop_s"], stop_s)}
            for row in rows
            if row["start_s"] < stop_s and row["stop_s"] > start_s
        ]
    return explain(case.video_id, rows, at_s, _taxonomy(rows, at_s, served, f"video {case.video_id!r}"), hidden)


def explain_case(videos: Videos, case: LibraryCase, at_s: float, served: Callable[[], Taxonomy]) -> Explanation:
    """The same over all files of the case that the caller may read; times in seconds of the case. ``video_id`` is the
    case's. Raises as ``explain_video``."""
    axis = axis_of(case)
    _check(at_s, axis[-1].stop_s, f"case {case.case_id}")
    found = read_case_map(videos, case)
    rows: list[Row] = [row for row in found.timeline.to_pylist() if row["stop_s"] > row["start_s"]]
    file = next(one.file for one in axis if at_s < one.stop_s)
    of_file = found.taxonomy_digests.get(file.video_id)
    return explain(case.case_id, rows, at_s, _taxonomy(rows, at_s, served, f"case {case.case_id!r}", of_file))


def looked_at(found: Explanation) -> list[float]:
    """[start, stop] of the rows that an explanation shows, in seconds; its moment where it shows none."""
    rows = [row for statement in found.statements for row in statement.rests_on]
    start_s = min((row.start_s for row in rows), default=found.at_s)
    return [min(start_s, found.at_s), max((row.stop_s for row in rows), default=found.at_s)]


def _check(at_s: float, duration_s: float, what: str) -> None:
    if not 0 <= at_s < duration_s:
        raise UsageError(f"at_s: {what} lasts {duration_s:.3f} s; got {at_s:g} s: ask for an earlier one").named(
            "moment-outside"
        )


def _taxonomy(
    rows: Sequence[Row], at_s: float, served: Callable[[], Taxonomy], what: str, of_file: str | None = None
) -> Taxonomy:
    """The taxonomy of the rows at the moment, as files of one case may be mapped in several; where there is none, the
    digest ``of_file``. What is stated of a whole operation (``windows``) may be of another file."""
    digests = [
        row["taxonomy_digest"] for row in rows if row["start_s"] <= at_s < row["stop_s"] and row.get("windows") is None
    ]
    digests += [of_file] if of_file is not None else [row["taxonomy_digest"] for row in rows]
    digest = digests[0] if digests else ""
    try:
        return taxonomy_of(digest, None if shipped_of_digest(digest) else served())
    except UsageError:
        raise StateConflict(f"the map of {what} is in a taxonomy that this service has no more; map it again").named(
            "map-old"
        ) from None
