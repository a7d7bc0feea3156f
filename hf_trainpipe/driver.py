"""``execute(recipe)``: the table of contents of the whole program."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe import metrics
from hf_trainpipe.cache import cache_root
from hf_trainpipe.checkpoint import require_space
from hf_trainpipe.checkpoint.atomic import write_json
from hf_trainpipe.codec import to_json
from hf_trainpipe.data.prepare import PreparedData, prepare
from hf_trainpipe.engine.device import choose_precision, set_threads
from hf_trainpipe.errors import Interrupted, PushError, RecipeError, TrainpipeError
from hf_trainpipe.evaluation import SplitOutputs
from hf_trainpipe.export import final_scores, record_predictions, write_package
from hf_trainpipe.loop import train
from hf_trainpipe.metrics.external import load_external
from hf_trainpipe.model import load_config, load_tokenizer, max_length, model_facts, pin_model, usable_length
from hf_trainpipe.package.verify import verify
from hf_trainpipe.plan import Plan, make_plan
from hf_trainpipe.progress import Progress, selected
from hf_trainpipe.run import Run, make_accelerator
from hf_trainpipe.rundir import Resume, RunFolder
from hf_trainpipe.runtime.preprocessing import BUILT_IN
from hf_trainpipe.signals import StopSignals
from hf_trainpipe.tracking.console import Console

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe

__all__ = ["Result", "execute", "repackage", "validate"]


@dataclass(frozen=True)
class Result:
    """What a finished run leaves."""

    run_dir: Path
    package: Path
    select: str
    scores: dict[str, dict[str, dict[str, Any]]]
    """Split to metric to value, low, high, confidence and n."""
    steps: int
    best_step: int
    seconds: float
    verified: dict[str, Any] = field(default_factory=dict)
    pushed: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """For programs; paths as text."""
        return {**vars(self), "run_dir": str(self.run_dir), "package": str(self.package)}

    def summary(self) -> str:
        """For a person: scores with intervals, where the package is and what to do next."""
        lines = []
        for split, scores in self.scores.items():
            for name, score in scores.items():
                interval = f"  [{score['low']:.4f}, {score['high']:.4f}]" if "low" in score else ""
                lines.append(f"  {split + ' ' + name:<28} {score['value']:.4f}{interval}")
        return "\n".join(
            [
                f"scores of step {self.best_step:,} of {self.steps:,}, with "
                "bootstrap intervals" if lines else f"{self.steps:,} steps, nothing evaluated",
                *lines,
                f"package   {self.package}",
                f"next      hf-trainpipe predict {self.package} --input texts.txt --output answers.jsonl",
            ]
        )  # fmt: skip


def validate(recipe: Recipe, labels: tuple[str, ...] | None = None) -> None:
    """Refuse wrong metric names before anything heavy is loaded; again when labels are known."""
    evaluation = recipe.evaluation
    names = [*evaluation.metrics, *([evaluation.select] if evaluation.select else [])]
    metrics.check(names, recipe.task.decoder, labels=labels)
    if labels is not None:
        for name in filter(metrics.is_external, names):
            load_external(name)  # what cannot be had is refused now, not after an epoch


def _prepare(recipe: Recipe, tokenizer: Any, say: Any) -> tuple[PreparedData, int, Any]:
    config = load_config(recipe.model)
    limit = usable_length(config, tokenizer)
    length = max_length(recipe.tokens, limit)
    data = prepare(
        recipe,
        tokenizer=tokenizer,
        max_length=length,
        vocab_size=getattr(config, "vocab_size", None),
        root=cache_root(),
        say=say,
    )
    validate(recipe, data.labels.names)
    if recipe.evaluation.select and "validation" not in data.splits:
        raise RecipeError(
            f"evaluation.select: {recipe.evaluation.select!r} needs a validation split, and there is none.",
            fix="Name one in the data (validation='validation'), or cut one off: validation=0.1.",
        )
    facts = model_facts(recipe.model, data.task, num_labels=len(data.labels), limit=limit)
    return data, length, facts


def _document(recipe: Recipe, data: PreparedData, source: Any, *, asked: dict[str, Any]) -> dict[str, Any]:
    """What run.json says of a run, besides its uid; ``asked`` is the recipe before anything was pinned."""
    return {
        "name": recipe.name,
        "recipe": asked,
        "model_revision": recipe.model.revision,
        "fingerprints": data.fingerprints,
        "labels": list(data.labels.names),
        "source": None if source is None else {"path": str(source.path), "function": source.function},
    }


def execute(
    recipe: Recipe,
    *,
    source: Any = None,
    run_dir: Path | None = None,
    resume: Resume = "auto",
    allow_change: frozenset[str] = frozenset(),
    package_only: bool = False,
) -> Result:
    """Train, evaluate, package and verify; continue where an interrupted run stopped.

    Args:
        recipe: What to do.
        source: The file and function that the recipe came from, if any (``path``, ``function``).
        run_dir: The run's directory; None: ``runs/<name>``.
        resume: ``auto`` starts or continues, ``never`` starts over, ``must`` continues or fails.
        allow_change: Fields that may differ from the interrupted run's.
        package_only: Take no further step: package the best checkpoint there is.

    Raises:
        TrainpipeError: see :mod:`hf_trainpipe.errors` for the kinds and their exit codes.
    """
    validate(recipe)
    started = time.time()
    set_threads()
    accelerator = make_accelerator(choose_precision(recipe.optim.precision))
    is_main = accelerator.is_main_process
    folder = RunFolder(run_dir or Path("runs") / recipe.name, is_main=is_main)
    console = Console(0, is_main)
    ending = "failed"
    try:
        asked = to_json(recipe)
        known = (folder.existing or {}).get("model_revision") if resume != "never" else None
        recipe = replace(recipe, model=pin_model(replace(recipe.model, revision=known or recipe.model.revision)))
        tokenizer = load_tokenizer(recipe.model)
        data, length, facts = _prepare(recipe, tokenizer, console.say)
        plan = make_plan(
            recipe,
            num_examples=len(data.train.usable),
            facts=facts,
            length=length,
            world_size=accelerator.num_processes,
            on_gpu=accelerator.device.type != "cpu",
            mean_tokens=float(data.train.lengths.mean()),
        )
        if is_main:
            document = _document(recipe, data, source, asked=asked)
            warnings = folder.begin(document, resume=resume, allow_change=allow_change, world_size=plan.world_size)
            done = None if package_only else folder.result
            for line in [*data.warnings, *warnings]:
                console.say(f"warning: {line}")
        else:
            done = None
        run = Run(recipe=recipe, plan=plan, data=data, accelerator=accelerator, pad_id=tokenizer.pad_token_id)
        done = run.from_main(done)
        if done is not None:
            console.say(f"{folder.path}: this run is complete; --resume never starts it over")
            ending = "complete"
            return Result(**{**done, "run_dir": Path(done["run_dir"]), "package": Path(done["package"])})
        if is_main:
            require_space(folder.path, 3 * plan.parameters * 12)
            for line in plan.lines():
                console.say(line)
        best_step = _train(run, folder, plan, console, package_only=package_only)
        result = _finish(run, folder, tokenizer, best_step, source=source, started=started)
        ending = "complete"
        return result
    except Interrupted:
        ending = "interrupted"
        raise
    finally:
        folder.end(ending)


def _train(run: Run, folder: RunFolder, plan: Plan, console: Console, *, package_only: bool) -> int:
    """Steps, with what happens between them; returns the step whose weights the model ends with."""
    console.total_steps = plan.total_steps
    progress = Progress(run, folder, console=console, recipe_json=to_json(run.recipe))
    with StopSignals() as signals:
        run.signals = signals
        try:
            progress.restore()
            console.start(run.state.step)
            over = package_only or progress.patience_over
            for report in train(run) if not over else ():
                progress.log(report)
                improved = False
                if plan.evaluates_at(report.step) and "validation" in run.data.splits:
                    improved = progress.evaluate()
                if improved or report.stop or plan.saves_at(report.step):
                    progress.save(wait=report.stop)
                if report.stop and report.step < plan.total_steps:
                    raise Interrupted(
                        f"Stopped by {signals.name or 'a signal to another rank'} after step {report.step:,}; "
                        "everything up to it is saved.",
                        fix=f"Continue with the same command:\n{command_line()}",
                        step=report.step,
                    )
                if progress.patience_over:
                    console.say(f"stopping early: no improvement in {run.state.stale} evaluations")
                    break
            progress.save(wait=True)
            return progress.load_best()
        finally:
            progress.close()


def code_file(recipe: Recipe, source: Any) -> Path | None:
    """The recipe file, where its own classes preprocess: the package cannot do without them."""
    own = [step for step in recipe.preprocessing if type(step).__name__ not in BUILT_IN]
    return source.path if own and source is not None else None


def command_line() -> str:
    """The command that started this process, as a person would type it."""
    arguments = sys.argv[1:]
    if Path(sys.argv[0]).name in ("__main__.py", "hf-trainpipe"):
        return shlex.join(["hf-trainpipe", *arguments])
    return shlex.join(["python", sys.argv[0], *arguments])


def _finish(run: Run, folder: RunFolder, tokenizer: Any, best_step: int, *, source: Any, started: float) -> Result:
    """Score in fp32, package, verify in a fresh process, push; rank 0 does, the others help to score."""
    outputs: dict[str, SplitOutputs] = {
        name: run.predict(name, autocast=False) for name in ("validation", "test") if name in run.data.splits
    }
    recordable = outputs or {"train": run.predict("train", autocast=False)}
    result: Result | None = None
    failure: TrainpipeError | None = None
    if folder.is_main:
        scores = final_scores(run, outputs)
        recorded = folder.path / "recorded.jsonl"
        record_predictions(run, recordable, recorded)
        recipe_json = to_json(run.recipe)
        package = write_package(
            run,
            tokenizer,
            folder.path / "package",
            scores=scores,
            recipe_json=recipe_json,
            command=command_line(),
            code_file=code_file(run.recipe, source),
            seconds=time.time() - started,
        )
        verified = verify(package, recorded=recorded)
        pushed = None
        if run.recipe.hub is not None:
            from hf_trainpipe.package.hub import push

            try:
                pushed = push(package, run.recipe.hub.repo, private=run.recipe.hub.private)
            except PushError as error:
                failure = error  # everything else is done: it is recorded, then told
        result = Result(
            run_dir=folder.path,
            package=package,
            select=selected(run),
            scores=scores,
            steps=run.state.step,
            best_step=best_step,
            seconds=time.time() - started,
            verified=verified,
            pushed=pushed,
        )
        write_json(folder.path / "result.json", result.to_json())
    shared: Result = run.from_main(result)
    if failure is not None:
        raise failure
    return shared


def repackage(run_dir: Path, *, recipe: Recipe, source: Any = None) -> Path:
    """Score and package the best checkpoint of a run again, without training on."""
    return execute(recipe, source=source, run_dir=run_dir, resume="must", package_only=True).package
