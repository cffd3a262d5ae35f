"""Texts that look as if they named a patient, and texts that do not."""

import pytest

from halsted_ray.service.name_like import identity_warnings

NAMES = ["Herr Meier", "Frau Dr. Schulze", "Mrs Smith", "Peter Lang", "Lang, Peter", "DOE, JANE", "Doe^Jane", "J. Doe"]
NAMES += ["patient: mueller", "re-do for Anna Özdemir", "Dr. med. Huber's case"]
NUMBERS = ["MRN 48213", "Fallnummer: 884120", "1234567", "Pat.-Nr. 00123", "12 34 56 78", "A123456789", "PID4711"]
BIRTHS = ["12.03.1957", "1957-03-12", "03/25/1961", "geb. 1.2.70", "DOB 2026-01-05", "19570312"]
PLAIN = [
    "teaching",
    "M&M conference",
    "Gastric Bypass",
    "left kidney",
    "robot Xi, arm 3",
    "Leber, Galle",
    "bleeding 300 ml",
]
PLAIN += [
    "stitch 12 of 14",
    "2026-11-03",
    "redo after 2 years",
    "CT, MRT",
    "high BMI",
    "Suturing",
    "needle 3-0",
    "V-Loc 180",
]
PLAIN += ["good bite, watch the tension at 1:02:33", "Needle Handling is slow here", "frames 1200 to 1500"]
PLAIN += ["Bladder-Urethra anastomosis, 3-0 suture, 12 stitches in 340.5 s", "second throw"]
PLAIN += ["Dr. only", "mark the ureter", "1.5 h", "12,500", "Weekend", ""]


@pytest.mark.parametrize("text", NAMES)
def test_a_name_is_warned_of(text):
    assert "this looks like a person's name" in identity_warnings(text)


@pytest.mark.parametrize("text", NUMBERS)
def test_the_number_of_a_record_is_warned_of(text):
    assert "this looks like the number of a patient or of a record" in identity_warnings(text)


@pytest.mark.parametrize("text", ["ask ada@hospital.example", "call +49 170 1234567", "0049 30 123456"])
def test_an_address_is_warned_of(text):
    assert "this looks like a person's address of mail or telephone number" in identity_warnings(text)


@pytest.mark.parametrize("text", BIRTHS)
def test_a_date_of_birth_is_warned_of(text):
    assert "this looks like a date of birth" in identity_warnings(text)


@pytest.mark.parametrize("text", PLAIN)
def test_words_of_surgery_are_not_warned_of(text):
    assert identity_warnings(text) == []


def test_no_warning_repeats_the_text():
    found = identity_warnings("Herr Meier, geb. 12.03.1957, MRN 48213")
    assert len(found) == 3 and not any("Meier" in one or "48213" in one or "1957" in one for one in found)


def test_long_texts_of_any_letters_end_soon():
    for letter in ("A", "1 ", "1-", ".", "^", "A. ", "Dr ", "é", "12.", "\n"):
        identity_warnings(letter * 2000)
