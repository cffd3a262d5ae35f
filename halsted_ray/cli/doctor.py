"""``halsted doctor`` and ``halsted completion``: their options, and what they print."""

from __future__ import annotations

import argparse
import json
import textwrap
from dataclasses import asdict

from halsted_ray.cli.options import DONE, NOT_ALL, Commands, add_command
from halsted_ray.cli.text_tables import WIDTH

SHELLS = ("bash", "zsh", "tcsh")
MARKS = {"ok": "ok  ", "note": "note", "problem": "STOP"}


def add_doctor(commands: Commands) -> None:
    """``halsted doctor``."""
    doctor = add_command(
        commands,
        "doctor",
        "examine this machine, and say what would stop a run",
        examine_machine,
        example="halsted doctor s3://hospital/archive",
        more="exit code: 0 nothing would stop a run, 3 something would",
    )
    doctor.add_argument(
        "places", nargs="*", metavar="PLACE", help="folders or URLs that a run will use; each is listed"
    )
    doctor.add_argument("--json", action="store_true", help="print everything as JSON")


def examine_machine(options: argparse.Namespace) -> int:
    """Prints one paragraph per finding."""
    from halsted_ray.compute.doctor import PROBLEM, examine

    findings = examine(options.places)
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            print(_paragraph(f"{MARKS[finding.state]}  {finding.name}: ", finding.found))
            if finding.advice:
                print(_paragraph("      → ", finding.advice))
    return NOT_ALL if any(finding.state == PROBLEM for finding in findings) else DONE


def _paragraph(head: str, text: str) -> str:
    return textwrap.fill(head + text, WIDTH, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False)


def add_completion(commands: Commands) -> None:
    """``halsted completion``."""
    completion = add_command(
        commands,
        "completion",
        "print a script with which a shell completes the words of halsted",
        print_completion,
        example='eval "$(halsted completion bash)"',
    )
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=" or ".join(SHELLS))


def print_completion(options: argparse.Namespace) -> int:
    """Prints the script of one shell."""
    import shtab

    from halsted_ray.cli.parser import build_parser

    print(shtab.complete(build_parser(), shell=options.shell))
    return DONE
