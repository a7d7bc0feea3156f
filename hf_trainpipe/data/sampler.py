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

from hf_trainpipe.runtime.tokens.ragged import Groups

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
    together: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Split ``items`` into micro-batches of similar length, each within a budget.

    Args:
        items: int64[n] feature indices of a rank's share, those of an example one after the other.
        lengths: int[num_features] or [num_features, S], tokens of every feature of the split, in each of its streams.
        max_tokens: Maximum tokens of a micro-batch, padding included; None: no limit. A feature
            longer than this gets a micro-batch of its own.
        max_items: Maximum features of a micro-batch; None: no limit.
        cost: With padding: the fixed cost of a micro-batch, in tokens; the sum of padded tokens and fixed costs is
            minimized. None: no padding is computed.
        together: int[num_features]: features with the same number here stay in one micro-batch, whatever the budget: the
            example of each. None: every feature may go alone.

    Returns:
        Arrays sorted by length, longest micro-batch first, so that the largest allocation comes first.
    """
    groups = Groups.of(lengths[items], None if together is None else together[items]).longest_first()
    ends = (
        _ends_by_sum(groups, max_tokens, max_items)
        if cost is None
        else _ends_by_padding(groups, max_tokens, max_items, cost)
    )
    by_length = items[groups.items()]
    last = np.cumsum(groups.counts)[np.asarray(ends, dtype=np.int64) - 1]
    return np.split(by_length, last[:-1]) if ends else []


def _ends_by_padding(groups: Groups, max_tokens: int | None, max_items: int | None, cost: int) -> list[int]:
    """Behind which group each micro-batch ends: those that minimize padded tokens plus ``cost`` each, by dynamic programming;
    the longest group comes first."""
    number = len(groups.starts)
    longest = groups.longest.copy()  # [G, S] from each group to the last one that was looked at
    until = np.concatenate([[0], np.cumsum(groups.counts)])  # features of the first n groups
    least = np.zeros(number + 1, dtype=np.int64)  # cost of the first n groups
    begin = np.zeros(number + 1, dtype=np.int64)  # start of their last micro-batch
    first = 0
    for end in range(1, number + 1):
        np.maximum(longest[first:end], groups.longest[end - 1], out=longest[first:end])
        while end - first > 1 and (
            (max_items is not None and until[end] - until[first] > max_items)
            or (max_tokens is not None and longest[first].sum() * (until[end] - until[first]) > max_tokens)
        ):
            first += 1  # what exceeds the budget here does so for all later ends
        starts = np.arange(first, end)
        totals = least[starts] + longest[starts].sum(axis=1) * (until[end] - until[starts]) + cost
        best = int(totals.argmin())
        least[end], begin[end] = totals[best], first + best
    ends, end = [], number
    while end > 0:
        ends.append(end)
        end = int(begin[end])
    return ends[::-1]


def _ends_by_sum(groups: Groups, max_tokens: int | None, max_items: int | None) -> list[int]:
    """The same for as few micro-batches as the budget allows, with about equal numbers of tokens."""
    total = int(groups.totals.sum())
    fair = total if max_tokens is None else -(-total // max(1, -(-total // max_tokens)))
    ends: list[int] = []
    tokens, items = 0, 0
    for position, (length, count) in enumerate(zip(groups.totals.tolist(), groups.counts.tolist(), strict=True)):
        full = max_items is not None and items + count > max_items
        over = max_tokens is not None and tokens + length > max_tokens
        if items and (full or over or tokens >= fair):
            ends.append(position)
            tokens, items = 0, 0
        tokens, items = tokens + length, items + count
    return [*ends, len(groups.starts)] if items else ends
