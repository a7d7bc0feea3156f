"""Metrics of tags on words: entities by seqeval's default definition, and words.

An entity counts as found when its first word, last word and type are right. Entities are read as
``seqeval.metrics.sequence_labeling.get_entities`` (and conlleval) reads them: ``I-X`` after ``O`` or after
another type begins an entity, ``B-`` and ``S-`` always do, ``E-`` and ``S-`` always end one. That reading
fits BIO, IOB1 and BIOES alike; L and U of BILOU are read as E and S.
Words that are not scored are removed before entities are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.metrics import counts
from hf_trainpipe.metrics.base import Floats, Metric, Predictions, ratio, sum_metrics

_OUTSIDE, _BEGIN, _INSIDE, _END, _SINGLE = range(5)
_PREFIXES = {"O": _OUTSIDE, "B": _BEGIN, "I": _INSIDE, "E": _END, "S": _SINGLE, "L": _END, "U": _SINGLE}

Ints = NDArray[np.int64]


def check_tags(labels: Sequence[str]) -> None:
    """Refuse tags from which no entities can be read.

    Raises:
        RecipeError: names the first tag that is neither ``O`` nor ``B-TYPE``, ``I-TYPE``, ...
    """
    wrong = [tag for tag in labels if tag[:1] not in _PREFIXES or tag[1:2] not in ("", "-")]
    if not labels or wrong:
        raise RecipeError(
            f"entity scores need tags such as O, B-PER and I-PER, found {wrong[0]!r}."
            if wrong
            else "entity scores need the names of the tags, found none.",
            fix="Score these tags with tag_accuracy or exact_match.",
        )


def _tables(labels: Sequence[str]) -> tuple[Ints, Ints, list[str]]:
    """Prefix and type of each tag id, with a last entry for id -1 (outside); the names of the types."""
    check_tags(labels)
    prefixes = [_PREFIXES[tag[0]] for tag in labels]
    names = [tag[2:] or "_" for tag in labels]
    types = sorted({name for name, prefix in zip(names, prefixes, strict=True) if prefix != _OUTSIDE})
    position = {name: index for index, name in enumerate(types)}
    kinds = [position.get(name, -1) if prefix else -1 for name, prefix in zip(names, prefixes, strict=True)]
    return np.array([*prefixes, _OUTSIDE], np.int64), np.array([*kinds, -1], np.int64), types


def _spans(prefix: Ints, kind: Ints, example: Ints) -> tuple[Ints, Ints]:
    """First and last word of each entity, from prefix, type and example of each word."""
    new = np.ones(len(prefix) + 1, bool)
    new[1:-1] = example[1:] != example[:-1]
    before = np.where(new[:-1], _OUTSIDE, np.roll(prefix, 1))
    after = np.where(new[1:], _OUTSIDE, np.roll(prefix, -1))
    alone = (_OUTSIDE, _END, _SINGLE)
    begins = np.isin(prefix, (_BEGIN, _SINGLE)) | np.isin(before, alone) | (np.roll(kind, 1) != kind)
    ends = np.isin(prefix, (_END, _SINGLE)) | np.isin(after, (_OUTSIDE, _BEGIN, _SINGLE)) | (np.roll(kind, -1) != kind)
    inside = prefix != _OUTSIDE
    first, last = np.flatnonzero(begins & inside), np.flatnonzero(ends & inside)
    assert len(first) == len(last), "every entity that begins ends"
    return first, last


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """``(type, first word, last word)`` of the entities of one example, in order.

    >>> entities(["B-PER", "I-PER", "O", "I-LOC"])
    [('PER', 0, 1), ('LOC', 3, 3)]
    """
    labels = sorted(set(tags) | {"O"})
    prefix, kind, types = _tables(labels)
    ids = np.array([labels.index(tag) for tag in tags], np.int64)
    first, last = _spans(prefix[ids], kind[ids], np.zeros(len(ids), np.int64))
    return [(types[kind[ids[a]]], int(a), int(b)) for a, b in zip(first, last, strict=True)]


def _scored(predictions: Predictions) -> tuple[Ints, NDArray[Any], NDArray[Any]]:
    """Example, predicted tag and gold tag of each scored word."""
    assert predictions.word_starts is not None
    kept = predictions.references >= 0
    example = np.repeat(np.arange(len(predictions)), np.diff(predictions.word_starts))[kept]
    return example, np.maximum(predictions.outputs[kept], -1), predictions.references[kept]


def entity_counts(predictions: Predictions) -> Floats:
    """[N, 3 T] for T entity types: true positives, predicted, support."""
    prefix, kind, types = _tables(predictions.labels)
    example, predicted, gold = _scored(predictions)
    num_types = max(len(types), 1)

    def table(words: Ints, tags: NDArray[Any]) -> Floats:
        cells = np.bincount(example[words] * num_types + kind[tags[words]], minlength=len(predictions) * num_types)
        return cells.reshape(len(predictions), num_types).astype(np.float64)

    first_predicted, last_predicted = _spans(prefix[predicted], kind[predicted], example)
    first_gold, last_gold = _spans(prefix[gold], kind[gold], example)
    # A true positive has the same first word, last word and type.
    last_by_first = np.full(len(example), -1)
    last_by_first[first_gold] = last_gold
    same = (last_by_first[first_predicted] == last_predicted) & (
        kind[predicted[first_predicted]] == kind[gold[first_predicted]]
    )
    true_positives = table(first_predicted[same], predicted)
    return np.concatenate([true_positives, table(first_predicted, predicted), table(first_gold, gold)], axis=1)


def entity_types(labels: Sequence[str]) -> list[str]:
    """The entity types of the tags, in the order of :func:`entity_counts`."""
    return _tables(labels)[2]


def types_of_words(predictions: Predictions) -> tuple[Ints, Ints]:
    """Gold and predicted entity type of each scored word, [W] each; outside is the number of types."""
    _, kind, types = _tables(predictions.labels)
    _, predicted, gold = _scored(predictions)
    return tuple(np.where(kind[tags] < 0, len(types), kind[tags]) for tags in (gold, predicted))  # type: ignore[return-value]


def _word_counts(predictions: Predictions) -> Floats:
    """[N, 4]: right words, scored words, whether all are right, whether any word is scored."""
    example, predicted, gold = _scored(predictions)
    num_examples = len(predictions)
    words = np.bincount(example, minlength=num_examples)
    right = np.bincount(example, weights=predicted == gold, minlength=num_examples)
    scored = words > 0
    return np.stack([right, words, scored & (right == words), scored], axis=1).astype(np.float64)


_AVERAGES: dict[str, counts.Average] = {"": "micro", "_macro": "macro", "_weighted": "weighted"}
_OF_ENTITIES = {
    f"entity_{rate}{suffix}": counts.averaged(rate, average)
    for rate in counts.RATES
    for suffix, average in _AVERAGES.items()
}
METRICS: tuple[Metric, ...] = (
    *sum_metrics("tags", entity_counts, _OF_ENTITIES),
    *sum_metrics("tags", _word_counts, {"tag_accuracy": ratio(0, 1), "exact_match": ratio(2, 3)}),
)
"""``entity_precision``, ``entity_recall`` and ``entity_f1`` are micro averages over entities."""
