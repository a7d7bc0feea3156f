"""Scores with and without the rows that training has seen: of a simple model, and of a run.

Shapes: N rows of a split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe import metrics
from hf_trainpipe.audit.columns import MOST_LABELS
from hf_trainpipe.baselines.learners import logistic, ridge
from hf_trainpipe.baselines.vectors import Unfit
from hf_trainpipe.data.predicted import row_hash
from hf_trainpipe.metrics.saved import folder_of, load, taken

if TYPE_CHECKING:
    from hf_trainpipe.audit.twins import Twins
    from hf_trainpipe.audit.vectors import Reader
    from hf_trainpipe.recipe import Recipe

Ints = NDArray[np.int64]
_NAMES = {"single_label": ("accuracy", "f1_macro"), "regression": ("spearman", "pearson")}
_MOST = 800_000
"""Rows times labels that are learnt from, but 4,000 to 40,000 rows."""


def leaked_rows(twins: Twins, split: str) -> Ints:
    """Rows of a split that train has too, exactly, the same or nearly."""
    return np.sort(np.concatenate(list(twins.across(split, "train").values())))


def of_model(twins: Twins, reader: Reader) -> Iterator[dict[str, Any]]:
    """Scores of a logistic or ridge regression that learnt the training split, on each other split with leaked rows.

    Yields:
        ``{"of", "split", "metric", "rows", "leaked", "all", "without"}``, where the scores have ``value``, ``low``, ``high``.

    Raises:
        Unfit: there is nothing to learn from.
    """
    corpus = twins.corpus
    if corpus.kind not in ("class", "number") or "train" not in corpus.names:
        return
    splits = {split: leaked_rows(twins, split) for split in corpus.names if split != "train"}
    splits = {split: rows for split, rows in splits.items() if len(rows)}
    if not splits:
        return
    usable = np.array([target is not None for target in corpus.targets]) & ~corpus.is_empty
    learnt = corpus.rows_of("train")[usable[corpus.rows_of("train")]]
    number = 1 if corpus.kind == "number" else len(corpus.class_names)
    most = min(max(4000, _MOST // max(1, number)), 40_000)
    learnt = np.array(sorted(learnt.tolist(), key=lambda row: corpus.raw[row]), dtype=np.int64)
    if len(learnt) > most:
        learnt = learnt[np.linspace(0, len(learnt) - 1, most).astype(np.int64)]
    asked = {split: corpus.rows_of(split)[usable[corpus.rows_of(split)]] for split in splits}
    rows = np.concatenate([learnt, *asked.values()])
    vectors = reader.vectors(rows)
    labels = (
        np.array([corpus.targets[row] for row in rows.tolist()])
        if number == 1 and corpus.kind == "number"
        else corpus.classes[rows]
    )
    if corpus.kind == "class":
        if not 2 <= len(np.unique(labels[: len(learnt)])) <= MOST_LABELS:
            raise Unfit("all training rows have the same label, or hardly any two")
        answer = logistic(vectors.features[: len(learnt)], labels[: len(learnt)], num_labels=number, tol=1e-3)
    else:
        answer = ridge(vectors.features[: len(learnt)], labels[: len(learnt)])
    start = len(learnt)
    for split, there in asked.items():
        outputs = answer(vectors.features[start : start + len(there)])
        references = labels[start : start + len(there)]
        start += len(there)
        kind: metrics.Kind = "single_label" if corpus.kind == "class" else "regression"
        known = references if kind == "single_label" else references.astype(np.float32)
        predictions = metrics.Predictions(kind, outputs=outputs, references=known, labels=corpus.class_names)
        is_leaked = np.isin(there, splits[split])
        title = f"{'logistic' if kind == 'single_label' else 'ridge'} regression on {vectors.told}"
        yield from _both(title, split, predictions, is_leaked, _NAMES[kind])


def of_run(twins: Twins, run: Path, recipe: Recipe) -> Iterator[dict[str, Any]]:
    """The same of what a run predicted, by the metric that chose its best model.

    Raises:
        DataError: a file of predictions is damaged.
    """
    corpus = twins.corpus
    for split in corpus.names:
        file = folder_of(run) / f"{split}.npz"
        if split == "train" or not file.is_file():
            continue
        leaked = set(leaked_rows(twins, split).tolist())
        columns = [corpus.column(column.name) for column in corpus.task.inputs.values()]
        gone = {row_hash(tuple(column[row] for column in columns)) for row in leaked}
        found = load(file)
        is_leaked = np.isin(found.rows, np.array(sorted(gone), dtype=np.uint64))
        names = [name for name in (recipe.selected_metric,) if name and name in metrics.known(found.predictions.kind)]
        if is_leaked.any() and names:
            kept = np.flatnonzero(~is_leaked)
            whole = metrics.intervals(found.predictions, names)
            rest = metrics.intervals(taken(found, kept).predictions, names)
            for name in names:
                yield _told(str(run), split, name, is_leaked, whole[name], rest[name])


def _both(
    title: str, split: str, predictions: metrics.Predictions, is_leaked: NDArray[np.bool_], names: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    kept = np.flatnonzero(~is_leaked)
    rest = metrics.Predictions(
        predictions.kind,
        outputs=predictions.outputs[kept],
        references=predictions.references[kept],
        labels=predictions.labels,
    )
    whole, without = metrics.intervals(predictions, names), metrics.intervals(rest, names)
    for name in names:
        yield _told(title, split, name, is_leaked, whole[name], without[name])


def _told(of: str, split: str, name: str, is_leaked: NDArray[np.bool_], whole: Any, without: Any) -> dict[str, Any]:
    def number(found: Any) -> dict[str, float]:
        return {"value": found.value, "low": found.low, "high": found.high}

    return {
        "of": of,
        "split": split,
        "metric": name,
        "rows": len(is_leaked),
        "leaked": int(is_leaked.sum()),
        "all": number(whole),
        "without": number(without),
    }
