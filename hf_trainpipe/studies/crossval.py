"""Cross-validation: every fold an ordinary run, and one store of what each row got from a model that never saw it.

study.json            recipe, options, sha256 of what was dealt
rows/N.json           the rows of fold N, as ``train --rows`` reads them
folds/N/              an ordinary run; its test split is what the fold holds out
out_of_fold.npz       predictions of all rows, in the form of metrics/saved.py, with ``fold``, ``split``, ``row``, ``group``
crossval.json, .html  scores and what stands behind them
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.data import chosen_rows
from hf_trainpipe.out_of_fold import rows_of_fold, run_of_fold
from hf_trainpipe.studies import runs
from hf_trainpipe.studies.crossval_scores import Found, collect
from hf_trainpipe.studies.folding import Dealt, Folding, deal, warnings_of
from hf_trainpipe.studies.identity import begun
from hf_trainpipe.utils.resources import search_folders

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe.source import RecipeSource


def cross_validate(
    recipe: Recipe,
    source: RecipeSource,
    folder: Path,
    *,
    folding: Folding,
    launch: runs.Launch | None = None,
    say: Callable[[str], None] = lambda _: None,
    until: Callable[[runs.Started], str | None] = lambda _: None,
) -> Found:
    """Train every fold that is not trained yet, and score them together.

    A call that was killed is continued by the next, inside the fold it was in.

    Args:
        until: Gives a reason to end the fold that is being trained, as :meth:`.runs.Started.wait` asks it.

    Raises:
        TrainpipeError: the data cannot be dealt so; a fold ended otherwise than complete, with its own error and exit code.
    """
    with search_folders(source.path.parent):
        dealt = deal(recipe, folding)
    settings = {**asdict(folding), "splits": list(dealt.pool.names), "dealt": dealt.digest}
    with begun(folder, "crossval", recipe, settings):
        for warning in warnings_of(dealt):
            say(f"warning: {warning}")
        for number in range(len(dealt.splits)):
            _train(recipe, source, folder, dealt, number, launch=launch, say=say, until=until)
        return collect(recipe, folder, dealt)


def _train(
    recipe: Recipe,
    source: RecipeSource,
    folder: Path,
    dealt: Dealt,
    number: int,
    *,
    launch: runs.Launch | None,
    say: Callable[[str], None],
    until: Callable[[runs.Started], str | None],
) -> None:
    place, count = run_of_fold(folder, number), len(dealt.splits)
    rows = rows_of_fold(folder, number)
    chosen_rows.write(rows, dealt.choice(number))
    fields = ["--name", f"{recipe.name}-fold-{number + 1}"]
    if repeat := number // dealt.folding.folds:
        fields += ["--seed", str(recipe.seed + repeat)]
    if recipe.hub is not None:
        fields += ["--hub", "none"]  # a fold is no model to publish
    told = f"fold {number + 1} of {count}"
    if runs.read_end(place) is None:
        sizes = ", ".join(f"{len(getattr(dealt.splits[number], name)):,} {what}" for name, what in (
            ("train", "trained on"), ("validation", "selected on"), ("test", "held out"),
        ) if len(getattr(dealt.splits[number], name)))  # fmt: skip
        say(f"{told}: {sizes}")
    ending = runs.run(source, place, fields=fields, options=["--rows", str(rows)], launch=launch, until=until)
    if ending.outcome != "complete":
        raise ending.error()
