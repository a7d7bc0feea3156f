"""The follower process: ``python -m hf_trainpipe.tracking.process RUN_DIR --parent PID``.

It feeds every tracker of a run from the ledger, each in a thread of its own. It ends by itself: when
the trainer asks it to, when the trainer has ended, or on SIGTERM; then it sends what is left for at most
``--linger`` seconds. Exit code 0: everything was sent; 3: ``track sync`` has something left to send.

Lines for the user go to the pipe that was its standard output; everything else to tracking/follower.log.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from hf_trainpipe.sidecar.child import Child, make_parser, run_process
from hf_trainpipe.tracking.base import read_spec, tracking_folder
from hf_trainpipe.tracking.feeder import Feeder

NOTHING_LEFT, SOMETHING_LEFT = 0, 3


def lock_of(directory: Path) -> FileLock:
    """Held by the one process that sends a run to its trackers."""
    return FileLock(tracking_folder(directory) / "follower.lock")


def main(arguments: list[str] | None = None) -> int:
    """Run the follower to its end."""
    parser = make_parser("hf_trainpipe.tracking.process", __doc__)
    parser.add_argument("--linger", type=float, default=30.0, help="seconds that it may go on after the end")
    options = parser.parse_args(arguments)
    child = Child(options.parent)
    os.chdir(options.run)

    def log(text: str) -> None:
        print(time.strftime("%Y-%m-%d %H:%M:%S"), text, file=sys.stderr, flush=True)

    run, specs = read_spec(Path.cwd())
    lock = lock_of(run.directory)
    if not child.acquire(lock, linger_s=options.linger):
        return SOMETHING_LEFT

    feeders = [Feeder(run, spec, position=n, say=child.say, log=log) for n, spec in enumerate(specs)]
    for feeder in feeders:
        threading.Thread(target=_follow, args=(feeder, child.ending, options.poll, log), daemon=True).start()
    while not child.wait(0.5):
        for feeder in feeders:
            feeder.tell_late()
    for feeder in feeders:
        feeder.done.wait(child.seconds_left(options.linger))
    late = [feeder for feeder in feeders if not feeder.done.is_set()]
    for feeder in late:
        log(f"{feeder.kind}: ended before everything was sent; `track sync` sends the rest")
    lock.release()
    return SOMETHING_LEFT if late else NOTHING_LEFT


def _follow(feeder: Feeder, ending: threading.Event, poll_s: float, log: Callable[[str], None]) -> None:
    try:
        feeder.follow(ending, poll_s=poll_s)
    except BaseException:
        log(f"{feeder.kind}: stopped by an error\n{traceback.format_exc()}")
        raise


if __name__ == "__main__":
    run_process(main, failed=SOMETHING_LEFT)
