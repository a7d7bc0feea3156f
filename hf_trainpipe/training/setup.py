"""Set up a run before any weight is loaded: its directory, its data, its plan, and which run it continues."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hf_trainpipe import metrics
from hf_trainpipe.codec import to_json
from hf_trainpipe.data.audit import check_selection
from hf_trainpipe.data.prepare import PreparedData, prepare
from hf_trainpipe.engine import sharding
from hf_trainpipe.engine.device import check_products, restore_torch_settings, set_precision
from hf_trainpipe.engine.machine import Machine, this_machine
from hf_trainpipe.engine.mixed import Mixed
from hf_trainpipe.engine.ranks import Ranks, make_accelerator, num_machines, single_process_warning
from hf_trainpipe.engine.schedule import rate_factor
from hf_trainpipe.errors import DataError, RecipeError, TrainpipeError
from hf_trainpipe.hub.mirror import fetch
from hf_trainpipe.metrics.external import load_external
from hf_trainpipe.model.lengths import max_length
from hf_trainpipe.model.limits import ModelLimits, model_limits
from hf_trainpipe.model.lora import base_fingerprint
from hf_trainpipe.model.names import pin_model
from hf_trainpipe.model.proof import unknown_lines
from hf_trainpipe.model.scratch import made_from_scratch
from hf_trainpipe.model.tokenizer import load_tokenizer
from hf_trainpipe.plan import Plan, make_plan
from hf_trainpipe.recipe import Scratch, brief
from hf_trainpipe.tracking.console import Console
from hf_trainpipe.training.options import RunOptions
from hf_trainpipe.training.result import Result
from hf_trainpipe.training.run_directory import RunFolder
from hf_trainpipe.training.teacher import Teacher, find_teacher
from hf_trainpipe.utils.atomic import require_space
from hf_trainpipe.utils.cache import cache_root
from hf_trainpipe.utils.resources import folders_of_run

if TYPE_CHECKING:
    from accelerate import Accelerator

    from hf_trainpipe.checkpoint.snapshot import Checkpoint
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.tracking.views.base import View

SCRATCH = "scratch"
"""What the folder of a model from random weights is called in its run."""
CHECKPOINT_BYTES = 12
"""Bytes of a checkpoint a parameter: the weight and AdamW's two moments, in fp32."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Setup:
    """A run before its model is loaded; with it, it is a :class:`~hf_trainpipe.training.run.Run`."""

    recipe: Recipe
    """The model pinned to a commit."""
    options: RunOptions
    plan: Plan
    data: PreparedData
    ranks: Ranks
    tokenizer: Any
    folder: RunFolder
    console: Console
    started: float
    """When this attempt began, in seconds since the epoch."""
    finished: Result | None
    """What the run left, if it is complete and there is nothing more to do."""
    teacher: Teacher | None = None
    """Of a recipe with ``distil``."""

    @property
    def task(self) -> Task:
        """The task, fitted to the training data."""
        return self.data.task

    @property
    def accelerator(self) -> Accelerator:
        return self.ranks.accelerator

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU of NVIDIA's."""
        return bool(self.accelerator.device.type == "cuda")


def validate(recipe: Recipe, *, fitted: Task | None = None) -> None:
    """Refuse wrong metric names before anything is loaded; again, with more to go by, when labels are known."""
    names = recipe.evaluation.named
    metrics.check_for(fitted or recipe.task, names, is_fitted=fitted is not None)
    if fitted is not None:
        for name in filter(metrics.is_external, names):
            load_external(name)  # one that cannot be had is refused now, not after an epoch


def _check_calibration(data: PreparedData) -> None:
    """Refuse a calibration that there are no rows to choose it on.

    Raises:
        RecipeError: as said.
    """
    found = data.task.fields().get("calibration")
    if (
        found is not None
        and "validation" not in data.splits
        and (found.temperature == "fit" or found.promise is not None)
    ):
        raise RecipeError(
            "task.calibration: expected a validation split to choose it on, found none.",
            fix="Split rows off the training data (validation=0.1), or give the temperature as a number.",
        )


@contextmanager
def set_up(
    recipe: Recipe, options: RunOptions, *, run_dir: Path | None = None, view: View | None = None
) -> Iterator[Setup]:
    """Lock the directory, prepare the data, derive the plan, and compare with the run that is there.

    Args:
        view: What shows the progress; None: what fits standard error.

    Raises:
        TrainpipeError: the directory is taken, the data is wrong, or the run differs from the interrupted one.
    """
    started = time.time()
    validate(recipe)
    ranks = Ranks(make_accelerator())
    console = Console(0, ranks.is_main, view=view)
    with (
        RunFolder(run_dir or Path("runs") / recipe.name, is_main=ranks.is_main) as folder,
        restore_torch_settings(),
        warnings.catch_warnings(),
    ):
        if not ranks.is_main:
            warnings.simplefilter("ignore")  # the first rank shows the same, above what redraws
        if options.resume_from is not None:
            _fetch_run(options.resume_from, folder, say=console.say)
        recorded = (folder.existing if options.resume != "never" else None) or {}
        with folders_of_run(recorded, options.source) as places:
            asked = to_json(recipe)  # as it was before the model was pinned
            if isinstance(recipe.model, Scratch):
                with console.working("making a tokenizer and random weights"):
                    made = ranks.from_main(partial(made_from_scratch, recipe, folder.path / SCRATCH))
                recipe = replace(recipe, model=made)
            with console.working("looking at the model and the machine"):
                revision = recorded.get("model_revision") or recipe.model.revision
                recipe = replace(recipe, model=pin_model(replace(recipe.model, revision=revision)))
                tokenizer = load_tokenizer(recipe.model)
                machine = _agreed_machine(recipe, ranks, recorded=recorded.get("compute"))
            _apply(machine, recipe, ranks)
            limits = model_limits(recipe.model, recipe.task, tokenizer)
            known, absent = recorded.get("fingerprints") or {}, None
            try:
                teacher = _teacher_of(recipe, known)
            except TrainpipeError as error:
                if "teacher" not in known or not (options.package_only or folder.is_complete) or options.extend:
                    raise
                teacher, absent = None, error  # it taught what is there, and no step is to be taken
            with console.working("preparing the data"):
                data, plan = _prepare(recipe, tokenizer, limits, machine=machine, console=console, teacher=teacher)
            if options.crossval is None:
                _check_calibration(data)
            unknown, unknown_warnings = unknown_lines(tokenizer, data.splits)
            if recipe.model.lora is not None or data.task.refers:  # no checkpoint holds the weights of the beginning
                data.fingerprints["base"] = ranks.from_main(partial(base_fingerprint, recipe.model))
            if recipe.distil is not None:
                data.fingerprints["teacher"] = known["teacher"] if teacher is None else teacher.identity
            _check_alike(ranks, data.fingerprints)
            source = options.source
            identity = {
                "name": recipe.name,
                "recipe": asked,
                "model_revision": recipe.model.revision,
                "compute": machine.to_json(),
                "fingerprints": data.fingerprints,
                "labels": list(data.labels),
                "source": None if source is None else {"path": str(source.path), "function": source.function},
                "places": dict(places),
            }
            begin = partial(folder.begin, identity, options, total_steps=plan.total_steps, facts=_facts(ranks, plan))
            finished = ranks.from_main(begin)
            if absent is not None and finished is None and not options.package_only:
                raise absent
            for line in [single_process_warning(), *limits.warnings, *data.warnings, *unknown_warnings, *folder.notes]:
                if line is not None:
                    console.say(f"warning: {line}")
            if finished is None and ranks.is_main and recipe.data.stream() is None:
                with console.working("auditing the data"):
                    audited = _audited(data)
                for line in audited:
                    console.say(f"audit: {line}")
            if finished is None and ranks.is_main:
                num_kept = recipe.budget.keep_checkpoints + 2  # the best one, and the one being written
                saved = plan.parameters if plan.trained is None else plan.trained
                require_space(folder.path, num_kept * saved * CHECKPOINT_BYTES)
                for line in plan.lines():
                    console.say(line)
                if recipe.augmentation is not None:
                    console.say(f"augmented   {', '.join(map(brief, recipe.augmentation))}")
                if unknown is not None:
                    console.say(unknown)
                if folder.extended_from is not None:
                    console.say(_extension(recipe, plan, folder.extended_from))
            elif finished is not None:
                console.say(f"{folder.path}: this run is complete; to start it over: --resume never")
            console.total_steps = plan.total_steps
            yield Setup(
                recipe=recipe,
                options=options,
                plan=plan,
                data=data,
                ranks=ranks,
                tokenizer=tokenizer,
                folder=folder,
                console=console,
                started=started,
                finished=Result.from_json(finished, run_dir=folder.path) if finished is not None else None,
                teacher=teacher,
            )


def _fetch_run(resume_from: str, folder: RunFolder, *, say: Callable[[str], None]) -> None:
    """Rank 0 downloads, which may take longer than any collective; the others wait for what it writes last."""
    if folder.is_main:
        fetch(resume_from, folder.path, say=say)
    while not (folder.path / "run.json").exists():
        time.sleep(0.2)


def _agreed_machine(recipe: Recipe, ranks: Ranks, *, recorded: Mapping[str, Any] | None) -> Machine:
    """How rank 0 wants to compute, on every rank; a resumed run as it began, so that its numbers stay the same."""
    return ranks.from_main(
        lambda: this_machine(
            recipe.optim.precision,
            ranks=ranks.size,
            on_gpu=ranks.accelerator.device.type != "cpu",
            sharded=ranks.sharded,
            recorded=recorded,
        )
    )


def _apply(machine: Machine, recipe: Recipe, ranks: Ranks) -> None:
    """Set threads and precision in this process, and refuse what the device or FSDP2 cannot do."""
    torch.set_num_threads(machine.threads)
    set_precision(machine.precision)
    check_products(machine.precision, ranks.accelerator.device)
    Mixed(machine.precision, ranks.accelerator.device).check()
    if machine.sharded:
        sharding.check(recipe.optim, precision=machine.precision)


def _teacher_of(recipe: Recipe, recorded: Mapping[str, str]) -> Teacher | None:
    """The teacher of a recipe, refused before the data are read if it is of another task.

    Args:
        recorded: Fingerprints of the run that is there.
    """
    if recipe.distil is None:
        return None
    found = find_teacher(recipe.distil, recorded=recorded.get("teacher"))
    found.check(recipe.task, recipe.task.label_names)
    return found


def _prepare(
    recipe: Recipe,
    tokenizer: Any,
    limits: ModelLimits,
    *,
    machine: Machine,
    console: Console,
    teacher: Teacher | None,
) -> tuple[PreparedData, Plan]:
    """The data of a recipe, encoded, and the plan that follows from it."""
    data = prepare(
        recipe,
        tokenizer=tokenizer,
        max_length=max_length(recipe.tokens, limits.limit),
        vocab_size=limits.rows,
        root=cache_root(),
        say=console.say,
        working=console.working,
    )
    validate(recipe, fitted=data.task)
    if teacher is not None:
        teacher.check(data.task, data.labels)
    check_selection(recipe.evaluation.select, data.splits)
    plan = make_plan(
        recipe,
        limits=limits,
        machine=machine,
        num_examples=sum(len(rows.usable) for rows in data.learnt),
        num_labels=len(data.labels),
        streamed=recipe.data.stream() is not None,
        mean_tokens=float(np.concatenate([rows.lengths for rows in data.learnt]).mean()),
        num_tokens=sum(rows.features.num_tokens for rows in data.learnt),
        teacher=None if teacher is None else (teacher.said.teacher, teacher.facts(data.task)),
    )
    return data, plan


def _check_alike(ranks: Ranks, fingerprints: Mapping[str, str]) -> None:
    """Refuse ranks that have read something else than the first one: each would train on rows that the others do not count on.

    Raises:
        DataError: on every rank, with the one that differs.
    """
    first, *others = ranks.gather((platform.node(), dict(fingerprints)))
    for rank, (host, found) in enumerate(others, 1):
        if differing := [name for name, value in first[1].items() if found[name] != value]:
            raise DataError(
                f"Rank {rank} (on {host}) has read something else than rank 0 (on {first[0]}): {', '.join(differing)} "
                "differ.",
                fix="Give all machines the same files: a shared folder, or copies of one version. Of data and models of the "
                "Hub set the revision.",
            )


def _audited(data: PreparedData) -> list[str]:
    """The worst findings about the data. Nothing that goes wrong here stops a run: `hf-trainpipe audit` says what it was."""
    try:
        from hf_trainpipe.audit.quick import worst

        splits = {name: split.rows.dataset for name, split in data.splits.items()}
        return worst(data.task, splits, known_by=data.fingerprints["data"], root=cache_root())
    except Exception as error:  # of any kind: data that can be trained on are trained on
        return [f"not looked at: {type(error).__name__}: {error}"]


def _facts(ranks: Ranks, plan: Plan) -> dict[str, Any]:
    """What an attempt records of where it runs, and its plan for people."""
    place = {"world_size": ranks.size, "machines": num_machines(), "device": ranks.accelerator.device.type}
    return {**place, "plan": plan.lines()}


def _extension(recipe: Recipe, plan: Plan, newest: Checkpoint) -> str:
    """What becomes of the schedule of a run that is made longer, on one line."""
    optim, updates = recipe.optim, newest.state["run"]["updates"]

    def rate(update: int) -> str:
        factor = rate_factor(update, total=plan.total_steps, warmup=plan.warmup_steps, schedule=optim.schedule)
        return f"{optim.peak_lr * factor:.3g}"

    return (
        f"extended     step {newest.step:,} to {plan.total_steps:,}: weights, optimizer state and order of the data go on; the "
        f"learning rate is from now on that of a run of {plan.total_steps:,} steps ({optim.schedule}): "
        f"{rate(updates)} at step {newest.step + 1:,}, {rate(plan.total_steps - 1)} at the last"
    )
