"""Says where a free text (a label, a comment) looks as if it named a patient. A warning for people, no gate.

Rules in plain sight, for English and German texts: titles before a word, usual given names beside a capitalised word,
names as DICOM writes them, dates of birth, and long numbers as records and insurances have them. A name that is none
of these passes, and some words that are no names are warned of.
"""

from __future__ import annotations

import datetime
import re

_WORD = r"[A-ZÄÖÜ][a-zäöüßéèáíóúçñ'’-]+"
_TITLE = re.compile(rf"\b(?:Mr|Mrs|Ms|Miss|Herrn?|Frau|Fr|Hr|Hrn|Dr|Prof)\.?\s+(?:(?:med|Dr|Prof)\.?\s+)*{_WORD}")
_INITIAL = re.compile(rf"\b[A-ZÄÖÜ]\.\s?(?:[A-ZÄÖÜ]\.\s?)?{_WORD}")
_CARET = re.compile(r"[^\W\d_]{2,}\^[^\W\d_]{2,}")
_CAPITALS = re.compile(r"\b[A-ZÄÖÜ]{3,}, ?[A-ZÄÖÜ]{3,}\b")
_SPOKEN = re.compile(r"\b(?:name|patient|patientin|pat)\b\s*[.:=]\s*[^\W\d_]{2,}", re.IGNORECASE)
_DATES = (
    (re.compile(r"\b(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})\b"), (1, 2, 3)),
    (re.compile(r"\b(\d{1,2})[-/.] ?(\d{1,2})[-/.] ?(\d{4}|\d{2})\b"), (3, 2, 1)),
    (re.compile(r"\b((?:19|20)\d{2})(\d{2})(\d{2})\b"), (1, 2, 3)),
)
_BORN = re.compile(r"\b(?:dob|d\.o\.b|born|birth\w*|geb(?:oren|urtsdatum)?)\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\d.,])\d(?:[ -]?\d){5,}(?![\d.,]*\d)")
_NAMED_NUMBER = re.compile(
    r"\b(?:mrn|pid|kis|ssn|nhs|patient(?:en)?(?:[- ]?(?:id|nr|nummer|no|number))?|fall(?:[- ]?(?:nr|nummer))?|"
    r"case (?:no|number)|aufnahme(?:[- ]?nr)?|pat)(?![a-zäöü])[ .:#=-]*(?:id|nr|no)?[ .:#=-]*[A-Z]{0,3}\d{3,}",
    re.IGNORECASE,
)
_INSURED = re.compile(r"\b[A-Z]\d{8,9}\b")
_MAIL = re.compile(r"\b[\w.+-]+@[\w-]+\.[\w.]+\b")
_TELEPHONE = re.compile(r"(?<!\w)(?:\+|00)\d{1,3}[\s/().-]*(?:\d[\s/().-]*){6,}")
RECENT_YEARS = 1
"""A date of this or of last year is taken for a date of an operation, and an older one for a date of birth."""
GIVEN_NAMES = frozenset(
    """
    adam alan albert alexander alice amanda amy andrea andreas andrew angela anita anja anna anne anton antonia barbara
    ben bernd bernhard birgit brian carla carlos carol caroline catherine charles charlotte christa christian christine
    christoph clara claudia daniel daniela david deborah dennis diana dieter donald dorothy edward elena elisabeth
    elizabeth ella emil emily emma eric erika eva felix florian frank franz franziska frederick friedrich fritz gabriele
    george gerhard gisela grace hannah hans harald heather heike heinrich heinz helen helga helmut henry herbert hermann
    holger horst ines ingrid irene jack jacob jakob james jan jana jane janet jason jennifer jens jessica joachim joan
    joe johann johannes john jonas jonathan jorge jose josef joseph juan judith julia julian juergen jürgen karen karin
    karl katharina kathleen katja kenneth kevin klaus kurt larry laura lena leon linda lisa louis luca luis lukas maja
    manfred manuel marcel marcus margaret margarete maria marie mario mark markus martha martin martina mary matthew
    matthias max maximilian mehmet melanie melissa michael michelle miguel mohamed mohammed monika moritz nancy natalie
    nicholas nicole nina noah olga oliver olivia oscar otto pamela patricia patrick paul paula peter petra philipp
    rachel rainer ralf ralph raymond rebecca renate richard robert roger roland rosa ruth sabine samuel sandra sara
    sarah sebastian sharon silke simon simone sofia sophia sophie stefan stefanie stephanie stephen steven susan susanne
    sven tanja teresa thomas tim timothy tobias tom torsten ulrich ulrike ursula ute uwe vera victoria viktoria walter
    werner wilhelm william wolfgang yusuf
    """.split()
)
"""Usual given names in small letters, written down for this list."""


WARNINGS = {
    "person": "this looks like a person's name",
    "record": "this looks like the number of a patient or of a record",
    "birth": "this looks like a date of birth",
    "address": "this looks like a person's address of mail or telephone number",
}
"""What a text can look like, by the name for programs → in words."""


def identity_kinds(text: str) -> list[str]:
    """What ``text`` looks like, by the names of WARNINGS; none where nothing is seen."""
    found = []
    if _is_like_name(text):
        found.append("person")
    if _NAMED_NUMBER.search(text) or _INSURED.search(text) or _has_long_number(text):
        found.append("record")
    if _is_like_birth_date(text):
        found.append("birth")
    if _MAIL.search(text) or _TELEPHONE.search(text):
        found.append("address")
    return found


def identity_warnings(text: str) -> list[str]:
    """As ``identity_kinds``, in words. The words do not repeat the text."""
    return [WARNINGS[kind] for kind in identity_kinds(text)]


def _is_like_name(text: str) -> bool:
    if any(pattern.search(text) for pattern in (_TITLE, _INITIAL, _CARET, _CAPITALS, _SPOKEN)):
        return True
    words = re.findall(r"[^\W\d_][^\W\d_'’-]*", text)
    beside = zip(words, words[1:], strict=False)
    return any(
        one[0].isupper() and other[0].isupper() and (one.lower() in GIVEN_NAMES or other.lower() in GIVEN_NAMES)
        for one, other in beside
    )


def _has_long_number(text: str) -> bool:
    """Six digits or more that are no date."""
    for pattern, _ in _DATES:
        text = pattern.sub(" ", text)
    return _NUMBER.search(text) is not None


def _is_like_birth_date(text: str) -> bool:
    this_year = datetime.datetime.now(datetime.UTC).year
    for pattern, order in _DATES:
        for match in pattern.finditer(text):
            year, month, day = (int(match[group]) for group in order)
            if year < 100:
                year += 1900 if year > this_year % 100 else 2000
            if month > 12 >= day:  # the American order
                month, day = day, month
            try:
                datetime.date(year, month, day)
            except ValueError:
                continue
            if this_year - 120 < year < this_year - RECENT_YEARS or _BORN.search(text):
                return True
    return False
