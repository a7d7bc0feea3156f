"""A run in small, in a folder that goes away: every part of ``train`` once, by the code of ``train``."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hf_trainpipe.checkpoint.contract import check_finished, check_resume
from hf_trainpipe.codec import to_json, with_defaults
from hf_trainpipe.data.audit import audit
from hf_trainpipe.engine.device import memory_in_use, peak_memory, reset_peak_memory
from hf_trainpipe.engine.probe import probe
from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.model.names import local_folder
from hf_trainpipe.recipe import Scratch
from hf_trainpipe.training import gap
from hf_trainpipe.training.check.foretell import Measured, bytes_of, foretell
from hf_trainpipe.training.check.found import REQUEST, Notes
from hf_trainpipe.training.check.measure import EVALUATION_SECONDS, Pace, measure_steps, part_of, try_extremes
from hf_trainpipe.training.checkpointing import Checkpointing
from hf_trainpipe.training.export import export
from hf_trainpipe.training.forecasts import folder_bytes
from hf_trainpipe.training.monitor import Evaluator, TrainingLog
from hf_trainpipe.training.options import RunOptions
from hf_trainpipe.training.run import Run
from hf_trainpipe.training.run_files import read_identity, read_result
from hf_trainpipe.training.setup import Setup, set_up, validate
from hf_trainpipe.training.trial import Trial
from hf_trainpipe.utils.resources import check_sha256, require_weights, resolve, search_folders

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe.source import RecipeSource

FORWARD = 3.0
"""Times faster than a step its forward pass is, about."""
KEPT = (
    "encoding",
    "auditing",
    "warming up the encoder",
    "fitting the head",
    "asking the teacher",
    "looking at train",
    "looking at validation",
    "looking at test",
)
"""How works begin whose results the cache then has for the run."""
PREPARED_TWICE_S = 20.0
"""Data that took longer to prepare is not prepared once more to learn how long that takes when the cache has it."""


def rehearse(recipe: Recipe, source: RecipeSource, *, folder: Path) -> None:
    """Rehearse in a folder, as the request in it says; what is found is written there."""
    asked = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    options = RunOptions(source=source)
    Rehearsal(recipe, options, folder=folder, run_dir=Path(asked["run_dir"]), live=asked["live"]).go()


class Rehearsal:
    """One check of a recipe.

    Args:
        recipe: What ``train`` is going to be given.
        options: With the recipe's source.
        folder: Where to write; the caller removes it.
        run_dir: The run's directory, which is looked at and left as it is.
        live: Whether the run would show its progress on a terminal.
    """

    def __init__(self, recipe: Recipe, options: RunOptions, *, folder: Path, run_dir: Path, live: bool) -> None:
        self.recipe, self.options, self.folder, self.run_dir = recipe, options, folder, run_dir
        own_file = options.source.path.resolve() if options.source is not None else None
        self.notes = Notes(folder, own_file=own_file, live=live)
        self.found = self.notes.found
        self._seconds = {"setup": 0.0, "loading": 0.0, "trial": 0.0}

    def go(self) -> None:
        """Do all of it; what is found is in ``found.json`` of the folder."""
        with self.notes.stage("evaluation", "looking at the recipe"):
            validate(self.recipe)
        recipe = self.recipe
        if self.found.problems:  # of its metrics: the rest is looked at with the task's own
            recipe = replace(recipe, evaluation=replace(recipe.evaluation, select=None, metrics=()))
        # Trackers and pushes are looked at elsewhere, and so is the room for checkpoints.
        quick = replace(recipe, trackers=(), hub=None, budget=replace(recipe.budget, keep_checkpoints=2))
        if recipe.optim.precision == "auto" and not torch.cuda.is_available():
            probe()  # once a machine; the run finds it in the cache
        with ExitStack() as stack:
            setup = self._set_up(stack, quick)
            if setup is None:
                self._apart(recipe)
            else:
                self._contract(setup)
                self._rehearse(setup)
        self.found.stage = "done"
        self.notes.write()

    # -- stages ----------------------------------------------------------------------------

    def _set_up(self, stack: ExitStack, recipe: Recipe) -> Setup | None:
        """The data and the plan, as a run finds them that comes later: with the tokens in the cache."""
        setup = None
        with self.notes.stage("recipe", "setting up"), ExitStack() as first:
            began = time.monotonic()
            setup = first.enter_context(set_up(recipe, self.options, run_dir=self.folder / "first", view=self.notes))
            self._seconds["setup"] = time.monotonic() - began
            self._tell_data(setup)
            first_kept = self._kept_for_later()
            if self._seconds["setup"] > PREPARED_TWICE_S:
                stack.push(first.pop_all())
            else:
                setup = None
                first.close()
                setup = stack.enter_context(set_up(recipe, self.options, run_dir=self.folder / "run", view=self.notes))
            # With the libraries imported anew, as in a run's own process, and tokens and audit from the cache.
            self._seconds["setup"] += self._kept_for_later() - 2 * first_kept
            reset_peak_memory()
        return setup

    def _kept_for_later(self) -> float:
        """Seconds so far of what the cache has for the run."""
        return sum(took for what, took in self.notes.seconds.items() if what.startswith(KEPT))

    def _tell_data(self, setup: Setup) -> None:
        rows = ", ".join(f"{name} {len(split):,}" for name, split in setup.data.splits.items())
        lengths = setup.data.train.example_lengths[setup.data.train.usable]
        self.found.seen["data"] = f"{rows} rows; {int(lengths.min()):,} to {int(lengths.max()):,} tokens an example"

    def _apart(self, recipe: Recipe) -> None:
        """Data and model by themselves, where they could not be set up together: all problems are told at once."""
        source = self.options.source
        with search_folders(*(() if source is None else (source.path.parent,))):
            with self.notes.stage("data", "reading the data"):
                audit(recipe.task, recipe.data.splits())
            with self.notes.stage("model", "looking at the model's file"):
                if not isinstance(recipe.model, Scratch) and local_folder(recipe.model.name) is not None:
                    weights = require_weights(resolve(recipe.model.name))
                    if recipe.model.sha256 is not None:
                        check_sha256(weights, recipe.model.sha256)

    def _contract(self, setup: Setup) -> None:
        """What the run that is there already makes of this recipe."""
        if not (self.run_dir / "run.json").is_file():
            return
        with self.notes.stage("run", "comparing with the run that is there"):
            existing = read_identity(self.run_dir)
            existing = {**existing, "recipe": with_defaults(existing["recipe"])}
            document = {**read_identity(setup.folder.path), "recipe": to_json(self.recipe)}
            if read_result(self.run_dir) is not None:
                check_finished(existing, document)
                self.found.warnings.append(f"{self.run_dir}: this run is complete; `train` would leave it as it is")
            else:
                check_resume(existing, document)
                self.found.warnings.append(
                    f"{self.run_dir}: `train` continues the run there; the forecast is of a whole one"
                )

    def _rehearse(self, setup: Setup) -> None:
        run, pace, before = None, None, len(self.found.problems)
        with self.notes.stage("model", "loading the model"):
            run = self._load(setup)
        if run is None:
            return
        with TrainingLog(run) as log, Checkpointing(run, log) as checkpoints:
            checkpoints.restore()  # begins the log
            with self.notes.stage("training", "taking a step on the longest and on the shortest examples"):
                extremes = try_extremes(run, log)
                self.found.seen["step"] = (
                    f"on the longest examples {extremes[0]:.2g} s, on the shortest {extremes[1]:.2g} s"
                )
                self.notes.at("measuring steps")
                pace = measure_steps(run, log, first_seconds=extremes[0])
            held = memory_in_use(run.accelerator.device)
            ends = self._ends(run, log, checkpoints, pace) if pace is not None else None
        if pace is None or ends is None or len(self.found.problems) > before:
            return
        if held is not None and not run.on_gpu:
            # A run takes steps beside the copy of a checkpoint that is being written.
            ends["memory"] = max(ends["memory"] or 0, held + ends["checkpoint"])
        facts: dict[str, Any] = {**self._seconds, **ends}
        measured = Measured(**facts, pace=pace, works=self.notes.seconds)
        self.found.disk = bytes_of(run, measured, keep=self.recipe.budget.keep_checkpoints)
        self.found.forecast = foretell(run, measured, self.found.disk)

    def _load(self, setup: Setup) -> Run:
        """The run with its model, whose package has been tried."""
        began, kept = time.monotonic(), self._kept_for_later()
        with closing(Trial(setup, remembers=False)) as trial:
            run = Run(setup)
            self._seconds["loading"] = time.monotonic() - began - (self._kept_for_later() - kept)
            plan = run.plan
            self.found.seen["model"] = (
                f"{plan.architecture}, {plan.parameters / 1e6:.1f} M parameters, {plan.precision}"
            )
            self.found.seen["steps"] = f"{plan.total_steps:,} of {plan.examples_per_step} examples"
            began = time.monotonic()
            with self.notes.stage("package", "trying the package"):
                trial.check(run)
                self.found.seen["handler"] = "the package of the untrained model answers as the model does"
            self._seconds["trial"] = 0.0 if trial.passed_before else time.monotonic() - began
        return run

    def _ends(self, run: Run, log: TrainingLog, checkpoints: Checkpointing, pace: Pace) -> dict[str, Any] | None:
        """An evaluation, a checkpoint and back, the scores and the package; None where one of them failed."""
        notes, before = self.notes, len(self.found.problems)
        max_tokens = EVALUATION_SECONDS * FORWARD * pace.tokens_per_second
        whole = dict(run.data.splits)
        scored: list[str] = [name for name in ("validation", "test") if name in whole] or ["train"]
        parts = {name: part_of(whole[name], max_tokens=max_tokens, generates=run.task.generates) for name in scored}
        run.data.splits.update({name: part.split for name, part in parts.items()})
        evaluation = fixed = saving = writing = exporting = 0.0
        with notes.stage("evaluation", "evaluating the longest and the shortest examples"):
            began = time.monotonic()
            evaluator = Evaluator(run, log)
            evaluator.evaluate()
            evaluation = time.monotonic() - began
            if "validation" in parts:
                self.found.seen["evaluation"] = (
                    f"{len(parts['validation'].split.usable):,} examples, {evaluation:.2g} s"
                )
                if parts["validation"].tokens > 1 and len(sample := gap.sample_of(run)):
                    began = time.monotonic()
                    gap.train_losses(run, sample)
                    fixed = time.monotonic() - began
        with notes.stage("checkpoint", "writing a checkpoint"):
            began = time.monotonic()
            checkpoints.save()
            saving = time.monotonic() - began
            checkpoints.wait()
            writing = time.monotonic() - began - saving
        with notes.stage("package", "scoring and packaging"):
            began = time.monotonic()
            result = export(run, log, best_step=checkpoints.load_best())
            exporting = (
                time.monotonic() - began - notes.seconds.get("writing the report", 0.0)
            )  # a run's seconds end before
            self.found.seen["package"] = (
                f"verified in a fresh process, {result.verified.get('n', 0)} predictions reproduced"
            )
        run.data.splits.update(whole)
        memory = peak_memory(run.accelerator.device)
        with notes.stage("checkpoint", "restoring the checkpoint"):
            if (reason := checkpoints.prove()) is not None:
                raise TrainpipeError(
                    f"checkpoint: expected to be restored as it was saved; found that {reason}.",
                    fix="Report this: a run could not be resumed exactly.",
                )
            self.found.seen["checkpoint"] = "saved, restored, equal"
        if len(self.found.problems) > before:
            return None
        place = run.folder.path
        checkpoint, package = folder_bytes(place / "checkpoints"), folder_bytes(place / "package")
        predictions = folder_bytes(place / "predictions")
        return {
            "evaluation": evaluation,
            "evaluation_fixed": fixed,
            "saving": saving,
            "writing": writing,
            "export": exporting,
            "parts": parts,
            "memory": memory,
            "checkpoint": checkpoint,
            "package": package,
            "predictions": predictions,
            "rest": folder_bytes(place) - checkpoint - package - predictions,
        }
