"""The verb that cross-validates a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.cli.asking_verbs import named_recipe
from hf_trainpipe.cli.parser import Argument, busy, print_result, taken, verb
from hf_trainpipe.cli.study_options import STUDY

if TYPE_CHECKING:
    import argparse

    from hf_trainpipe.studies.folding import By


@verb(
    "crossval",
    "train and test on every fold: a score with an interval, out-of-fold predictions of all rows",
    "RECIPE",
    Argument("--folds K", "5 by default", type=int, default=5),
    Argument(
        "--by stratified|grouped|time",
        "grouped keeps rows of a group together, duplicates by default; stratified spreads labels alone; time trains on what "
        "was before",
    ),
    Argument("--group COLUMN", "of grouped: rows with the same value stay together"),
    Argument("--time COLUMN", "of time: numbers or dates"),
    Argument("--repeats R", "deal the folds several times, each with other seeds", type=int, default=1),
    Argument("--splits NAME ...", "splits of the data that are pooled and dealt; train and validation by default"),
    *STUDY,
    "--json",
    takes_fields=True,
)
def crossval(arguments: argparse.Namespace) -> int:
    recipe, source = named_recipe(arguments)
    with busy("starting"):
        from hf_trainpipe.studies import crossval_page
        from hf_trainpipe.studies.crossval import cross_validate
        from hf_trainpipe.studies.folding import Folding
        from hf_trainpipe.studies.runs import Launch
        from hf_trainpipe.tracking.console import Console

    by: By = arguments.by or ("time" if arguments.time else "grouped")
    folding = Folding(by=by, splits=tuple(arguments.splits), **taken(arguments, "folds", "group", "time", "repeats"))
    folder = arguments.study_dir or Path("studies") / f"crossval-{recipe.name}"
    found = cross_validate(
        recipe, source, folder, folding=folding, launch=Launch(ranks=arguments.ranks), say=Console(0).say
    )
    crossval_page.write_page(found, folder)
    print_result({**found.document, "study": str(folder)}, arguments, lambda _: crossval_page.lines(found, folder))
    return 0
