"""Which rank is named as hung."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from hf_trainpipe.engine.heartbeat import Heartbeat, collective_timeout, hung_rank


def note(tick: int, silent: float) -> dict:
    return {"tick": tick, "silent": silent, "pid": 7, "host": "here"}


@pytest.mark.parametrize(
    ("before", "after", "blamed"),
    [
        ({0: note(1, 9), 1: note(5, 9)}, {0: note(4, 12), 1: note(5, 9)}, 1),
        ({0: note(5, 9), 1: note(1, 9)}, {0: note(5, 9), 1: note(4, 12)}, 0),
        ({0: note(1, 9), 1: note(1, 9.5)}, {0: note(4, 12), 1: note(4, 12.5)}, 1),
        ({0: note(1, 9)}, {0: note(4, 12)}, 1),
    ],
    ids=["stopped", "rank 0 stopped", "silent first", "never began"],
)
def test_the_culprit(before, after, blamed) -> None:
    assert hung_rank(before, after, ranks=2)[0] == blamed


def test_silence_ends_the_process_and_beats_do_not(tmp_path: Path) -> None:
    ended = threading.Event()
    said: list[tuple[int, str]] = []

    def end(code: int, message: str) -> None:
        said.append((code, message))
        ended.set()

    with Heartbeat(folder=tmp_path, rank=0, ranks=2, timeout=0.8, end=end) as heart:
        for _ in range(20):
            time.sleep(0.1)
            heart.beat()
        assert not said
        assert ended.wait(30)
    code, message = said[0]
    assert code == 75
    assert "rank 1 never began" in message
    assert json.loads((tmp_path / "rank-0.json").read_text())["tick"] > 1


def test_one_rank_is_not_watched(tmp_path: Path) -> None:
    with Heartbeat(folder=tmp_path / "heartbeat", rank=0, ranks=1, timeout=0.1):
        assert not (tmp_path / "heartbeat").exists()


def test_the_timeout_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_TIMEOUT", "42")
    assert collective_timeout() == 42.0
    monkeypatch.delenv("HF_TRAINPIPE_TIMEOUT")
    assert collective_timeout() == 600.0
