"""What makes a process a rank, by its environment, and how a rank tells who began it how it ended: in a file, since launchers turn
every exit code into 1."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from hf_trainpipe.utils.atomic import write_bytes

EXIT_FILE = "HF_TRAINPIPE_EXIT_FILE"
"""Environment variable: the file that rank 0 writes its exit code to."""
_OF_A_RANK = re.compile(
    rf"(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)|TORCHELASTIC_.*|TORCH_NCCL.*|{EXIT_FILE}"
)


def without_rank() -> dict[str, str]:
    """This process's environment, without what would make a child a rank of the same run."""
    return {name: value for name, value in os.environ.items() if not _OF_A_RANK.fullmatch(name)}


def leave_code(file: Path, code: int) -> None:
    """Write an exit code, whole or not at all: the process may be killed at any instant."""
    write_bytes(file, str(code).encode(), durable=False)


def left_code(file: Path) -> int | None:
    """The exit code that a rank left; None: it has left none, or not all of it."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int(file.read_text())
    return None
