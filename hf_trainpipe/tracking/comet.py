"""Comet: online, or in zip files that ``comet upload`` sends later.

Environment, read by comet_ml itself:
    COMET_API_KEY, COMET_URL_OVERRIDE      credentials, and a server of one's own
    COMET_WORKSPACE, COMET_PROJECT_NAME    where the recipe says nothing
    COMET_TIMEOUT_HTTP                     seconds, 10 here unless set

Where the server refuses, comet_ml goes on with an experiment that swallows everything; here that is an error, told once. An
offline experiment is a zip that is written when it ends: what a killed process had is sent again by the next one.
Comet notes when a point was sent, not when it was made.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hf_trainpipe.recipe import Destination, RunInfo, Tracker
from hf_trainpipe.tracking.base import ConfirmingSession, check_mode, check_tags, missing
from hf_trainpipe.tracking.facts import Outcome, beside, environment_of, flat, last_of

MODES = ("auto", "online", "offline")
CLIENT_SETTINGS = {
    "COMET_TIMEOUT_HTTP": "10",
    "COMET_LOGGING_CONSOLE": "CRITICAL",
    "COMET_DISABLE_ANNOUNCEMENT": "1",
    # Once more to begin with: the feeder tries again by itself.
    **{f"COMET_GET_OR_ADD_EXPERIMENT_RETRY_{kind}": "1" for kind in ("TOTAL", "CONNECT", "READ", "STATUS")},
}
"""What the client is told where the environment does not say otherwise."""
FLUSH_SECONDS = 50
NOT_LOGGED = (
    "log_code", "log_graph", "auto_param_logging", "auto_metric_logging", "parse_args", "auto_output_logging",
    "log_env_details", "log_git_metadata", "log_git_patch", "log_env_gpu", "log_env_host", "log_env_cpu", "log_env_disk",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Comet(Tracker):
    """Log to Comet. A resumed run continues the experiment that has its key.

    >>> Comet(project="reviews").mode
    'auto'
    """

    project: str | None = None
    """None: COMET_PROJECT_NAME, else ``hf-trainpipe``."""
    workspace: str | None = None
    """None: COMET_WORKSPACE, else the key's own."""
    mode: Literal["auto", "online", "offline"] = "auto"
    """``auto`` is ``online`` with COMET_API_KEY and ``offline`` without."""
    folder: str = "comet"
    """Folder of the offline zip files; a relative one lies beside the run's: ``runs/comet``."""
    tags: tuple[str, ...] = ()
    """Tags of the experiment."""

    def __post_init__(self) -> None:
        check_mode(self, self.mode, MODES)
        check_tags(self, self.tags)

    def start(self, run: RunInfo) -> ConfirmingSession:
        """Begin or continue the experiment.

        Raises:
            MissingExtra: where comet_ml is not installed.
            ConnectionError: where the server refused.
        """
        for name, value in CLIENT_SETTINGS.items():
            os.environ.setdefault(name, value)
        try:
            import comet_ml
        except ImportError as error:
            raise missing("Comet") from error
        key = re.sub(r"[^a-zA-Z0-9]", "", run.uid)
        key = key if 32 <= len(key) <= 50 else hashlib.sha256(run.uid.encode()).hexdigest()[:40]
        settings: dict[str, Any] = {
            "experiment_key": key,
            "project_name": self.project or os.environ.get("COMET_PROJECT_NAME") or "hf-trainpipe",
            "workspace": self.workspace,
            "display_summary_level": 0,
            **dict.fromkeys(NOT_LOGGED, False),
        }
        if self._is_online():
            return _online(comet_ml, settings, run, self)
        folder = beside(run, self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        rows = list(_offline_points(folder, key))
        kind = comet_ml.ExistingOfflineExperiment if rows else comet_ml.OfflineExperiment
        begin = partial(kind, offline_directory=str(folder), **settings)
        session = _CometSession(begin, run, self, last_of(rows), destination="offline")
        session.address = f"comet upload {folder}/{key}*.zip"
        session.notice = f"offline; the run is kept in {folder}. `comet upload` sends it."
        return session

    def destination(self) -> Destination:
        """The server, with a key from the environment or from Comet's own file."""
        if not self._is_online():
            return Destination()
        if "COMET_API_KEY" not in os.environ and not (Path.home() / ".comet.config").is_file():
            return Destination(lacks="COMET_API_KEY", fix="Set it to a key of your account, or mode to 'offline'.")
        return Destination(os.environ.get("COMET_URL_OVERRIDE") or "https://www.comet.com")

    def _is_online(self) -> bool:
        return self.mode == "online" or (self.mode == "auto" and "COMET_API_KEY" in os.environ)


def _online(comet_ml: Any, settings: dict[str, Any], run: RunInfo, tracker: Comet) -> ConfirmingSession:
    config = comet_ml.ExperimentConfig(
        **{name: settings[name] for name in NOT_LOGGED}, display_summary_level=0, tags=list(tracker.tags)
    )
    opened = comet_ml.start(
        experiment_key=settings["experiment_key"],
        project_name=settings["project_name"],
        workspace=settings["workspace"],
        mode="get_or_create",
        online=True,
        experiment_config=config,
    )
    if not opened.alive:
        opened.end()
        raise ConnectionError("Comet's server refused the experiment, or could not be reached")
    found = comet_ml.API().get_experiment_by_key(settings["experiment_key"])
    rows = found.get_metrics() if found is not None else []
    held = last_of((row["metricName"], row["step"]) for row in rows)
    session = _CometSession(lambda: opened, run, tracker, held, destination=f"online {opened.project_name}")
    session.tell()
    session.address = opened.url
    return session


class _CometSession(ConfirmingSession):
    def __init__(
        self, begin: Callable[[], Any], run: RunInfo, tracker: Comet, held: dict[str, int], *, destination: str
    ) -> None:
        self._begin, self._run, self._tracker, self._held = begin, run, tracker, held
        self._begun: Any = None
        self.destination = destination

    def tell(self) -> Any:
        """The experiment, begun and told of the run. Offline each is a file, so that one is begun only for something."""
        if self._begun is None:
            opened = self._begun = self._begin()
            opened.set_name(self._run.name)
            if self._tracker.tags:
                opened.add_tags(list(self._tracker.tags))
            opened.log_parameters(dict(flat(self._run.recipe, separator=".")))
            opened.log_others({f"environment.{name}": value for name, value in environment_of(self._run).items()})
        return self._begun

    def log(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        opened = self.tell()
        for name, value in values.items():
            opened.log_metric(name, value, step=step, include_context=False)

    def flush(self) -> None:
        if self.destination != "offline" and not self.tell().flush(timeout=FLUSH_SECONDS):
            raise ConnectionError("Comet's server did not take everything")

    def last_steps(self, names: Iterable[str]) -> dict[str, int]:
        return self._held

    def artifact(self, path: Path) -> None:
        self.tell().log_asset(str(path), file_name=path.name, overwrite=True)

    def conclude(self, outcome: Outcome) -> None:
        opened = self.tell()
        opened.log_others({"package": outcome.location, "best_step": outcome.best_step})
        for split, (names, matrix) in outcome.confusions.items():
            opened.log_confusion_matrix(
                matrix=matrix, labels=names, title=f"Confusion, {split}", file_name=f"confusion-{split}.json"
            )

    def finish(self) -> None:
        if self._begun is not None:
            self._begun.end()


def _offline_points(folder: Path, key: str) -> Iterator[tuple[str, int | None]]:
    """Name and step of each point in the zip files of an experiment; one that a kill cut short is set aside."""
    for file in sorted(folder.glob(f"{key}*.zip")):
        try:
            with zipfile.ZipFile(file) as archive:
                if "messages.json" not in archive.namelist():  # comet_ml begins with an empty one
                    file.unlink()
                    continue
                lines = archive.read("messages.json").splitlines()
        except zipfile.BadZipFile:
            file.rename(file.with_suffix(".zip.damaged"))
            continue
        for line in lines:
            row = json.loads(line)
            if row.get("type") == "metric_msg":
                yield row["payload"]["metric"]["metricName"], row["payload"]["metric"]["step"]
