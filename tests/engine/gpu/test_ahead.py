"""Micro-batches of the next step are prepared in a thread, and are those that would be prepared now."""

from __future__ import annotations

import threading

import pytest

from hf_trainpipe.engine.gpu.ahead import Ahead


def test_the_next_step_is_prepared_by_another_thread() -> None:
    prepared: list[tuple[int, bool]] = []
    tokens = 10

    def prepare(step: int) -> tuple[int, int]:
        prepared.append((step, threading.current_thread() is threading.main_thread()))
        return step, tokens

    ahead = Ahead(prepare, total_steps=4)
    assert [ahead.get(step, 10) for step in range(2)] == [(0, 10), (1, 10)]
    assert prepared[:2] == [(0, True), (1, False)]
    ahead._next.result()  # step 2, with the settings of now
    tokens = 5
    assert ahead.get(2, 5) == (2, 5), "prepared again, with other settings"
    assert ahead.get(3, 5) == (3, 5)
    assert max(step for step, _ in prepared) == 3, "there is no step after the last"
    assert ahead.get(1, 5) == (1, 5), "another step than the next one"


def test_an_error_is_raised_where_the_step_is_asked_for() -> None:
    def prepare(step: int) -> int:
        if step == 1:
            raise ValueError("row 7")
        return step

    ahead = Ahead(prepare, total_steps=3)
    assert ahead.get(0, None) == 0
    with pytest.raises(ValueError, match="row 7"):
        ahead.get(1, None)
