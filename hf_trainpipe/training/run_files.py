"""What a run's directory says of the run: run.json and result.json, read back; how long its attempts took."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import CheckpointError
from hf_trainpipe.tracking.ledger import read as read_ledger
from hf_trainpipe.utils.atomic import read_json_object
from hf_trainpipe.utils.attempts import read_attempts

LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors", "spacy", "numpy")
"""Their versions are recorded with each attempt."""
IDENTITY: dict[str, type | tuple[type, ...]] = {"uid": str, "recipe": dict, "fingerprints": dict}
RESULT: dict[str, type | tuple[type, ...]] = {
    "select": str,
    "scores": dict,
    "steps": int,
    "best_step": int,
    "seconds": (int, float),
}
BEGIN_ANEW = "Bring it back from a copy; or begin anew and keep what is here in old-1: --resume never"


def read_identity(run: Path) -> dict[str, Any]:
    """run.json of a run's directory.

    Raises:
        CheckpointError: it is damaged.
    """
    found = read_json_object(run / "run.json", needs=IDENTITY, fix=BEGIN_ANEW)
    compute = found.get("compute")
    if compute is not None and not (isinstance(compute, dict) and {"precision", "threads", "ranks"} <= compute.keys()):
        raise CheckpointError(
            f"{run / 'run.json'}: compute: expected precision, threads and ranks, found {compute!r:.60}.",
            fix=BEGIN_ANEW,
        )
    history = found.get("history", [])
    if not isinstance(history, list) or not all(isinstance(entry, dict) and "changes" in entry for entry in history):
        raise CheckpointError(f"{run / 'run.json'}: history: expected a list of changes.", fix=BEGIN_ANEW)
    return found


def read_result(run: Path) -> dict[str, Any] | None:
    """result.json of a run that is complete; None of any other.

    Raises:
        CheckpointError: it is damaged.
    """
    file = run / "result.json"
    if not file.exists():
        return None
    return read_json_object(file, needs=RESULT, fix="The command that trained the run writes it again.")


def is_packaged(result: dict[str, Any]) -> bool:
    """Whether a complete run has a package; one that was to score validation alone has none yet."""
    return bool(result.get("packaged", True))


def earlier_seconds(run: Path, *, attempt: int | None = None) -> float:
    """What the attempts before ``attempt``, or all of them, took; one that was killed ends with its last point in the ledger."""
    last: dict[int, float] = {}
    for point in read_ledger(run / "ledger.jsonl"):
        last[point.attempt] = max(point.time, last.get(point.attempt, 0.0))
    total = 0.0
    for number, facts in read_attempts(run).items():
        begun, ended = facts.get("started"), facts.get("ended")
        if (attempt is None or number < attempt) and isinstance(begun, float):
            total += max(0.0, (ended if isinstance(ended, float) else last.get(number, begun)) - begun)
    return total


def environment(folder: Path) -> dict[str, Any]:
    """Versions, and the commit of the checkout that ``folder`` lies in. No paths, no variables."""
    from hf_trainpipe import __version__

    versions = {"python": platform.python_version(), "hf_trainpipe": __version__}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    status = _git("status", "--porcelain", folder=folder)
    return {
        "versions": versions,
        "git_commit": _git("rev-parse", "HEAD", folder=folder),
        "git_dirty": None if status is None else bool(status),
    }


def _git(*args: str, folder: Path) -> str | None:
    try:
        done = subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
