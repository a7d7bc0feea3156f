"""Pages for people, each one file that loads nothing: the report of a run, and runs side by side.

facts        what a run's directory says, read once
sentences    what is said first: the result, overfitting
sections     the parts of a report, as blocks
calibration  whether probabilities are honest, as blocks
blocks       paragraphs, tables, pictures; the one template and style of all pages
plots        pictures, by matplotlib (extra ``report``), as SVG that follows the page's colours, or as files
page         report.html
comparison   runs held against each other: paired tests on the same rows, recipe fields
seed_groups  the same of several seeds a side
same_rows    predictions of several runs on the rows that all scored
gate         whether a run is no worse than a margin
planned      what a run's splits could show
compare_page the same as a page
"""

from __future__ import annotations
