"""``launch``: ``accelerate launch`` with signals and exit codes.

``accelerate launch`` with one process dies of a SIGTERM and leaves its worker running; with several, torch's agent turns
every exit code into 1. Here signals go to the workers, which save and stop at the same step, and the exit code is rank
0's own. It starts several processes on a CPU too (:mod:`hf_trainpipe.cli.cpu_ranks`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.utils.processes import REAP_SECONDS, children, kill, reap
from hf_trainpipe.utils.ranks import EXIT_FILE, left_code
from hf_trainpipe.utils.signals import SAVE_AND_STOP, handled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    import psutil


def launch(command: Sequence[str]) -> int:
    """Run ``accelerate launch COMMAND`` in a session of its own; forward signals, reap, return the exit code.

    A second Ctrl-C ends everything at once; the last checkpoint stays valid.
    """
    import psutil

    with tempfile.TemporaryDirectory(prefix="hf-trainpipe-") as folder:
        exit_file = Path(folder) / "exit"
        process = subprocess.Popen(
            [sys.executable, "-m", "hf_trainpipe.cli.cpu_ranks", *command],
            env={**os.environ, EXIT_FILE: str(exit_file)},
            start_new_session=True,  # the terminal's Ctrl-C reaches the workers through us, once
        )
        launcher = psutil.Process(process.pid)
        interrupts = 0

        def forward(number: int, frame: FrameType | None) -> None:
            nonlocal interrupts
            interrupts += number == signal.SIGINT
            workers = children(launcher)
            if interrupts > 1:
                kill([*children(launcher, recursive=True), launcher])
                return
            for worker in workers or [launcher]:
                with contextlib.suppress(psutil.Error):
                    worker.send_signal(number)

        descendants: dict[int, psutil.Process] = {}
        try:
            ended = None
            with handled(SAVE_AND_STOP, forward):
                while process.poll() is None:
                    descendants |= {child.pid: child for child in children(launcher, recursive=True)}
                    if ended is None and left_code(exit_file) is not None:
                        ended = time.monotonic()
                    if ended is not None and time.monotonic() - ended > REAP_SECONDS:
                        kill(children(launcher))  # a stopped one cannot handle the signal of torch's agent
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.5)
        finally:
            reap(descendants.values())
        if process.returncode != 0 and (code := left_code(exit_file)) is not None:
            return code
        return process.returncode if process.returncode >= 0 else 128 - process.returncode
