"""What trackers are told of a run besides its points: parameters, environment, how it stands, how it ended.

Everything is read from the run's directory, so that ``track sync`` tells a tracker the same later.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hf_trainpipe.recipe import RunInfo
from hf_trainpipe.utils.attempts import newest_attempt

Scalar = str | int | float | bool
State = Literal["complete", "interrupted", "failed", "running"]
_MEASURED = re.compile(r"(_per_second|seconds|memory)|^attempt$")


def beside(run: RunInfo, name: str) -> Path:
    """A place that runs share: a relative path lies in the folder that holds the run's."""
    return run.directory.resolve().parent / Path(name).expanduser()


def flat(value: Any, name: str = "", *, separator: str = "/") -> Iterator[tuple[str, Scalar]]:
    """Leaves of a JSON value by path, as trackers take them: None is "None", lists of scalars are JSON."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flat(item, f"{name}{separator}{key}" if name else str(key), separator=separator)
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value):
        for position, item in enumerate(value):
            yield from flat(item, f"{name}{separator}{position}", separator=separator)
    elif isinstance(value, list | tuple):
        yield name, json.dumps(list(value))
    elif isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        yield name, value
    else:
        yield name, str(value)


def environment_of(run: RunInfo) -> dict[str, str]:
    """Versions, commit, precision and ranks of the newest attempt, and the command; what is not recorded is left out."""
    identity = _object(run.directory / "run.json")
    attempt = newest_attempt(run.directory)
    known: dict[str, Any] = {
        **{f"versions.{name}": version for name, version in (attempt.get("versions") or {}).items()},
        "git_commit": attempt.get("git_commit"),
        "world_size": attempt.get("world_size"),
        "attempt": attempt.get("attempt"),
        **(identity.get("compute") or {}),
        "command": identity.get("command"),
        **{f"fingerprint.{name}": value for name, value in (identity.get("fingerprints") or {}).items()},
    }
    return {name: str(value) for name, value in known.items() if value is not None}


def state_of(run: RunInfo) -> State:
    """How the run stands; ``interrupted`` of one that was killed, too."""
    if (run.directory / "result.json").is_file():
        return "complete"
    attempt = newest_attempt(run.directory)
    return "failed" if attempt.get("exit") == "failed" else "interrupted"


def last_kept_step(directory: Path) -> float:
    """The step up to which a resume takes nothing back: that of the newest checkpoint; infinity of a complete run, and
    where nothing can be resumed (a ledger alone, an imported run)."""
    if (directory / "result.json").is_file() or "fingerprints" not in _object(directory / "run.json"):
        return math.inf
    steps = [folder.name.removeprefix("step-") for folder in directory.glob("checkpoints/step-*")]
    return max((int(step) for step in steps if step.isdigit()), default=-1)


def is_measured(name: str) -> bool:
    """Whether a number tells about the machine or the attempt: a resumed run repeats its steps with the same losses and
    scores, but not with the same speed.

    >>> is_measured("train/tokens_per_second"), is_measured("train/loss")
    (True, False)
    """
    return _MEASURED.search(name) is not None


@dataclass(frozen=True)
class Outcome:
    """What a complete run left."""

    location: str
    """Where the package is: its folder, and the repository it was pushed to."""
    package: Path
    """The package's folder."""
    confusions: Mapping[str, tuple[list[str], list[list[int]]]] = field(default_factory=dict)
    """Split -> names, and the matrix of counts, gold by row."""
    selected: str = ""
    """The metric that selected the weights."""
    best_step: int = 0


def outcome_of(run: RunInfo) -> Outcome | None:
    """The outcome; None before the end of the run."""
    result = _object(run.directory / "result.json")
    if not result:
        return None
    package = run.directory.resolve() / "package"
    push = result.get("push") or {}
    repository = push.get("url") or push.get("repo")
    confusions = {
        split: (list(details["names"]), details["confusion"])
        for split, details in (result.get("report") or {}).items()
        if details.get("confusion")
    }
    return Outcome(
        location=f"{package}, {repository}" if repository else str(package),
        package=package,
        confusions=confusions,
        selected=str(result.get("select", "")),
        best_step=int(result.get("best_step") or 0),
    )


def last_of(points: Iterable[tuple[str, int | None]]) -> dict[str, int]:
    """The last step of each name; points without a step do not count.

    >>> last_of([("loss", 2), ("loss", 1), ("lr", None)])
    {'loss': 2}
    """
    last: dict[str, int] = {}
    for name, step in points:
        if step is not None:
            last[name] = max(int(step), last.get(name, -1))
    return last


def as_csv(names: list[str], matrix: list[list[int]]) -> str:
    """A confusion matrix for people and spreadsheets: gold by row, predicted by column."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["gold", *names])
    writer.writerows([name, *row] for name, row in zip(names, matrix, strict=True))
    return text.getvalue()


def markdown(header: list[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def as_markdown(names: list[str], matrix: list[list[int]]) -> str:
    """A confusion matrix in Markdown: gold by row."""
    rows = [[f"**{name}**", *map(str, row)] for name, row in zip(names, matrix, strict=True)]
    return markdown(["gold \\ predicted", *names], rows)


def _object(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none, or it is damaged: a tracker is not worth an error."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
