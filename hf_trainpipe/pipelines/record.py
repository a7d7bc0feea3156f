"""What is kept of a stage in its folder: ``begun.json`` while it is at work, and ``stage.json``, written last.

runs/NAME/STAGE.lock        flock of whoever works on the stage, and of its verb
runs/NAME/STAGE/
  begun.json                the command and its inputs by hash, and the process, as the verb was begun
  stage.log                 what its processes said, one attempt after the other
  answer.json               what the verb printed, where it was asked for --json
  stage.json                command, inputs and outputs by hash, exit code: the stage is done
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hf_trainpipe.errors import CheckpointError, DataError
from hf_trainpipe.pipelines.hashes import content_hashes
from hf_trainpipe.utils.atomic import read_json_object, write_json

STAGE, BEGUN, OUTPUT, ANSWER = "stage.json", "begun.json", "stage.log", "answer.json"
_NEEDS = {
    "command": list,
    "inputs": dict,
    "outputs": dict,
    "exit_code": int,
    "ended": float,
    "seconds": float,
    "attempts": int,
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A stage's command and what it reads, by content: with the same ones it need not run again."""

    command: tuple[str, ...]
    """What follows ``python -m hf_trainpipe``."""
    inputs: Mapping[str, str]
    """Path, pattern or recipe to the sha256 of its content."""

    def to_json(self) -> dict[str, object]:
        return {"command": list(self.command), "inputs": dict(self.inputs)}

    def differs(self, other: Mapping[str, object]) -> list[str]:
        """What is not as ``other`` has it, as begun.json or stage.json says: names of inputs, ``command``."""
        then = other.get("inputs")
        before = then if isinstance(then, Mapping) else {}
        names = [name for name in {**before, **self.inputs} if before.get(name) != self.inputs.get(name)]
        return [*(["command"] if other.get("command") != list(self.command) else []), *names]


@dataclass(frozen=True, kw_only=True)
class Record:
    """A stage that is done: stage.json."""

    command: tuple[str, ...]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    exit_code: int
    """A branch of the table of exit codes."""
    ended: float
    """Seconds since 1970."""
    seconds: float
    """Of the attempt that ended it."""
    attempts: int
    """How often its verb was begun for these inputs."""
    host: str = ""
    version: str = ""

    @property
    def asked(self) -> Asked:
        """For which command and inputs it was done."""
        return Asked(command=self.command, inputs=self.inputs)

    def write(self, folder: Path) -> None:
        """Write stage.json, whole or not at all."""
        write_json(folder / STAGE, {"schema": 1, **asdict(self)})


def read_record(folder: Path) -> Record | None:
    """stage.json; None where there is none, or a damaged one: the stage then runs once more."""
    try:
        found = read_json_object(folder / STAGE, needs=_NEEDS, fix="")
    except CheckpointError:
        return None
    known = {name: found[name] for name in _NEEDS} | {name: str(found.get(name, "")) for name in ("host", "version")}
    return Record(**{**known, "command": tuple(found["command"])})


def read_begun(folder: Path) -> dict[str, object]:
    """begun.json; empty where there is none, or a damaged one."""
    with contextlib.suppress(CheckpointError):
        return read_json_object(folder / BEGUN, needs={"command": list, "inputs": dict}, fix="")
    return {}


def is_as_recorded(record: Record, asked: Asked) -> bool:
    """Whether command, inputs and outputs are what stage.json has. The outputs' content is looked at, in the working directory."""
    if asked.differs(record.asked.to_json()):
        return False
    try:
        return content_hashes(record.outputs, Path(), whose="") == record.outputs
    except DataError:
        return False
