"""What a recipe's rows are dealt by: labels of every kind of task, duplicates, columns, times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest

from hf_trainpipe import (
    DataError,
    Frame,
    MultiLabelClassification,
    Pretrained,
    Recipe,
    Regression,
    TextClassification,
    TokenClassification,
)
from hf_trainpipe.studies.pool import Pool

LONG = "a film about a very old man and his dog, who walk over the hills every day"


def pool(task: Any, **columns: Any) -> Pool:
    frame = pandas.DataFrame(columns)
    half = len(frame) // 2
    data = Frame(train=frame[:half], validation=frame[half:])
    return Pool.of(Recipe(name="r", model=Pretrained("m"), data=data, task=task))


def spread(found: Pool) -> list[list[str]]:
    strata = found.strata
    pairs = zip(strata.rows.tolist(), strata.ids.tolist(), strict=True)
    by_row: list[list[str]] = [[] for _ in range(len(found))]
    for row, at in sorted(pairs):
        by_row[row].append(strata.names[at])
    return by_row


def test_labels_of_each_task_are_spread() -> None:
    texts = ["a b", "c d", "e f", "g h"]
    one = pool(TextClassification("text", label="y"), text=texts, y=["n", "p", "p", "n"])
    assert spread(one) == [["n"], ["p"], ["p"], ["n"]]
    many = pool(MultiLabelClassification("text", labels="y"), text=texts, y=[["a"], ["a", "b"], [], ["b"]])
    assert spread(many) == [["a"], ["a", "b"], ["none"], ["b"]]
    numbers = pool(Regression("text", score="y"), text=texts, y=[0.0, 1.0, 2.0, 3.0])
    assert len({tuple(names) for names in spread(numbers)}) == 4
    tags = [["O", "B-x"], ["B-y", "I-y"], ["O", "O"], ["B-x", "B-y"]]
    tagged = pool(TokenClassification("words", tags="y"), words=[text.split() for text in texts], y=tags)
    assert spread(tagged) == [["x"], ["y"], ["none"], ["x", "y"]]


def test_near_copies_are_one_group_and_columns_make_others() -> None:
    texts = [LONG, LONG.upper(), f"{LONG}s", "something else"]
    found = pool(TextClassification("text", label="y"), text=texts, y=["n", "p", "n", "p"], who=["x", None, "x", None])
    first, second, third, other = found.groups(None).tolist()
    assert first == second == third != other
    one, two, three, four = found.groups("who").tolist()
    assert one == three
    assert len({one, two, four}) == 3
    assert found.choice(np.array([0, 3])) == [("train", [0]), ("validation", [1])]


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        (["2", "10", "9", "1"], [3, 0, 2, 1]),
        (["2026-01-02", "2025-12-31", "2026-01-02T10:00", "2024-01-01"], [3, 1, 0, 2]),
        ([4.5, 1.0, 2.0, 3.0], [1, 2, 3, 0]),
    ],
)
def test_times_are_ordered_as_numbers_or_dates(cells: list[Any], order: list[int]) -> None:
    found = pool(TextClassification("text", label="y"), text=list("abcd"), y=["n", "p", "n", "p"], t=cells)
    times = found.times("t")
    assert sorted(range(4), key=lambda row: times[row]) == order


def test_what_is_no_time_is_told_with_its_row() -> None:
    cells = ["2026-01-02", "2026-01-03", "soon", "2026-01-04"]
    found = pool(TextClassification("text", label="y"), text=list("abcd"), y=["n", "p", "n", "p"], t=cells)
    with pytest.raises(DataError, match=r"row 0 of split 'validation': --time t: expected a number or a date.*'soon'"):
        found.times("t")
