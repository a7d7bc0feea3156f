"""The verb that measures how a recipe's score grows with its data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.cli.asking_verbs import named_recipe
from hf_trainpipe.cli.parser import Argument, UsageError, busy, print_result, verb
from hf_trainpipe.cli.study_options import CROSSVAL, STUDY, out_of_fold

if TYPE_CHECKING:
    import argparse


@verb(
    "learn-curve",
    "train on parts of the data: what more labels would bring, and whether this test could see it",
    "RECIPE",
    Argument(
        "--fractions F ...",
        "of the training rows, ascending; 0.125 0.25 0.5 1 by default",
        nargs="+",
        action="extend",
        type=float,
    ),
    Argument("--seeds S", "runs of each fraction, each on its own subset; 3 by default", type=int, default=3),
    Argument(
        "--model NAME",
        "baseline: a simple model in place of the recipe's, in seconds; words, characters, frozen, ... name one; recipe by "
        "default",
        default="recipe",
    ),
    Argument("--on validation|test", "the split that scores; test by default, validation without one"),
    CROSSVAL,
    Argument("--confidence P", "of intervals; 0.9 by default", type=float, default=0.9),
    *STUDY,
    "--json",
    takes_fields=True,
)
def learn_curve(arguments: argparse.Namespace) -> int:
    recipe, source = named_recipe(arguments)
    if arguments.crossval is not None and arguments.model != "recipe":
        raise UsageError(
            "learn-curve: --crossval has runs of the recipe, and --model takes another model.",
            fix="Leave one of the two out.",
        )
    kept = out_of_fold(arguments)
    with busy("starting"):
        from hf_trainpipe.studies import learn_curve_page
        from hf_trainpipe.studies.learn_curve import learn_curve as measure
        from hf_trainpipe.studies.runs import Launch
        from hf_trainpipe.studies.subsets import Curve
        from hf_trainpipe.tracking.console import Console

    chosen: dict[str, Any] = {"fractions": tuple(arguments.fractions)} if arguments.fractions else {}
    curve = Curve(seeds=arguments.seeds, on=arguments.on, confidence=arguments.confidence, **chosen)
    by = "" if arguments.model == "recipe" else f"-{arguments.model}"
    if kept is not None:
        by = "-crossval"
    folder = arguments.study_dir or Path("studies") / f"learn-curve-{recipe.name}{by}"
    console = Console(0)
    if arguments.model == "recipe":
        found = measure(
            recipe, source, folder, curve=curve, crossval=kept, launch=Launch(ranks=arguments.ranks), say=console.say
        )
    else:
        from hf_trainpipe.studies.baseline_curve import baseline_curve

        found = baseline_curve(recipe, source, folder, curve=curve, model=arguments.model, console=console)
        console.close()
    learn_curve_page.write_page(found, folder)
    print_result({**found, "study": str(folder)}, arguments, lambda _: learn_curve_page.lines(found, folder))
    return 0
