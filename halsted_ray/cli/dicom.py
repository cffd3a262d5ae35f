"""``halsted dicom``: takes DICOM videos into an archive, receives them, and reads reports back."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from halsted_ray.cli.options import (
    DONE,
    NOT_ALL,
    Commands,
    add_command,
    add_group,
    only_with,
    port,
    positive,
    positive_int,
    seconds,
)
from halsted_ray.cli.text_tables import counted

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from halsted_ray.hospital.identities import Identities


def add_dicom(commands: Commands) -> None:
    """``halsted dicom`` and its actions."""
    actions = add_group(
        commands,
        "dicom",
        "take or receive DICOM videos into an archive, read reports back",
        example="halsted dicom import DICOMDIR --out archive --identities private/ids.db",
    )
    take = add_command(
        actions,
        "import",
        "copy the video streams of DICOM files into an archive, bit by bit",
        import_videos,
        example="halsted dicom import pacs --out archive --identities private/identities.db",
        more="The header is kept in the table of identities alone; the archive has ids. exit code: 0 done, 3 some "
        "files could not be taken, 2 wrong use",
    )
    take.add_argument("source", metavar="SOURCE", help="a DICOM file, a folder, or a DICOMDIR")
    take.add_argument("--out", required=True, metavar="DIR", help="the archive, a local folder")
    take.add_argument(
        "--identities", required=True, metavar="FILE", help="the site's own table, outside of the archive (mode 0600)"
    )
    _add_receive(actions)
    _add_studies(actions)
    rows = add_command(
        actions,
        "rows",
        "print the rows of DICOM SRs and FHIR bundles that `halsted export` wrote",
        print_rows,
        example="halsted dicom rows reports/3f2a.sr.dcm --format csv",
    )
    rows.add_argument("reports", metavar="FILE", nargs="+", help="a report; a path or URL")
    rows.add_argument("--format", choices=("csv", "jsonl"), default="csv", help="csv (default) or jsonl")


def _add_receive(actions: Commands) -> None:
    command = add_command(
        actions,
        "receive",
        "receive DICOM videos by C-STORE into an archive, and map each complete study",
        receive_videos,
        example="halsted dicom receive --out archive --identities private/identities.db \\\n"
        "    --allow ENDO1 --map --model phantom --maps maps",
        more="Runs until it is stopped; the same command goes on where it was. What failed is in `halsted dicom "
        "studies`. exit code: 143 stopped by SIGTERM, 130 by Ctrl-C, 2 wrong use",
    )
    command.add_argument("--out", required=True, metavar="DIR", help="the archive, a local folder")
    command.add_argument(
        "--identities", required=True, metavar="FILE", help="the site's own table, outside of the archive (mode 0600)"
    )
    command.add_argument("--host", default="127.0.0.1", help="the address to listen at (default %(default)s)")
    command.add_argument("--port", type=port, default=11112, metavar="N", help="the port (default %(default)d)")
    command.add_argument("--aet", default="HALSTED", metavar="AET", help="the own AE title (default %(default)s)")
    command.add_argument(
        "--allow", action="append", default=[], metavar="AET", help="an AE title that may send; may be repeated"
    )
    command.add_argument("--tls-cert", metavar="FILE", help="the own certificate (PEM): connections are TLS")
    command.add_argument("--tls-key", metavar="FILE", help="the key of the certificate")
    command.add_argument("--tls-clients", metavar="FILE", help="authorities whose certificates senders must show")
    command.add_argument(
        "--associations", type=positive_int, default=16, metavar="N", help="how many at once (default %(default)d)"
    )
    command.add_argument(
        "--largest-gb", type=positive, default=64.0, metavar="G", help="of one video, in 2^30 bytes (default 64)"
    )
    command.add_argument(
        "--reserve-gb", type=positive, default=1.0, metavar="G", help="what stays free on the disk (default 1)"
    )
    command.add_argument("--map", action="store_true", help="map each study once it is complete")
    command.add_argument("--maps", metavar="OUT", help="folder or URL where the maps are written")
    command.add_argument("--model", default="phantom", metavar="REF", help="as of `halsted map` (default phantom)")
    command.add_argument("--registry", metavar="URI", help="as of `halsted map`")
    command.add_argument(
        "--complete-after",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="a study without a new video for so long is complete (default 60)",
    )
    only_with(
        command,
        "--maps",
        "--model",
        "--registry",
        "--complete-after",
        when=lambda options: options.map,
        needs="--map",
    )
    only_with(command, "--map", when=lambda options: options.maps, needs="--maps OUT")
    only_with(command, "--tls-cert", when=lambda options: options.tls_key, needs="--tls-key FILE")
    only_with(command, "--tls-key", "--tls-clients", when=lambda options: options.tls_cert, needs="--tls-cert FILE")


def _add_studies(actions: Commands) -> None:
    command = add_command(
        actions,
        "studies",
        "list the studies that `halsted dicom receive` took, and what it refused",
        list_studies,
        example="halsted dicom studies --identities private/identities.db",
        more="exit code: 0 nothing failed, 3 studies failed or instances were refused, 2 wrong use",
    )
    command.add_argument("--identities", required=True, metavar="FILE", help="the site's own table")
    command.add_argument("--retry-failed", action="store_true", help="have failed studies mapped again")
    command.add_argument("--forget-refused", action="store_true", help="remove the refusals from the list")


def import_videos(options: argparse.Namespace) -> int:
    """Copies the streams, and prints the ids of the videos."""
    from halsted_ray.hospital.intake import take_in
    from halsted_ray.storage.private_lists import write_private_list

    found = take_in(options.source, options.out, _table_beside(options))
    for taken in found.taken:
        print(f"{taken.video_id}  {'new' if taken.is_new else 'there already'}")
    print(
        f"{counted(len(found.taken), 'video')}, {counted(found.others, 'file')} without a DICOM video, "
        f"{len(found.refused)} refused"
    )
    for number, refused in enumerate(found.refused, 1):
        print(f"refused {number}: {refused.reason}", file=sys.stderr)
    refused_list = write_private_list(
        _private_list(options, "files"),
        ("number", "file", "reason"),
        ((number, refused.path, refused.reason) for number, refused in enumerate(found.refused, 1)),
    )
    if refused_list:
        print(f"which files these are: {refused_list} (readable by you alone)", file=sys.stderr)
    return NOT_ALL if found.refused else DONE


def receive_videos(options: argparse.Namespace) -> int:
    """Receives until the process is stopped."""
    from pathlib import Path

    from halsted_ray.hospital.extra import needs_dicom
    from halsted_ray.hospital.studies import Studies
    from halsted_ray.hospital.study_mapping import StudyMapper

    needs_dicom()
    from halsted_ray.hospital.connections import ReceiverLimits
    from halsted_ray.hospital.receiving import Listening, receive
    from halsted_ray.model.model_file import read_stated_model
    from halsted_ray.registry.references import resolve
    from halsted_ray.storage.files import require_writable

    identities = _table_beside(options)
    mapper = None
    if options.map:
        # What can't map is told now, and not when the first study is complete.
        read_stated_model(resolve(options.model, options.registry))
        require_writable(options.maps)
        registry = ("--registry", options.registry) if options.registry else ()
        mapper = StudyMapper(
            Studies(identities),
            Path(options.out),
            options.maps,
            options.complete_after,
            ("--model", options.model, *registry),
        )
    receive(
        Listening(options.host, options.port, options.aet, tuple(options.allow), _tls_context(options)),
        options.out,
        identities,
        mapper,
        ReceiverLimits(options.associations, round(options.largest_gb * 1024**3), round(options.reserve_gb * 1024**3)),
    )
    return DONE


def list_studies(options: argparse.Namespace) -> int:
    """Prints each study by its own id, and each refusal with its reason."""
    import time
    from collections import Counter

    from halsted_ray.hospital.identities import Identities
    from halsted_ray.hospital.studies import Studies
    from halsted_ray.storage.private_lists import write_private_list

    studies = Studies(Identities(options.identities, must_exist=True))
    if options.retry_failed:
        print(f"{counted(studies.retry_failed(), 'failed study', 'failed studies')} will be mapped again")
    if options.forget_refused:
        print(f"{counted(studies.forget_refusals(), 'refusal')} removed")
    listed, refusals = studies.all(), studies.refusals()
    for study in listed:
        print(
            f"{study.key}  {study.state:8}  "
            f"{counted(study.videos, 'video')}{f'  {study.reason}' if study.reason else ''}"
        )
    for refusal in refusals:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(refusal.at_s))
        print(f"{at}  refusal {refusal.number} with status 0x{refusal.status:04X}: {refusal.reason}")
    refused_list = write_private_list(
        _private_list(options, "instances"),
        ("number", "SOP instance UID", "reason"),
        ((refusal.number, refusal.instance_uid, refusal.reason) for refusal in refusals),
    )
    if refused_list:
        print(f"which instances were refused: {refused_list} (readable by you alone)")
    callers, newest_s = studies.refused_callers()
    if callers:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(newest_s))
        print(
            f"{counted(callers, 'association')} refused, up to {at}: check the AE titles of sender (--allow) and "
            "receiver (--aet)"
        )
    counts = Counter(study.state for study in listed)
    print(
        f"{counted(len(listed), 'study', 'studies')}: "
        f"{', '.join(f'{count} {state}' for state, count in sorted(counts.items())) or 'none'}"
    )
    print(f"{counted(len(refusals), 'instance')} refused")
    return NOT_ALL if counts["failed"] or refusals else DONE


def _private_list(options: argparse.Namespace, what: str) -> Path:
    """The list of what was refused, beside the table of identities and as private: names of files and ids of instances
    lead to the patient."""
    from pathlib import Path

    return Path(f"{options.identities}.refused-{what}.csv")


def _table_beside(options: argparse.Namespace) -> Identities:
    """The table of identities. Raises UsageError where it would lie in the archive."""
    from pathlib import Path

    from halsted_ray.errors import UsageError
    from halsted_ray.hospital.identities import Identities

    if Path(options.identities).resolve().is_relative_to(Path(options.out).resolve()):
        raise UsageError("--identities: expected a file outside of the archive, got one in it; name another place")
    return Identities(options.identities)


def _tls_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """TLS as the options ask for it, or None. Raises UsageError where a file can't be used."""
    from halsted_ray.errors import UsageError
    from halsted_ray.hospital.connections import server_context

    if options.tls_cert is None:
        return None
    try:
        return server_context(options.tls_cert, options.tls_key, options.tls_clients)
    except OSError as error:
        raise UsageError(
            f"TLS: expected PEM files with a certificate, its key and authorities, got {type(error).__name__}"
        ) from None


def print_rows(options: argparse.Namespace) -> int:
    """Prints the rows of all reports as one table."""
    from halsted_ray.hospital.exports import read_rows
    from halsted_ray.maps.exports import write_csv, write_jsonl

    found = [row for report in options.reports for row in read_rows(report)]
    sys.stdout.write(write_csv(found) if options.format == "csv" else write_jsonl(found))
    return DONE
