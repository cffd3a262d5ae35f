"""Each refusal that a surgeon can meet on the page has a name, and a sentence in each language of the page."""

import ast
import re
from pathlib import Path

import pytest

from halsted_ray.errors import UsageError
from halsted_ray.service.api import INVALID
from halsted_ray.service.name_like import WARNINGS
from halsted_ray.service.refusals import HttpRefusal, name_of

SERVICE = Path(__file__).parents[1] / "halsted_ray/service"
WORDS = Path(__file__).parents[1] / "serve/web/src/words"
OF_PAGE = (
    "annotation_bounds.py annotations.py atlas_entries.py case_descriptions.py cases.py comments.py "
    "explanations.py jobs.py links.py similar_moments.py storage_room.py uploads.py"
).split()
"""Modules whose refusals a surgeon can meet by what the page offers."""
KINDS = (
    "UsageError",
    "StateConflict",
    "Forbidden",
    "NotYours",
    "Rejected",
    "QuotaExceeded",
    "StoreFull",
    "SpanChanged",
)
"""Errors that the page tells in the words of the service, where they have no name."""
NOT_ON_PAGE = {
    "shows: expected": "the form sends what it lists",
    "relation ": "the form sends what it lists",
    "consent ": "the form sends what it lists",
    "part ": "the page counts the parts itself",
}
"""How messages begin that need no name of their own → why."""


def raised() -> list[tuple[str, ast.Call]]:
    """(file, call) of every error that a module of the service raises."""
    found = []
    for path in sorted(SERVICE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                found.append((path.relative_to(SERVICE).as_posix(), node.exc))
    return found


def name_given(call: ast.Call) -> str | None:
    """The name that ``raise Error(...).named(name)`` gives."""
    if not (isinstance(call.func, ast.Attribute) and call.func.attr == "named"):
        return None
    name = call.args[0]
    assert isinstance(name, ast.Constant), "a name is written down where it is given"
    return str(name.value)


def refusals() -> dict[str, set[str]]:
    """Name → the values that are given with it wherever it is raised."""
    found: dict[str, set[str]] = {INVALID: set()}
    for _, call in raised():
        if name := name_given(call):
            given = {str(keyword.arg) for keyword in call.keywords}
            found[name] = found[name] & given if name in found else given
    return found


def sentences(language: str, table: str = "refusals") -> dict[str, str]:
    """Key → the rest of its line, of a table of the page's words."""
    text = (WORDS / language / "refusals.ts").read_text()
    body = re.search(rf"export const {table}\b[^{{]*= \{{\n(.*?)\n\}};", text, re.DOTALL)
    assert body, f"{language}: no table {table}"
    return dict(re.findall(r'^  "?([\w-]+)"?: (.*)$', body[1], re.MULTILINE))


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_named_refusal_has_a_sentence_in_both_languages(language):
    assert sorted(set(refusals()) - set(sentences(language))) == [], f"no sentence in {language}"
    assert sorted(set(sentences(language)) - set(refusals())) == [], f"{language}: nothing is refused by this name"


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_sentence_names_only_what_its_refusal_gives(language):
    given = refusals()
    for name, sentence in sentences(language).items():
        named = re.match(r"\(\{ ([\w, ]+) \}\)", sentence)
        assert set(named[1].split(", ") if named else []) <= given[name], f"{language}: {name}"


def test_every_refusal_that_a_surgeon_can_meet_has_a_name():
    nameless = []
    for place, call in raised():
        text = ast.unparse(call)
        kind = text.split("(")[0]
        if place not in OF_PAGE or name_given(call) or kind not in KINDS:
            continue
        message = re.split(r"\(f?['\"]", text, maxsplit=1)[1]
        if not any(message.startswith(begin) for begin in NOT_ON_PAGE):
            nameless.append(f"{place}: {text}")
    assert nameless == []


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_warning_that_a_text_looks_like_a_name_has_words(language):
    assert set(sentences(language, "looksLike")) == set(WARNINGS)


def test_the_name_of_a_refusal_travels_beside_its_text():
    assert name_of(UsageError("too long").named("comment-length", most=2000)) == {
        "code": "comment-length",
        "values": {"most": 2000},
    }
    assert name_of(HttpRefusal(401, "no").named("key-invalid")) == {"code": "key-invalid", "values": {}}
    assert name_of(UsageError("without a name")) == name_of(ValueError("of others")) == {}
