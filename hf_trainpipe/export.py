"""From a trained run to its package: final scores, recorded predictions, the package, its proof."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe import metrics
from hf_trainpipe.evaluation import SplitOutputs, scorable
from hf_trainpipe.package.card import CardFacts
from hf_trainpipe.package.verify import record
from hf_trainpipe.package.write import write
from hf_trainpipe.progress import metric_names
from hf_trainpipe.runtime.decoding import Outputs
from hf_trainpipe.runtime.preprocessing import steps_to_json

if TYPE_CHECKING:
    from hf_trainpipe.run import Run

__all__ = ["RECORDED", "final_scores", "record_predictions", "write_package"]

RECORDED = 64
"""Predictions kept in the run's directory, for the package to reproduce."""


def _threshold(run: Run) -> float | None:
    if run.task.decoder != "multi_label":
        return None
    best = run.state.best
    tuned = best.threshold if best is not None else None
    return tuned if tuned is not None else getattr(run.task, "threshold", 0.5)


def final_scores(run: Run, outputs: Mapping[str, SplitOutputs]) -> dict[str, dict[str, dict[str, Any]]]:
    """Every metric on every evaluated split, with its bootstrap interval."""
    evaluation = run.recipe.evaluation
    scores = {}
    for name, split_outputs in outputs.items():
        split = run.data.splits[name]
        predictions = scorable(split_outputs, split, task=run.task, labels=run.data.labels, threshold=_threshold(run))
        names = [metric for metric in metric_names(run) if not metric.startswith("evaluate:")]
        found = metrics.intervals(
            predictions,
            names,
            confidence=evaluation.confidence,
            resamples=evaluation.resamples,
            seed=run.recipe.seed,
        )
        scores[name] = {metric: dataclasses.asdict(interval) for metric, interval in found.items()}
        external = [metric for metric in metric_names(run) if metric.startswith("evaluate:")]
        for metric, value in metrics.score(predictions, external).items():
            scores[name][metric] = {"value": value, "n": len(split)}
    return scores


def _raw_input(run: Run, split: str, example: int) -> Any:
    """An example as a user of the package would send it."""
    prepared = run.data.splits[split]
    if prepared.targets.words is not None:
        return {"words": list(prepared.targets.words[example])}
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
    commit = getattr(run.recipe.data, "commit", None)
    return {
        "description": run.recipe.data.describe(),
        "revision": commit() if callable(commit) else commit,
        "fingerprint": run.data.fingerprints["data"],
        "rows": rows,
    }


def write_package(
    run: Run,
    tokenizer: Any,
    directory: Path,
    *,
    scores: dict[str, dict[str, dict[str, Any]]],
    recipe_json: dict[str, Any],
    command: str | None,
    code_file: Path | None,
    seconds: float,
) -> Path:
    """Write the package of the weights that the model holds now."""
    task, labels = run.task, run.data.labels
    options = task.decoder_options(labels)
    threshold = _threshold(run)
    if threshold is not None:
        options["threshold"] = threshold
    columns = task.inputs()
    inputs = "words" if task.decoder == "tags" else ("pair" if len(columns) == 2 else "text")
    card = CardFacts(
        base_model=run.recipe.model.name,
        base_revision=run.recipe.model.revision,
        data=run.recipe.data.describe(),
        train_command=command,
        evaluate_command=f"hf-trainpipe evaluate {directory.parent.name}",
        seconds=seconds,
        hardware=f"{run.world_size} x {run.accelerator.device.type} ({platform.machine()})",
        trust_remote_code=run.recipe.model.trust_remote_code,
    )
    return write(
        directory,
        model=run.bare,
        tokenizer=tokenizer,
        task_info={
            "decoder": {"kind": task.decoder, "labels": list(labels.names), "options": options},
            "inputs": inputs,
            "splitter": getattr(task, "splitter", None) if inputs == "words" else None,
        },
        preprocessing_json=steps_to_json(run.recipe.preprocessing),
        tokens={
            "max_length": run.plan.max_length,
            "overflow": run.recipe.tokens.overflow,
            "stride": run.recipe.tokens.stride,
        },
        scores=scores,
        recipe_json=recipe_json,
        data_info=_data_info(run),
        code_file=code_file,
        card=card,
        name=run.recipe.name,
    )
