"""Which examples a step trains on, as arithmetic: a function of (seed, epoch, data size) alone.

A keyed permutation of the epoch is cut into global batches; each is cut into shares of similar
work for the ranks, and a share into micro-batches of similar length under a token budget. Nothing
is stored, so skipping to a step is arithmetic, and the examples of a step do not depend on the
number of ranks. The last global batch of an epoch may be smaller: losses are divided by what it
really holds, so nothing is repeated and nothing dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

ORDER_VERSION = 1
"""Changes whenever the order of examples for a given seed does; part of the resume contract."""


@lru_cache(maxsize=2)
def _permutation(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """int64[num_examples]: the order of an epoch, from a counter-based generator keyed by both."""
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    order = generator.permutation(num_examples)
    order.setflags(write=False)
    return order


@dataclass(frozen=True, kw_only=True)
class EpochSampler:
    """The order in which examples are visited.

    >>> order = EpochSampler(num_examples=5, examples_per_step=2, seed=1)
    >>> order.steps_per_epoch
    3
    >>> sorted(int(i) for step in range(3) for i in order.global_batch(step))
    [0, 1, 2, 3, 4]
    """

    num_examples: int
    examples_per_step: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch, the short last one included."""
        return -(-self.num_examples // self.examples_per_step)

    def epoch(self, step: int) -> int:
        """The epoch that step ``step`` (from 0) belongs to."""
        return step // self.steps_per_epoch

    def global_batch(self, step: int) -> np.ndarray:
        """int64[<= examples_per_step]: the examples of step ``step`` over all ranks."""
        epoch, within = divmod(step, self.steps_per_epoch)
        order = _permutation(self.num_examples, self.seed, epoch)
        start = within * self.examples_per_step
        return order[start : start + self.examples_per_step]

    def examples_before(self, step: int) -> int:
        """How many examples all steps before ``step`` have consumed."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return epoch * self.num_examples + min(within * self.examples_per_step, self.num_examples)


def shares(examples: np.ndarray, lengths: np.ndarray, *, ranks: int) -> list[np.ndarray]:
    """Cut a global batch into one share a rank: equal in number within one, similar in tokens.

    Args:
        examples: int64[n], the global batch.
        lengths: int[num_examples], tokens of every example of the split.
        ranks: How many shares.

    Returns:
        ``ranks`` arrays whose union is ``examples``, each example once. A share may be empty when
        there are fewer examples than ranks.
    """
    if ranks == 1:
        return [examples]
    longest_first = examples[np.argsort(-lengths[examples], kind="stable")]
    dealt: list[list[int]] = [[] for _ in range(ranks)]
    for start in range(0, len(longest_first), ranks):
        row = [int(example) for example in longest_first[start : start + ranks]]
        # Back and forth, as teams are picked: the sums stay close.
        seats = range(ranks) if (start // ranks) % 2 == 0 else range(ranks - 1, -1, -1)
        for seat, example in zip(seats, row, strict=False):
            dealt[seat].append(example)
    return [np.asarray(share, dtype=np.int64) for share in dealt]


def micro_batches(
    items: np.ndarray,
    lengths: np.ndarray,
    *,
    max_tokens: int | None,
    max_items: int | None = None,
    cost: int | None,
) -> list[np.ndarray]:
    """Cut ``items`` into micro-batches of similar length, each under a budget.

    Args:
        items: int64[n] feature indices of a rank's share.
        lengths: int[num_features], tokens of every feature of the split.
        max_tokens: Tokens a micro-batch holds at most, padding included; None: no limit. One
            feature longer than the budget travels alone.
        max_items: Features a micro-batch holds at most; None: no limit.
        cost: What a micro-batch costs beside its tokens, in tokens, where a feature takes the room of the longest of
            its micro-batch: the sum of both is least. None: a feature takes its own room.

    Returns:
        Arrays sorted by length, longest micro-batch first, so that the largest allocation comes first.
    """
    by_length = items[np.argsort(-lengths[items], kind="stable")]
    if cost is None:
        return _cut_by_sum(by_length, lengths[by_length], max_tokens, max_items)
    return _cut_by_padding(by_length, lengths[by_length].astype(np.int64), max_tokens, max_items, cost)


def _cut_by_padding(
    items: np.ndarray, lengths: np.ndarray, max_tokens: int | None, max_items: int | None, cost: int
) -> list[np.ndarray]:
    """The cut of the least padded tokens plus ``cost`` a part, by dynamic programming; ``lengths`` [n] fall."""
    number = len(items)
    least = np.zeros(number + 1, dtype=np.int64)  # of the first features, by how many they are
    begin = np.zeros(number + 1, dtype=np.int64)  # where the last part of them begins
    first = 0
    for end in range(1, number + 1):
        while end - first > 1 and (
            (max_items is not None and end - first > max_items)
            or (max_tokens is not None and lengths[first] * (end - first) > max_tokens)
        ):
            first += 1  # too large a part here is too large a part for all that come later
        starts = np.arange(first, end)
        totals = least[starts] + lengths[starts] * (end - starts) + cost
        best = int(totals.argmin())
        least[end], begin[end] = totals[best], first + best
    parts, end = [], number
    while end > 0:
        parts.append(items[begin[end] : end])
        end = int(begin[end])
    return parts[::-1]


def _cut_by_sum(
    items: np.ndarray, lengths: np.ndarray, max_tokens: int | None, max_items: int | None
) -> list[np.ndarray]:
    """As few parts as the budget allows, of about equally many real tokens."""
    total = int(lengths.sum())
    fair = total if max_tokens is None else -(-total // max(1, -(-total // max_tokens)))
    result: list[np.ndarray] = []
    start, held = 0, 0
    for position, length in enumerate(lengths.tolist()):
        full = max_items is not None and position - start >= max_items
        over = max_tokens is not None and held + length > max_tokens
        if position > start and (full or over or held >= fair):
            result.append(items[start:position])
            start, held = position, 0
        held += length
    return [*result, items[start:]] if start < len(items) else result
