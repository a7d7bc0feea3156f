from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hf_trainpipe.serve.batch_selection import choose

LENGTHS = st.lists(st.integers(1, 512), min_size=1, max_size=64)


@given(LENGTHS, st.integers(1, 4096), st.integers(0, 200))
def test_a_batch_holds_the_oldest_and_keeps_the_budget(lengths: list[int], max_tokens: int, call: int) -> None:
    array = np.array(lengths, dtype=np.int64)
    chosen = choose(array, max_tokens=max_tokens, call_tokens=call)
    assert 0 in chosen
    assert len(set(chosen.tolist())) == len(chosen)
    assert len(chosen) == 1 or len(chosen) * array[chosen].max() <= max_tokens
    ordered = np.sort(array[chosen])
    between = array[(array > ordered[0]) & (array < ordered[-1])]
    assert np.isin(between, ordered).all(), "a batch takes neighbours in length"


@given(LENGTHS, st.integers(1, 2048))
def test_no_other_run_of_neighbours_is_worth_more(lengths: list[int], max_tokens: int) -> None:
    array = np.array(lengths, dtype=np.int64)

    def worth(batch: np.ndarray) -> float:
        return float(batch.sum() / (32 + len(batch) * batch.max()))

    found = worth(array[choose(array, max_tokens=max_tokens, call_tokens=32)])
    order = np.argsort(-array, kind="stable")
    place = order.tolist().index(0)
    for low in range(place + 1):
        for high in range(place + 1, len(order) + 1):
            batch = array[order[low:high]]
            if len(batch) * batch.max() <= max_tokens or len(batch) == 1:
                assert worth(batch) <= found + 1e-12


@given(LENGTHS, st.integers(1, 2048))
def test_where_nothing_is_padded_the_oldest_that_fit_go_together(lengths: list[int], max_tokens: int) -> None:
    chosen = choose(np.array(lengths, dtype=np.int64), max_tokens=max_tokens, call_tokens=None).tolist()
    assert chosen == list(range(len(chosen)))
    assert len(chosen) == 1 or sum(lengths[: len(chosen)]) <= max_tokens
    assert len(chosen) == len(lengths) or sum(lengths[: len(chosen) + 1]) > max_tokens


def test_padding_is_weighed_against_a_call() -> None:
    lengths = np.array([100, 100, 5], dtype=np.int64)
    assert sorted(choose(lengths, max_tokens=4096, call_tokens=32)) == [0, 1]
    assert sorted(choose(lengths, max_tokens=4096, call_tokens=10_000)) == [0, 1, 2]
    assert choose(np.array([900], dtype=np.int64), max_tokens=100, call_tokens=48).tolist() == [0]
