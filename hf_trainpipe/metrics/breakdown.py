"""Details of a score: precision, recall and F1 by label, the confusion matrix, the worst errors, and warnings.

Shapes: N examples, C labels, W words of all examples, E entity types.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.metrics import counts, tagging
from hf_trainpipe.metrics.base import Floats, Predictions, sigmoid
from hf_trainpipe.metrics.classification import class_counts, set_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST_MATRIX = 200
"""Labels up to which the confusion matrix is kept; above, only the pairs that are confused most."""
CONFUSED = 20
"""Pairs of labels that are listed, those that are confused most often first."""


def breakdown(predictions: Predictions, *, num_errors: int = 10) -> dict[str, Any]:
    """The details as JSON.

    Args:
        predictions: Of a split, with logits.
        num_errors: Number of worst errors to list.

    Returns:
        ``by`` ("label", "entity type", "tag" or "number"), ``rows`` (name, precision, recall, f1, support,
        predicted), ``confusion`` (matrix [C, C], gold by row, or None), ``names`` of its rows, ``confused`` (gold,
        predicted, count), ``positive`` (the label of binary scores, or None), ``errors`` (position among the
        predictions, gold, predicted, and their difference or probability), ``warnings``.
    """
    find = {
        "single_label": _classes,
        "multi_label": _sets,
        "regression": _numbers,
        "tags": _entities if predictions.has_entities else _tags,
        "own": _nothing,
    }[predictions.kind]
    found = find(predictions, num_errors)
    return {
        "rows": [],
        "names": [],
        "confusion": None,
        "confused": [],
        "positive": None,
        "warnings": [],
        **found,
    }


def _rows(names: Sequence[str], sums: Floats) -> list[dict[str, Any]]:
    """A row for each label from sums [3 C] of true positives, predicted and support."""
    true_positives, predicted, support = sums.reshape(3, -1)
    rates = {rate: counts.rate_of(rate, true_positives, predicted, support) for rate in counts.RATES}
    return [
        {
            "name": name,
            **{rate: float(values[position]) for rate, values in rates.items()},
            "support": int(support[position]),
            "predicted": int(predicted[position]),
        }
        for position, name in enumerate(names)
    ]


def _confusion(names: Sequence[str], gold: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """Ids [N] against ids [N], both below C: the matrix, and its largest entries off the diagonal."""
    size = len(names)
    pairs, amounts = np.unique(gold.astype(np.int64) * size + predicted, return_counts=True)
    wrong = [
        (int(amount), int(pair) // size, int(pair) % size)
        for pair, amount in zip(pairs, amounts, strict=True)
        if pair // size != pair % size
    ]
    confused = [
        [names[one], names[other], amount]
        for amount, one, other in sorted(wrong, key=lambda entry: (-entry[0], entry[1:]))[:CONFUSED]
    ]
    matrix = None
    if size <= LARGEST_MATRIX:
        matrix = np.bincount(gold * size + predicted, minlength=size * size).reshape(size, size).tolist()
    return {"names": list(names), "confusion": matrix, "confused": confused}


def _worst(badness: Floats, wrong: np.ndarray, num_errors: int) -> list[int]:
    """Positions of the wrong examples, the worst first."""
    positions = np.flatnonzero(wrong)
    return [int(one) for one in positions[np.argsort(-badness[positions], kind="stable")][:num_errors]]


def _log_chances(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _classes(predictions: Predictions, num_errors: int) -> dict[str, Any]:
    names, gold, decided = list(predictions.labels), predictions.references, predictions.decisions()
    chances = _log_chances(predictions.outputs.astype(np.float64))
    everyone = np.arange(len(gold))
    errors = [
        {
            "position": position,
            "gold": names[gold[position]],
            "predicted": names[decided[position]],
            "probability": float(np.exp(chances[position, decided[position]])),
        }
        for position in _worst(-chances[everyone, gold], gold != decided, num_errors)
    ]
    warnings = []
    if len(decided) and (decided == decided[0]).all() and not (gold == gold[0]).all():
        warnings.append(f"the model predicts the same label for every example: {names[decided[0]]!r}")
    return {
        "by": "label",
        "rows": _rows(names, class_counts(predictions).sum(axis=0)),
        **_confusion(names, gold, decided),
        "positive": names[-1] if len(names) == 2 else None,
        "errors": errors,
        "warnings": warnings,
    }


def _sets(predictions: Predictions, num_errors: int) -> dict[str, Any]:
    names, gold, decided = list(predictions.labels), predictions.references, predictions.decisions()
    chances = sigmoid(predictions.outputs)
    losses = -np.log(np.maximum(np.where(gold > 0, chances, 1.0 - chances), 1e-30)).mean(axis=1)

    def listed(chosen: np.ndarray) -> list[str]:
        return [names[label] for label in np.flatnonzero(chosen)]

    errors = [
        {"position": position, "gold": listed(gold[position]), "predicted": listed(decided[position])}
        for position in _worst(losses, (gold != decided).any(axis=1), num_errors)
    ]
    warnings = []
    if len(decided) and not decided.any() and gold.any():
        warnings.append("the model predicts no label for any example")
    elif len(decided) > 1 and (decided == decided[0]).all() and not (gold == gold[0]).all():
        warnings.append(f"the model predicts the same labels for every example: {', '.join(listed(decided[0]))}")
    return {
        "by": "label",
        "rows": _rows(names, set_counts(predictions).sum(axis=0)),
        "errors": errors,
        "warnings": warnings,
    }


def _numbers(predictions: Predictions, num_errors: int) -> dict[str, Any]:
    gold, predicted = predictions.references.astype(np.float64), predictions.outputs.astype(np.float64)
    gaps = np.abs(predicted - gold)
    errors = [
        {"position": position, "gold": float(gold[position]), "predicted": float(predicted[position])}
        for position in _worst(gaps, gaps > 0, num_errors)
    ]
    warnings = []
    if len(gold) > 1 and predicted.std() < 1e-3 * gold.std():
        warnings.append(f"the model predicts nearly the same number for every example: {predicted.mean():.4g}")
    return {"by": "number", "errors": errors, "warnings": warnings}


def _nothing(predictions: Predictions, num_errors: int) -> dict[str, Any]:
    return {"by": "example", "errors": []}


def _words_of(predictions: Predictions) -> list[slice]:
    assert predictions.word_starts is not None
    return [slice(int(start), int(stop)) for start, stop in itertools.pairwise(predictions.word_starts)]


def _tags(predictions: Predictions, num_errors: int) -> dict[str, Any]:
    names = list(predictions.labels)
    scored = predictions.references >= 0
    gold, predicted = predictions.references[scored], predictions.outputs[scored]
    answered = predicted >= 0  # a truncated word has no prediction but counts in the support
    table = np.stack(
        [
            np.bincount(gold[gold == predicted], minlength=len(names)),
            np.bincount(predicted[answered], minlength=len(names)),
            np.bincount(gold, minlength=len(names)),
        ]
    ).astype(np.float64)
    words = _words_of(predictions)
    wrong = (predictions.references != predictions.outputs) & scored
    amounts = np.array([wrong[each].sum() for each in words], dtype=np.float64)

    def entry(position: int) -> dict[str, Any]:
        inside = np.flatnonzero(wrong[words[position]])
        return {
            "position": position,
            "gold": [[int(word), names[predictions.references[words[position]][word]]] for word in inside],
            "predicted": [[int(word), _name(names, predictions.outputs[words[position]][word])] for word in inside],
        }

    warnings = []
    if answered.any() and len(np.unique(predicted[answered])) == 1 and len(np.unique(gold)) > 1:
        warnings.append(f"the model predicts the same tag for every word: {names[int(predicted[answered][0])]!r}")
    return {
        "by": "tag",
        "rows": _rows(names, table.reshape(-1)),
        **_confusion(names, gold[answered], predicted[answered]),
        "errors": [entry(position) for position in _worst(amounts, amounts > 0, num_errors)],
        "warnings": warnings,
    }


def _name(names: Sequence[str], tag: int) -> str | None:
    return names[tag] if tag >= 0 else None


def _entities(predictions: Predictions, num_errors: int) -> dict[str, Any]:
    table = tagging.entity_counts(predictions)  # [N, 3 E]
    types = tagging.entity_types(predictions.labels)
    sums = table.sum(axis=0)
    amounts = table.reshape(len(table), 3, -1).sum(axis=2)
    mistakes = amounts[:, 1] + amounts[:, 2] - 2 * amounts[:, 0]
    names, words = list(predictions.labels), _words_of(predictions)

    def entry(ids: np.ndarray) -> list[list[Any]]:
        found = tagging.entities([names[tag] if tag >= 0 else "O" for tag in ids])
        return [[kind, first, last] for kind, first, last in found]

    errors = [
        {
            "position": position,
            "gold": entry(predictions.references[words[position]]),
            "predicted": entry(predictions.outputs[words[position]]),
        }
        for position in _worst(mistakes, mistakes > 0, num_errors)
    ]
    warnings = []
    if sums.reshape(3, -1)[2].sum() and not sums.reshape(3, -1)[1].sum():
        warnings.append("the model predicts no entity")
    kinds = tagging.types_of_words(predictions)
    return {
        "by": "entity type",
        "rows": _rows(types, sums[: 3 * len(types)]) if types else [],
        **_confusion([*types, "O"], *kinds),
        "errors": errors,
        "warnings": warnings,
    }
