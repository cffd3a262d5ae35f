"""``halsted embeddings``: its options, and what it prints."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from halsted_ray.cli.options import DONE, Commands, Do, Parser, add_command, add_group, positive
from halsted_ray.cli.text_tables import counted, show_progress

if TYPE_CHECKING:
    from halsted_ray.storage.vectors import VectorStore


def add_embeddings(commands: Commands) -> None:
    """``halsted embeddings ACTION``."""
    actions = add_group(
        commands,
        "embeddings",
        "look into a store of vectors, pack it, or import vectors into it",
        example="halsted embeddings list maps/embeddings",
    )

    def action(name: str, purpose: str, do: Do, more: str) -> Parser:
        added = add_command(actions, name, purpose, do, example=f"halsted embeddings {name} maps/embeddings", more=more)
        added.add_argument("store", metavar="STORE", help="folder or URL of the store: OUT/embeddings, or --embeddings")
        added.add_argument("--json", action="store_true", help="print everything as JSON")
        return added

    action(
        "list",
        "count the videos, windows and bytes of each encoder and sampling",
        list_stores,
        "windows are counted in packed files; the names of other files do not say how many they hold",
    )
    action(
        "pack",
        "make one file of all files of a video",
        pack_stores,
        "a mapping packs the videos that it publishes; this packs all others, and stores of earlier versions; it may "
        "be killed and repeated at any time, also while runs use the store",
    )

    take = add_command(
        actions,
        "import",
        "take vectors that something else made, one file per video",
        import_folder,
        example="halsted embeddings import DIR --of archive --into DIR2 --name n --digest 3f",
        more="files: NAME.npy, NAME.h5 or NAME.parquet, NAME as the video's; nothing is decoded for them later",
    )
    take.add_argument("folder", metavar="DIR", help="folder or URL of the files")
    take.add_argument("--of", required=True, metavar="PLACE", help="the atlas or archive whose videos they are of")
    take.add_argument("--into", required=True, metavar="STORE", help="the store of vectors that keeps them")
    take.add_argument("--name", required=True, help="names these vectors")
    take.add_argument("--digest", required=True, help="of what made them, such as the sha256 of its weights")
    take.add_argument("--rate", type=positive, metavar="HZ", help="rows per second, of files without times")
    take.add_argument("--files", action="store_true", help="also print each refused file's name, which may be private")
    take.add_argument("--json", action="store_true", help="print everything as JSON")


def import_folder(options: argparse.Namespace) -> int:
    """Prints what was taken, each file that was refused, and how to use the vectors; file names only if asked."""
    from halsted_ray.mapping.import_vectors import import_vectors

    done = import_vectors(options.folder, options.of, options.into, options.name, options.digest, rate=options.rate)
    if options.json:
        hidden = () if options.files else ("refused_files",)
        print(json.dumps({name: of for name, of in asdict(done).items() if name not in hidden}, indent=1))
        return done.exit_code
    print(
        f"vectors of width {done.dim} for {counted(done.videos, 'video')} ({counted(done.rows, 'row')} read), "
        f"named {done.fingerprint}"
    )
    for name, reason in done.refused.items():
        print(f"refused: {name} {reason}" + (f": {done.refused_files[name]}" if options.files else ""))
    if done.refused:
        print(
            f"{counted(len(done.refused), 'file')} refused"
            + ("" if options.files else "; files are counted in the order of their names, --files prints these")
        )
    if done.without:
        print(
            f"{counted(len(done.without), 'video')} without any: "
            f"{', '.join(done.without[:5])}{' …' * (len(done.without) > 5)}"
        )
    print(f"use them with: --encoder {done.encoder} --embeddings {options.into}")
    return done.exit_code


def list_stores(options: argparse.Namespace) -> int:
    """Prints a line for each encoder and sampling of the store."""
    from halsted_ray.cli.text_tables import table

    amounts = [store.amount() for store in found_stores(options.store)]
    if options.json:
        print(json.dumps([asdict(amount) for amount in amounts], indent=1))
        return DONE
    header = ("encoder", "sampling", "videos", "windows", "MB", "packed", "loose")
    rows = [
        (
            amount.encoder,
            amount.sampling,
            f"{amount.videos:,}",
            f"{amount.packed_windows:,}",
            f"{amount.size_bytes / 1e6:,.1f}",
            f"{amount.packed_files:,}",
            f"{amount.span_files:,}",
        )
        for amount in amounts
    ]
    print(table(header, rows, right=range(2, len(header))))
    if loose := sum(amount.span_files for amount in amounts):
        print(
            f"\n{counted(loose, 'file')} not packed, the windows of such files not counted: halsted embeddings "
            f"pack {options.store}"
        )
    return DONE


def pack_stores(options: argparse.Namespace) -> int:
    """Packs every encoder and sampling of the store, and prints what was done."""
    done = []
    for store in found_stores(options.store):
        packed = store.pack(
            progress=lambda videos, of: show_progress(f"{videos:,} of {counted(of, 'video')} packed", videos == of)
        )
        done.append({"encoder": store.encoder, "sampling": store.sampling, **asdict(packed)})
        if not options.json:
            print(
                f"{store.encoder} {store.sampling}: {counted(packed.videos, 'video')} packed "
                f"({counted(packed.windows, 'window')}), "
                f"{counted(packed.removed_files, 'file')} removed"
            )
    if options.json:
        print(json.dumps(done, indent=1))
    return DONE


def found_stores(location: str) -> list[VectorStore]:
    """The stores at a location. Raises UsageError where there is none."""
    from halsted_ray.errors import UsageError
    from halsted_ray.storage.vectors import stores_at

    found = [store for store in stores_at(location) if store.files()]
    if not found:
        raise UsageError(
            f"{location!r} holds no vectors: expected the folder that a mapping or training wrote, such as "
            "OUT/embeddings; check the name"
        )
    return found
