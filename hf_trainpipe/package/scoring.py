"""Score a package on a split of its recipe's data: everything but the data comes from the package."""

from __future__ import annotations

import logging
from dataclasses import asdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe import metrics
from hf_trainpipe.errors import DataError, PackageError, closest
from hf_trainpipe.package.layout import find_package
from hf_trainpipe.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from datasets import Dataset

    from hf_trainpipe.engine.evaluation import SplitOutputs
    from hf_trainpipe.recipe import Evaluation, Recipe
    from hf_trainpipe.runtime.handler.predictor import Predictor
    from hf_trainpipe.runtime.tasks.decoding import Outputs
    from hf_trainpipe.tasks.base import Task

__all__ = ["check_decoder", "evaluate", "raw_inputs", "score", "score_rows"]

log = logging.getLogger(__name__)

_CHUNK = 10_000
"""Inputs encoded at a time."""
_USERS_MISTAKE = 2


def evaluate(
    package_dir: Path | str,
    *,
    recipe: Recipe,
    split: str = "validation",
    device: str | None = None,
    allow_code: bool = False,
    backend: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Score the package ``package_dir`` (or the package of a run) on ``split`` of ``recipe.data``.

    The metrics are those of the recipe, with bootstrap intervals over the examples.

    Returns:
        ``{"split", "n", "scores": {metric: {"value", "low", "high", "confidence", "n", "resamples"}}}``;
        undefined numbers are None.

    Raises:
        DataError: if the data cannot be read, or has no such split.
        PackageError: if there is no package, or its labels do not fit the task.
    """
    from hf_trainpipe.runtime.handler.predictor import Predictor

    path = find_package(package_dir)
    predictor = Predictor.load(path, device=device, allow_code=allow_code, backend=backend)
    return score(predictor, recipe=recipe, split=split, name=str(path), progress=progress)


def score(
    predictor: Predictor,
    *,
    recipe: Recipe,
    split: str,
    name: str = "The package",
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Score a loaded package; see :func:`evaluate`. ``name`` is what errors call it."""
    check_decoder(predictor, recipe.task, name=name)
    splits = recipe.data.splits()
    if split not in splits:
        raise DataError(
            f"No split {split!r} in the data, but {', '.join(map(repr, splits))}.{closest(split, splits)}",
            fix="Choose one of them with --split.",
        )
    return score_rows(
        predictor,
        splits[split],
        task=recipe.task,
        evaluation=recipe.evaluation,
        seed=recipe.seed,
        split=split,
        progress=progress,
    )


def check_decoder(predictor: Predictor, task: Task, *, name: str) -> None:
    """Refuse a task that asks for other answers than the package gives."""
    if predictor.decoder.kind != task.decoder:
        raise PackageError(
            f"{name} answers as {predictor.decoder.kind}, the recipe's task as {task.decoder}.",
            fix="Use the recipe that the package was trained with.",
            exit_code=_USERS_MISTAKE,
        )


def score_rows(
    predictor: Predictor,
    dataset: Dataset,
    *,
    task: Task,
    evaluation: Evaluation,
    seed: int,
    split: str,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Score a loaded package on rows that have the task's columns; the result is that of :func:`evaluate`.

    Args:
        split: What errors call the rows.
        progress: Called with the number of rows that are done.
    """
    from hf_trainpipe.data.spans import span_lines
    from hf_trainpipe.data.targets import build_targets
    from hf_trainpipe.engine.evaluation import scorable
    from hf_trainpipe.tasks.base import Labels

    decoder = predictor.decoder
    labels = Labels(tuple(decoder.labels))
    targets = build_targets(task, labels, dataset, split, steps=predictor.steps, splitter=predictor.splitter)
    positions = targets.report.get("positions")
    for line in (*span_lines(split, targets.report), *((positions,) if positions else ())):
        log.warning("%s", line)
    inputs = raw_inputs(task, dataset)
    outputs = _outputs(predictor, inputs, progress)
    predictions = scorable(
        outputs,
        SimpleNamespace(targets=targets),  # type: ignore[arg-type]
        task=task,
        labels=labels,
        threshold=(decoder.options or {}).get("threshold"),
    )
    chosen = evaluation.select
    names = [*((chosen,) if chosen else ()), *task.metrics(), *evaluation.metrics]
    scores: dict[str, dict[str, Any]] = {
        name: asdict(interval)
        for name, interval in metrics.intervals(
            predictions,
            names,
            confidence=evaluation.confidence,
            resamples=evaluation.resamples,
            seed=seed,
        ).items()
    }
    external = [name for name in dict.fromkeys(names) if metrics.is_external(name)]
    for name, value in metrics.score(predictions, external).items():
        scores[name] = {"value": value, "low": None, "high": None, "n": len(predictions)}
    return {"split": split, "n": len(predictions), "scores": _finite(scores)}


def raw_inputs(task: Task, dataset: Dataset) -> list[Any]:
    """The rows of a data set in the forms that a handler takes: what a user sends, before any preprocessing."""
    from hf_trainpipe.data.columns import column_of

    columns = task.inputs()
    first, *second = [list(column_of(dataset, column.name).to_pylist()) for column in columns]
    if columns[0].kind == "words":
        return [{"words": words} for words in first]
    if second:
        return [{"text": text, "text_pair": pair} for text, pair in zip(first, second[0], strict=True)]
    return first


def _outputs(predictor: Predictor, inputs: list[Any], progress: Callable[[int], None]) -> SplitOutputs:
    from hf_trainpipe.engine.evaluation import SplitOutputs

    examples, values = [], []
    counts: list[np.ndarray] = []
    words: list[np.ndarray] = []
    for start in range(0, len(inputs), _CHUNK):
        for first, part in _parts(predictor, inputs[start : start + _CHUNK], start):
            examples.append(part.examples + first)
            values.append(part.outputs)
            if part.word_starts is not None and part.words is not None:
                counts.append(np.diff(part.word_starts))
                words.append(part.words)
        progress(min(start + _CHUNK, len(inputs)))
    if not counts:
        return SplitOutputs(np.concatenate(examples), np.concatenate(values))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    return SplitOutputs(np.concatenate(examples), np.concatenate(values), starts, np.concatenate(words))


def _parts(predictor: Predictor, inputs: list[Any], first: int) -> Iterator[tuple[int, Outputs]]:
    """Outputs with the number of their first input.

    A predictor refuses inputs that are too long where training dropped them (``overflow="drop"``): they
    are found by halving and left out here too.
    """
    try:
        yield first, predictor.outputs(inputs)
    except InputError:
        if predictor.info.tokens["overflow"] != "drop":
            raise
        if len(inputs) > 1:
            half = len(inputs) // 2
            yield from _parts(predictor, inputs[:half], first)
            yield from _parts(predictor, inputs[half:], first + half)


def _finite(scores: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        metric: {name: None if isinstance(value, float) and value != value else value for name, value in row.items()}
        for metric, row in scores.items()
    }
