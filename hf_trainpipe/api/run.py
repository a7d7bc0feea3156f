"""A run in Python, while it trains or after: ``Run.open("runs/reviews")`` with scores and curves as frames."""

from __future__ import annotations

import shutil
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hf_trainpipe.api.package import Package, load
from hf_trainpipe.codec import from_json
from hf_trainpipe.errors import DataError, TrainpipeError, closest
from hf_trainpipe.tracking import ledger
from hf_trainpipe.training.run_files import is_packaged
from hf_trainpipe.utils.atomic import read_json_object
from hf_trainpipe.utils.attempts import newest_attempt
from hf_trainpipe.utils.brief import listed
from hf_trainpipe.utils.tables import html

if TYPE_CHECKING:
    import pandas

    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.report.plots import Picture

DAMAGED = "Bring it back from a copy."
State = Literal["complete", "interrupted", "failed", "running", "killed"]


class Run:
    """A run's directory, read only. :meth:`open` makes one; files are read on access."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path | str) -> Run:
        """The run in the folder ``path``.

        Raises:
            DataError: there is none.
        """
        path = Path(path)
        if not (path / "run.json").is_file():
            folder = path.parent if path.parent.is_dir() else Path()
            runs = [str(entry.parent) for entry in folder.glob("*/run.json")]
            there = f" {folder} holds the runs {listed(sorted(runs))}." if runs else ""
            raise DataError(
                f"{path} is not a run: it has no run.json.{there}{closest(str(path), runs)}",
                fix="Name the folder of a run, such as Run.open('runs/reviews').",
                file=str(path),
            )
        return cls(path)

    @property
    def name(self) -> str:
        return str(self.document.get("name") or self.path.name)

    @property
    def state(self) -> State:
        """``complete``; ``running`` while a process has its lock; else how the last attempt ended, ``killed`` if it
        did not record that."""
        from hf_trainpipe.checkpoint.lock import is_locked

        if is_locked(self.path / "run.lock"):
            return "running"
        if (self.path / "result.json").is_file():
            return "complete"
        ending = newest_attempt(self.path).get("exit")
        if ending in ("interrupted", "failed"):
            return ending  # type: ignore[no-any-return]
        return "killed"

    @property
    def step(self) -> int:
        """The step of the newest checkpoint; all steps of a complete run."""
        steps = [int(folder.name.removeprefix("step-")) for folder in self.path.glob("checkpoints/step-*")]
        return int(self.result.get("steps") or max(steps, default=0))

    @property
    def bytes(self) -> int:
        """Size of its files in bytes."""
        return sum(file.lstat().st_size for file in self.path.rglob("*") if file.is_file() or file.is_symlink())

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe as it was recorded.

        Raises:
            RecipeError: it has a class of its recipe file, or its data were in memory.
        """
        return from_json(self.document.get("recipe") or {})

    @cached_property
    def package(self) -> Package:
        """The package of the run, loaded at first use.

        Raises:
            PackageError: there is none yet.
        """
        return load(self.path)

    @property
    def result(self) -> dict[str, Any]:
        """The content of result.json; empty before the end of the run."""
        path = self.path / "result.json"
        return read_json_object(path, needs={}, fix=DAMAGED) if path.is_file() else {}

    @property
    def scores(self) -> pandas.DataFrame:
        """The final scores: ``split``, ``metric``, ``value``, ``low``, ``high``, ``n``; no rows before the end."""
        import pandas

        names = ("value", "low", "high", "n")
        rows = [
            {"split": split, "metric": metric, **{name: score.get(name) for name in names}}
            for split, scores in (self.result.get("scores") or {}).items()
            for metric, score in scores.items()
        ]
        return pandas.DataFrame(rows, columns=["split", "metric", *names])

    def ledger(self) -> pandas.DataFrame:
        """Every number that was logged: ``step``, ``epoch``, ``name``, ``value``, ``attempt``, ``time`` (UTC)."""
        import pandas

        names = ("step", "epoch", "name", "value", "attempt", "time")
        points = list(ledger.read(self.path / "ledger.jsonl"))
        frame = pandas.DataFrame([[getattr(point, name) for name in names] for point in points], columns=list(names))
        frame["time"] = pandas.to_datetime(frame["time"], unit="s", utc=True)
        return frame

    def curve(self, *names: str) -> pandas.DataFrame:
        """Numbers by step, a column each; :meth:`plot` draws them.

        Args:
            names: Of the ledger; none: all that have more than one point, or all.

        Raises:
            DataError: a name that the ledger does not have.
        """
        frame = self.ledger()
        known = list(dict.fromkeys(frame["name"]))
        for name in names:
            if name not in known:
                raise DataError(
                    f"{self.path}: the ledger has no {name!r}, but {', '.join(known) or 'nothing yet'}."
                    f"{closest(name, known)}",
                    fix="Name one of them.",
                )
        counts = frame["name"].value_counts()
        chosen = list(names) or [name for name in known if counts[name] > 1] or known
        wide = frame[frame["name"].isin(chosen)].pivot_table(index="step", columns="name", values="value")
        return wide.reindex(columns=chosen).rename_axis(columns=None)

    def plot(self, *names: str) -> Picture:
        """A picture of numbers by step: ``run.plot("train/loss", "validation/loss")``; a notebook shows it, ``save`` writes
        it. Those that end alike (``train/loss`` and ``validation/loss``) share their axes.

        Args:
            names: Of the ledger; none: the losses, and the selected score on validation.

        Raises:
            DataError: a name that the ledger does not have, or no number yet.
            MissingExtra: matplotlib is not installed.
        """
        from hf_trainpipe.report.plots import SERIES, Curves, Line, curves

        frame = self.curve(*names)
        if not names:
            select = self.result.get("select") or (self.document.get("recipe") or {}).get("evaluation", {}).get(
                "select"
            )
            usual = ("train/loss", "validation/loss", f"validation/{select}")
            frame = frame[[name for name in usual if name in frame] or list(frame)]
        if frame.empty:
            raise DataError(f"{self.path}: the ledger has no number yet.", fix="Wait until the run has logged one.")
        groups: dict[str, list[str]] = {}
        for name in frame:
            groups.setdefault(name.rpartition("/")[2], []).append(name)
        shown = [
            Curves(
                title=title,
                lines=[
                    Line(
                        name=name,
                        points=[(int(step), float(value)) for step, value in frame[name].dropna().items()],
                        colour=SERIES[number % len(SERIES)],
                        marked=name.startswith("validation/"),
                    )
                    for number, name in enumerate(found)
                ],
            )
            for title, found in groups.items()
        ]
        return curves(f"curves-{self.path.resolve().name}", *shown)

    def __repr__(self) -> str:
        shown = [f", {row.split} {row.metric} {_number(row.value)}" for row in self.scores[:2].itertuples()]
        return f"Run({str(self.path)!r}: {self.state}{''.join(shown)})"

    def _repr_html_(self) -> str:
        from html import escape

        rows = [
            [row.split, row.metric, _number(row.value), _number(row.low), _number(row.high), str(row.n)]
            for row in self.scores.itertuples()
        ]
        table = html(["split", "metric", "value", "low", "high", "n"], rows) if rows else ""
        return f"<b>{escape(self.name)}</b> ({self.state}) {escape(str(self.path))}{table}"

    @cached_property
    def document(self) -> dict[str, Any]:
        """The content of run.json."""
        return read_json_object(self.path / "run.json", needs={}, fix=DAMAGED)


def find_runs(folder: Path) -> list[Run]:
    """The runs in a folder, or the folder itself, newest first."""
    places = [folder] if (folder / "run.json").is_file() else [entry.parent for entry in folder.glob("*/run.json")]
    return [Run(place) for place in sorted(places, key=lambda place: -(place / "run.json").stat().st_mtime)]


def as_row(run: Run) -> dict[str, Any]:
    """One run of a list, as JSON; a damaged file of it is told in its state."""
    row: dict[str, Any] = {
        "run": str(run.path), "state": "damaged", "step": 0, "split": None, "metric": None, "score": None, "bytes": run.bytes
    }  # fmt: skip
    try:
        result = run.result
        scores = result.get("scores") or {}
        split = "validation" if "validation" in scores else next(iter(scores), None)
        select = result.get("select")
        score = (scores.get(split) or {}).get(select) if split is not None else None
        return row | {"state": run.state, "step": run.step, "split": split, "metric": select, "score": score}
    except TrainpipeError as error:
        return row | {"error": error.message}


def removable(run: Run) -> list[Path]:
    """Files of a complete run that serving and verifying its package do not need: checkpoints, windows of a stream,
    traces, leftover copies. None for a run without result.json, or without a package yet."""
    if not (run.path / "result.json").is_file() or not is_packaged(run.result):
        return []
    # latest.json stays: it records that there were checkpoints, so that such a run does not start over by itself.
    names = ("checkpoints", "stream", "augmented", "verify-resume", "rehearsal", "heartbeat", ".tmp-resume")
    found = [run.path / name for name in names] + sorted(run.path.glob("trace-rank*.jsonl"))
    return [path for path in found if path.exists()]


def clean(run: Run) -> int:
    """Remove the files of :func:`removable` under the run's lock; returns the number of bytes freed.

    Raises:
        RunLocked: a process is using the run.
    """
    from hf_trainpipe.checkpoint.lock import RunLock

    with RunLock(run.path / "run.lock"):
        before = run.bytes
        for path in removable(run):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return before - run.bytes


def _number(value: Any) -> str:
    return "-" if value is None or value != value else f"{value:.4f}"
