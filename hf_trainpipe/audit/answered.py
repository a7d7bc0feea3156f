"""Labels that are probably wrong, by what a cross-validation of the recipe itself answered: of each row a model that never saw it.

How far to believe it is measured without training anything again. A flip that is planted in a row as it was held out is judged by a model
that learnt from other rows, with the wrong labels that they have: that is how a real mistake is judged. What is not measured is a model
that also learnt from the planted ones.

Shapes: N rows, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.audit.suspects import LEAST, Floats, Ints, Suspects, judged, keys_of, targets_of
from hf_trainpipe.baselines.vectors import Unfit
from hf_trainpipe.data.spelling import key
from hf_trainpipe.errors import DataError, RecipeError
from hf_trainpipe.metrics.reliability import evidence_of

if TYPE_CHECKING:
    from hf_trainpipe.audit.corpus import Corpus
    from hf_trainpipe.out_of_fold import OutOfFold

PLANTINGS = 20
"""Self-tests, which cost no training."""


def answered_suspects(corpus: Corpus, kept: OutOfFold) -> Suspects:
    """The probably wrong labels of the rows that were dealt.

    Raises:
        DataError: the study is of other rows, or does not know a label of the data.
        RecipeError: the task has no single label or number a row, or the study keeps no logits.
        Unfit: there are too few rows, or one label.
    """
    predictions = kept.every.predictions
    given = evidence_of(predictions)
    if given is None or corpus.kind not in ("class", "number") or (corpus.kind == "class") != bool(predictions.labels):
        raise RecipeError(
            f"audit: --crossval finds wrong labels where a row has one label or number, and its probability is known; found answers of "
            f"{type(corpus.task).__name__} in {kept.folder}.",
            fix="Leave --crossval out.",
        )
    kept.rows(corpus.splits, corpus.task)
    places = kept.places(corpus.starts, corpus.names)
    there = np.unique(places)
    has_target = np.fromiter((corpus.targets[row] is not None for row in there.tolist()), dtype=bool, count=len(there))
    rows = there[has_target & ~corpus.is_empty[there]]
    if len(rows) < LEAST:
        raise Unfit(f"{len(rows):,} rows are too few to tell wrong labels by")
    targets = targets_of(corpus, rows)
    if corpus.kind == "class":
        given = given[:, _columns(corpus, kept)]
    means = _means(given, np.searchsorted(there, places), len(there))[np.searchsorted(there, rows)]
    repeats = int(kept.every.numbers["repeat"].max())
    told = "the recipe's own models of a cross-validation" + (f", the mean of {repeats} repeats" if repeats > 1 else "")
    model = _Answers(means, is_number=corpus.kind == "number")
    splits = tuple(name for name in corpus.names if name in kept.splits)
    return judged(corpus, rows, targets, keys_of(corpus, rows), model, told=told, plantings=PLANTINGS, splits=splits)


@dataclass(frozen=True, eq=False)
class _Answers:
    """What was answered to each row, whatever label it has."""

    given: Floats
    """[N, C] the logarithm of each label's probability, or [N, 1] numbers."""
    is_number: bool

    def judge(self, targets: NDArray[Any]) -> tuple[Floats, NDArray[Any]]:
        if self.is_number:
            expected = self.given[:, 0]
            return -np.abs(expected - targets), expected
        rows = np.arange(len(targets))
        others = self.given.copy()
        own = others[rows, targets]
        others[rows, targets] = -np.inf
        return own - others.max(axis=1), others.argmax(axis=1)


def _columns(corpus: Corpus, kept: OutOfFold) -> list[int]:
    """[C] where the labels of the data stand among those that were answered."""
    known = {key(label): at for at, label in enumerate(kept.every.predictions.labels)}
    if missing := [name for name in corpus.class_names if name not in known]:
        raise DataError(
            f"{kept.folder}: its models know no label {missing[0]!r}, which the data have now.",
            fix="Correct the label, or cross-validate the recipe with it: hf-trainpipe crossval RECIPE --study-dir OTHER",
        )
    return [known[name] for name in corpus.class_names]


def _means(given: NDArray[Any], row: Ints, count: int) -> Floats:
    """[count, C] the mean of what each row got in the repeats."""
    total = np.zeros((count, given.shape[1]))
    np.add.at(total, row, given)
    found: Floats = total / np.bincount(row, minlength=count)[:, None]
    return found
