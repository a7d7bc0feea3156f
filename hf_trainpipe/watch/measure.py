"""What is measured of a text by the package that answers it: its vector, its answer, how sure that is, its tokens.

Shapes: n texts, F features, W numbers of a vector, C outputs of the model.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.errors import InputError
from hf_trainpipe.runtime.tokens.features import features_of, tokens_of
from hf_trainpipe.runtime.tokens.ragged import ends_of, ranges
from hf_trainpipe.watch.vectors import predictions_with_vectors, vectors_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_trainpipe.runtime.handler.predictor import Predictor
    from hf_trainpipe.runtime.model.outputs import Outputs
    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.runtime.tokens.features import Features

Array = NDArray[Any]
_JUDGED = ("single_label", "multi_label", "regression", "tags")
"""Kinds of tasks whose answers are watched; others write texts, or vectors."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Numbers of some texts; no text."""

    vectors: Array | None
    """float32[n, W]; None: the model gives none (ONNX Runtime)."""
    answers: Array | None
    """float32[n, C]: probabilities, of tags their mean over the words, of regression the numbers; None: of another task."""
    confidence: Array | None
    """float32[n]: the probability of the answer, its mean over labels or words; None: there is none."""
    ids: Array
    """Token ids of all texts, one text after the other, without special tokens."""
    starts: Array
    """int64[n + 1] where those of each text start."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def length(self) -> Array:
        """int64[n] tokens."""
        return np.diff(self.starts)

    def take(self, chosen: Array) -> Measured:
        """Of some of the texts, in this order."""
        rows = {name: None if (found := getattr(self, name)) is None else found[chosen] for name in _ROWS}
        lengths = self.length[chosen]
        return Measured(ids=self.ids[ranges(self.starts[chosen], lengths)], starts=ends_of(lengths), **rows)


_ROWS = tuple(one.name for one in fields(Measured) if one.name not in ("ids", "starts"))


def joined(parts: Sequence[Measured]) -> Measured:
    """Texts one after the other."""
    rows = {
        name: None if getattr(parts[0], name) is None else np.concatenate([getattr(part, name) for part in parts])
        for name in _ROWS
    }
    lengths = np.concatenate([part.length for part in parts])
    return Measured(ids=np.concatenate([part.ids for part in parts]), starts=ends_of(lengths), **rows)


def measure(predictor: Predictor, inputs: Sequence[Any]) -> tuple[Measured | None, list[int]]:
    """Measure inputs, and tell which of them could be: the others have no text, or are too long for the package.

    Each input is encoded as evaluation does it, and goes through the model once. None: no input could be.
    """
    task = predictor.task
    there = [position for position, value in enumerate(inputs) if lacks(task, value) is None]
    features = None
    try:
        features = predictor.features([inputs[position] for position in there]) if there else None
    except InputError:  # one of them: each is tried alone
        there = [position for position in there if _is_usable(predictor, inputs[position])]
        features = predictor.features([inputs[position] for position in there]) if there else None
    kept = np.flatnonzero(features.windows) if features is not None else np.zeros(0, dtype=np.int64)
    if features is None or not len(kept):
        return None, []
    return measure_features(predictor, features, kept), [there[position] for position in kept.tolist()]


def lacks(task: Task, value: Any) -> str | None:
    """What an input lacks, as ``predict`` says it; None: nothing. A cell that may be blank, such as the input of an instruction,
    is not missed."""
    from hf_trainpipe.package.predict import missing

    if not isinstance(value, dict) or len(value) < 2:
        return missing(value)
    form = next((form for form in task.schema().inputs if set(form) == set(value)), {})
    needed = (given for role, given in value.items() if role not in form or form[role].is_blank_missing)
    return next((why for given in needed if (why := missing(given)) is not None), None)


def answers_are_watched(task: Task) -> bool:
    """Whether the answers of a task are numbers that tell a drift."""
    return task.judged_as in _JUDGED and "logits" in task.outputs


def _is_usable(predictor: Predictor, value: Any) -> bool:
    try:
        predictor.features([value])
    except InputError:
        return False
    return True


def measure_features(
    predictor: Predictor,
    features: Features,
    examples: Array,
    *,
    predictions: Outputs | None = None,
    vectors: Array | None = None,
) -> Measured:
    """Measure examples of features; each has one at least.

    Args:
        predictions: What the package predicted of these examples, windows merged; None: it is asked.
        vectors: float32[n, W] of these examples, where ``predictions`` came with them.
    """
    if predictions is None and answers_are_watched(predictor.task):
        asked = predictor.task.asked(features, predictor.encoder, predictor.task.recording)
        predictions, vectors = predictions_with_vectors(predictor, asked, examples)
    elif vectors is None:
        vectors = vectors_of(predictor, features, examples)
    answers, confidence = _answers(predictor.task, predictions)
    ids, starts = _tokens(predictor, features, examples)
    return Measured(vectors=vectors, answers=answers, confidence=confidence, ids=ids, starts=starts)


def _answers(task: Task, found: Outputs | None) -> tuple[Array | None, Array | None]:
    """float32[n, C] answers and float32[n] how sure they are."""
    kind = task.judged_as
    if not answers_are_watched(task) or found is None:
        return None, None
    logits = found["logits"].astype(np.float64).reshape(len(found["logits"]), -1)
    if kind == "regression":
        return logits.astype(np.float32), None
    if kind == "multi_label":
        chance = 1 / (1 + np.exp(-logits))
        return chance.astype(np.float32), np.maximum(chance, 1 - chance).mean(axis=1).astype(np.float32)
    chance = np.exp(logits - logits.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    sure = chance.max(axis=1)
    if (begin := found.starts.get("logits")) is not None:  # rows of words
        words = np.diff(begin)
        owner = np.repeat(np.arange(len(words)), words)
        sums, sure_sums = np.zeros((len(words), chance.shape[1])), np.zeros(len(words))
        np.add.at(sums, owner, chance)
        np.add.at(sure_sums, owner, sure)
        chance, sure = sums / np.maximum(words, 1)[:, None], sure_sums / np.maximum(words, 1)
    return chance.astype(np.float32), sure.astype(np.float32)


def _tokens(predictor: Predictor, features: Features, examples: Array) -> tuple[Array, Array]:
    """Token ids of all streams without special tokens, those for unknown words kept."""
    chosen = features_of(features, examples)
    ids, place = tokens_of(features, chosen)
    owner = np.searchsorted(examples, np.asarray(features.example)[chosen])[place]
    tokenizer = predictor.tokenizer
    special = set(getattr(tokenizer, "all_special_ids", ())) - {getattr(tokenizer, "unk_token_id", None)}
    plain = ~np.isin(ids, np.fromiter(special, dtype=np.int64))
    return ids[plain], ends_of(np.bincount(owner[plain], minlength=len(examples)).astype(np.int64))
