"""The report in a real browser: it fits narrow screens, sorts, unfolds timelines on demand, and prints whole."""

import pytest
from browser import Tab
from test_report_page import archive

from halsted_ray.reporting.map_page import map_page
from halsted_ray.reporting.summary import summarise

LENGTHS = (4, 8, 2)
"""Spans of each video."""
OVERFLOW_PX = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def report(tmp_path_factory, chromium):
    folder = tmp_path_factory.mktemp("report")
    data = archive(len(LENGTHS))
    for video, spans in zip(data.videos, LENGTHS, strict=True):
        video["duration_s"] = 15.0 * spans
    path = folder / "report.html"
    path.write_text(map_page(data, summarise(data)), encoding="utf-8")
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    tab = Tab(context.new_page())
    tab.page.goto(f"file://{path}")
    yield tab
    context.close()


def test_a_timeline_is_drawn_when_its_video_is_unfolded(report):
    videos = "[...document.querySelectorAll('details.video')]"
    assert report.page.evaluate(f"{videos}.map(v => v.querySelectorAll('.timeline svg').length)") == [1, 0, 0]
    report.page.evaluate(f"{videos}[1].open = true")
    report.page.wait_for_function(f"{videos}[1].querySelector('.timeline svg')")
    titles = report.page.evaluate(f"[...{videos}[1].querySelectorAll('rect title')].map(t => t.textContent)")
    assert titles[:2] == [
        "step: Suturing, 0:00 to 0:15, confidence 0.60",
        "step: Dissection, 0:15 to 0:30, confidence 0.90",
    ]


def test_zoom_makes_the_timeline_wider_inside_its_own_frame(report):
    width = "Number(document.querySelector('.timeline svg').getAttribute('width'))"
    before = report.page.evaluate(width)
    report.page.evaluate(
        "(() => { const zoom = document.querySelector('.zoom select'); zoom.value = '4';"
        " zoom.dispatchEvent(new Event('change')); })()"
    )
    assert report.page.evaluate(width) == 4 * before
    assert report.page.evaluate(OVERFLOW_PX) == 0


def test_the_videos_are_sorted_as_the_reader_picks(report):
    report.page.evaluate("(() => { order.value = 'length'; order.dispatchEvent(new Event('change')); })()")
    listed = report.page.evaluate("[...document.querySelectorAll('#videos > *')].map(v => Number(v.dataset.length))")
    assert listed == [120.0, 60.0, 30.0]


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_page_is_as_wide_as_the_screen(report, width):
    report.page.set_viewport_size({"width": width, "height": 900})
    assert report.page.evaluate("innerWidth") == width and report.page.evaluate(OVERFLOW_PX) == 0


def test_a_dark_screen_gets_a_dark_page_and_paper_a_light_one(report):
    ground = "getComputedStyle(document.querySelector('.tile')).backgroundColor"
    report.page.emulate_media(media="screen", color_scheme="dark")
    assert report.page.evaluate(ground) == "rgb(26, 33, 41)"
    report.page.emulate_media(media="print", color_scheme="dark")
    assert report.page.evaluate(ground) == "rgb(255, 255, 255)"
    report.page.emulate_media(media="null", color_scheme="null")


def test_the_page_prints_on_a4_with_the_timelines_that_are_unfolded(report):
    printed = report.page.pdf(prefer_css_page_size=True)
    assert printed.startswith(b"%PDF") and b"594.95" in printed, "A4 is 595 points wide"
    assert report.page.evaluate("document.querySelector('details.video[open] svg') !== null")
    assert not report.errors
