"""Each refusal that a surgeon can meet on the page has a name, and a sentence in each language of the page."""

import ast
import re
from pathlib import Path

import pytest

from halsted_ray.errors import (
    BeyondLimits,
    CorruptSegment,
    DecoderKilled,
    ModelError,
    OutputError,
    StorageUnavailable,
    UnreadableVideo,
    UsageError,
)
from halsted_ray.service.api import INVALID
from halsted_ray.service.failure_causes import CAUSES, cause_of
from halsted_ray.service.job_process import OutOfMemory
from halsted_ray.service.name_like import WARNINGS
from halsted_ray.service.refusals import HttpRefusal, name_of
from halsted_ray.service.sent_in_error import SIGNATURES, WHAT_TO_DO
from halsted_ray.service.storage_room import QuotaExceeded

SERVICE = Path(__file__).parents[1] / "halsted_ray/service"
WORDS = Path(__file__).parents[1] / "serve/web/src/words"
NOT_MET = {
    "addresses.py": "the operator's settings",
    "audit_places.py": "the operator's command",
    "backup.py": "the operator's command",
    "clip_tagging.py": "programs tag clips, the page does not",
    "dicom_instances.py": "other systems send instances",
    "front.py": "the operator's command",
    "local_server.py": "the operator's command",
    "multipart.py": "other systems send instances",
    "object_store.py": "the operator's settings; a full store has a name",
    "routes/clips.py": "programs tag clips, the page does not",
    "routes/dicomweb.py": "other systems send instances",
    "routes/sdk.py": "programs use the published SDK",
    "settings.py": "the operator's settings",
}
"""Modules whose refusals a surgeon can't meet by what the page offers → why. Every other module is looked at."""
BY_STATUS = (403, 404, 408, 429, 503, 507)
"""Statuses for which the page has a sentence of its own, whatever the refusal is (``components/messages.tsx``)."""
TOLD_BY_STATUS = {
    "DecoderKilled": 503,
    "ModelError": 503,
    "NotFound": 404,
    "NotImplementedError": "no answer: our own mistake",
    "OutputError": 503,
    "RuntimeError": "no answer: our own mistake",
    "StorageUnavailable": 503,
    "UnreadableVideo": "no answer: it becomes a refusal, or the cause of a job",
    "ValueError": "no answer: our own mistake, or a body that its schema does not fit",
    "too_slow": 408,
}
"""Errors without a name that need none → the status for which the page has a sentence, or why there is no answer."""
NOT_ON_PAGE = {
    "shows: expected": "the form sends what it lists",
    "relation ": "the form sends what it lists",
    "consent ": "the form sends what it lists",
    "part ": "the page counts the parts itself",
    "Content-Digest: ": "the page computes it",
    "video {case.video_id!r} came with": "the page asks for no report with names",
    "identities=1": "the page asks for no report with names",
    "this video has no certificate": "``Videos`` looks first, and says that nothing is there",
    "give a task or an instruction": "the page names a task",
    "the video has more than": "players ask for ranges",
    "the range is empty": "players ask for ranges",
    "video {video.video_id!r} has no copy for browsers": "players tell their own error",
    "too many {self.what}": "429 or 503",
    "tenant {tenant_id!r}": "the operator's command",
    "unknown role": "the operator's command, and programs of administrators",
    "a user's name": "the operator's command, and programs of administrators",
    "user {name!r} has the role": "the operator's command, and programs of administrators",
    "a key lasts at most": "the operator's command, and programs of administrators",
    "no key ": "the operator's command",
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
        name = name_given(call)
        if name and not ast.unparse(call).startswith("OutOfMemory"):  # that is a cause of a job, and no answer
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


def message_of(call: ast.Call) -> str:
    """What the message of ``raise Error(...)`` begins with, as its source has it."""
    texts = [node for node in call.args if isinstance(node, (ast.Constant, ast.JoinedStr)) and not is_number(node)]
    return re.sub(r"^f?['\"]", "", ast.unparse(texts[0])) if texts else ""


def is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int)


def test_every_refusal_that_a_surgeon_can_meet_has_a_name():
    nameless = []
    for place, call in raised():
        kind = ast.unparse(call).split("(")[0]
        status = call.args[0].value if call.args and is_number(call.args[0]) else None
        if place in NOT_MET or name_given(call) or kind in TOLD_BY_STATUS or status in BY_STATUS:
            continue
        if not any(message_of(call).startswith(begin) for begin in NOT_ON_PAGE):
            nameless.append(f"{place}: {ast.unparse(call)}")
    assert nameless == []


def test_what_is_excepted_from_having_a_name_is_there():
    found = raised()
    assert set(NOT_MET) <= {place for place, _ in found}
    nameless = [call for place, call in found if place not in NOT_MET and not name_given(call)]
    for begin in NOT_ON_PAGE:
        assert any(message_of(call).startswith(begin) for call in nameless), begin
    assert {ast.unparse(call).split("(")[0] for call in nameless} >= set(TOLD_BY_STATUS)


@pytest.mark.parametrize("language", ["en", "de"])
def test_each_kind_of_file_that_is_sent_in_error_has_words(language):
    assert set(sentences(language, "sentInError")) == set(WHAT_TO_DO) >= {kind for kind, _, _ in SIGNATURES}


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_cause_of_a_failed_job_has_a_sentence_that_names_only_what_it_gives(language):
    said = sentences(language, "failures")
    assert set(said) == set(CAUSES)
    for code, sentence in said.items():
        named = re.match(r"\(\{ ([\w, ]+) \}\)", sentence)
        assert set(named[1].split(", ") if named else []) <= set(CAUSES[code]), (language, code)


def test_every_job_that_fails_gives_a_cause():
    failing = []
    for path in sorted(SERVICE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.unparse(node) if isinstance(node, ast.Call) else ""
            if re.match(r"(JobResult|_finish)\(.*'failed'", text):
                failing.append(text)
    assert len(failing) >= 6
    assert [text for text in failing if not re.search(r"cause=|lost_often", text)] == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnreadableVideo("x"), "unreadable"),
        (BeyondLimits("x"), "too-long"),
        (CorruptSegment("x", 1.0, 2.0), "corrupt"),
        (CorruptSegment("x", 1.0, 2.0, code="no picture"), "file-unusable"),
        (DecoderKilled("x", hung=True), "decoder-hung"),
        (StorageUnavailable("x"), "store-failed"),
        (OutputError("x"), "store-failed"),
        (ModelError("x"), "model-unusable"),
        (UsageError("x"), "service-error"),
        (OutOfMemory("x").named("job-memory", most_mb=4096), "job-memory"),
        (QuotaExceeded("x").named("quota", left_bytes=1), "quota"),
    ],
)
def test_each_error_of_a_job_is_a_cause_with_its_values(error, code):
    assert cause_of(error) == {"code": code, "values": dict(error.values) if code in ("job-memory", "quota") else {}}


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
