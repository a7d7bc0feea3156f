"""Would choosing what to label have gained anything on data that are labelled already? Replayed with a quick model.

Logistic regression on frozen vectors begins with the same few random labels in two arms: one goes on with rows that it is unsure of
and that differ (:mod:`.choosing`), the other with random ones. Scored on the validation split after each round, over several
starts. A small model's answer is evidence for a large one's, no proof.

Shapes: N training rows, W numbers of a vector, S starts, R rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.baselines.choosing import diverse
from hf_trainpipe.baselines.frozen import frozen_texts
from hf_trainpipe.baselines.learners import Answers, logistic
from hf_trainpipe.baselines.listed import Split
from hf_trainpipe.baselines.measure import read
from hf_trainpipe.baselines.vectors import matching
from hf_trainpipe.errors import DataError, RecipeError
from hf_trainpipe.runtime.tasks.classification import TextClassification
from hf_trainpipe.runtime.tasks.merging import softmax
from hf_trainpipe.utils.cache import cache_root

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.tracking.console import Console

Floats = NDArray[np.float64]
STARTS, ROUNDS = 10, 10
_MOST = 20_000
"""Training rows that are looked at; of more a random sample."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """Accuracy on validation of both arms."""

    labels: list[int]
    """Labels known after each round; the first is where both begin."""
    chosen: Floats
    """[S, R + 1]"""
    random: Floats
    """[S, R + 1]"""

    @property
    def gain(self) -> tuple[float, float, float]:
        """The mean of chosen minus random over the rounds, with its 95 % interval over starts (Student's t)."""
        from scipy import stats

        each = (self.chosen - self.random)[:, 1:].mean(axis=1)
        half = float(stats.t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each)))
        return float(each.mean()), float(each.mean()) - half, float(each.mean()) + half

    @property
    def verdict(self) -> str:
        """In a sentence."""
        value, low, high = (100 * number for number in self.gain)
        figures = f"{value:+.1f} points of accuracy [{low:+.1f}, {high:+.1f}], mean over {self.labels[1]} to {self.labels[-1]} labels"
        if low > 0:
            return f"choosing gains {figures}"
        return f"choosing loses: {figures}" if high < 0 else f"no gain shown: {figures}"


def replay(recipe: Recipe, *, console: Console, starts: int = STARTS, rounds: int = ROUNDS) -> Replayed:
    """Replay the labelling of a recipe's training data.

    Raises:
        RecipeError: the task is no classification with one label.
        DataError: there is no validation split, or too few rows.
    """
    if not isinstance(recipe.task, TextClassification):
        raise RecipeError(
            f"A replay needs a task with one label a text, found {type(recipe.task).__name__}.",
            fix="Leave --replay out: suggest itself works with several labels and with tags.",
        )
    recipe, data = read(recipe, console=console)
    if "validation" not in data.splits:
        raise DataError(
            "There is no validation split to score a replay on.",
            fix="Cut one off in the recipe's data: validation=0.1.",
        )
    train, held = Split(data.train, data.task), Split(data.splits["validation"], data.task)
    keep = np.random.default_rng(0).permutation(train.size)[:_MOST]
    vectors, scored = _vectors(recipe, train, console)[keep], _vectors(recipe, held, console)
    targets, num_labels = train.targets[keep], len(data.task.label_names)
    first = max(20, 2 * num_labels)
    step = first
    if len(targets) < first + rounds * step:
        raise DataError(
            f"A replay over {num_labels} labels needs {first + rounds * step:,} training rows, found {len(targets):,}.",
            fix="Leave --replay out.",
        )
    found = np.zeros((2, starts, rounds + 1))
    with console.working("replaying the labelling", total=starts) as work:
        for start in range(starts):
            order = np.random.default_rng([1, start]).permutation(len(targets))
            order = _with_two_labels(order, targets, first)
            for arm in range(2):
                known = order[:first]
                for round_ in range(rounds + 1):
                    model = logistic(vectors[known], targets[known], num_labels=num_labels)
                    found[arm, start, round_] = float((model(scored).argmax(axis=1) == held.targets).mean())
                    known = np.concatenate([known, _next(arm, order, known, vectors, model, step, start)])
            work(start + 1)
    return Replayed(labels=[first + step * number for number in range(rounds + 1)], chosen=found[0], random=found[1])


def _next(
    arm: int,
    order: NDArray[np.int64],
    known: NDArray[np.int64],
    vectors: NDArray[np.float32],
    model: Answers,
    count: int,
    seed: int,
) -> NDArray[np.int64]:
    """Rows to label next: of arm 0 chosen ones, of arm 1 the next in the random order."""
    if arm == 1:
        return order[len(known) : len(known) + count]
    free = np.setdiff1d(order, known)
    top = np.sort(softmax(model(vectors[free])), axis=1)[:, -2:]
    return free[diverse(lambda some: vectors[free[some]], 1.0 - (top[:, 1] - top[:, 0]), count, seed)]


def _with_two_labels(order: NDArray[np.int64], targets: NDArray[np.int64], first: int) -> NDArray[np.int64]:
    """The order, with a row of another label among the first where these have one label alone."""
    if len(np.unique(targets[order[:first]])) > 1:
        return order
    other = int(np.argmax(targets[order] != targets[order[0]]))
    swapped = order.copy()
    swapped[first - 1], swapped[other] = order[other], order[first - 1]
    return swapped


def _vectors(recipe: Recipe, split: Split, console: Console) -> NDArray[np.float32]:
    encoder = split.prepared.rows.encoder
    assert encoder is not None
    sides = [
        frozen_texts(
            texts, model=recipe.model, encoder=encoder, root=cache_root(), say=console.say, working=console.working
        )
        for texts in split.raw.values()
    ]
    found: NDArray[np.float32] = matching(sides)
    return found
