"""How one attempt at a run begins and ends. What is trained is the recipe's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hf_trainpipe.recipe.source import RecipeSource
from hf_trainpipe.training.signals import PlannedStop

Resume = Literal["auto", "never", "must"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of ``hf-trainpipe train`` that are not fields of the recipe: ``execute(recipe, options=RunOptions(...))``."""

    source: RecipeSource | None = None
    """The file and function that the recipe came from, and what was set on the command line."""
    resume: Resume = "auto"
    """``auto`` starts or continues a run, ``never`` starts over, ``must`` continues or fails."""
    allow_change: frozenset[str] = frozenset()
    """Fields that may differ from the interrupted run's."""
    resume_from: str | None = None
    """``hub:user/name``: where an empty run directory takes its checkpoints from."""
    extend: bool = False
    """Train the run in the directory longer, to the recipe's budget: weights, optimizer state and order of the data go on,
    at the learning rate that a run of the whole budget has from there on."""
    verify_resume: bool = False
    """After training, kill a copy of the run, resume it and compare; the package's card says what came of it."""
    package_only: bool = False
    """Take no step: package the best checkpoint that is there."""
    crossval: Path | None = None
    """The folder of a cross-validation of the recipe: what the task chooses on validation, it chooses on what models answered there to rows
    that they never saw."""
    validation_only: bool = False
    """Score the validation split alone and write no package, as a trial of a search does; the test split stays unseen until the
    run is asked for again without this."""
    planned_stop: PlannedStop | None = None
    """When to die or to stop, in a copy by which resuming is verified."""
