"""Opening a run: its directory, data, plan and identity, before any weight is loaded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe import metrics
from hf_trainpipe.checkpoint import require_space
from hf_trainpipe.codec import to_json
from hf_trainpipe.data.audit import check_selection
from hf_trainpipe.data.prepare import PreparedData, prepare
from hf_trainpipe.engine import sharding
from hf_trainpipe.engine.device import (
    Precision,
    choose_precision,
    num_threads,
    set_precision,
    set_threads,
    settings_kept,
)
from hf_trainpipe.engine.mixed import Mixed
from hf_trainpipe.engine.probe import probe
from hf_trainpipe.engine.ranks import Ranks, make_accelerator, warning_of_one_process
from hf_trainpipe.engine.schedule import rate_factor
from hf_trainpipe.errors import Interrupted
from hf_trainpipe.hub.mirror import fetch
from hf_trainpipe.metrics.external import load_external
from hf_trainpipe.model import Fitting, fit, load_tokenizer, max_length, model_facts, pin_model
from hf_trainpipe.model.proof import unknown_lines
from hf_trainpipe.plan import Plan, make_plan
from hf_trainpipe.tracking.console import Console
from hf_trainpipe.training.monitor import command_line
from hf_trainpipe.training.result import Result
from hf_trainpipe.training.run import Run
from hf_trainpipe.training.run_directory import Resume, RunFolder
from hf_trainpipe.utils.cache import cache_root
from hf_trainpipe.utils.resources import beside, found_by, looking_beside

if TYPE_CHECKING:
    from hf_trainpipe.checkpoint import Checkpoint
    from hf_trainpipe.recipe import Recipe

__all__ = ["open_run", "validate"]

CHECKPOINT_BYTES = 12
"""Bytes of a checkpoint a parameter: the weight and AdamW's two moments, in fp32."""


def validate(recipe: Recipe, *, labels: tuple[str, ...] | None = None) -> None:
    """Refuse wrong metric names before anything is loaded; again, with more to go by, when labels are known."""
    names = recipe.evaluation.named
    metrics.check(names, recipe.task.decoder, labels=labels)
    if labels is not None:
        for name in filter(metrics.is_external, names):
            load_external(name)  # what cannot be had is refused now, not after an epoch


@contextmanager
def open_run(
    recipe: Recipe,
    *,
    source: Any,
    run_dir: Path | None,
    resume: Resume,
    allow_change: frozenset[str],
    package_only: bool,
    resume_from: str | None = None,
    extend: bool = False,
) -> Iterator[Run]:
    """Lock the directory, prepare the data, derive the plan, and compare with the run that is there.

    Raises:
        TrainpipeError: the directory is taken, the data is wrong, or the run differs from the interrupted one.
    """
    ranks = Ranks(make_accelerator())
    folder = RunFolder(run_dir or Path("runs") / recipe.name, is_main=ranks.is_main)
    console = Console(0, ranks.is_main)
    process = ExitStack()
    process.enter_context(settings_kept())
    ending = "failed"
    try:
        if resume_from is not None:
            _bring(resume_from, folder, say=console.say)
        earlier_run = folder.existing if resume != "never" else None
        places = process.enter_context(looking_beside(*beside(source, earlier_run), recorded=found_by(earlier_run)))
        asked = to_json(recipe)
        known = (folder.existing or {}).get("model_revision") if resume != "never" else None
        with console.working("looking at the model and the machine"):
            recipe = replace(recipe, model=pin_model(replace(recipe.model, revision=known or recipe.model.revision)))
            tokenizer = load_tokenizer(recipe.model)
            compute = ranks.from_main(_settle(recipe, folder, ranks=ranks, resume=resume) if ranks.is_main else None)
        set_threads(compute["threads"])
        set_precision(compute["precision"])
        Mixed(compute["precision"], ranks.accelerator.device).check()
        if ranks.sharded:
            sharding.check(recipe.optim, precision=compute["precision"])
        fitting = fit(recipe.model, recipe.task, tokenizer)
        precision: Precision = compute["precision"]
        with console.working("preparing the data"):
            data, plan = _prepare(recipe, tokenizer, fitting, precision=precision, ranks=ranks, say=console.say)
        unknown, unknown_warnings = unknown_lines(tokenizer, data.splits)
        earlier = None
        if ranks.is_main:
            document = {
                "name": recipe.name,
                "recipe": asked,  # as it was before anything was pinned
                "model_revision": recipe.model.revision,
                "compute": compute,
                "fingerprints": data.fingerprints,
                "labels": list(data.labels.names),
                "source": None if source is None else {"path": str(source.path), "function": source.function},
                "places": dict(places),
            }
            if not package_only:
                earlier = folder.complete(document, resume=resume, extend=extend)
            warnings = [*filter(None, [warning_of_one_process()]), *fitting.warnings, *data.warnings, *unknown_warnings]
            if earlier is None:
                warnings += folder.begin(
                    document,
                    resume=resume,
                    allow_change=allow_change,
                    world_size=ranks.size,
                    command=command_line(),
                    extend_to=plan.total_steps if extend else None,
                )
            for line in warnings:
                console.say(f"warning: {line}")
        earlier = ranks.from_main(earlier)
        if earlier is None and ranks.is_main:
            num_kept = recipe.budget.keep_checkpoints + 2  # the best one, and the one being written
            require_space(folder.path, num_kept * plan.parameters * CHECKPOINT_BYTES)
            for line in [*plan.lines(), *filter(None, [unknown])]:
                console.say(line)
            if folder.extended_from is not None:
                console.say(_extension(recipe, plan, folder.extended_from))
        console.total_steps = plan.total_steps
        yield Run(
            recipe=recipe,
            plan=plan,
            data=data,
            ranks=ranks,
            tokenizer=tokenizer,
            folder=folder,
            console=console,
            earlier=Result.from_json(earlier, run_dir=folder.path) if earlier is not None else None,
        )
        ending = "complete"
    except Interrupted:
        ending = "interrupted"
        raise
    finally:
        folder.end(ending)
        process.close()


def _extension(recipe: Recipe, plan: Plan, newest: Checkpoint) -> str:
    """What becomes of the schedule where a run is made longer, on one line."""
    optim, updates = recipe.optim, newest.state["run"]["updates"]

    def rate(update: int) -> str:
        factor = rate_factor(update, total=plan.total_steps, warmup=plan.warmup_steps, schedule=optim.schedule)
        return f"{optim.peak_lr * factor:.3g}"

    return (
        f"extended     step {newest.step:,} to {plan.total_steps:,}: weights, optimizer state and order of the data go on; the "
        f"learning rate is from now on that of a run of {plan.total_steps:,} steps ({optim.schedule}): "
        f"{rate(updates)} at step {newest.step + 1:,}, {rate(plan.total_steps - 1)} at the last"
    )


def _settle(recipe: Recipe, folder: RunFolder, *, ranks: Ranks, resume: Resume) -> dict[str, Any]:
    """How this run computes on this machine: a resumed run as it began, so that its numbers stay the same."""
    known = (folder.existing or {}).get("compute") if resume != "never" else None
    if known is not None and known["ranks"] == ranks.size and recipe.optim.precision in ("auto", known["precision"]):
        return dict(known)
    on_cpu = ranks.accelerator.device.type == "cpu"
    threads = probe().threads if on_cpu and recipe.optim.precision == "auto" else num_threads()
    precision = (known or {}).get("precision") if recipe.optim.precision == "auto" else None
    return {
        "precision": precision or choose_precision(recipe.optim.precision, on_gpu=not on_cpu),
        "threads": threads,
        "ranks": ranks.size,
    }


def _bring(resume_from: str, folder: RunFolder, *, say: Callable[[str], None]) -> None:
    """Rank 0 downloads, which may take longer than any collective; the others wait for what it writes last."""
    if folder.is_main:
        fetch(resume_from, folder.path, say=say)
    while not (folder.path / "run.json").exists():
        time.sleep(0.2)


def _prepare(
    recipe: Recipe,
    tokenizer: Any,
    fitting: Fitting,
    *,
    precision: Precision,
    ranks: Ranks,
    say: Callable[[str], None],
) -> tuple[PreparedData, Plan]:
    length = max_length(recipe.tokens, fitting.limit)
    data = prepare(
        recipe,
        tokenizer=tokenizer,
        max_length=length,
        vocab_size=fitting.rows,
        root=cache_root(),
        say=say,
    )
    validate(recipe, labels=data.labels.names)
    check_selection(recipe.evaluation.select, data.splits)
    plan = make_plan(
        recipe,
        num_examples=len(data.train.usable),
        facts=model_facts(recipe.model, data.task, num_labels=len(data.labels), limit=fitting.limit),
        length=length,
        world_size=ranks.size,
        precision=precision,
        sharded=ranks.sharded,
        streamed=recipe.data.stream() is not None,
        on_gpu=ranks.accelerator.device.type != "cpu",
        mean_tokens=float(data.train.lengths.mean()),
    )
    return data, plan
