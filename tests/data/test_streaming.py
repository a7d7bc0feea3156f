"""Windows of a stream: consecutive rows from any position, for any rank, after any kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_trainpipe.data.streaming import BEGINNING, Position, TrainStream, Windows
from hf_trainpipe.errors import DataError


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> list[str]:
    """37 rows in four files of 20, 1, 9 and 7."""
    folder, number, files = tmp_path_factory.mktemp("shards"), 0, []
    for shard, count in enumerate((20, 1, 9, 7)):
        file = folder / f"{shard}.jsonl"
        file.write_text("".join(json.dumps({"n": number + row}) + "\n" for row in range(count)))
        files.append(str(file))
        number += count
    return files


def stream_of(files: list[str]) -> TrainStream:
    return TrainStream(lambda: load_dataset("json", data_files=files, split="train", streaming=True))


@settings(max_examples=25, deadline=None)
@given(counts=st.lists(st.integers(1, 50), min_size=1, max_size=4))
def test_reading_goes_on_where_it_stopped_over_shards_and_passes(shards, counts) -> None:
    found, position = [], BEGINNING
    for count in counts:
        rows, position = stream_of(shards).read(Position(**json.loads(json.dumps(position.to_json()))), count)
        assert len(rows) == count
        found += rows["n"][:]
    assert found == [number % 37 for number in range(sum(counts))]


def test_ranks_open_the_same_windows_and_old_ones_go(shards, tmp_path) -> None:
    folder = tmp_path / "stream"
    ranks = [Windows(stream_of(shards), folder, rows=10) for _ in range(2)]
    for number in (1, 2, 5):
        found = []
        for windows in ranks:
            rows, place = windows.open(number)
            found.append(rows["n"][:])
            assert place.is_dir()
        assert found[0] == found[1] == [n % 37 for n in range(10 * number, 10 * number + 10)]
    assert sorted(place.name for place in folder.glob("window-*") if place.is_dir()) == [
        "window-000004",
        "window-000005",
    ]


def test_a_restored_position_needs_no_window_before_it(shards, tmp_path) -> None:
    first = Windows(stream_of(shards), tmp_path / "one", rows=10)
    first.open(3)
    state = json.loads(json.dumps(first.to_json()))
    assert state["window"] == 3
    for wanted in (3, 4):
        again = Windows(stream_of(shards), tmp_path / f"other-{wanted}", rows=10)
        again.restore(state)
        rows, _ = again.open(wanted)
        assert rows["n"][:] == [n % 37 for n in range(10 * wanted, 10 * wanted + 10)]
        assert not (tmp_path / f"other-{wanted}/window-000002").exists()


def test_a_window_that_was_half_written_is_read_again(shards, tmp_path) -> None:
    folder = tmp_path / "stream"
    (folder / "window-000001/rows").mkdir(parents=True)  # no next.json: the writer was killed before it was there
    rows, _ = Windows(stream_of(shards), folder, rows=10).open(1)
    assert rows["n"][:] == list(range(10, 20))


def test_an_empty_stream_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    file.write_text('{"n": 1}\n')
    empty = TrainStream(lambda: load_dataset("json", data_files=str(file), split="train", streaming=True).take(0))
    with pytest.raises(DataError, match="gave no rows"):
        empty.read(BEGINNING, 3)
