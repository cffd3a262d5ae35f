"""What came out of a mapping run, for people: figures, a page, a drawing in the terminal.

    material.py    OUT and, when given, an annotated archive  -> Material
    figures.py     Material                                   -> figures (a dict of JSON values)
    lanes.py       Material                                   -> what a timeline draws: lanes, spans, colours
    page.py        figures, lanes                             -> one self-contained HTML file
    evaluation.py  an evaluation                              -> one such file, with
                   evaluation_plots.py (its charts), comparison.py (two models) and pictures.py (frames of mistakes)
    terminal.py    lanes of one video                         -> text

Videos appear by their ids only: a file's name can be a patient's name.
"""

from halsted_ray.report.map_page import write_html
from halsted_ray.report.summary import report

__all__ = ["report", "write_html"]
