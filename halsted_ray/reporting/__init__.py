"""What came out of a mapping run or an evaluation, for people: figures, HTML pages, a drawing in the terminal.

    report_data.py         reads the maps at OUT and, where given, an annotated archive (the truth) -> ReportData
    summary.py             ReportData -> figures: how much is mapped, time per step, agreement with the truth
    lanes.py               what a timeline draws: lanes and their spans; the colour of each category
    terminal.py            a timeline as text, for `halsted show`
    html_page.py           the parts that every page shares; page.html is its frame, with page.css, page.js (timelines)
                           and tokens.css (colours, the same file as the front end's)
    verdict.py             what came out, in sentences, for the top of a page
    map_page.py            the page of a mapping run, with videos_section.py, stitch_section.py, economy_section.py,
                           confusion_table.py
    map_plots.py           a timeline as a Plotly figure, for notebooks
    stitch_words.py        totals of stitches in words
    evaluation_page.py     the page of an evaluation, with evaluation_plots.py (its charts), self_label_section.py (the
                           models before and after self-labelling), literature_section.py (a published data set's own
                           figures) and film_strips.py (frames of mistakes)

A page is one HTML file that loads nothing from outside. Videos appear by their ids only, because a file's name can be a
patient's name.
"""

from halsted_ray.reporting.map_page import write_html
from halsted_ray.reporting.summary import report

__all__ = ["report", "write_html"]
