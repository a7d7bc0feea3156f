from __future__ import annotations

import json
import math
import os
import resource
import signal
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from hf_trainpipe.tracking.ledger import Ledger, Tail, read, series

if TYPE_CHECKING:
    from pathlib import Path


def fill(path: Path, steps: range, *, attempt: int = 1, truncate_to: int | None = None) -> int:
    with closing(Ledger(path, attempt=attempt, truncate_to=truncate_to)) as ledger:
        for step in steps:
            ledger.log({"train/loss": 1 / (step + 1), "train/lr": step / 7}, step=step, epoch=step / 10)
        return ledger.offset


def test_a_line_holds_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with closing(Ledger(path, attempt=2)) as ledger:
        ledger.log({"train/loss": 0.5}, step=3, epoch=0.25)
        ledger.flush()
        assert ledger.offset == path.stat().st_size
    row = json.loads(path.read_text())
    moment = row.pop("time")
    assert row == {"step": 3, "epoch": 0.25, "name": "train/loss", "value": 0.5, "attempt": 2}
    assert moment > 1.6e9


def test_series_reads_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    fill(path, range(20))
    assert series(path, "train/loss") == [(step, 1 / (step + 1)) for step in range(20)]
    assert series(path, "absent") == []
    assert list(read(tmp_path / "absent.jsonl")) == []


def test_values_that_json_lacks(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with closing(Ledger(path, attempt=1)) as ledger:
        ledger.log({"a": math.nan, "b": math.inf, "c": -math.inf}, step=1, epoch=0.1)
    rows = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]
    assert [row["value"] for row in rows] == ["NaN", "Infinity", "-Infinity"]
    values = [point.value for point in read(path)]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf]


def test_one_point_for_a_name_and_step(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    fill(path, range(5))
    with closing(Ledger(path, attempt=2)) as ledger:
        with pytest.raises(ValueError, match=r"train/loss: expected a step after 4, found step 4"):
            ledger.log({"validation/loss": 1.0, "train/loss": 1.0}, step=4, epoch=0.4)
        ledger.log({"validation/loss": 1.0}, step=4, epoch=0.4)
    assert series(path, "validation/loss") == [(4, 1.0)]


def test_resume_repeats_the_steps_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    offset = fill(path, range(12))
    fill(path, range(12, 20))
    fill(path, range(12, 30), attempt=2, truncate_to=offset)
    assert [step for step, _ in series(path, "train/loss")] == list(range(30))
    assert [point.attempt for point in read(path) if point.name == "train/lr"] == [1] * 12 + [2] * 18


def test_starting_over_empties_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    fill(path, range(3))
    fill(path, range(2), truncate_to=0)
    assert [step for step, _ in series(path, "train/loss")] == [0, 1]


def test_any_torn_end_is_cut_to_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    fill(path, range(3))
    content = path.read_bytes()
    second = content.index(b"\n") + 1
    for length in (0, 1, second - 1, second, second + 1, second + 40, len(content) - 1, len(content)):
        for garbage in (b"", b"\0" * 9, b"{}\n"):
            path.write_bytes(content[:length] + garbage)
            Ledger(path, attempt=2).close()
            assert path.read_bytes() == content[: content.rfind(b"\n", 0, length) + 1]
    assert os.listdir(tmp_path) == ["ledger.jsonl"]


def test_an_offset_beyond_the_end_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    fill(path, range(3))
    assert fill(path, range(0), truncate_to=10**9) == path.stat().st_size
    assert len(list(read(path))) == 6


def test_tail_follows_growth_and_replacement(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    offset = fill(path, range(2))
    assert len(tail.read(num_lines=3)) == 3
    assert len(tail.read()) == 1
    fill(path, range(2, 4))
    with open(path, "ab") as file:
        file.write(b'{"step": 4')
    assert len(tail.read()) == 4
    assert tail.read() == []
    fill(path, range(2, 40), truncate_to=offset)
    assert len(tail.read()) == 80
    tail.rewind()


def test_a_full_disk_is_reported_by_flush_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    offset = fill(path, range(2))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    ledger = Ledger(path, attempt=1)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (offset + 30, limits[1]))
        ledger.log({"train/loss": 1.0}, step=2, epoch=0.2)
        ledger.log({"train/loss": 2.0}, step=3, epoch=0.3)
        with pytest.raises(OSError, match="File too large"):
            ledger.flush()
        assert path.stat().st_size == offset
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    ledger.log({"train/loss": 3.0}, step=4, epoch=0.4)
    ledger.close()
    ledger.close()
    assert series(path, "train/loss")[2:] == [(2, 1.0), (3, 2.0), (4, 3.0)]
