"""Recorded predictions: what the packaged model answers to some inputs, which the package has to reproduce."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.prepare import Inputs
from hf_trainpipe.package.verify import read_recorded, record
from hf_trainpipe.runtime.model import inference
from hf_trainpipe.runtime.model.exact import exact_products
from hf_trainpipe.runtime.model.outputs import Outputs, as_lists
from hf_trainpipe.runtime.tokens.features import features_of

if TYPE_CHECKING:
    from hf_trainpipe.training.run import Run


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
    task, device = run.tuned_task, run.accelerator.device
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


def samples_of(run: Run, recorded: Path) -> dict[str, list[dict[str, str]]]:
    """Of a task whose model writes: what it was asked in the recorded requests, and what it wrote first."""
    task = run.tuned_task
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
