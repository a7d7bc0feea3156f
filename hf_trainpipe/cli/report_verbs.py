"""The verbs that make pages of runs: report and compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.cli.parser import Argument, UsageError, existing, print_result, verb
from hf_trainpipe.errors import NOT_SHOWN

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
    "hold runs, or seeds of two settings, against each other by paired tests",
    Argument("RUN", "the run that the others are held against; with --against one that is held against those"),
    Argument("OTHER ...", "one run, or several", dest="others", nargs="*"),
    Argument(
        "--against RUN ...",
        "several seeds a side: the runs that those before it are held against",
        nargs="+",
        action="extend",
    ),
    Argument(
        "--margin POINTS",
        "are they no worse by more than so many hundredths of a score (percent of it where less is better)? If that is not shown "
        f"the exit code is {NOT_SHOWN}",
        type=float,
    ),
    Argument("--metric NAME", "with --margin: of which score; the one that selects the best model"),
    Argument(
        "--planned PERCENT",
        "of one run: what difference its splits could show, if on so many percent of the rows just one of two models is right",
        type=float,
    ),
    Argument("--html FILE", "write a page too, with the curves over each other", type=Path),
    Argument("--confidence P", "of intervals and of calling a score different", default=0.95, type=float),
    "--json",
)
def compare(arguments: argparse.Namespace) -> int:
    _check_compare(arguments)
    paths = [existing(spelled, "run") for spelled in (arguments.run, *arguments.others)]
    behind = [existing(spelled, "run") for spelled in arguments.against]
    from hf_trainpipe.report import compare_page
    from hf_trainpipe.report.comparison import compare, names_of
    from hf_trainpipe.report.facts import read
    from hf_trainpipe.report.gate import Margin

    if arguments.planned is not None:
        from hf_trainpipe.report.planned import planned

        could = planned(read(paths[0]), arguments.planned / 100, confidence=arguments.confidence)
        shown = "\n".join(one.told() for one in could)
        print_result({"planned": [one.to_json() for one in could]}, arguments, lambda _: shown)
        return 0
    runs, against = [read(path) for path in paths], [read(path) for path in behind]
    margin = None if arguments.margin is None else Margin(points=arguments.margin, metric=arguments.metric)
    if against:
        from hf_trainpipe.report.seed_groups import compare_groups

        found = compare_groups(runs, against, confidence=arguments.confidence, margin=margin)
        by_name = dict(zip(names_of([*against, *runs]), [*against, *runs], strict=True))
        runs = [by_name[name] for name in found.runs]
    else:
        found = compare(runs, confidence=arguments.confidence, margin=margin)
    if arguments.html is not None:
        from hf_trainpipe.report.page import save

        save(compare_page.page(found, runs), arguments.html)
    print_result(found.to_json(), arguments, lambda _: compare_page.lines(found))
    return 0 if found.passed else NOT_SHOWN


def _check_compare(arguments: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        UsageError: as said.
    """
    if not 0.5 <= arguments.confidence < 1:
        raise UsageError(
            f"compare: --confidence: expected a number in [0.5, 1), found {arguments.confidence:g}.", fix="Write 0.95."
        )
    if arguments.planned is not None:
        if arguments.others or arguments.against or arguments.margin is not None or arguments.html is not None:
            raise UsageError("compare: --planned goes with one run.", fix="hf-trainpipe compare RUN --planned 8")
        if not 0 < arguments.planned <= 100:
            raise UsageError(
                f"compare: --planned: expected a percentage above 0, found {arguments.planned:g}.", fix="Write 8."
            )
    elif not arguments.others and not arguments.against:
        raise UsageError(
            "compare: expected another run, found one.",
            fix="hf-trainpipe compare RUN OTHER\nhf-trainpipe compare A1 A2 A3 --against B1 B2 B3",
        )
    if arguments.margin is not None and not 0 < arguments.margin < float("inf"):
        raise UsageError(f"compare: --margin: expected a number above 0, found {arguments.margin:g}.", fix="Write 0.5.")
    if arguments.metric and arguments.margin is None:
        raise UsageError(
            "compare: --metric goes with --margin.", fix=f"Write --margin 0.5 --metric {arguments.metric}."
        )
