"""The examples of each step: a function of (seed, epoch, data size) alone.

A seeded permutation of the epoch is split into global batches, each batch into shares of similar
length for the ranks, and each share into micro-batches of similar length under a token budget.
There is no state to restore: the examples of any step can be computed, and they do not depend on
the number of ranks. The last global batch of an epoch may be smaller. Losses are divided by its
actual size, so no example is repeated or dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

ORDER_VERSION = 1
"""Increased whenever the order for a given seed changes; checked on resume."""


@lru_cache(maxsize=2)
def _permutation(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """int64[num_examples]: the order of an epoch, from a counter-based generator keyed by both."""
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    order = generator.permutation(num_examples)
    order.setflags(write=False)
    return order


@dataclass(frozen=True, kw_only=True)
class EpochSampler:
    """The order of the training examples.

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
        """Number of examples in all steps before ``step``."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return epoch * self.num_examples + min(within * self.examples_per_step, self.num_examples)


def shares(examples: np.ndarray, lengths: np.ndarray, *, ranks: int) -> list[np.ndarray]:
    """Split a global batch over the ranks: numbers of examples differ by at most one, tokens are similar.

    Args:
        examples: int64[n], the global batch.
        lengths: int[num_examples], tokens of every example of the split.
        ranks: Number of ranks.

    Returns:
        ``ranks`` arrays whose union is ``examples``, each example once. An array is empty if there
        are fewer examples than ranks.
    """
    if ranks == 1:
        return [examples]
    longest_first = examples[np.argsort(-lengths[examples], kind="stable")]
    turn, rank = np.divmod(np.arange(len(examples)), ranks)
    # In alternating order, so that the sums of tokens stay close.
    rank = np.where(turn % 2 == 0, rank, ranks - 1 - rank)
    return [longest_first[rank == one] for one in range(ranks)]


def micro_batches(
    items: np.ndarray,
    lengths: np.ndarray,
    *,
    max_tokens: int | None,
    max_items: int | None = None,
    cost: int | None,
) -> list[np.ndarray]:
    """Split ``items`` into micro-batches of similar length, each within a budget.

    Args:
        items: int64[n] feature indices of a rank's share.
        lengths: int[num_features] or [num_features, S], tokens of every feature of the split, in each of its streams.
        max_tokens: Maximum tokens of a micro-batch, padding included; None: no limit. A feature
            longer than this gets a micro-batch of its own.
        max_items: Maximum features of a micro-batch; None: no limit.
        cost: With padding: the fixed cost of a micro-batch, in tokens; the sum of padded tokens and fixed costs is
            minimized. None: no padding is computed.

    Returns:
        Arrays sorted by length, longest micro-batch first, so that the largest allocation comes first.
    """
    widths = (lengths if lengths.ndim == 2 else lengths[:, None])[items].astype(np.int64)
    order = np.argsort(-widths.sum(axis=1), kind="stable")
    if cost is None:
        return _cut_by_sum(items[order], widths[order].sum(axis=1), max_tokens, max_items)
    return _cut_by_padding(items[order], widths[order], max_tokens, max_items, cost)


def _cut_by_padding(
    items: np.ndarray, widths: np.ndarray, max_tokens: int | None, max_items: int | None, cost: int
) -> list[np.ndarray]:
    """Minimize padded tokens plus ``cost`` per micro-batch, by dynamic programming; the sums of ``widths`` [n, S] descend."""
    number = len(items)
    longest = widths.copy()  # [n, S] from each feature to the last one that was looked at
    least = np.zeros(number + 1, dtype=np.int64)  # cost of the first n features
    begin = np.zeros(number + 1, dtype=np.int64)  # start of their last micro-batch
    first = 0
    for end in range(1, number + 1):
        np.maximum(longest[first:end], widths[end - 1], out=longest[first:end])
        while end - first > 1 and (
            (max_items is not None and end - first > max_items)
            or (max_tokens is not None and longest[first].sum() * (end - first) > max_tokens)
        ):
            first += 1  # what exceeds the budget here does so for all later ends
        starts = np.arange(first, end)
        totals = least[starts] + longest[starts].sum(axis=1) * (end - starts) + cost
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
    """As few micro-batches as the budget allows, with about equal numbers of tokens."""
    total = int(lengths.sum())
    fair = total if max_tokens is None else -(-total // max(1, -(-total // max_tokens)))
    result: list[np.ndarray] = []
    start, tokens = 0, 0
    for position, length in enumerate(lengths.tolist()):
        full = max_items is not None and position - start >= max_items
        over = max_tokens is not None and tokens + length > max_tokens
        if position > start and (full or over or tokens >= fair):
            result.append(items[start:position])
            start, tokens = position, 0
        tokens += length
    return [*result, items[start:]] if start < len(items) else result
