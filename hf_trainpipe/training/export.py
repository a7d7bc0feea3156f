"""From a trained run to its package: final scores, recorded predictions, the package, its verification."""

from __future__ import annotations

import dataclasses
import math
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe import metrics
from hf_trainpipe.codec import to_json
from hf_trainpipe.data.place import place
from hf_trainpipe.data.sources import HubData
from hf_trainpipe.engine.evaluation import SplitOutputs, scorable, tune_threshold
from hf_trainpipe.package.card import CardFacts, read_curve
from hf_trainpipe.package.verify import record, verify
from hf_trainpipe.package.write import write
from hf_trainpipe.runtime.tasks.decoding import Outputs
from hf_trainpipe.runtime.text.preprocessing import BUILT_IN, steps_to_json
from hf_trainpipe.runtime.text.words import newest
from hf_trainpipe.training.result import Result
from hf_trainpipe.training.run_files import earlier_seconds, read_identity
from hf_trainpipe.training.verify_resume import read_proof
from hf_trainpipe.utils.atomic import write_json
from hf_trainpipe.utils.wording import command_line

if TYPE_CHECKING:
    from hf_trainpipe.training.monitor import TrainingLog
    from hf_trainpipe.training.run import Run
    from hf_trainpipe.training.setup import Setup

__all__ = ["RECORDED", "code_file", "export", "record_predictions", "write_package"]

RECORDED = 64
"""Predictions kept in the run's directory; the package must reproduce them."""


def export(run: Run, log: TrainingLog, *, best_step: int) -> Result:
    """Score in fp32, package the model, and let a fresh process reproduce its predictions.

    All ranks help to score; rank 0 does the rest, and every rank gets the result.

    Args:
        best_step: The step that the weights come from.

    Raises:
        PackageError: the package does not reproduce the evaluation.
    """
    outputs: dict[str, SplitOutputs] = {
        name: _outputs_in_fp32(run, name) for name in ("validation", "test") if name in run.data.splits
    }
    recordable = outputs or {"train": _outputs_in_fp32(run, "train")}
    model = run.whole_model()
    result: Result | None = None
    if run.ranks.is_main:
        with run.console.working("computing the scores and their intervals"):
            _tune_again(run, outputs)
            scores = _final_scores(run, outputs)
            report = _behind_scores(run, outputs)
        recorded = run.folder.path / "recorded.jsonl"
        record_predictions(run, recordable, recorded)
        seconds = time.time() - run.setup.started + earlier_seconds(run.folder.path, attempt=run.folder.attempt)
        with run.console.working("writing the package"):
            package, _ = write_package(
                run, model, run.folder.path / "package", scores=scores, seconds=seconds, report=report
            )
        with run.console.working("verifying the package in a fresh process"):
            verified = verify(package, recorded=recorded, allow_code=True)  # we wrote it
        result = Result(
            run_dir=run.folder.path,
            package=package,
            select=run.recipe.selected_metric,
            scores=scores,
            steps=run.state.step,
            best_step=best_step,
            seconds=time.time() - run.setup.started,
            verified=verified,
            report=report,
        )
        log.log_final(scores, [package / "README.md"])
        write_json(run.folder.path / "result.json", result.to_json())
    shared: Result = run.ranks.broadcast(result)
    return shared


def _outputs_in_fp32(run: Run, split: str) -> SplitOutputs:
    with run.console.working(f"scoring {split} in fp32, {len(run.data.splits[split]):,} examples"):
        return run.predict(split, autocast=False)


def _tune_again(run: Run, outputs: Mapping[str, SplitOutputs]) -> None:
    """Choose the threshold by what the package will answer, in fp32, where the training's own answers were less exact."""
    best = run.state.best
    if best is not None and best.threshold is not None and getattr(run.task, "tune_threshold", False):
        tuned = tune_threshold(outputs["validation"], run.data.splits["validation"])
        run.state.best = dataclasses.replace(best, threshold=tuned)


def _threshold(run: Run) -> float | None:
    if run.task.decoder != "multi_label":
        return None
    best = run.state.best
    tuned = best.threshold if best is not None else None
    return tuned if tuned is not None else getattr(run.task, "threshold", 0.5)


def _final_scores(run: Run, outputs: Mapping[str, SplitOutputs]) -> dict[str, dict[str, dict[str, Any]]]:
    """Every metric on every evaluated split, with its bootstrap interval."""
    evaluation = run.recipe.evaluation
    scores = {}
    for name, split_outputs in outputs.items():
        split = run.data.splits[name]
        predictions = scorable(split_outputs, split, task=run.task, labels=run.data.labels, threshold=_threshold(run))
        names = [metric for metric in run.recipe.scored_metrics if not metric.startswith("evaluate:")]
        found = metrics.intervals(
            predictions,
            names,
            confidence=evaluation.confidence,
            resamples=evaluation.resamples,
            seed=run.recipe.seed,
        )
        scores[name] = {metric: _finite(dataclasses.asdict(interval)) for metric, interval in found.items()}
        external = [metric for metric in run.recipe.scored_metrics if metric.startswith("evaluate:")]
        for metric, value in metrics.score(predictions, external).items():
            scores[name][metric] = _finite({"value": value, "n": len(split)})
    return scores


def _behind_scores(run: Run, outputs: Mapping[str, SplitOutputs]) -> dict[str, dict[str, Any]]:
    """Each label, confusions and worst errors of every evaluated split; the errors with their texts and places."""
    report = {}
    for name, split_outputs in outputs.items():
        split = run.data.splits[name]
        predictions = scorable(split_outputs, split, task=run.task, labels=run.data.labels, threshold=_threshold(run))
        found = metrics.breakdown(
            predictions,
            entities=getattr(run.task, "scheme", None) is not None,
            num_errors=run.recipe.evaluation.errors,
        )
        for error in found["errors"]:
            position = error.pop("position")
            # Tags are scored over all examples of the split, all else over those that have features.
            example = position if run.task.decoder == "tags" else int(split_outputs.examples[position])
            assert run.data.raw is not None
            where = place(run.data.raw[name], name, example)
            error |= {"example": example, "place": str(where), "text": _text_of(run, name, example)}
            if run.task.decoder == "tags":
                error |= _in_words(error, _words_of(run, name, example), entities=found["by"] == "entity type")
        report[name] = found
    return report


def _words_of(run: Run, split: str, example: int) -> Sequence[str]:
    """The words of an example, as they were tagged."""
    if (words := run.data.splits[split].targets.words) is not None:
        return words[example]
    assert run.data.raw is not None
    return list(run.data.raw[split][int(example)][run.task.inputs()[0].name])


def _in_words(error: Mapping[str, Any], words: Sequence[str], *, entities: bool) -> dict[str, list[str]]:
    """What was missed and what was found that is none, with its words; of tags that stand alone, each wrong word."""
    if not entities:
        given = dict(error["predicted"])
        return {"wrong": [f"{words[word]!r} {tag} as {given[word]}" for word, tag in error["gold"]]}

    def spelt(kept: list[list[Any]], others: list[list[Any]]) -> list[str]:
        return [
            f"{kind} {' '.join(words[first : last + 1])!r}"
            for kind, first, last in kept
            if [kind, first, last] not in others
        ]

    return {
        "missed": spelt(error["gold"], error["predicted"]),
        "invented": spelt(error["predicted"], error["gold"]),
    }


def _text_of(run: Run, split: str, example: int) -> str:
    """An example's text, for a person to read."""
    found = _raw_input(run, split, example)
    if isinstance(found, Mapping):
        return " | ".join(" ".join(part) if isinstance(part, list) else str(part) for part in found.values())
    return str(found)


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Undefined scores are null in JSON, which has no NaN."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


def _raw_input(run: Run, split: str, example: int) -> Any:
    """An example as a user of the package would send it."""
    assert run.data.raw is not None
    row = run.data.raw[split][int(example)]
    columns = run.task.inputs()
    if columns[0].kind == "words":
        return {"words": list(row[columns[0].name])}
    if len(columns) == 2:
        return {"text": row[columns[0].name], "text_pair": row[columns[1].name]}
    return row[columns[0].name]


def record_predictions(run: Run, outputs: Mapping[str, SplitOutputs], path: Path) -> None:
    """Keep inputs and logits of the first examples of an evaluated split (never inside the package)."""
    split = next(iter(outputs))
    found = outputs[split]
    count = min(RECORDED, len(found.examples))
    inputs = [_raw_input(run, split, int(example)) for example in found.examples[:count]]
    numbers = np.arange(count, dtype=np.int64)
    if found.word_starts is None or found.words is None:
        kept = Outputs(numbers, found.logits[:count])
    else:
        end = int(found.word_starts[count])
        kept = Outputs(numbers, found.logits[:end], found.word_starts[: count + 1], found.words[:end])
    record(kept, inputs, path)


def _data_info(run: Run) -> dict[str, Any]:
    rows = {name: len(split) for name, split in run.data.splits.items()}
    return {
        "description": run.recipe.data.describe(),
        "revision": _revision(run.recipe.data),
        "fingerprint": run.data.fingerprints["data"],
        "rows": rows,
        "overflow": {name: dataclasses.asdict(split.encoded.overflow) for name, split in run.data.splits.items()},
    }


def code_file(run: Run | Setup) -> Path | None:
    """The recipe file, if the package needs it: it has classes that preprocess."""
    own = [step for step in run.recipe.preprocessing if type(step).__name__ not in BUILT_IN]
    source = run.options.source
    return source.path if own and source is not None else None


def write_package(
    run: Run,
    model: Any,
    directory: Path,
    *,
    scores: dict[str, dict[str, dict[str, Any]]],
    seconds: float | None,
    report: Mapping[str, Mapping[str, Any]] | None = None,
    durable: bool = True,
) -> tuple[Path, CardFacts]:
    """Write the whole package of a model; returns its folder, and the facts on its card."""
    task, labels = run.task, run.data.labels
    options = task.decoder_options(labels)
    threshold = _threshold(run)
    if threshold is not None:
        options["threshold"] = threshold
    columns = task.inputs()
    inputs = "words" if task.decoder == "tags" else ("pair" if len(columns) == 2 else "text")
    card = _card_facts(run, seconds=seconds, report=report or {})
    package = write(
        directory,
        model=model,
        tokenizer=run.tokenizer,
        task_info={
            "decoder": {"kind": task.decoder, "labels": list(labels.names), "options": options},
            "inputs": inputs,
            "columns": {
                "inputs": [column.name for column in columns],
                "target": task.target().name,
                "rename": dict(getattr(run.recipe.data, "rename", {})),
                "join": {name: list(parts) for name, parts in getattr(run.recipe.data, "join", {}).items()},
            },
            "splitter": newest(getattr(task, "splitter", "regex")) if inputs == "words" else None,
        },
        preprocessing_json=steps_to_json(run.recipe.preprocessing),
        tokens={
            "max_length": run.plan.max_length,
            "overflow": run.recipe.tokens.overflow,
            "stride": run.recipe.tokens.stride,
        },
        scores=scores,
        recipe_json=to_json(run.recipe),
        data_info=_data_info(run),
        code_file=code_file(run),
        resumed=read_proof(run.folder.path),
        card=card,
        name=run.recipe.name,
        durable=durable,
    )
    return package, card


def _card_facts(run: Run, *, seconds: float | None, report: Mapping[str, Mapping[str, Any]]) -> CardFacts:
    hub, data = run.recipe.hub, run.recipe.data
    on_hub = data if isinstance(data, HubData) else None
    identity = read_identity(run.folder.path)
    shows_errors = run.recipe.evaluation.errors_in_card
    return CardFacts(
        language=(hub.language or None) if hub else None,
        license=hub.license if hub else None,
        tags=hub.tags if hub else (),
        limits=hub.limits if hub else (),
        base_model=run.recipe.model.name,
        base_revision=run.recipe.model.revision,
        data=data.describe(),
        dataset=on_hub.repo if on_hub else None,
        dataset_config=on_hub.config if on_hub else None,
        dataset_revision=_revision(on_hub) if on_hub else None,
        train_command=identity.get("command") or command_line(),
        evaluate_command=f"hf-trainpipe evaluate {run.folder.path}",
        seconds=seconds,
        attempts=run.folder.attempt,
        hardware=f"{run.ranks.size} x {run.accelerator.device.type} ({platform.machine()})",
        curve=read_curve(run.folder.path, select=run.recipe.selected_metric),
        trust_remote_code=run.recipe.model.trust_remote_code,
        history=identity.get("history", ()),
        report=report if (on_hub is not None if shows_errors is None else shows_errors) else _without_errors(report),
    )


def _without_errors(report: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same without texts, since the card is pushed with the package."""
    return {split: {**found, "errors": []} for split, found in report.items()}


def _revision(data: Any) -> str | None:
    commit = getattr(data, "commit", None)
    found = commit() if callable(commit) else commit
    return str(found) if found is not None else None
