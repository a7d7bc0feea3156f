"""How rows are dealt: labels in proportion, groups whole, every row once, the newest last, subsets inside each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_trainpipe.errors import DataError
from hf_trainpipe.studies.folds import Strata, deal, folds, forward, nested


@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=6), parts=st.integers(2, 6), seed=st.integers(0, 9))
def test_single_labels_are_dealt_to_the_row(counts: list[int], parts: int, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    strata = Strata.of_ids(labels, [str(label) for label in range(len(counts))])
    part = deal(strata, np.arange(len(labels)), [1 / parts] * parts, seed=seed)
    table = np.stack([np.bincount(labels[part == one], minlength=len(counts)) for one in range(parts)])
    assert np.ptp(table, axis=0).max() <= 1


@given(seed=st.integers(0, 20), parts=st.integers(2, 5))
def test_groups_stay_whole_and_labels_near_their_share(seed: int, parts: int) -> None:
    draw = np.random.default_rng(seed)
    groups = draw.integers(0, 150, 600)
    hot = draw.random((600, 4)) < (0.5, 0.3, 0.1, 0.05)
    strata = Strata.of_pairs(*np.nonzero(hot), ("a", "b", "c", "d"), 600)
    found = folds(strata, groups, count=parts, validation=0.2, seed=seed)
    assert np.array_equal(np.sort(np.concatenate([one.test for one in found])), np.arange(600))
    for one in found:
        sides = [set(groups[rows].tolist()) for rows in (one.train, one.validation, one.test)]
        assert not (sides[0] & (sides[1] | sides[2]))
        assert not (sides[1] & sides[2])
        assert len(one.train) + len(one.validation) + len(one.test) == 600
        assert abs(len(one.test) - 600 / parts) <= 0.2 * 600 / parts
        shares = hot[one.test].sum(axis=0) / hot.sum(axis=0)
        assert np.abs(shares[:2] - 1 / parts).max() < 0.08


def test_what_is_dealt_depends_on_the_seed_alone() -> None:
    strata, groups = Strata.of_numbers(np.linspace(0, 5, 100)), np.arange(100) // 3
    first, again, other = (deal(strata, groups, [0.5, 0.5], seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.ptp(np.bincount(strata.ids)) <= 1


def test_folds_by_time_never_look_ahead() -> None:
    times = np.random.default_rng(0).permutation(np.repeat(np.arange(30), 4)).tolist()
    for one in forward(times, count=4, validation=0.2):
        train, selected, held = (np.asarray(times)[rows] for rows in (one.train, one.validation, one.test))
        assert train.max() < selected.min() <= selected.max() < held.min()


def test_too_few_groups_or_times_are_told() -> None:
    strata = Strata.of_ids(np.zeros(9, dtype=np.int64), ("a",))
    with pytest.raises(DataError, match="5 folds need 5 groups of rows at least, found 3"):
        folds(strata, np.arange(9) // 3, count=5, validation=0, seed=0)
    with pytest.raises(DataError, match="6 different times at least"):
        forward([1, 1, 2, 2, 3], count=5, validation=0)
    with pytest.raises(DataError, match="none can be kept apart"):
        folds(Strata.of_ids(np.zeros(2, dtype=np.int64), ("a",)), np.arange(2), count=2, validation=0.5, seed=0)


def test_subsets_are_nested_and_stratified() -> None:
    labels = np.repeat([0, 1], [900, 100])
    found = nested(Strata.of_ids(labels, ("a", "b")), np.arange(1000), (0.1, 0.3, 1.0), seed=3)
    assert [(len(rows), int(labels[rows].sum())) for rows in found] == [(100, 10), (300, 30), (1000, 100)]
    assert set(found[0]) < set(found[1]) < set(found[2])
