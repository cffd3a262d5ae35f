"""``halsted deidentify``: an archive becomes a clean archive; certificates are checked and accepted."""

from __future__ import annotations

import argparse
import getpass
import json
from pathlib import Path
from typing import TYPE_CHECKING

from halsted_ray.cli.options import DONE, Commands, add_command
from halsted_ray.cli.text_tables import counted
from halsted_ray.errors import UsageError

if TYPE_CHECKING:
    from halsted_ray.deidentify.spans import Box


def add_deidentify(commands: Commands) -> None:
    """``halsted deidentify``."""
    parser = add_command(
        commands,
        "deidentify",
        "write a copy of an archive that holds no name, and certify each video",
        deidentify,
        example="halsted deidentify recordings --out clean",
        more="Further forms: `halsted deidentify verify CERTIFICATE FILE` checks a signature and that FILE is "
        "the video of the certificate; `halsted deidentify accept CERTIFICATE … --review DIR` notes that you have "
        "looked through what became black, and removes its pictures. An archive named verify or "
        "accept is ./verify or ./accept. "
        "exit code: 0 every video is clean, 3 some could not be read, 2 wrong use",
    )
    parser.add_argument("words", nargs="+", metavar="ARCHIVE", help="a folder or URL with videos; or a form below")
    parser.add_argument("--out", metavar="DIR", help="where the clean videos and their certificates go")
    parser.add_argument(
        "--review", metavar="DIR", help="pictures of what became black; holds patients' data (default: OUT-review)"
    )
    parser.add_argument("--key", metavar="FILE", help="the site's key (default: REVIEW/site-key.pem, made once)")
    parser.add_argument(
        "--mask", action="append", default=[], metavar="X,Y,W,H", help="a box that is always black; may be repeated"
    )
    parser.add_argument("--masks", metavar="FILE", help="YAML: a recorder's name → a list of its boxes")
    parser.add_argument("--recorder", metavar="NAME", help="which recorder of --masks made this archive")
    parser.add_argument("--no-text", action="store_true", help="do not look for text in the picture")
    parser.add_argument(
        "--no-out-of-body",
        action="store_true",
        help="do not black out what lies outside of the body: for open surgery, where all of it does",
    )
    parser.add_argument("--retry-failed", action="store_true", help="try again what could not be read before")
    parser.add_argument("--public-key", metavar="BASE64", help="verify: whose signature it must be")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def deidentify(options: argparse.Namespace) -> int:
    """Runs one of the three forms."""
    form, *rest = options.words
    if form == "verify":
        return _verify(rest, options.public_key)
    if form == "accept":
        return _accept(rest, options)
    if rest or options.out is None:
        raise UsageError("expected ARCHIVE --out DIR, verify CERTIFICATE FILE, or accept CERTIFICATE … --review DIR")
    from halsted_ray.compute.progress import ProgressLine
    from halsted_ray.deidentify.clean import CleaningOptions, has_text_reader
    from halsted_ray.mapping.deidentify_archive import deidentify_archive, failures_by_code

    if not options.no_text and not has_text_reader():
        raise UsageError(
            "text in the picture can't be looked for: expected the package rapidocr-onnxruntime; "
            "pip install 'halsted-ray[deidentify]', or leave this step out with --no-text"
        )
    boxes = _boxes(options)
    with ProgressLine() as line:
        summary = deidentify_archive(
            form,
            options.out,
            review=options.review,
            key=options.key,
            options=CleaningOptions(not options.no_text, boxes, not options.no_out_of_body),
            retry_failed=options.retry_failed,
            observer=line,
        )
    if options.json:
        print(json.dumps(vars(summary) | {"exit_code": summary.exit_code}, indent=1))
        return summary.exit_code
    for name, (code, reason) in sorted(summary.failed.items()):
        print(f"{name} failed ({code}): {reason}")
    print(
        f"{counted(summary.videos, 'video')}: {summary.before:,} clean before, {summary.cleaned:,} cleaned now, "
        f"{summary.with_findings:,} of them to be looked through, {len(summary.failed):,} failed"
    )
    if summary.failed_list:
        print(f"which files failed: {summary.failed_list} (readable by you alone)")
    if summary.failed:
        print(", ".join(f"{code} {count:,}" for code, count in failures_by_code(summary).items()))
    return summary.exit_code


def _boxes(options: argparse.Namespace) -> tuple[Box, ...]:
    from halsted_ray.deidentify.clean import boxes_of

    words = list(options.mask)
    if (options.masks is None) != (options.recorder is None):
        raise UsageError("--masks FILE and --recorder NAME belong together; give both or none")
    if options.masks is not None:
        import yaml

        try:
            recorders = yaml.safe_load(Path(options.masks).read_text())
            words += [",".join(map(str, box)) for box in recorders[options.recorder]]
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
            raise UsageError(
                f"{options.masks!r}: expected YAML with {options.recorder!r}: [[x, y, width, height], …], got "
                f"{type(error).__name__}"
            ) from None
    return boxes_of(words)


def _verify(words: list[str], public_key: str | None) -> int:
    from halsted_ray.deidentify.certificate import verify

    if len(words) != 2:
        raise UsageError("verify: expected a certificate and a video; halsted deidentify verify CERTIFICATE FILE")
    try:
        certificate = json.loads(Path(words[0]).read_text())
        verify(certificate, Path(words[1]), public_key)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the certificate or the video can't be read: {type(error).__name__}; the certificate (JSON) comes first, "
            "then the video"
        ) from None
    print("the signature holds, and the file is the video of this certificate")
    return DONE


def _accept(words: list[str], options: argparse.Namespace) -> int:
    from halsted_ray.deidentify.certificate import site_key
    from halsted_ray.deidentify.review import accept, write_index

    if not words or options.review is None:
        raise UsageError("accept: expected certificates and --review DIR, the folder that the run has written")
    review = Path(options.review)
    key_file = Path(options.key) if options.key else review / "site-key.pem"
    if not key_file.exists():
        raise UsageError(f"no key at {str(key_file)!r}; give the site's key with --key FILE")
    for word in words:
        accept(Path(word), review, site_key(key_file), getpass.getuser())
    write_index(review)
    print(f"{len(words):,} accepted")
    return DONE
