"""Which procedure a case's maps suggest: one rule wherever it is shown."""

import pytest
from library_site import add_summary, add_video, caller, open_site

from halsted_ray.service.library_schemas import show_case
from halsted_ray.service.own_trend import read_trend
from halsted_ray.service.suggested_procedure import MapOfFile, suggested_procedure

# A long file that is unsure against a short one that is sure: by time alone it is a bypass.
LONG, SHORT = MapOfFile("mapped", "Bypass", 0.3, 3600.0), MapOfFile("mapped", "Nephrectomy", 0.9, 1800.0)


@pytest.fixture
def service(tmp_path):
    found = open_site(tmp_path)
    yield found
    found.database.close()


def test_time_and_confidence_decide_together():
    assert suggested_procedure([LONG, SHORT]) == suggested_procedure([SHORT, LONG]) == ("Nephrectomy", 0.9)
    assert suggested_procedure([LONG, SHORT._replace(duration_s=600.0)]) == ("Bypass", 0.3)


def test_of_equal_weight_more_time_decides_then_the_name():
    one, other = LONG._replace(confidence=None), SHORT._replace(confidence=None)
    assert suggested_procedure([one, other]) == suggested_procedure([other, one]) == ("Bypass", 0.0)
    even = LONG._replace(procedure="Colectomy")
    assert suggested_procedure([LONG, even]) == suggested_procedure([even, LONG]) == ("Colectomy", 0.3)


def test_a_file_without_a_map_or_without_a_name_says_nothing():
    assert suggested_procedure([LONG._replace(state="failed"), LONG._replace(procedure=None)]) == (None, None)
    assert suggested_procedure([]) == (None, None)


def test_the_library_and_the_trend_name_the_same_procedure_for_one_case(service):
    ada = caller(service, "ada")
    for video_id, file in (("a0", LONG), ("a1", SHORT)):
        add_video(service, ada, video_id, "ca", duration_s=file.duration_s)
        add_summary(service, video_id, file.procedure, procedure_confidence=file.confidence)
    shown = show_case(service.library.require(ada, "ca", "see")).procedure
    assert (shown.suggested, shown.confidence) == ("Nephrectomy", 0.9)
    assert read_trend(service.database, ada).procedures == [("Nephrectomy", 1)]
