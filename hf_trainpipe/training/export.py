"""From a trained run to its package: final scores, recorded predictions, the package, its verification."""

from __future__ import annotations

import dataclasses
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe import metrics
from hf_trainpipe.codec import to_json
from hf_trainpipe.data.prepare import Inputs
from hf_trainpipe.data.sources import HubData
from hf_trainpipe.engine.device import IN_WORDS
from hf_trainpipe.engine.evaluation import judge, tune
from hf_trainpipe.engine.kept import remove_kept
from hf_trainpipe.engine.scores import score_predictions
from hf_trainpipe.package.card import CardFacts, read_curve
from hf_trainpipe.package.verify import read_recorded, record, verify
from hf_trainpipe.package.write import write
from hf_trainpipe.runtime.model import inference
from hf_trainpipe.runtime.model.exact import exact_products
from hf_trainpipe.runtime.model.outputs import Outputs, as_lists
from hf_trainpipe.runtime.tasks.registry import is_built_in, travelling
from hf_trainpipe.runtime.text.preprocessing import BUILT_IN, data_files, steps_to_json
from hf_trainpipe.runtime.tokens.features import features_of
from hf_trainpipe.training.calibrating import Chosen, asked, choose, facts_of, promise
from hf_trainpipe.training.merging import check_adapter, packaged_model, saved_adapter, say_gap
from hf_trainpipe.training.reporting import (
    hold_against_baselines,
    keep_predictions,
    leave_report,
    picture_of,
    profile_of,
)
from hf_trainpipe.training.result import Result
from hf_trainpipe.training.run_files import earlier_seconds, read_identity
from hf_trainpipe.training.verify_resume import read_proof
from hf_trainpipe.utils.atomic import write_json
from hf_trainpipe.utils.user_file import LOADED
from hf_trainpipe.utils.wording import command_line

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.model.adapter import Adapter
    from hf_trainpipe.recipe import Data
    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.training.monitor import TrainingLog
    from hf_trainpipe.training.run import Run
    from hf_trainpipe.training.setup import Setup
    from hf_trainpipe.watch.profile import Profile


def export(run: Run, log: TrainingLog, *, best_step: int) -> Result:
    """Score in fp32, package the model, and let a fresh process reproduce its predictions.

    All ranks help to score; rank 0 does the rest, and every rank gets the result. Adapters are merged first: what is scored
    and recorded is what is packaged.

    Args:
        best_step: The step that the weights come from.

    Raises:
        PackageError: the package does not reproduce the evaluation.
    """
    model = packaged_model(run)
    evaluated = ("validation",) if run.options.validation_only else ("validation", "test")
    outputs: dict[str, Outputs] = {
        name: _outputs_in_fp32(run, name, model) for name in evaluated if name in run.data.splits
    }
    if run.options.validation_only:
        return run.ranks.from_main(lambda: _unpackaged(run, log, outputs, best_step=best_step))
    first = run.task.num_recorded if run.task.generates else None
    recordable = outputs or {"train": _outputs_in_fp32(run, "train", model, first=first)}
    say_gap(run, recordable, count=run.task.num_recorded)
    adapter = saved_adapter(run)

    def packaged() -> Result:
        place = run.folder.path
        scores, report = _scored(run, outputs)
        beside = hold_against_baselines(run)
        recorded, package = place / "recorded.jsonl", place / "package"
        record_predictions(run, recordable, recorded, model=model)
        for name, found in _samples(run, recorded).items():
            report[name]["samples"] = found
        profile = profile_of(run, tuned_task(run), model, outputs)
        seconds = time.time() - run.started + earlier_seconds(place, attempt=run.folder.attempt)
        with run.console.working("writing the package"):
            write_package(
                run,
                model,
                package,
                scores=scores,
                seconds=seconds,
                report=report,
                adapter=adapter,
                profile=profile,
                beside=beside,
            )
        with run.console.working("verifying the package in a fresh process"):
            verified = verify(package, recorded=recorded, allow_code=True)  # we wrote it
        if adapter is not None:
            gap = check_adapter(run, package, recorded)
            run.console.say(f"adapter/ of the package, loaded by peft alone, gives the same answers within {gap:.1e}")
        result = Result(
            run_dir=place,
            package=package,
            select=run.recipe.selected_metric,
            scores=scores,
            steps=run.state.step,
            best_step=best_step,
            seconds=time.time() - run.started,
            verified=verified,
            report=report,
        )
        log.log_final(scores, package / "README.md")
        write_json(place / "result.json", result.to_json())
        leave_report(run)
        remove_kept(place)
        return result

    return run.ranks.from_main(packaged)


def _unpackaged(run: Run, log: TrainingLog, outputs: Mapping[str, Outputs], *, best_step: int) -> Result:
    """The end of a run that scores validation alone: its checkpoints stay, and package it when it is asked for again."""
    place = run.folder.path
    scores, report = _scored(run, outputs)
    result = Result(
        run_dir=place,
        package=place / "package",
        select=run.recipe.selected_metric,
        scores=scores,
        steps=run.state.step,
        best_step=best_step,
        seconds=time.time() - run.started,
        report=report,
        packaged=False,
    )
    log.log_final(scores, None)
    write_json(place / "result.json", result.to_json())
    remove_kept(place)
    return result


def _scored(run: Run, outputs: Mapping[str, Outputs]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores with intervals, and what stands behind them, by split; what was predicted is kept."""
    with run.console.working("computing the scores and their intervals"):
        chosen = _tune_again(run, outputs)
        task = tuned_task(run)
        judged = {name: judge(found, run.data.splits[name].features, task) for name, found in outputs.items()}
        scores, report = _final_scores(run, judged), _behind_scores(run, judged)
        if chosen is not None:
            _add_calibration(run, outputs, judged, chosen, report)
        keep_predictions(run, judged)
    return scores, report


def _outputs_in_fp32(run: Run, split: str, model: torch.nn.Module, *, first: int | None = None) -> Outputs:
    examples = None if first is None else run.data.splits[split].usable[:first]
    total = len(run.data.splits[split]) if examples is None else len(examples)
    with run.console.working(f"scoring {split} in fp32", total=total) as done:
        return run.predict(split, autocast=False, examples=examples, model=model, done=done)


def _tune_again(run: Run, outputs: Mapping[str, Outputs]) -> Chosen | None:
    """Choose what was tuned by what the package will answer, in fp32: the training's own answers may be less exact.

    Returns:
        What the task's calibration became, where it has one.
    """
    best = run.state.best
    if best is None or "validation" not in outputs:
        return None
    validation, features = outputs["validation"], run.data.splits["validation"].features
    chosen = None if asked(run.task) is None else choose(run.task, validation, features, seed=run.recipe.seed)
    task = run.task if chosen is None else chosen.task
    if best.tuned:
        task = tune(task, judge(validation, features, task))
    if chosen is not None:
        chosen.task = task
        promise(chosen, validation, features)
        task = chosen.task
        for line in chosen.lines:
            run.console.say(line)
    if task is not run.task:
        run.state.best = dataclasses.replace(best, tuned=task.changes_from(run.task))
    return chosen


def _add_calibration(
    run: Run,
    outputs: Mapping[str, Outputs],
    judged: Mapping[str, metrics.Predictions],
    chosen: Chosen,
    report: Mapping[str, dict[str, Any]],
) -> None:
    """Put into the report how honest probabilities are, before and after."""
    plain = tuned_task(run).changed({"calibration": None})
    for name, found in outputs.items():
        raw = judge(found, run.data.splits[name].features, plain)
        report[name]["calibration"] = facts_of(chosen, raw, judged[name], split=name)


def tuned_task(run: Run) -> Task:
    """The task with what was chosen on validation for the best model."""
    best = run.state.best
    return run.task.changed(best.tuned if best is not None else {})


def _final_scores(run: Run, judged: Mapping[str, metrics.Predictions]) -> dict[str, dict[str, dict[str, Any]]]:
    """Every metric on every evaluated split, with its bootstrap interval."""
    recipe = run.recipe
    names = [*recipe.scored_metrics, *tuned_task(run).metric_names]
    return {
        name: score_predictions(predictions, names, evaluation=recipe.evaluation, seed=recipe.seed)
        for name, predictions in judged.items()
    }


def _behind_scores(run: Run, judged: Mapping[str, metrics.Predictions]) -> dict[str, dict[str, Any]]:
    """Each label, confusions and worst errors of every evaluated split; the errors with their texts and places."""
    report = {}
    task = tuned_task(run)
    for name, predictions in judged.items():
        split = run.data.splits[name]
        found = metrics.breakdown(predictions, num_errors=run.recipe.evaluation.errors)
        if predictions.kind == "own":
            found["errors"] = task.worst(predictions.judged, run.recipe.evaluation.errors)
        asked = split.asked(task)
        for error in found["errors"]:
            example = predictions.example(error.pop("position"))
            given = asked.inputs[example]
            error |= {
                "example": example,
                "place": str(split.rows.place(example)),
                "text": " | ".join(column.cell.spelt(given[role]) for role, column in task.inputs.items()),
            }
            error |= task.explain(error, asked, example)
        report[name] = found
    return report


def record_predictions(run: Run, outputs: Mapping[str, Outputs], path: Path, *, model: Any) -> None:
    """Keep inputs and outputs of the first examples of an evaluated split (never inside the package)."""
    if run.task.scored is not None:
        _record_requests(run, model, path)
        return
    name = next(iter(outputs))
    found, task = outputs[name], run.task
    count = min(task.num_recorded, len(found))
    asked = run.data.splits[name].asked(task)
    inputs = [task.as_input(asked.inputs[int(example)]) for example in found.items[:count]]
    numbers = np.arange(count, dtype=np.int64)
    kept = found.take(numbers)
    record(as_lists(Outputs(numbers, kept.arrays, kept.starts), task.recorded, count), inputs, path)


def _record_requests(run: Run, model: Any, path: Path) -> None:
    """The same of a task whose evaluations ask something else: the first rows as requests."""
    task, device = tuned_task(run), run.accelerator.device
    rows = next(run.data.splits[name] for name in ("validation", "test", "train") if name in run.data.splits).rows
    asked, encoder = Inputs(rows.dataset, task), rows.encoder
    assert encoder is not None
    values = [task.as_request(asked[row]) for row in range(min(task.num_recorded, len(asked)))]
    columns = {
        role: [one.get(role) for one in values] for role in dict.fromkeys(role for one in values for role in one)
    }
    features = task.asked(task.encode(columns, encoder), encoder, task.recording)
    chosen = features_of(features, np.arange(features.num_examples))
    with exact_products():
        found = inference.run(model, features, task=task, chosen=chosen, max_tokens=4096, device=device)
    outputs = as_lists(task.merge(found, features), task.recorded, len(values))
    record(outputs, [task.as_input(one) for one in values], path)


def _samples(run: Run, recorded: Path) -> dict[str, list[dict[str, str]]]:
    """Of a task whose model writes: what it was asked in the recorded requests, and what it wrote first."""
    task = tuned_task(run)
    name = next((name for name in ("validation", "test") if name in run.data.splits), None)
    if task.scored is None or task.recorded != ("ids",) or name is None:
        return {}
    decode = run.tokenizer.decode
    return {
        name: [
            {"asked": task.spelt(line["input"]), "written": decode(line["output"], skip_special_tokens=True)}
            for line in read_recorded(recorded)
        ]
    }


def _data_info(run: Run) -> dict[str, Any]:
    return {
        "description": run.recipe.data.describe(),
        "revision": _revision(run.recipe.data),
        "fingerprint": run.data.fingerprints["data"],
        "rows": {name: len(split) for name, split in run.data.splits.items()},
        "overflow": {name: dataclasses.asdict(split.features.overflow) for name, split in run.data.splits.items()},
    }


def code_file(setup: Setup) -> Path | None:
    """The recipe file, if the package needs it: its classes preprocess, or are the task."""
    source = setup.options.source
    if source is None or not has_own_code(setup):
        return None
    own = {type(part).__module__ for part in (*setup.recipe.preprocessing, travelling(setup.task))}
    files = {sys.modules[name].__file__ for name in own if name.startswith(LOADED)}
    [file] = files if len(files) == 1 else {str(source.path)}  # of a variant, the file that has the classes
    return Path(str(file))


def has_own_code(setup: Setup) -> bool:
    """Whether the package needs a class of the recipe file."""
    own = [step for step in setup.recipe.preprocessing if type(step).__name__ not in BUILT_IN]
    return bool(own) or not is_built_in(travelling(setup.task))


def write_package(
    run: Run,
    model: Any,
    directory: Path,
    *,
    scores: dict[str, dict[str, dict[str, Any]]],
    seconds: float | None,
    report: Mapping[str, Mapping[str, Any]] | None = None,
    adapter: Adapter | None = None,
    profile: Profile | None = None,
    beside: Mapping[str, Any] | None = None,
    durable: bool = True,
) -> CardFacts:
    """Write the whole package of a model; returns the facts on its card.

    Args:
        beside: What ``baselines.json`` of the run has.
    """
    card = dataclasses.replace(_card_facts(run, seconds=seconds, report=report or {}), baselines=beside or {})
    write(
        directory,
        model=model,
        tokenizer=run.tokenizer,
        task=travelling(tuned_task(run)),
        columns=_columns(run.recipe.data.origin()),
        preprocessing_json=steps_to_json(run.recipe.preprocessing),
        data_files=data_files(run.recipe.preprocessing),
        tokens={
            "max_length": run.plan.max_length,
            "overflow": run.recipe.tokens.overflow,
            "stride": run.recipe.tokens.stride,
        },
        scores=scores,
        recipe_json={**to_json(run.recipe), **_from_scratch(run)},
        data_info=_data_info(run),
        code_file=code_file(run),
        resumed=read_proof(run.folder.path),
        card=card,
        name=run.recipe.name,
        adapter=None if adapter is None else adapter.write,
        profile=None if profile is None else profile.save,
        picture=None if report is None else picture_of(run),  # a template for pushes gets none
        durable=durable,
    )
    return card


def _columns(data: Data) -> dict[str, Any]:
    """What the data's own columns became, as far as a file to predict may have them."""
    made = {name: getattr(data, name, None) or {} for name in ("join", "lists")}
    plain = {name: {new: list(parts) for new, parts in found.items()} for name, found in made.items()}
    lists = {"lists": plain["lists"]} if plain["lists"] else {}
    return {"rename": dict(getattr(data, "rename", {})), "join": plain["join"], **lists}


def _from_scratch(run: Run) -> dict[str, Any]:
    """The model of a recipe as it was said, where it began with random weights; else nothing."""
    said = read_identity(run.folder.path)["recipe"]["model"]
    return {"model": said} if said["kind"] == "Scratch" else {}


def _card_facts(run: Run, *, seconds: float | None, report: Mapping[str, Mapping[str, Any]]) -> CardFacts:
    hub, data = run.recipe.hub, run.recipe.data
    origin = data.origin()
    on_hub = origin if isinstance(origin, HubData) else None
    identity = read_identity(run.folder.path)
    asked = run.recipe.evaluation.errors_in_card
    shows_errors = on_hub is not None if asked is None else asked  # their texts are pushed with the package
    return CardFacts(
        language=(hub.language or None) if hub else None,
        license=hub.license if hub else None,
        tags=hub.tags if hub else (),
        intended_use=hub.intended_use if hub else (),
        limits=hub.limits if hub else (),
        base_model=None if _from_scratch(run) else run.recipe.model.name,
        base_revision=run.recipe.model.revision,
        data=data.describe(),
        dataset=on_hub.repo if on_hub else None,
        dataset_config=on_hub.config if on_hub else None,
        dataset_revision=_revision(data),
        train_command=identity.get("command") or command_line(),
        evaluate_command=f"hf-trainpipe evaluate {run.folder.path}",
        seconds=seconds,
        attempts=run.folder.attempt,
        precision=IN_WORDS[run.plan.precision],
        hardware=f"{run.ranks.size} x {run.accelerator.device.type} ({platform.machine()})",
        curve=read_curve(run.folder.path, select=run.recipe.selected_metric),
        trust_remote_code=run.recipe.model.trust_remote_code,
        history=identity.get("history", ()),
        report=report
        if shows_errors
        else {split: {**found, "errors": [], "samples": []} for split, found in report.items()},
    )


def _revision(data: Data) -> str | None:
    origin = data.origin()
    return origin.commit() if isinstance(origin, HubData) else None
