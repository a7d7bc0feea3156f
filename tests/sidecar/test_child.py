"""A process beside the trainer, as the trainer starts one: pipes to and from it, a file as its standard error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = "hunter2-hunter2"
INSIDE = """
import os
from filelock import FileLock
from hf_trainpipe.sidecar.child import Child, make_parser, run_process

def main():
    parser = make_parser("child", None)
    parser.add_argument("--linger", type=float, default=0.0)
    options = parser.parse_args()
    child = Child(options.parent)
    print("printed, and", os.environ["SOME_API_TOKEN"])
    child.say("starts with\\n " + os.environ["SOME_API_TOKEN"])
    if not child.acquire(FileLock(options.run / "lock"), linger_s=options.linger):
        child.say("never had the lock")
        return 3
    child.say("holds the lock")
    while not child.wait(options.poll):
        pass
    child.say(f"told {child.request!r}")
    if child.request == b"fail":
        raise RuntimeError("as it was told")
    return 0

run_process(main, failed=7)
"""


class Child:
    """A process beside this one, and what it says."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def tell(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.close()

    @property
    def log(self) -> str:
        return self._log.read_text()


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Child]]:
    monkeypatch.setenv("SOME_API_TOKEN", SECRET)
    children: list[Child] = []

    def begin(*options: str, parent: int | None = None) -> Child:
        command = [
            sys.executable,
            "-c",
            INSIDE,
            str(tmp_path),
            "--parent",
            str(parent or os.getpid()),
            "--poll",
            "0.02",
        ]
        log = tmp_path / f"log-{len(children)}"
        with log.open("w") as stream:
            process = subprocess.Popen(
                [*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, text=True
            )
        children.append(Child(process, log))
        return children[-1]

    yield begin
    for child in children:
        child.process.kill()
        with child.process:
            pass


def test_it_is_told_to_end_and_says_what_it_has_to_say(start: Callable[..., Child]) -> None:
    child = start()
    assert child.line() == "starts with ***"
    assert child.line() == "holds the lock"
    child.tell("stop\n")
    assert child.line() == r"told b'stop\n'"
    assert child.line() == ""
    assert child.process.wait(60) == 0
    assert "printed, and ***" in child.log
    assert SECRET not in child.log


def test_a_closed_pipe_and_a_signal_end_it_and_tell_nothing(start: Callable[..., Child]) -> None:
    def close(child: Child) -> None:
        child.tell("")

    def terminate(child: Child) -> None:
        child.process.send_signal(signal.SIGINT)  # the trainer's affair, not its own
        child.process.send_signal(signal.SIGTERM)

    for end in (close, terminate):
        child = start()
        assert [child.line(), child.line()] == ["starts with ***", "holds the lock"]
        end(child)
        assert child.line() == "told b''"
        assert child.process.wait(60) == 0


def test_without_its_parent_it_ends(start: Callable[..., Child]) -> None:
    child = start(parent=os.getppid())
    assert [child.line() for _ in range(3)] == ["starts with ***", "holds the lock", "told b''"]
    assert child.process.wait(60) == 0


def test_an_error_is_in_the_log_and_in_the_exit_code(start: Callable[..., Child]) -> None:
    child = start()
    child.tell("fail")
    assert child.process.wait(60) == 7
    assert "RuntimeError: as it was told" in child.log


def test_it_waits_for_the_lock_until_it_may_linger_no_longer(start: Callable[..., Child], tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock"):
        for options in ((), ("--linger", "0.3")):
            child = start(*options)
            child.tell("stop\n")
            assert [child.line(), child.line()] == ["starts with ***", "never had the lock"]
            assert child.process.wait(60) == 3
        waiting = start()
        assert waiting.line() == "starts with ***"
        lingering = start("--linger", "1000")
        lingering.tell("stop\n")
        assert lingering.line() == "starts with ***"
    assert waiting.line() == "holds the lock"
    waiting.tell("")
    assert lingering.line() == "holds the lock"
    assert lingering.line() == r"told b'stop\n'"
    assert (waiting.process.wait(60), lingering.process.wait(60)) == (0, 0)
