"""``halsted search`` and ``halsted search-index``: their options, and what they print."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from halsted_ray.cli.options import DONE, Commands, add_command, only_with, positive_int
from halsted_ray.cli.text_tables import counted, show_progress, table
from halsted_ray.errors import UsageError
from halsted_ray.registry.references import resolve

if TYPE_CHECKING:
    from halsted_ray.search.archive_search import Answer, Result
    from halsted_ray.search.index_builder import Projection

PLACE = "the OUT of `halsted map`, or the place of `halsted embed --embeddings`"


def add_search(commands: Commands) -> None:
    """``halsted search``."""
    search = add_command(
        commands,
        "search",
        "find moments of an archive by example or in words",
        search_moments,
        example="halsted search demo/maps --like 3f2a:75 --where step=Suturing",
        more="the moments are ranked by how near their stored vectors are to the question; nothing is decoded; "
        "neighbouring moments of one video are one result; above 100 videos it needs halsted search-index",
    )
    search.add_argument("out", metavar="OUT", help=PLACE)
    search.add_argument("text", metavar="TEXT", nargs="?", help="what to look for, in words; it needs --model")
    search.add_argument(
        "--like", metavar="VIDEO:SECOND", help="look for what is like this second of a video (its id or its beginning)"
    )
    search.add_argument(
        "--model", metavar="REF", help="model of video and text: RUN/model, or registry:halsted-language@champion"
    )
    search.add_argument("--text-encoder", metavar="FOLDER", help="the text encoder that the model was trained with")
    search.add_argument("--count", type=positive_int, default=10, metavar="N", help="results (default 10)")
    search.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="TAG=CATEGORY",
        help="only where the map says this, such as procedure=Prostatectomy; may be repeated, then all must hold",
    )
    search.add_argument("--site", metavar="URL", help="print a link into the page of this service for each result")
    search.add_argument(
        "--files",
        action="store_true",
        help="also print each video's file and second, for a player; may be private",
    )
    _add_store_options(search)
    search.add_argument("--json", action="store_true", help="print everything as JSON")
    needs_model = "TEXT: a question by example needs no model"
    only_with(search, "--model", "--text-encoder", when=lambda given: given.text is not None, needs=needs_model)


def add_search_index(commands: Commands) -> None:
    """``halsted search-index``."""
    index = add_command(
        commands,
        "search-index",
        "make the index that halsted search reads, or bring it up to date",
        index_moments,
        example="halsted search-index demo/maps",
        more="new videos come into the index, deleted ones leave it; it may be killed and repeated at any time, and a "
        "search meanwhile reads the index of before",
    )
    index.add_argument("out", metavar="OUT", help=PLACE)
    index.add_argument(
        "--model", metavar="REF", help="index the moments as this model of video and text projects them, for words"
    )
    index.add_argument("--anew", action="store_true", help="make it anew, with new centres")
    index.add_argument("--check", action="store_true", help="read every file of the index and compare its digest")
    _add_store_options(index)
    index.add_argument("--json", action="store_true", help="print everything as JSON")
    only_with(index, "--anew", when=lambda given: not given.check, needs="to stand without --check")


def _add_store_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoder", metavar="NAME", help="fingerprint of the encoder, where vectors of several lie here"
    )
    parser.add_argument("--sampling", metavar="NAME", help="how frames were picked, where vectors of several lie here")


def search_moments(options: argparse.Namespace) -> int:
    """Prints the moments that are nearest to the question."""
    from halsted_ray.search.archive_search import search_by_example, search_by_vector

    if (options.text is None) == (options.like is None):
        raise UsageError("expected one question: TEXT, or --like VIDEO:SECOND")
    store = {"encoder": options.encoder, "sampling": options.sampling}
    if options.like is not None:
        video, at_s = _moment(options.like)
        answer = search_by_example(options.out, video, at_s, options.count, options.where, **store)
    else:
        from halsted_ray.search.text_question import TextSearch

        if options.model is None:
            raise UsageError("a question in words needs a model of video and text; name its folder with --model")
        words = TextSearch.load(options.model, options.text_encoder)
        vector_D = words.vector(options.text)
        answer = search_by_vector(
            options.out, vector_D, words.by_text, options.count, options.where, text=options.text, **store
        )
    uris = _uris(options.out, answer) if options.files else {}
    if options.json:
        print(json.dumps(_as_json(answer, options.site, uris), indent=1))
        return DONE
    print(answer_text(answer, options.site, uris))
    if answer.not_indexed:
        print(f"\n{counted(answer.not_indexed, 'video')} not in the index yet: halsted search-index {options.out}")
    return DONE


def answer_text(answer: Answer, site: str | None, uris: dict[str, str]) -> str:
    """The results as a table, and their links below it."""
    if not answer.results:
        return f"no moment found in {counted(answer.videos, 'video')}"
    rows = [
        (
            str(number),
            f"{one.similarity:.3f}",
            f"{one.video_id} at {clock(one.start_s)}",
            " · ".join(one.said.values()) or "–",
        )
        for number, one in enumerate(answer.results, 1)
    ]
    lines = [table(("", "score", "moment", "the map says"), rows, right=(0, 1))]
    links = [
        f"{number:2}  {link}"
        for number, one in enumerate(answer.results, 1)
        for link in (page_link(site, one), player_link(uris, one))
        if link
    ]
    return "\n".join([*lines, *([""] if links else []), *links])


def page_link(site: str | None, one: Result) -> str | None:
    """Where the page of the service at ``site`` shows a result."""
    return f"{site.rstrip('/')}/#{one.video_id}@{round(one.start_s, 1):g}" if site else None


def player_link(uris: dict[str, str], one: Result) -> str | None:
    """The file with a media fragment, which players and browsers open at this second."""
    return f"{uris[one.video_id]}#t={round(one.start_s, 1):g}" if one.video_id in uris else None


def clock(at_s: float) -> str:
    """``h:mm:ss``."""
    minutes, seconds = divmod(int(at_s), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def index_moments(options: argparse.Namespace) -> int:
    """Makes or refreshes an index, or checks it, and prints what was done."""
    from halsted_ray.embedding.look_up import one_store
    from halsted_ray.search.index_build import check, refresh
    from halsted_ray.search.index_builder import ByExample

    store = one_store(options.out, options.encoder, options.sampling)
    projection: Projection = ByExample()
    if options.model is not None:
        from halsted_ray.language.contrast_model import load_video_text
        from halsted_ray.search.text_question import ByText

        projection = ByText(load_video_text(resolve(options.model), store.encoder.partition("-")[0]))
    if options.check:
        files = check(store, projection.name)
        print(json.dumps({"files": files}) if options.json else f"{counted(files, 'file')} as the index says")
        return DONE
    done = refresh(
        store,
        projection,
        lambda videos, of: (
            None if options.json else show_progress(f"{videos:,} of {counted(of, 'video')}", videos == of)
        ),
        options.anew,
    )
    if options.json:
        print(json.dumps(asdict(done), indent=1))
        return DONE
    changed = "made anew" if done.made_anew else f"{done.added:,} added or changed, {done.removed:,} removed"
    print(f"{counted(done.videos, 'video')}, {counted(done.moments, 'moment')} in the index; {changed}")
    return DONE


def _moment(text: str) -> tuple[str, float]:
    """(video, second) of ``VIDEO:SECOND`` or ``VIDEO:h:mm:ss``. Raises UsageError."""
    video, _, time = text.partition(":")
    try:
        parts = [float(part) for part in time.split(":")]
        if video and len(parts) <= 3 and all(0 <= part < 1e7 for part in parts):
            return video, sum(part * 60**power for power, part in enumerate(reversed(parts)))
    except ValueError:
        pass
    raise UsageError(f"--like {text!r}: expected VIDEO:SECOND or VIDEO:h:mm:ss, such as 3f2a:75 or 3f2a:0:01:15")


def _uris(out: str, answer: Answer) -> dict[str, str]:
    """video_id → its file, of the videos that were found and that the maps know."""
    from halsted_ray.maps.reading import read_table

    table_ = read_table(out, "videos", ["video_id", "uri"])
    wanted = {one.video_id for one in answer.results}
    rows = [] if table_ is None else table_.to_pylist()
    return {row["video_id"]: row["uri"] for row in rows if row["video_id"] in wanted}


def _as_json(answer: Answer, site: str | None, uris: dict[str, str]) -> dict[str, object]:
    results = [
        {**asdict(one), "time": clock(one.start_s), "page": page_link(site, one), "file": player_link(uris, one)}
        for one in answer.results
    ]
    return {**asdict(answer), "results": results}
