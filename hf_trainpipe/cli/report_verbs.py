"""The verbs that make pages of runs: report and compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.cli.parser import Argument, UsageError, existing, print_result, verb

if TYPE_CHECKING:
    import argparse


@verb(
    "report",
    "write report.html in a run's folder: result, curves, scores, errors, settings, in one file",
    Argument("RUN", "a run's folder, complete or not"),
    Argument("--mask-texts", "tell how long texts are instead of what they say"),
    Argument("--plots DIR", "write the pictures there too, as SVG and PNG", type=Path),
    "--json",
)
def report(arguments: argparse.Namespace) -> int:
    run = existing(arguments.run, "run")
    from hf_trainpipe.report.page import write
    from hf_trainpipe.report.plots import missing

    written = write(run, mask_texts=arguments.mask_texts, plots_to=arguments.plots)
    hint = missing()
    found = {"report": str(written), "bytes": written.stat().st_size, "pictures": hint is None}
    shown = f"{written}" if hint is None else f"{written}, without pictures: {hint}"
    print_result(found, arguments, lambda _: shown)
    return 0


@verb(
    "compare",
    "hold runs against the first: paired tests on the same rows, curves, settings that differ",
    Argument("RUN", "the run that the others are held against"),
    Argument("OTHER ...", "one run, or several", dest="others", nargs="+"),
    Argument("--html FILE", "write a page too, with the curves over each other", type=Path),
    Argument("--confidence P", "of intervals and of calling a score different", default=0.95, type=float),
    "--json",
)
def compare(arguments: argparse.Namespace) -> int:
    paths = [existing(spelled, "run") for spelled in (arguments.run, *arguments.others)]
    if not 0.5 <= arguments.confidence < 1:
        raise UsageError(
            f"compare: --confidence: expected a number in [0.5, 1), found {arguments.confidence:g}.", fix="Write 0.95."
        )
    from hf_trainpipe.report import compare_page
    from hf_trainpipe.report.comparison import compare
    from hf_trainpipe.report.facts import read

    runs = [read(path) for path in paths]
    found = compare(runs, confidence=arguments.confidence)
    if arguments.html is not None:
        from hf_trainpipe.report.page import save

        save(compare_page.page(found, runs), arguments.html)
    print_result(found.to_json(), arguments, lambda _: compare_page.lines(found))
    return 0
