"""``tune`` from its first check to its page: what is checked before anything runs, the study's lock, and what is left at the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.studies import contract, outcome
from hf_trainpipe.studies.identity import begun
from hf_trainpipe.studies.proposals import Pruning, require_optuna
from hf_trainpipe.studies.runs import Launch
from hf_trainpipe.studies.space import describe
from hf_trainpipe.studies.trials import TrialLedger
from hf_trainpipe.studies.tune import Search
from hf_trainpipe.studies.tune_page import write_page
from hf_trainpipe.studies.workers import Workers, devices_of
from hf_trainpipe.tracking.console import Console
from hf_trainpipe.training.show import look
from hf_trainpipe.training.signals import StopSignals
from hf_trainpipe.utils.atomic import require_writable
from hf_trainpipe.utils.resources import search_folders

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe.source import RecipeSource
    from hf_trainpipe.studies.space import Space


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked for: the space, the study's folder, and :class:`~hf_trainpipe.studies.contract.Settings` before the machine
    was looked at."""

    space: Space
    place: str
    """Where the space stands, in words."""
    folder: Path
    trials: int
    finalists: int
    seeds: int
    seed: int
    parallel: int | None
    """None: one a GPU, or one."""
    ranks: int
    launch: tuple[str, ...]
    pruning: Pruning
    time_limit: float | None
    trial_limit: float | None


@dataclass(frozen=True, kw_only=True)
class Done:
    """A search that has ended."""

    document: dict[str, Any]
    screen: str


def tune(recipe: Recipe, source: RecipeSource, asked: Asked) -> Done:
    """Search, or go on with the search that is in the folder.

    Raises:
        TrainpipeError: what training would refuse; what differs from the study in the folder; no trial that ended with a score.
        Interrupted: a signal; the same command continues.
    """
    require_optuna()
    console = Console(0)
    with console.working("looking at the recipe"), search_folders(source.path.parent):
        _check(recipe)
    num_gpus = _num_gpus()
    parallel = asked.parallel or max(1, num_gpus // asked.ranks)
    settings = contract.Settings(
        trials=asked.trials, finalists=asked.finalists, seeds=asked.seeds, seed=asked.seed, parallel=parallel, ranks=asked.ranks,
        launch=asked.launch, pruning=asked.pruning, time_limit=asked.time_limit, trial_limit=asked.trial_limit,
    )  # fmt: skip
    folder = asked.folder
    require_writable(folder)
    with begun(folder, "tune", recipe, {"space": asked.space.to_json(), **settings.kept}):
        launches = [
            Launch(ranks=asked.ranks, options=asked.launch, devices=devices)
            for devices in devices_of(parallel=parallel, ranks=asked.ranks, num_gpus=num_gpus)
        ]
        with StopSignals() as signals, TrialLedger(folder / "trials.jsonl") as ledger:
            console.say(f"search over {asked.place}, {settings.trials} trials, {parallel} at a time, in {folder}")
            for line in describe(asked.space):
                console.say(f"  {line}")
            if ledger.ended:
                console.say(
                    f"continuing after {len(ledger.trials())} trials and {len(ledger.finals())} runs of finalists"
                )
            with Workers(source, folder, launches=launches, signals=signals) as workers:
                search = Search(recipe, source, asked.space, folder=folder, settings=settings, ledger=ledger,
                                workers=workers, say=console.say)  # fmt: skip
                found = search.run()
        shares = outcome.importance(found, asked.space)
        outcome.write_best(found, source, ranks=asked.ranks)
        document = outcome.write_result(found, asked.space, shares=shares)
        write_page(found, asked.space, recipe, shares=shares)
    return Done(document=document, screen=outcome.screen(found, shares=shares))


def _check(recipe: Recipe) -> None:
    """Refuse what every trial would refuse, and data without a validation split."""
    found = look(recipe)
    if "validation" not in found.sizes:
        raise RecipeError(
            "tune: expected a validation split to choose by, found none.",
            fix="Name one in the data (validation='validation'), or cut one off: validation=0.1.",
        )


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
