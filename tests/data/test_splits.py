"""Splits by fraction: exact sizes, no row lost, strata and groups kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_trainpipe.data.splits import check_fraction, cut, row_keys
from hf_trainpipe.errors import DataError, RecipeError

PINNED = [0, 3, 6, 7, 8, 11]
"""What a seed chooses must not move: a moved cut would leak validation rows into train."""


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(10, 300), fraction=st.floats(0.1, 0.9), seed=st.integers(0, 2**40))
def test_a_cut_is_a_partition(rows: int, fraction: float, seed: int) -> None:
    rest, chosen = cut(rows, fraction, seed=seed)
    assert sorted([*rest, *chosen]) == list(range(rows))
    assert len(chosen) == round(rows * fraction)
    again = cut(rows, fraction, seed=seed)
    assert np.array_equal(again[1], chosen)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.integers(0, 5), min_size=20, max_size=200), fraction=st.floats(0.1, 0.9))
def test_strata_keep_their_share(values: list[int], fraction: float) -> None:
    _, chosen = cut(len(values), fraction, seed=1, stratify=values)
    assert len(chosen) == round(len(values) * fraction)
    for value in set(values):
        taken = sum(values[row] == value for row in chosen)
        assert abs(taken - values.count(value) * fraction) < 1


@settings(max_examples=60, deadline=None)
@given(groups=st.lists(st.integers(0, 40), min_size=60, max_size=200), seed=st.integers(0, 99))
def test_groups_stay_together(groups: list[int], seed: int) -> None:
    groups = [*groups, *range(41)]
    rest, chosen = cut(len(groups), 0.3, seed=seed, group=groups)
    assert not {groups[row] for row in rest} & {groups[row] for row in chosen}
    largest = max(groups.count(group) for group in groups)
    assert abs(len(chosen) - 0.3 * len(groups)) <= largest


def test_the_order_is_pinned() -> None:
    assert row_keys(2, seed=17).tolist() == row_keys(5, seed=17)[:2].tolist()
    assert cut(12, 0.5, seed=17)[1].tolist() == PINNED
    assert len(np.unique(row_keys(10_000, seed=3))) == 10_000


def test_the_draw_is_even() -> None:
    drawn = np.zeros(50)
    for seed in range(400):
        drawn[cut(50, 0.2, seed=seed)[1]] += 1
    assert drawn.min() > 45
    assert drawn.max() < 120


def test_parts_without_rows_are_refused() -> None:
    with pytest.raises(DataError, match="takes no rows"):
        cut(3, 0.1, seed=0)
    with pytest.raises(DataError, match="in groups"):
        cut(9, 0.1, seed=0, group=["one"] * 9)
    for fraction in (0.0, 1.0, -0.5, 20.0):
        with pytest.raises(RecipeError, match=r"data\.test"):
            check_fraction("data.test", fraction)
