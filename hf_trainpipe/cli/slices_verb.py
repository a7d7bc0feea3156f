"""The verb that looks for slices in which a model is weak."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.cli.asking_verbs import READING, WORKER, check_rows, leave, reading, recipe_of, worker_of
from hf_trainpipe.cli.parser import Argument, UsageError, busy, existing, taken, verb

if TYPE_CHECKING:
    import argparse

    from hf_trainpipe.behaviour.sliced import Sliced


@verb(
    "slices",
    "find the parts of a split in which a model is worse than in the rest: lengths, columns, words",
    Argument("RUN|PACKAGE|STUDY", "the folder of a run, of a package, or of a cross-validation", dest="path"),
    Argument("[FILE]", "labelled rows; a split of the recipe's data without it"),
    Argument("--recipe R", "take task and data from this recipe"),
    Argument("--split validation|test", "of the recipe's data; test by default, where a run scored one"),
    Argument("--label NAME", "the column that holds the labels; the recipe's by default"),
    Argument("--level P", "the share of false findings, on average; 0.1 by default", type=float, default=0.1),
    Argument("--least ROWS", "of the smallest slice; 30, or a hundredth of the rows, by default", type=int),
    Argument("--most N", "slices that are tested; 10 by default", type=int, default=10),
    Argument("--confidence P", "of intervals", type=float, default=0.95),
    Argument("--seed N", "of the halves", type=int, default=0),
    Argument("--html FILE", "write a page too", type=Path),
    *READING,
    *WORKER,
    "--json",
)
def slices(arguments: argparse.Namespace) -> int:
    path = existing(arguments.path, "run or package")
    _check(arguments)
    found = _found(path, arguments)
    from hf_trainpipe.report import slices_page
    from hf_trainpipe.report.facts import SLICES

    leave(found.to_json(), slices_page, path, arguments, kept_as=SLICES)
    return 0


def _found(path: Path, arguments: argparse.Namespace) -> Sliced:
    options = taken(arguments, "level", "least", "most", "confidence", "seed")
    from hf_trainpipe.out_of_fold import is_crossval

    if is_crossval(path):
        return _of_study(path, arguments, options)
    recipe = source = None
    if arguments.recipe or arguments.file is None:
        recipe, source = recipe_of(path, arguments.recipe)
    from hf_trainpipe.utils.resources import use_paths_of_run

    if arguments.file is None and any((path / "predictions").glob("*.npz")):
        from hf_trainpipe.behaviour.sliced import sliced_run
        from hf_trainpipe.report.facts import read

        assert recipe is not None
        with use_paths_of_run(path, source), busy("looking for weak slices"):
            return sliced_run(path, recipe, task=read(path).task, split=arguments.split, **options)
    from hf_trainpipe.api.behaviour import slices
    from hf_trainpipe.api.package import load

    package = load(path, **worker_of(arguments))
    if arguments.file is not None:
        chosen = taken(arguments, "column", "label")
        return slices(package, arguments.file, recipe=recipe, reading=reading(arguments), **chosen, **options)
    with use_paths_of_run(path, source):
        return slices(package, split=arguments.split or "validation", recipe=recipe, **options)


def _of_study(path: Path, arguments: argparse.Namespace, options: dict[str, Any]) -> Sliced:
    """Of a cross-validation, whose folds are runs on chosen rows."""
    if arguments.file is not None or arguments.split is not None:
        raise UsageError(
            f"slices: {path} is a cross-validation, which has the answer to each row once; a file or --split goes with a run or a package.",
            fix=f"hf-trainpipe slices {path}",
        )
    from hf_trainpipe.behaviour.sliced import sliced_study
    from hf_trainpipe.data.chosen_rows import ChosenRows
    from hf_trainpipe.metrics.base import finishes_of
    from hf_trainpipe.out_of_fold import OutOfFold, check_finished, run_of_fold
    from hf_trainpipe.report.facts import read
    from hf_trainpipe.utils.resources import use_paths_of_run

    check_finished(path)  # before its folds are looked at
    fold = run_of_fold(path, 0)
    recipe, source = recipe_of(fold, arguments.recipe)
    data = recipe.data.source if isinstance(recipe.data, ChosenRows) else recipe.data
    task, select = read(fold).task or recipe.task, recipe.selected_metric
    kept = OutOfFold.read(path, finishes=finishes_of(task.metrics()))
    with use_paths_of_run(fold, source), busy("looking for weak slices"):
        return sliced_study(kept, data.splits(), task=task, select=select, **options)


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options that do not go together, and wrong values.

    Raises:
        UsageError: as said.
    """
    check_rows("slices", arguments)
    for name, low, high in (("level", 0.0, 1.0), ("confidence", 0.5, 1.0)):
        if not low < getattr(arguments, name) < high:
            raise UsageError(
                f"slices: --{name}: expected a number between {low:g} and {high:g}, found {getattr(arguments, name):g}.",
                fix=f"Write --{name} {0.1 if name == 'level' else 0.95}.",
            )
    if arguments.seed < 0:
        raise UsageError(f"slices: --seed: expected 0 or more, found {arguments.seed}.", fix="Write --seed 0.")
    for name in ("least", "most"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UsageError(f"slices: --{name}: expected 1 or more, found {value}.", fix=f"Write --{name} 30.")
