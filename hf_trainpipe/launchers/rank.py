"""One rank, on the worker that a cluster gave: the command as a process of its own, and its end.

A desk is a folder that the launcher and all workers see. ``signal`` in it holds the signals that the ranks get, one after
the other; a rank leaves its exit code in ``rank-N`` (minus the signal that ended it), and ``rank-0.out`` is what it printed,
where the cluster shows nothing. So nothing depends on what else a cluster carries. Imports nothing large.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from hf_trainpipe.utils.processes import BEGUN_BY
from hf_trainpipe.utils.ranks import leave_code
from hf_trainpipe.utils.signals import SAVE_AND_STOP, handled

POLL_SECONDS = 0.3
SIGNALS = "signal"


def free_address() -> tuple[str, int]:
    """This machine's address, as its peers reach it, and a port that is free now: where the ranks meet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.255.255.255", 1))  # sends nothing; the kernel chooses the interface
            host = str(probe.getsockname()[0])
        except OSError:
            host = "127.0.0.1"
    with socket.socket() as one:
        one.bind(("", 0))
        return host, int(one.getsockname()[1])


def run(command: Sequence[str], environment: Mapping[str, str], folder: str, desk: str, *, tells: bool = False) -> int:
    """Run a rank to its end; its exit code, or minus the signal that ended it.

    Args:
        command: What follows the interpreter: ``-m MODULE ...`` or ``RECIPE.py ...``.
        environment: Of the rank, above the worker's own.
        folder: The folder it runs in, which all workers see.
        desk: See the module.
        tells: Whether what it prints goes to the desk; else it goes where the worker's goes.
    """
    whole = {**os.environ, **environment, BEGUN_BY: str(os.getpid())}  # with the worker gone, it saves and ends
    number = whole["RANK"]
    with contextlib.ExitStack() as stack:
        output = stack.enter_context((Path(desk) / f"rank-{number}.out").open("w")) if tells else None
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=whole,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a terminal's Ctrl-C reaches it through the launcher, once
        )
        if threading.current_thread() is threading.main_thread():  # of torchrun's worker, which torchrun signals
            stack.enter_context(handled(SAVE_AND_STOP, lambda one, frame: process.send_signal(one)))
        sent = 0
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(POLL_SECONDS)
                break
            asked = signals(desk)
            for one in asked[sent:]:
                process.send_signal(one)
            sent = len(asked)
    leave_code(Path(desk, f"rank-{number}"), code)
    return code


def signals(desk: str | Path) -> list[int]:
    """The signals that were asked for so far."""
    try:
        lines = (Path(desk) / SIGNALS).read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [int(line) for line in lines if line.endswith("\n")]  # the last one may be on its way
