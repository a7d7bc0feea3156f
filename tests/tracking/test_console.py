from __future__ import annotations

import io
import threading

import pytest

from hf_trainpipe.tracking import console as console_module
from hf_trainpipe.tracking.console import Console

VALUES = {
    "train/loss": 0.43121,
    "train/lr": 4.2e-5,
    "train/grad_norm": 1.2,
    "train/tokens_per_second": 1530.4,
}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_plain_line_is_short_and_aligned() -> None:
    stream, clock = io.StringIO(), Clock()
    console = Console(651, stream=stream, clock=clock)
    console.start(0)
    clock.now += 43.4
    console.step(VALUES, step=120, epoch=0.5529)
    clock.now += 1.0
    console.step(VALUES, step=9, epoch=0.04)
    assert stream.getvalue().splitlines() == [
        "step 120/651  epoch 0.55  loss 0.4312  lr 4.2e-05  1,530 tok/s  left 3:12",
        "step   9/651  epoch 0.04  loss 0.4312  lr 4.2e-05  1,530 tok/s  left 52:47",
    ]


def test_time_left_counts_from_the_resumed_step_and_without_pauses() -> None:
    clock = Clock()
    console = Console(200, stream=io.StringIO(), clock=clock)
    console.start(100)
    assert console.seconds_left(100) is None
    clock.now += 10
    console.pause()
    clock.now += 1000
    console.tick(step=110, epoch=1.0)
    assert console.seconds_left(110) == 90


def test_an_evaluation_stays_above_the_live_line() -> None:
    stream, clock = io.StringIO(), Clock()
    console = Console(651, stream=stream, live=True, clock=clock)
    console.start(0)
    clock.now += 1
    console.step({"loss": 0.5}, step=10, epoch=0.1)
    console.evaluation({"validation/accuracy": 0.86119}, step=10, best=True)
    clock.now += 0.06
    console.tick(step=11, epoch=0.1)
    clock.now += 0.06
    console.tick(step=12, epoch=0.12)
    console.close()
    console.close()
    shown = stream.getvalue().split("\r\x1b[2K")
    assert shown == [
        "",
        "step  10/651  epoch 0.10  loss 0.5000  left 1:04",
        "eval  10/651  accuracy 0.8612  best\nstep  10/651  epoch 0.10  loss 0.5000  left 1:04",
        "step  12/651  epoch 0.12  loss 0.5000  left 1:00\n",
    ]


def test_only_the_main_process_shows_anything() -> None:
    stream = io.StringIO()
    console = Console(10, is_main=False, stream=stream)
    console.start(0)
    console.step(VALUES, step=1, epoch=0.1)
    console.say("hello")
    console.close()
    assert stream.getvalue() == ""


def test_a_closed_stream_ends_nothing() -> None:
    stream = io.StringIO()
    console = Console(10, stream=stream)
    stream.close()
    console.say("hello")
    console.step({"loss": float("nan")}, step=1, epoch=0.1)


def test_long_times_and_odd_numbers() -> None:
    stream, clock = io.StringIO(), Clock()
    console = Console(1000, stream=stream, clock=clock)
    console.start(0)
    clock.now += 250
    console.step({"loss": float("nan"), "examples_per_second": 12.34, "lr": 0.0}, step=1, epoch=0.0)
    console.evaluation({"loss": 123456.0}, step=1)
    assert stream.getvalue().splitlines() == [
        "step    1/1000  epoch 0.00  loss nan  lr 0  12.3 ex/s  left 2d 21:22:30",
        "eval    1/1000  loss 1.2e+05",
    ]


def test_long_work_shows_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "EVERY_SECONDS", 0.01)
    seen = threading.Event()

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            count = super().write(text)
            seen.set()
            return count

    plain = Stream()
    with Console(0, stream=plain, live=False).working("scoring validation", total=4000) as done:
        done(1200)
        assert seen.wait(20)
    assert plain.getvalue().splitlines()[0] == "scoring validation: 1,200 of 4,000 rows, 0 s"
    live = Stream()
    seen.clear()
    with Console(0, stream=live, live=True).working("verifying"):
        assert seen.wait(20)
    assert live.getvalue().endswith("\r\x1b[2K")
    with Console(0, is_main=False).working("nothing"):
        assert "working" not in [thread.name for thread in threading.enumerate()]
