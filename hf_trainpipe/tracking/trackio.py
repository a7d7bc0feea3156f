"""Trackio: an SQLite file on this machine, shown by ``trackio show``. Publishing to a Space is Trackio's own ``trackio sync``.

Environment:
    TRACKIO_DIR         where the projects lie; Trackio's own place (the Hub's cache) unless set

Trackio itself appends, so that a resumed run repeats its steps. Here a row has an id of its own, made of the run, the step and
the names, and what the file holds is asked first: what is sent again adds nothing. Its samples of CPU and GPU are not started.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hf_trainpipe.recipe import RunInfo, Tracker
from hf_trainpipe.tracking.base import ConfirmingSession, missing
from hf_trainpipe.tracking.facts import Outcome, as_markdown, environment_of, flat, last_of


@dataclass(frozen=True, kw_only=True)
class Trackio(Tracker):
    """Log to Trackio's local store.

    >>> Trackio(project="reviews").project
    'reviews'
    """

    project: str = "hf-trainpipe"
    """The project that the run belongs to."""

    def start(self, run: RunInfo) -> ConfirmingSession:
        """Continue the run with this id, or begin it.

        Raises:
            MissingExtra: where trackio is not installed.
        """
        try:
            from trackio.sqlite_storage import SQLiteStorage
        except ImportError as error:
            raise missing("Trackio") from error
        return _TrackioSession(SQLiteStorage, run, self.project)


class _TrackioSession(ConfirmingSession):
    def __init__(self, storage: Any, run: RunInfo, project: str) -> None:
        self._storage, self._run, self._project = storage, run, project
        self._waiting: list[tuple[int, float, dict[str, Any]]] = []
        self._config = {**dict(flat(run.recipe, separator=".")), "environment": environment_of(run)}
        self.destination = str(storage.get_project_db_path(project))
        self.address = f"trackio show --project {project}"

    def log(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        self._waiting.append((step, time, dict(values)))

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:  # one transaction
            self._storage.bulk_log(
                self._project,
                self._run.name,
                [values for _, _, values in waiting],
                steps=[step for step, _, _ in waiting],
                timestamps=[datetime.fromtimestamp(time, UTC).isoformat() for _, time, _ in waiting],
                config=self._config,
                log_ids=[self._row_id(step, *values) for step, _, values in waiting],
                run_id=self._run.uid,
            )

    def last_steps(self, names: Iterable[str]) -> dict[str, int]:
        rows = self._storage.get_logs(self._project, run_id=self._run.uid)
        return last_of((name, row["step"]) for row in rows for name in row)

    def artifact(self, path: Path) -> None:
        if path.suffix == ".md":
            self._tell("card", path.read_text("utf-8", errors="replace"))

    def conclude(self, outcome: Outcome) -> None:
        self._config |= {"package": outcome.location, "best_step": outcome.best_step}
        self._tell("package", outcome.location, step=outcome.best_step)
        for split, (names, matrix) in outcome.confusions.items():
            self._tell(f"confusion/{split}", as_markdown(names, matrix), step=outcome.best_step)

    def finish(self) -> None:
        """Every flush is a transaction of its own: nothing is open."""

    def _tell(self, name: str, text: str, step: int = 0) -> None:
        from trackio.markdown import Markdown

        now = datetime.now(UTC).isoformat()
        self._storage.bulk_log(
            self._project,
            self._run.name,
            [{name: Markdown(text)._to_dict()}],
            steps=[step],
            timestamps=[now],
            config=self._config,
            log_ids=[self._row_id(step, name, text)],
            run_id=self._run.uid,
        )

    def _row_id(self, step: int, *parts: str) -> str:
        return hashlib.sha256("\0".join([self._run.uid, str(step), *parts]).encode()).hexdigest()[:32]
