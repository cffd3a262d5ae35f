"""What all commands' options share: the parser, and the kinds of numbers that are taken."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import fill
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Condition:
    """``option`` has an effect only where ``when`` holds for the parsed options; ``needs`` says so to a person."""

    option: str
    when: Callable[[argparse.Namespace], object]
    needs: str


class Parser(argparse.ArgumentParser):
    """Wrong options are told with the usage of the command they were given to, not with that of ``halsted``. So are
    options that have no effect beside the others (see ``only_with``)."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.conditions: list[Condition] = []

    def parse_known_args(self, args=None, namespace=None):
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        broken = [condition for condition in self.conditions if not condition.when(options)]
        given = self._given(args) if broken else set()
        for condition in broken:
            if condition.option in given:
                self.error(f"argument {condition.option}: it needs {condition.needs}")
        return options, unknown

    def _given(self, args: list[str] | None) -> set[str]:
        """The options that stand on the command line: parsed once more, so that a default that was typed is known
        from one that was not."""
        defaults = [(action, action.default) for action in self._actions]
        try:
            for action in self._actions:
                action.default = argparse.SUPPRESS
            found, _ = super().parse_known_args(args)
        finally:
            for action, default in defaults:
                action.default = default
        return {name for action in self._actions if action.dest in found for name in action.option_strings}


Do = Callable[[argparse.Namespace], int]
"""What a command does: options in, exit code out."""
Commands: TypeAlias = "argparse._SubParsersAction[Any]"


def add_command(commands: Commands, name: str, purpose: str, do: Do, *, example: str, more: str = "") -> Parser:
    """A command of ``commands`` with its own help: ``purpose``, its options, ``example``, and ``more``."""
    parser = commands.add_parser(
        name,
        help=purpose,
        description=f"{purpose[0].upper()}{purpose[1:]}.",
        epilog="\n\n".join(filter(None, (f"example:\n  {example}", fill(more, 78)))),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    assert isinstance(parser, Parser)
    parser.set_defaults(do=do)
    return parser


def only_with(
    parser: argparse.ArgumentParser, *options: str, when: Callable[[argparse.Namespace], object], needs: str
) -> None:
    """From now on each of ``options`` is refused (exit code 2) where it is given and ``when`` does not hold for the
    parsed options: it would be ignored without a word. ``needs`` ends the sentence "it needs …"."""
    assert isinstance(parser, Parser)
    known = {name for action in parser._actions for name in action.option_strings}
    assert known >= set(options), f"{parser.prog} has no {sorted(set(options) - known)}"
    parser.conditions += [Condition(option, when, needs) for option in options]


def _number(kind: type, what: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    def number(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and fits(value)):
            raise argparse.ArgumentTypeError(f"{text!r}; expected {what}")
        return value

    return number


positive_int = _number(int, "a whole number above 0", lambda value: value > 0)
count = _number(int, "a whole number, 0 or more", lambda value: value >= 0)
positive = _number(float, "a number above 0", lambda value: value > 0)
price = _number(float, "a number, 0 or more", lambda value: value >= 0)
share = _number(float, "a share of 0 to 1", lambda value: 0 <= value <= 1)
port = _number(int, "a port, 1 to 65535", lambda value: 0 < value < 65536)
positive_share = _number(float, "a share above 0, up to 1", lambda value: 0 < value <= 1)
inner_share = _number(float, "a share above 0, below 1", lambda value: 0 < value < 1)
part = _number(float, "a share of 0 to less than 1", lambda value: 0 <= value < 1)


def size(text: str) -> tuple[int, int]:
    """``640x360`` → (640, 360)."""
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r}; expected width x height, such as 640x360")
    return int(width), int(height)


DONE, WRONG_USE, NOT_ALL, INTERRUPTED, TERMINATED = 0, 2, 3, 130, 143
"""``NOT_ALL``: done, but some videos failed or have gaps, findings are shown, or the gate refused."""
