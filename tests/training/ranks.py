"""Ranks as ``accelerate launch`` and torch's agent begin and end them, without the launcher: it takes longer than they do."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.distributed import TCPStore

OF_ALL = {
    "ACCELERATE_DYNAMO_BACKEND": "NO",
    "ACCELERATE_DYNAMO_MODE": "default",
    "ACCELERATE_MIXED_PRECISION": "no",
    "GROUP_RANK": "0",
    "GROUP_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "ROLE_NAME": "default",
    "TORCHELASTIC_MAX_RESTARTS": "0",
    "TORCHELASTIC_RESTART_COUNT": "0",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}
"""What ``--multi_gpu --num_machines 1 --mixed_precision no --dynamo_backend no`` puts into the environment."""
GRACE_S = 30.0
"""From the first rank that fails until those are killed that do not end when they are asked to."""


def run_ranks(
    command: Sequence[str], count: int, *, cwd: Path, env: Mapping[str, str], timeout: float
) -> tuple[int, str, str]:
    """Exit code (1 where a rank has another than 0), standard output and standard error of all ranks.

    Raises:
        subprocess.TimeoutExpired: they went on; they are killed.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    size = str(count)
    of_all = {**env, **OF_ALL, "MASTER_PORT": str(store.port), "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size,
              "ROLE_WORLD_SIZE": size}  # fmt: skip
    with tempfile.TemporaryFile("w+b") as out, tempfile.TemporaryFile("w+b") as err:
        running = [
            subprocess.Popen(
                command,
                cwd=cwd,
                stdout=out,
                stderr=err,
                env={**of_all, "RANK": rank, "LOCAL_RANK": rank, "ROLE_RANK": rank},
            )
            for rank in map(str, range(count))
        ]
        try:
            end, asked = time.monotonic() + timeout, False
            while any(process.poll() is None for process in running):
                if not asked and any(process.returncode for process in running):
                    asked, end = True, min(end, time.monotonic() + GRACE_S)
                    for process in running:
                        process.terminate()
                if time.monotonic() > end:
                    if not asked:
                        raise subprocess.TimeoutExpired(command, timeout)
                    break
                time.sleep(0.05)
        finally:
            for process in running:
                process.kill()
                process.wait()
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read().decode(errors="replace"))
    return int(any(process.returncode for process in running)), *said
