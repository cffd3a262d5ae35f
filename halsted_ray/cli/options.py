"""What the options of all commands share: the parser, the kinds of numbers, options that need others, exit codes."""

from __future__ import annotations

import argparse
import difflib
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any, TypeAlias

from halsted_ray.errors import UsageError

DONE, WRONG_USE, NOT_ALL, INTERRUPTED, TERMINATED = 0, 2, 3, 130, 143
"""Exit codes. ``NOT_ALL``: the command is done, but some videos failed or have gaps, a check found something, or the
gate refused a model."""


@dataclass(frozen=True)
class Condition:
    """``option`` has an effect only where ``when`` holds for the parsed options; ``needs`` says so to a person."""

    option: str
    when: Callable[[argparse.Namespace], object]
    needs: str


class Parser(argparse.ArgumentParser):
    """A parser whose messages help: a mistyped command or option is answered with the nearest one, and the usage shown
    is that of the command that was typed.

    A command that needs another word, such as ``halsted`` or ``halsted atlas`` alone, prints its help. ``help COMMAND``
    is read as ``COMMAND --help``. An option that has no effect beside the others is refused (see ``only_with``).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # Any: whatever argparse takes, handed through
        super().__init__(*args, **kwargs)
        self.conditions: list[Condition] = []

    def parse_known_args(  # type: ignore[override]  # argparse overloads it by the namespace's type; we never set one
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse does it. Exits with code 2 and a message on an unknown option or one without effect."""
        words = list(sys.argv[1:] if args is None else args)
        if self._has_commands and not words:
            self.print_help(sys.stderr)
            self.exit(WRONG_USE)
        if self._has_commands and words[0] == "help":
            words = [*words[1:], "--help"]
        options, unknown = super().parse_known_args(words, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._nearest_option(unknown[0])}")
        broken = [condition for condition in self.conditions if not condition.when(options)]
        given = self._given(words) if broken else set()
        for condition in broken:
            if condition.option in given:
                self.error(f"argument {condition.option}: it needs {condition.needs}")
        return options, unknown

    @property
    def _has_commands(self) -> bool:
        return self._subparsers is not None

    def _nearest_option(self, word: str) -> str:
        names = [name for action in self._actions for name in action.option_strings]
        return _did_you_mean(word.partition("=")[0], names) if word.startswith("-") else ""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Raises ArgumentError for a word that is not among the choices of ``action``, and names the nearest."""
        if action.choices is None or value in action.choices:
            return
        choices = list(map(str, action.choices))
        if isinstance(action, argparse._SubParsersAction):
            nearest = _did_you_mean(value, choices) or ";"
            raise argparse.ArgumentError(action, f"there is no {value!r}{nearest} `{self.prog} --help` lists all")
        raise argparse.ArgumentError(action, f"{value!r}; expected one of {', '.join(choices)}")

    def _given(self, words: Sequence[str]) -> set[str]:
        """The options that stand on the command line.

        The words are parsed a second time, without defaults: so an option that was typed with its default value is
        told from an option that was left out.
        """
        defaults = [(action, action.default) for action in self._actions]
        try:
            for action in self._actions:
                action.default = argparse.SUPPRESS
            found, _ = super().parse_known_args(words)
        finally:
            for action, default in defaults:
                action.default = default
        return {name for action in self._actions if action.dest in found for name in action.option_strings}


def _did_you_mean(word: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(names), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


Do = Callable[[argparse.Namespace], int]
"""What a command does: options in, exit code out."""
Commands: TypeAlias = "argparse._SubParsersAction[Any]"
"""Where commands are added. Any: argparse's own type of it does not know the class of the parsers."""
Action: TypeAlias = Callable[[str, str, Do, str], Parser]
"""Adds one action to a group of commands: (name, purpose, what it does, an example) → its parser."""


def add_command(commands: Commands, name: str, purpose: str, do: Do, *, example: str, more: str = "") -> Parser:
    """Adds a command with its own help: ``purpose``, its options, ``example``, and ``more``."""
    parser = _add_parser(commands, name, purpose, example, more)
    parser.set_defaults(do=do)
    return parser


def add_group(commands: Commands, name: str, purpose: str, *, example: str, more: str = "") -> Commands:
    """Adds a command that needs an action as its next word, such as ``halsted atlas``; returns where actions go."""
    return _add_parser(commands, name, purpose, example, more).add_subparsers(
        dest="action", required=True, metavar="ACTION", title="actions", prog=f"halsted {name}"
    )


def _add_parser(commands: Commands, name: str, purpose: str, example: str, more: str) -> Parser:
    parser = commands.add_parser(
        name,
        help=purpose,
        description=f"{purpose[0].upper()}{purpose[1:]}.",
        epilog="\n\n".join(filter(None, (f"example:\n  {example}", fill(more, 78, break_on_hyphens=False)))),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    assert isinstance(parser, Parser)
    return parser


def only_with(
    parser: argparse.ArgumentParser, *options: str, when: Callable[[argparse.Namespace], object], needs: str
) -> None:
    """Refuses each of ``options`` (exit code 2) where it is given and ``when`` does not hold for the parsed options.

    Without this refusal the option would be ignored without a word. ``needs`` ends the sentence "it needs …".
    """
    assert isinstance(parser, Parser)
    known = {name for action in parser._actions for name in action.option_strings}
    assert known >= set(options), f"{parser.prog} has no {sorted(set(options) - known)}"
    parser.conditions += [Condition(option, when, needs) for option in options]


def require_cluster(options: argparse.Namespace) -> None:
    """Raises UsageError where an option needs a cluster and there is none."""
    from halsted_ray.compute.cluster import is_attached

    if is_attached():
        return
    for option, matters in (
        ("--wait-for-cpus", options.wait_for_cpus > 0),
        ("--wait-for-gpus", options.wait_for_gpus > 0),
        ("--priority", options.priority != "normal"),
    ):
        if matters:
            raise UsageError(
                f"{option} needs a cluster, and this run uses only its own machine; name a cluster in RAY_ADDRESS, "
                "or leave the option out"
            )


def _number(kind: type[int] | type[float], what: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """A reader of finite numbers that ``fits`` takes; ``what`` says to a person which numbers these are."""

    def number(text: str) -> float:
        try:
            value: float = kind(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and fits(value)):
            raise argparse.ArgumentTypeError(f"{text!r}; expected {what}")
        return value

    return number


positive_int = _number(int, "a whole number above 0", lambda value: value > 0)
count = _number(int, "a whole number, 0 or more", lambda value: value >= 0)
positive = _number(float, "a number above 0", lambda value: value > 0)
seconds = _number(float, "seconds, 0 or more", lambda value: value >= 0)
price = _number(float, "a number, 0 or more", lambda value: value >= 0)
share = _number(float, "a share of 0 to 1", lambda value: 0 <= value <= 1)
fold = _number(int, "a fold, 0 to 4", lambda value: 0 <= value <= 4)
port = _number(int, "a port, 1 to 65535", lambda value: 0 < value < 65536)
positive_share = _number(float, "a share above 0, up to 1", lambda value: 0 < value <= 1)
share_above_0_below_1 = _number(float, "a share above 0, below 1", lambda value: 0 < value < 1)
share_below_1 = _number(float, "a share of 0 to less than 1", lambda value: 0 <= value < 1)


def size(text: str) -> tuple[int, int]:
    """``640x360`` → (640, 360)."""
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r}; expected width x height, such as 640x360")
    return int(width), int(height)
