"""The follower process: ``python -m hf_trainpipe.tracking.process RUN_DIR --parent PID``.

It feeds every tracker of a run from the ledger, each in a thread of its own. It ends by itself: when
the trainer asks it to, when the trainer is gone, or on SIGTERM; then it sends what is left for at most
``--linger`` seconds. Exit code 0: everything was sent; 3: ``track sync`` has something left to send.

Lines for the person go to the pipe that was its standard output; everything else to tracking/follower.log.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from filelock import FileLock, Timeout

from hf_trainpipe.tracking.base import read_spec, tracking_folder
from hf_trainpipe.tracking.feeder import Feeder

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["End", "Scrubber", "lock_of", "main", "messages"]

SECRET_ENDINGS = ("TOKEN", "KEY", "SECRET", "PASSWORD")
NOTHING_LEFT, SOMETHING_LEFT = 0, 3


class Scrubber:
    """A text stream that writes ``***`` in place of every secret of the environment."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._secrets = sorted(
            {v for name, v in os.environ.items() if name.upper().endswith(SECRET_ENDINGS) and len(v) >= 8},
            key=len,
            reverse=True,
        )

    def write(self, text: str) -> int:
        """Write without the secrets."""
        self._stream.write(self.clean(text))
        return len(text)

    def clean(self, text: str) -> str:
        """The text without the secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def flush(self) -> None:
        """Pass on what waits."""
        self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def lock_of(directory: Path) -> FileLock:
    """Held by the one process that sends a run to its trackers."""
    return FileLock(tracking_folder(directory) / "follower.lock")


class End:
    """Knows when a process beside the trainer is to end: the trainer asked, the trainer is gone, or SIGTERM."""

    def __init__(self, parent: int) -> None:
        self.event = threading.Event()
        self._parent = parent
        self._stdin = True
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self.event.set())
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait(self, seconds: float) -> bool:
        """Wait for the end, at most so long."""
        if self.event.is_set():
            return True
        if self._stdin:
            ready, _, _ = select.select([0], [], [], seconds)
            if ready:
                self._read()  # a request to end, or the closed pipe: both mean the end
                self._stdin = False
                self.event.set()
        else:
            self.event.wait(seconds)
        if os.getppid() != self._parent:
            self.event.set()
        return self.event.is_set()

    def _read(self) -> bytes:
        return os.read(0, 4096)


def main(arguments: list[str] | None = None) -> int:
    """Run the follower to its end."""
    parser = argparse.ArgumentParser(prog="python -m hf_trainpipe.tracking.process", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--parent", type=int, required=True, help="process id of the trainer")
    parser.add_argument("--poll", type=float, default=1.0, help="seconds between two looks at the ledger")
    parser.add_argument("--linger", type=float, default=30.0, help="seconds that it may go on after the end")
    options = parser.parse_args(arguments)

    with contextlib.suppress(OSError):
        os.nice(10)
    scrubber = Scrubber(sys.stderr)
    say = messages(scrubber)
    sys.stdout = sys.stderr = scrubber
    end = End(options.parent)
    os.chdir(options.directory)

    def log(text: str) -> None:
        print(time.strftime("%Y-%m-%d %H:%M:%S"), text, file=sys.stderr, flush=True)

    run, specs = read_spec(Path.cwd())
    lock = lock_of(run.directory)
    deadline: float | None = None
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:  # the follower of the attempt before still sends
            if end.wait(0.1) and deadline is None:
                deadline = time.monotonic() + options.linger
            if deadline is not None and time.monotonic() > deadline:
                return SOMETHING_LEFT

    feeders = [Feeder(run, spec, position=n, say=say, log=log) for n, spec in enumerate(specs)]
    for feeder in feeders:
        threading.Thread(target=_guarded, args=(feeder, end.event, options.poll, log), daemon=True).start()
    while not end.wait(0.5):
        pass
    deadline = deadline or time.monotonic() + options.linger
    for feeder in feeders:
        feeder.done.wait(max(deadline - time.monotonic(), 0.0))
    late = [feeder for feeder in feeders if not feeder.done.is_set()]
    for feeder in late:
        log(f"{feeder.kind}: ended before everything was sent; `track sync` sends the rest")
    lock.release()
    return SOMETHING_LEFT if late else NOTHING_LEFT


def _guarded(feeder: Feeder, ending: threading.Event, poll_s: float, log: Callable[[str], None]) -> None:
    try:
        feeder.follow(ending, poll_s=poll_s)
    except BaseException:
        log(f"{feeder.kind}: gave up\n{traceback.format_exc()}")
        raise


def messages(scrubber: Scrubber) -> Callable[[str], None]:
    """Take standard output for messages; whatever else is printed goes to the log."""
    channel = os.dup(1)
    os.set_blocking(channel, False)
    os.dup2(2, 1)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):  # nobody reads: the trainer is gone, or never looked
            os.write(channel, scrubber.clean(" ".join(text.split())).encode() + b"\n")

    return say


if __name__ == "__main__":
    code = SOMETHING_LEFT
    try:
        code = main()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)  # a tracker that hangs in a thread or in an exit hook does not keep the process alive
