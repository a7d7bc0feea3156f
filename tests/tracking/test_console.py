from __future__ import annotations

import io
import json
import re
import sys
import threading

import pytest

from hf_trainpipe.tracking.console import Console, choose_form, forms_of_a_verb, tell_error, view_of
from hf_trainpipe.tracking.views.base import View
from hf_trainpipe.tracking.views.terminal import Terminal, wrapped
from hf_trainpipe.utils.tables import width_of

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


def screen(text: str, *, width: int) -> list[str]:
    """What a terminal shows of what was written to it: only the codes that the live view uses."""
    lines, row, column = [""], 0, 0
    for found in re.finditer(r"\x1b\[([0-9;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)", text):
        count, code, home, new, plain = found.groups()
        if home:
            column = 0
        elif new:
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif plain:
            assert width_of(lines[row][:column] + plain) < width, "a line that wraps"
            lines[row] = lines[row][:column] + plain + lines[row][column + len(plain) :]
            column += len(plain)
        elif code == "A":
            row -= int(count or 1)
        elif code == "K":
            lines[row] = "" if count == "2" else lines[row][:column]
        else:
            assert code == "m", f"unknown: {found[0]!r}"
    assert row == len(lines) - 1 or not any(lines[row:]), "the cursor stands under all that is shown"
    return [line.rstrip() for line in lines[:row]]


@pytest.mark.parametrize("width", [80, 120])
def test_the_live_view_fits_and_what_stays_is_above_it(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    stream, clock = io.StringIO(), Clock()
    console = Console(651, stream=stream, form="live", clock=clock)
    console.memory = lambda: 3 << 29
    console.start(0)
    clock.now += 60
    console.step(VALUES, step=100, epoch=0.5)
    name = "a_metric_with_a_long_name_in_wide_characters_" + "日本語" * 12
    console.evaluation(
        {"loss": 0.5, name: 0.8, "f1_macro": 0.75}, step=100, best=True, select=name, intervals={name: (0.7, 0.9)}
    )
    console.checkpoint(100)
    console.say("warning: " + "many words that are broken where a line ends " * 4)
    with console.working("evaluating validation, which has a long name too, and goes on and on", total=4000) as done:
        done(2000)
        clock.now += 60
        console.step({**VALUES, "train/loss": 0.25}, step=200, epoch=1.0)
        shown = screen(stream.getvalue(), width=width)
    text = " ".join(" ".join(shown).split())
    assert shown[0] == "eval 100/651  loss 0.5000", "what stays is above, and nothing of the earlier block is left"
    assert "0.8000 [0.7000, 0.9000]" in text
    assert text.count("checkpoint at 100") == 1
    assert text.count("many words that are broken where a line ends") == 4
    live = shown[next(place for place, line in enumerate(shown) if line.startswith("step 200/651")) :]
    assert "left 4:31" in live[0]
    assert "31%" in live[0]
    assert live[1] == "loss 0.2500  lr 4.2e-05  1,530 tok/s  memory 1.5 GiB"
    assert live[-1].startswith("━━━━━━━━━━──────────  evaluating validation")
    console.close()
    console.close()
    assert screen(stream.getvalue(), width=width)[-1] == (
        "step 200/651  epoch 1.00  loss 0.2500  lr 4.2e-05  1,530 tok/s  left 4:31"
    )
    assert "\x1b[?25l" not in stream.getvalue(), "who is killed cannot show a hidden cursor again"


def test_what_others_print_stays_above_the_live_view(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    stream = Tty()
    monkeypatch.setattr("sys.stderr", stream)
    with Console(0).working("importing"):
        kept = sys.stderr  # by a logger, say
    assert kept is not stream
    console = Console(10)
    console.start()
    console.step(VALUES, step=1, epoch=0.1)
    print("from a library", file=kept)
    print("\rfetching  10 %\rfetching  50 %", end="", file=sys.stderr)
    console.step(VALUES, step=2, epoch=0.2)
    shown = lambda: screen(re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()), width=80)  # noqa: E731
    assert shown()[:2] == ["from a library", "fetching  50 %"], "a bar redraws with the region"
    assert shown()[2].startswith("step  2/10")
    print("\rfetching 100 %", file=sys.stderr)
    assert shown()[:2] == ["from a library", "fetching 100 %"]
    with Console(0).working("inner work has no region of its own"):
        console.step(VALUES, step=3, epoch=0.3)
    assert shown()[2].startswith("step  3/10")
    console.close()
    assert sys.stderr is stream
    for name in ("dumb", ""):
        monkeypatch.setenv("TERM", name)
        assert type(view_of()).__name__ == "Lines"


def test_json_lines_tell_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with forms_of_a_verb():
        choose_form("json")
        console = Console(10)
        console.start()
        console.step({"train/loss": float("nan"), "train/lr": 1e-5}, step=1, epoch=0.1)
        console.evaluation({"f1": 0.5}, step=1, best=True, select="f1", intervals={"f1": (0.4, 0.6)})
        console.checkpoint(1)
        console.say("warning: odd")
        with console.working("scoring test", total=3) as done:
            done(3)
        print("\r 10 %\r 100 %", file=sys.stderr)
        print("torn", end="", file=sys.stderr)
        assert tell_error("wrong", "do this", exit_code=2)
    assert sys.stderr is stream
    assert not tell_error("wrong", "do this", exit_code=2)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert all(event.pop("time") > 1e9 for event in events)
    assert events[0].pop("seconds_left") >= 0
    shown = {"step": 1, "total_steps": 10}
    assert events == [
        {"event": "step", **shown, "epoch": 0.1, "memory_bytes": None, "values": {"loss": "NaN", "lr": 1e-05}},
        {"event": "evaluation", **shown, "values": {"f1": 0.5}, "intervals": {"f1": [0.4, 0.6]}, "best": True},
        {"event": "checkpoint", "step": 1},
        {"event": "message", "level": "warning", "text": "odd"},
        {"event": "work", "what": "scoring test", "state": "begins", "total": 3},
        {"event": "work", "what": "scoring test", "state": "ended", "rows": 3, "total": 3, "seconds": 0.0},
        {"event": "output", "text": " 100 %"},
        {"event": "error", "message": "wrong", "fix": "do this", "exit_code": 2},
        {"event": "output", "text": "torn"},
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
    monkeypatch.setattr(View, "patience", 0.01)
    monkeypatch.setattr(Terminal, "patience", 0.01)
    seen = threading.Event()

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            count = super().write(text)
            seen.set()
            return count

    plain = Stream()
    with Console(0, stream=plain, form="plain").working("scoring validation", total=4000) as done:
        done(1200)
        assert seen.wait(20)
    assert plain.getvalue().splitlines()[0] == "scoring validation: 1,200 of 4,000 rows, 0 s"
    live = Stream()
    seen.clear()
    with Console(0, stream=live, form="live").working("verifying"):
        assert seen.wait(20)
    assert screen(re.sub(r"\x1b\[[0-9;]*m", "", live.getvalue()), width=100) == []
    with Console(0, is_main=False).working("nothing"):
        assert "working" not in [thread.name for thread in threading.enumerate()]


def test_long_lines_break_between_words_and_commands_stay_whole() -> None:
    command = "next      hf-trainpipe predict runs/tiny/package --input texts.txt --output answers.csv"
    text = "machine     one rank and many more words\n  an indented line that is too long\n" + command
    assert wrapped(text, 24) == [
        "machine     one rank and",
        "  many more words",
        "  an indented line that",
        "  is too long",
        command,
    ]
    assert wrapped("steps       as CUDA graphs, launched as one, all", 30) == [
        "steps       as CUDA graphs,",
        "            launched as one,",
        "            all",
    ]
    wide = wrapped("日本語の長い 警告", 10)
    assert "".join("".join(wide).split()) == "日本語の長い警告"
    assert max(map(width_of, wide)) <= 10
