"""``halsted embed``: its options, and what it prints."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import TYPE_CHECKING

from halsted_ray.cli.options import (
    Commands,
    Parser,
    add_command,
    count,
    only_with,
    positive,
    positive_int,
    require_cluster,
    seconds,
)
from halsted_ray.cli.registry import MODEL_HELP, REGISTRY_HELP, registry_needs_version
from halsted_ray.cli.text_tables import FAILURES_AT_MOST, WIDTH, counted
from halsted_ray.errors import UsageError

if TYPE_CHECKING:
    from halsted_ray.compute.progress import RunObserver
    from halsted_ray.compute.resources import ResourceRequest
    from halsted_ray.embedding.embed_run import EmbeddingSummary

OF_ARCHIVES = ("windows", "every", "fidelity", "eye", "settle", "retry_failed")
OF_ATLASES = ("release", "recipe", "set")
"""Options that have a meaning for one kind of place alone; their default is None."""


def add_embed(commands: Commands) -> None:
    """``halsted embed``."""
    embed = add_command(
        commands,
        "embed",
        "encode all windows of an archive or an atlas, so that later runs decode nothing",
        embed_place,
        example="halsted embed archive --encoder tiny --embeddings maps/embeddings",
        more="The same command goes on with a run that was stopped, and makes no vector twice. A place that holds "
        "atlas/ is an atlas; name the folder of its videos to embed all of them as an archive. "
        "exit code: 0 every window has a vector, 3 some have none, 2 wrong use",
    )
    embed.add_argument("place", metavar="PLACE", help="an archive (folder or URL with videos), or an atlas")
    which = embed.add_mutually_exclusive_group(required=True)
    which.add_argument("--encoder", metavar="REF", help="tiny, or a folder, file or URL")
    which.add_argument(
        "--model",
        metavar="REF",
        help=f"take the encoder and the lengths of windows of a model: {MODEL_HELP}; or phantom",
    )
    embed.add_argument("--registry", metavar="URI", help=REGISTRY_HELP)
    embed.add_argument(
        "--embeddings",
        metavar="DIR",
        help="where embeddings are kept: needed for an archive; of an atlas ATLAS/embeddings is the default",
    )
    embed.add_argument(
        "--precision",
        choices=["fp32", "bf16", "fp8", "int8"],
        help="in which the encoder runs (default: as the stored vectors, else bf16 on GPUs and fp32 on CPUs)",
    )
    embed.add_argument(
        "--reader",
        default="auto",
        metavar="NAME",
        help="what decodes: auto (default: the GPU's NVDEC and the cores side by side), nvdec, pyav (cores) or decord",
    )
    embed.add_argument(
        "--encoders-per-gpu",
        type=positive_int,
        default=1,
        metavar="N",
        help="actors that share a GPU: more than 1 (default) where the encoder is small",
    )
    add_archive_options(embed)
    embed.add_argument("--release", metavar="NAME", help="atlas: its release (default: the latest; head: newest state)")
    embed.add_argument(
        "--recipe",
        metavar="NAME",
        help="atlas: embed the windows that this recipe learns from: paper (default) or best",
    )
    embed.add_argument(
        "--set",
        action="append",
        metavar="NAME=VALUE",
        help="atlas: change a value of the recipe, as for `halsted train`; may be repeated",
    )
    embed.add_argument(
        "--wait-for-cpus",
        type=count,
        default=0,
        metavar="N",
        help="ask the cluster for N CPUs and wait until it has them",
    )
    embed.add_argument(
        "--wait-for-gpus",
        type=count,
        default=0,
        metavar="N",
        help="ask the cluster for N GPUs and wait until it has them",
    )
    embed.add_argument(
        "--priority",
        default="normal",
        metavar="NAME",
        help="among the runs on one cluster: low (for whole archives), normal (default) or high",
    )
    embed.add_argument("--json", action="store_true", help="print everything as JSON")
    registry_needs_version(embed)
    only_with(
        embed,
        "--windows",
        "--every",
        when=lambda given: given.every is None or given.windows is None,
        needs="to stand alone: --every gives windows of its own",
    )
    only_with(
        embed,
        "--every",
        when=lambda given: given.model is None,
        needs="--encoder: a model has windows of its own",
    )


def add_archive_options(embed: Parser) -> None:
    """The options that have a meaning for an archive alone."""
    embed.add_argument(
        "--windows",
        metavar="WHICH",
        help="archive: all windows of the grid (default), or the coarse ones, 30 s each, alone",
    )
    embed.add_argument(
        "--every", type=positive, metavar="S", help="archive: one vector per S seconds instead, as for search"
    )
    embed.add_argument(
        "--fidelity",
        metavar="NAME",
        help="archive: how frames are decoded: exact, reference (default) or keyframes (fastest)",
    )
    embed.add_argument(
        "--eye", metavar="NAME", help="archive: which picture of a stereo recording is read: left (default) or right"
    )
    embed.add_argument(
        "--settle",
        type=seconds,
        metavar="SECONDS",
        help="archive: leave a file for the next run that still changes in this time (default 2; 0: look once)",
    )
    embed.add_argument(
        "--retry-failed",
        action="store_const",
        const=True,
        help="archive: look again at files that could not be probed",
    )


def embed_place(options: argparse.Namespace) -> int:
    """Embeds the archive or the atlas; prints what got no vector, the counts and the rate."""
    from halsted_ray.compute.progress import ProgressLine
    from halsted_ray.compute.resources import ResourceRequest
    from halsted_ray.maps.reading import one_line
    from halsted_ray.storage.delta import is_table, table_uri

    require_cluster(options)
    resources = ResourceRequest(
        reader=options.reader,
        encoders_per_gpu=options.encoders_per_gpu,
        priority=options.priority,
        wait_for=(options.wait_for_cpus, options.wait_for_gpus),
    )
    try:
        of_atlas = is_table(table_uri(options.place, "atlas", "samples"))
    except OSError as error:
        raise UsageError(
            f"can't look whether {options.place!r} is an atlas: {one_line(error)}; check the place, the network and "
            "the credentials, then give the same command again"
        ) from error
    given = [name for name in (OF_ARCHIVES if of_atlas else OF_ATLASES) if getattr(options, name) is not None]
    if given:
        is_here, is_for = ("an atlas", "an archive") if of_atlas else ("no atlas", "an atlas")
        raise UsageError(
            f"--{given[0].replace('_', '-')} is for {is_for}, and {options.place!r} holds {is_here}; leave the option "
            f"out{', or name the folder of the videos' if of_atlas else ''}"
        )
    if not of_atlas and options.embeddings is None:
        raise UsageError("an archive is only read: expected a place for the vectors; name one with --embeddings DIR")
    with ProgressLine() as line:
        summary = (_embed_atlas if of_atlas else _embed_archive)(options, resources, line)
    if options.json:
        print(json.dumps(summary.asdict() | {"exit_code": summary.exit_code}, indent=1))
    else:
        print(summary_text(summary))
    return summary.exit_code


def summary_text(summary: EmbeddingSummary) -> str:
    """What a person reads after a run; no file names."""
    from halsted_ray.compute.progress import amount

    told = [f"{file.video_id} failed: {file.reason}" for file in summary.unread]
    told += [
        f"{video.video_id} {counted(video.windows, 'window')} without a vector: {video.reason or 'no picture'}"
        for video in summary.damaged
    ]
    lines = [textwrap.shorten(line, WIDTH, placeholder=" …") for line in told[:FAILURES_AT_MOST]]
    if len(told) > len(lines):
        lines.append(f"and {len(told) - len(lines):,} more")
    if lines:
        lines.append("")
    failed = f", {counted(len(summary.unread), 'file')} failed" if summary.unread else ""
    lines.append(
        f"{counted(summary.videos, 'video')}{failed}; "
        f"{counted(summary.windows, 'window')}: {summary.windows_before:,} stored before, {summary.windows_made:,} made"
    )
    if summary.windows_lacking:
        reasons = ", ".join(f"{reason} {windows:,}" for reason, windows in summary.lacking_by_reason.items())
        lines += textwrap.wrap(
            f"{counted(summary.windows_lacking, 'window')} without pictures and so without a vector: {reasons}", WIDTH
        )
    if not summary.video_s:
        lines.append("nothing was left to do")
    else:
        if summary.encoding.clips:
            lines.append(str(summary.encoding))
        if summary.decoders.has_nvdec:
            lines.append(summary.decoders.sentence())
        lines.append(
            f"{amount(summary.video_s / 3600)} video-hours in {summary.wall_s:.0f} s, "
            f"{amount(summary.video_s / summary.wall_s, 1)} video-hours per hour"
        )
    return "\n".join(lines)


def _embed_archive(options: argparse.Namespace, resources: ResourceRequest, observer: RunObserver) -> EmbeddingSummary:
    from halsted_ray.mapping.embed_archive import embed_archive

    named = {"windows": options.windows, "fidelity": options.fidelity, "eye": options.eye, "settle_s": options.settle}
    return embed_archive(
        options.place,
        options.embeddings,
        options.encoder,
        model=_model(options),
        every_s=options.every,
        precision=options.precision,
        retry_failed=bool(options.retry_failed),
        resources=resources,
        observer=observer,
        **{name: value for name, value in named.items() if value is not None},
    )


def _embed_atlas(options: argparse.Namespace, resources: ResourceRequest, observer: RunObserver) -> EmbeddingSummary:
    from halsted_ray.mapping.embed_archive import encoder_and_windows
    from halsted_ray.training.embed_atlas import embed_atlas
    from halsted_ray.training.recipe import RECIPES, changed

    name = options.recipe or "paper"
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}; expected one of {', '.join(RECIPES)}")
    identity, spec = encoder_and_windows(options.encoder, _model(options))
    return embed_atlas(
        options.place,
        identity.ref,
        changed(RECIPES[name], options.set or []),
        spec=spec,
        release=options.release,
        embeddings=options.embeddings,
        precision=options.precision,
        resources=resources,
        observer=observer,
    )


def _model(options: argparse.Namespace) -> str | None:
    if options.model is None:
        return None
    from halsted_ray.registry.references import resolve

    return resolve(options.model, options.registry)
