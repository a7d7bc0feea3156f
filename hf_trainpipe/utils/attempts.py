"""What is recorded of each attempt of a run, in ``attempts/`` of its directory; no number of the run depends on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_trainpipe.errors import CheckpointError
from hf_trainpipe.utils.atomic import read_json_object


def read_attempts(run: Path) -> dict[int, dict[str, Any]]:
    """Number -> what is recorded of that attempt; nothing where its file is damaged, since no number depends on it."""
    found: dict[int, dict[str, Any]] = {}
    for file in sorted((run / "attempts").glob("[0-9]*.json")):
        if file.stem.isdigit():
            try:
                found[int(file.stem)] = read_json_object(file, needs={}, fix="")
            except CheckpointError:
                found[int(file.stem)] = {}
    return found


def newest_attempt(run: Path) -> dict[str, Any]:
    """What is recorded of the last attempt; nothing where there was none, or its file is damaged."""
    attempts = read_attempts(run)
    return attempts[max(attempts)] if attempts else {}
