"""A stage that trains on several machines at once, each of which runs ``pipeline stage FILE NAME``: as Kubeflow Trainer starts them.

Trainer tells every machine what torchrun reads, by PET_* variables. The machine with rank 0 works on the stage as always; the others
only lend it their ranks, and end with the same exit code.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_trainpipe.errors import EXIT_CODES, INTERRUPTED, RecipeError
from hf_trainpipe.pipelines.processes import Stopping, environment, follow
from hf_trainpipe.pipelines.record import Asked, is_as_recorded, read_record

_VARIABLE = re.compile(r"PET_\w+")


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """The machines that train one stage, and which of them this one is."""

    count: int
    rank: int
    """Of this machine, from 0."""
    host: str
    """Of the machine with rank 0."""
    port: int
    """Where its ranks and those of the others meet."""
    processes: int
    """Of each machine."""

    def command(self, words: Sequence[str]) -> tuple[str, ...]:
        """What this machine runs of ``train ...``, or of ``launch ... -m hf_trainpipe train ...``; other verbs stay as they are."""
        if words[0] not in ("train", "launch"):
            return tuple(words)
        start = words.index("-m") + 2 if words[0] == "launch" else 0
        asked = words[1 : start - 2] if start else ("--mixed_precision", "no", "--dynamo_backend", "no")
        shape = {
            "num_machines": self.count,
            "num_processes": self.count * self.processes,
            "machine_rank": self.rank,
            "main_process_ip": self.host,
            "main_process_port": self.port,
        }
        options = [word for name, value in shape.items() for word in (f"--{name}", str(value))]
        kind = () if "--multi_gpu" in asked or "--config_file" in asked else ("--multi_gpu",)
        return ("launch", *kind, *asked, *options, "-m", "hf_trainpipe", *words[start:])

    def environment(self) -> dict[str, str]:
        """For that command: without what launchers would read of it once more."""
        return {name: value for name, value in environment(launched=True).items() if not _VARIABLE.fullmatch(name)}

    def lend(self, asked: Asked, folder: Path, *, say: Callable[[str], None], stopping: Stopping) -> int:
        """On another machine than the first: compute for the stage that the first one works on.

        Returns:
            The exit code of the verb; what is recorded, where the first machine finds that nothing is to be done.
        """
        say(f"{folder.name}: machine {self.rank} of {self.count} waits for {self.host}:{self.port}")
        while not self.can_meet():
            record = read_record(folder)
            if record is not None and is_as_recorded(record, asked):
                say(f"{folder.name}: as recorded ({EXIT_CODES[record.exit_code].meaning})")
                return record.exit_code
            if stopping.asked:
                return INTERRUPTED
            time.sleep(1.0)
        said = folder / f"output-{self.rank}.log"
        with said.open("ab") as output:
            offset = said.stat().st_size
            process = subprocess.Popen(
                [sys.executable, "-m", "hf_trainpipe", *self.command(asked.command)],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return follow(process, said, offset, stopping=stopping)

    def can_meet(self) -> bool:
        """Whether the machine with rank 0 has begun."""
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), timeout=1.0):
            return True
        return False


def nodes_of(variables: Mapping[str, str] = os.environ) -> Nodes | None:
    """The machines that the environment tells of; None: this one alone, with one process.

    Raises:
        RecipeError: some of the variables are there, and others are not.
    """
    told = {name: variables.get(f"PET_{name}", "") for name in ("NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")}
    if not told["NNODES"]:
        return None
    processes = _processes(variables.get("PET_NPROC_PER_NODE", "1"))
    if told["NNODES"] == "1" and processes == 1:
        return None
    numbers = [told[name] for name in ("NNODES", "NODE_RANK", "MASTER_PORT")]
    if not all(number.isdecimal() for number in numbers) or not told["MASTER_ADDR"]:
        found = ", ".join(f"PET_{name}={value!r}" for name, value in told.items())
        raise RecipeError(
            f"the environment tells of several machines, and not of all that they need: {found}.",
            fix="Kubeflow Trainer sets these in a TrainJob whose runtime has mlPolicy.torch. Elsewhere, unset them.",
        )
    count, rank, port = map(int, numbers)
    return Nodes(count=count, rank=rank, host=told["MASTER_ADDR"], port=port, processes=processes)


def _processes(told: str) -> int:
    """Processes of a machine: a number; else one a GPU, or one."""
    if told.isdecimal():
        return int(told)
    import torch

    return max(torch.cuda.device_count(), 1)
