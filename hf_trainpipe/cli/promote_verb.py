"""The verb that lets a challenger take an alias, where it is shown to be no worse than the champion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.cli.asking_verbs import WORKER, recipe_of, worker_of
from hf_trainpipe.cli.parser import Argument, UsageError, existing, print_result, taken, verb
from hf_trainpipe.errors import NOT_SHOWN

if TYPE_CHECKING:
    import argparse

ALIAS = Argument("ALIAS", "a folder such as aliases/reviews, mlflow:NAME, or hub:USER/NAME")


@verb(
    "promote",
    "let a challenger take an alias, if it is shown to be no worse than the champion",
    Argument("CHALLENGER", "the folder of a run, or of a package"),
    Argument("--over ALIAS", "a folder such as aliases/reviews, mlflow:NAME, or hub:USER/NAME", required=True),
    Argument("--test FILE ...", "frozen test rows; the test split of the recipe's data by default", type=Path),
    Argument("--fresh FILE ...", "fresh labels; what retrain held out by default", type=Path),
    Argument("--new-test", "freeze these test rows in place of those before"),
    Argument("--margin POINTS", "hundredths of the score that may be lost on the test rows", default=0.5, type=float),
    Argument("--fresh-margin POINTS", "the same on fresh labels", default=2.0, type=float),
    Argument("--slice-floor POINTS", "no slice may be shown to lose, and lose more", default=5.0, type=float),
    Argument("--calibration-floor POINTS", "of the calibration error: it may not be shown to rise, and rise more", default=2.0,
             type=float),
    Argument("--metric NAME", "of which score; the one that selects the best model"),
    Argument("--confidence P", "of each test", default=0.95, type=float),
    "--recipe R",
    *WORKER,
    "--json",
)  # fmt: skip
def promote(arguments: argparse.Namespace) -> int:
    challenger = existing(arguments.challenger, "run or package")
    for option in ("margin", "fresh_margin", "slice_floor", "calibration_floor"):
        if not 0 < getattr(arguments, option) < 100:
            spelled = option.replace("_", "-")
            raise UsageError(
                f"promote: --{spelled}: expected points above 0, found {getattr(arguments, option):g}.",
                fix=f"Write --{spelled} 1.",
            )
    if not 0.5 <= arguments.confidence < 1:
        raise UsageError(
            f"promote: --confidence: expected a number in [0.5, 1), found {arguments.confidence:g}.", fix="Write 0.95."
        )
    for file in (*arguments.test, *arguments.fresh):
        existing(str(file), "file")
    recipe, source = recipe_of(challenger, arguments.recipe)
    from hf_trainpipe.promotion.alias import open_alias
    from hf_trainpipe.promotion.gate import Terms
    from hf_trainpipe.promotion.promote import Rows, promote
    from hf_trainpipe.tracking.console import Console
    from hf_trainpipe.utils.resources import use_paths_of_run

    names = ("margin", "fresh_margin", "slice_floor", "calibration_floor", "metric", "confidence")
    with use_paths_of_run(challenger, source):
        found = promote(
            challenger,
            open_alias(arguments.over),
            recipe,
            terms=Terms(**taken(arguments, *names)),
            rows=Rows(test=tuple(arguments.test), fresh=tuple(arguments.fresh) or None, new_test=arguments.new_test),
            say=Console(0).say,
            **worker_of(arguments),
        )
    print_result(found.to_json(), arguments, lambda _: found.lines())
    return 0 if found.holds else NOT_SHOWN
