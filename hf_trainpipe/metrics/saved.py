"""What a final evaluation predicted of every row, as one file: what comparisons and reports are computed from.

A file of numpy arrays (``.npz``, without pickles). Texts are not in it: a row is known by the hash of its inputs.
Shapes: N examples.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.errors import DataError
from hf_trainpipe.metrics.base import Floats, Predictions
from hf_trainpipe.utils.atomic import write_bytes

_LARGEST = 1 << 26
"""Numbers of logits that are kept; of a larger table only the decisions."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Predicted:
    """Predictions of a split, and what its rows are."""

    predictions: Predictions
    rows: NDArray[np.uint64]
    """[N] hashes of the inputs; equal texts have equal ones."""
    lengths: NDArray[np.int64]
    """[N] tokens of each example."""
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Columns of the data with few values, beside those that the task reads: the value of each example."""
    numbers: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """Where each example comes from, of predictions of several runs: its fold, split, row and group."""
    kept: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    """Numbers [N] that a task without logits of labels chooses a threshold by (``Task.kept``)."""

    def __len__(self) -> int:
        return len(self.predictions)


def folder_of(run: Path) -> Path:
    """Where a run keeps them, a file a split."""
    return run / "predictions"


def save(found: Predicted, path: Path) -> None:
    """Write the file; an earlier one is replaced whole."""
    held = found.predictions
    outputs = held.outputs
    if outputs.size > _LARGEST and held.kind in ("single_label", "multi_label"):
        outputs = held.decisions()
    told = {
        "kind": held.kind,
        "labels": list(held.labels),
        "scheme": held.scheme,
        "has_entities": held.has_entities,
        "own": list(held.own),
        "slices": list(found.slices),
        **({"numbers": list(found.numbers)} if found.numbers else {}),
        **({"kept": list(found.kept)} if found.kept else {}),
    }
    arrays: dict[str, NDArray[np.generic]] = {
        "told": np.frombuffer(json.dumps(told).encode(), dtype=np.uint8),
        "outputs": outputs,
        "references": held.references,
        "threshold": np.asarray(held.threshold, dtype=np.float64),
        "rows": found.rows,
        "lengths": found.lengths,
    }
    if held.word_starts is not None:
        arrays["word_starts"] = held.word_starts
    if held.examples is not None and not np.array_equal(held.examples, np.arange(len(held))):
        arrays["examples"] = held.examples  # some rows of the split have no prediction
    if held.chosen is not None and outputs is held.outputs:
        arrays["chosen"] = held.chosen
    arrays |= {f"own_{number}": column for number, column in enumerate(held.own.values())}
    for number, values in enumerate(found.slices.values()):
        arrays[f"slice_{number}"] = np.asarray(values, dtype=np.str_)
    arrays |= {f"kept_{place}": values for place, values in enumerate(found.kept.values())}
    arrays |= {f"number_{place}": values for place, values in enumerate(found.numbers.values())}
    content = BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # of numpy's **kwds
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.getvalue())


def load(path: Path, *, finishes: Mapping[str, Callable[[Floats], Floats]] | None = None) -> Predicted:
    """Read what :func:`save` wrote.

    Args:
        finishes: Of a task's own metrics, as :class:`~hf_trainpipe.metrics.base.Predictions` has them; those that need one
            and have none here are left out.

    Raises:
        DataError: it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
        told = json.loads(arrays["told"].tobytes())
        threshold = arrays["threshold"]
        predictions = Predictions(
            told["kind"],
            outputs=arrays["outputs"],
            references=arrays["references"],
            labels=tuple(told["labels"]),
            threshold=float(threshold) if threshold.ndim == 0 else threshold,
            word_starts=arrays.get("word_starts"),
            examples=arrays.get("examples"),
            chosen=arrays.get("chosen"),
            scheme=told["scheme"],
            has_entities=told["has_entities"],
            own={name: arrays[f"own_{number}"] for number, name in enumerate(told["own"])},
        )
        slices = {name: tuple(arrays[f"slice_{number}"].tolist()) for number, name in enumerate(told["slices"])}
        numbers = {name: arrays[f"number_{place}"] for place, name in enumerate(told.get("numbers", ()))}
        found = Predicted(
            predictions=predictions,
            rows=arrays["rows"],
            lengths=arrays["lengths"],
            slices=slices,
            numbers=numbers,
            kept={name: arrays[f"kept_{place}"] for place, name in enumerate(told.get("kept", ()))},
        )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(
            f"{path}: expected the predictions of an evaluation, found {error!r:.120}.",
            fix="`hf-trainpipe package RUN` scores the run once more and writes them again.",
        ) from error
    known = {name: one for name, one in (finishes or {}).items() if name in predictions.own}
    own = {name: column for name, column in predictions.own.items() if column.ndim == 1 or name in known}
    return replace(found, predictions=replace(predictions, own=own, finishes=known))


def taken(found: Predicted, positions: NDArray[np.int64]) -> Predicted:
    """Some of the examples, in this order."""
    held, starts = found.predictions, found.predictions.word_starts
    rows: NDArray[np.int64] = positions
    if starts is not None:
        lengths = np.diff(starts)[positions]
        rows = np.concatenate([np.arange(starts[at], starts[at + 1]) for at in positions] or [positions])
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    predictions = replace(
        held,
        outputs=held.outputs[rows],
        references=held.references[rows],
        word_starts=starts,
        examples=None,
        chosen=None if held.chosen is None else held.chosen[positions],
        own={name: column[positions] for name, column in held.own.items()},
    )
    return Predicted(
        predictions=predictions,
        rows=found.rows[positions],
        lengths=found.lengths[positions],
        slices={name: tuple(values[at] for at in positions) for name, values in found.slices.items()},
        numbers={name: values[positions] for name, values in found.numbers.items()},
        kept={name: values[positions] for name, values in found.kept.items()},
    )
