"""Neptune. The hosted service ended on 5 March 2026; the client still works with a server of one's own.

Environment:
    NEPTUNE_API_TOKEN   the server's address and the credentials; without it, runs are kept offline
    NEPTUNE_PROJECT     ``workspace/project``, where the recipe names none
    NEPTUNE_MODE        ``offline`` or ``debug``: what ``mode="auto"`` then means
    NEPTUNE_RETRIES_TIMEOUT, NEPTUNE_REQUEST_TIMEOUT
                        seconds; 5 and 20 here unless set, in place of the client's 60 and 600

The token stays in the environment: no file of the run holds it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hf_trainpipe.errors import MissingExtra, RecipeError
from hf_trainpipe.recipe import Destination, RunInfo, Tracker
from hf_trainpipe.tracking.base import ConfirmingSession, check_mode, check_tags
from hf_trainpipe.tracking.facts import Outcome, as_csv, environment_of, flat
from hf_trainpipe.tracking.neptune_files import UID, last_steps

CLIENT_TIMEOUTS = {"NEPTUNE_RETRIES_TIMEOUT": "5", "NEPTUNE_REQUEST_TIMEOUT": "20"}
MODES = ("auto", "offline", "async", "debug")
OFFLINE_NOTICE = (
    "offline, because NEPTUNE_API_TOKEN is not set. Neptune's hosted service ended on 5 March 2026; "
    "with the token of a server of your own, `hf-trainpipe track sync RUN` sends this run to it."
)
NOT_SENT = ("git_ref", "capture_stdout", "capture_stderr", "capture_hardware_metrics", "capture_traceback")
STOP_SECONDS = 3


@dataclass(frozen=True, kw_only=True)
class Neptune(Tracker):
    """Log to Neptune, or to files that hold the same.

    A resumed run continues the Neptune run that carries its id. The recipe is under ``recipe/``,
    the numbers under ``metrics/``, uploaded files under ``artifacts/``.

    >>> Neptune(project="team/sst2").mode
    'auto'
    """

    project: str | None = None
    """``workspace/project``; None: NEPTUNE_PROJECT."""
    mode: Literal["auto", "offline", "async", "debug"] = "auto"
    """``auto`` is ``async`` with NEPTUNE_API_TOKEN and ``offline`` without. ``async`` sends to a server,
    from a process of its own. ``debug`` stores nothing."""
    name: str | None = None
    """What Neptune calls the run; None: the recipe's name."""
    tags: tuple[str, ...] = ()
    """Tags of the run in Neptune."""

    def __post_init__(self) -> None:
        check_mode(self, self.mode, MODES)
        check_tags(self, self.tags)

    def start(self, run: RunInfo) -> ConfirmingSession:
        """Connect; offline data go to ``.neptune`` of the current folder.

        Raises:
            MissingExtra: where the client is not installed.
            RecipeError: where a server is to be used and no project is named.
        """
        mode = self._mode()
        for name, value in CLIENT_TIMEOUTS.items():
            os.environ.setdefault(name, value)  # the client reads them when it is imported
        try:
            import neptune
        except ImportError as error:
            raise MissingExtra("The Neptune client is not installed.", fix="pip install neptune") from error
        if mode == "async" and not (self.project or os.environ.get("NEPTUNE_PROJECT")):
            raise RecipeError(
                "Neptune.project: expected workspace/project, found neither a setting nor NEPTUNE_PROJECT.",
                fix='Write Neptune(project="workspace/project") or set NEPTUNE_PROJECT.',
            )
        connected = neptune.init_run(
            project=self.project,
            # The ledger is the queue. Here, in a process of its own, a call returns when the server
            # has taken the point, so that what was sent is known.
            mode="sync" if mode == "async" else mode,
            custom_run_id=_run_id(run.uid),
            name=self.name or run.name,
            tags=list(self.tags),
            source_files=[],
            **dict.fromkeys(NOT_SENT, False),
        )
        try:
            return _NeptuneSession(connected, run, mode=mode, is_implied=self.mode == "auto")
        except BaseException:
            connected.stop(seconds=STOP_SECONDS)
            raise

    def destination(self) -> Destination:
        """The server that the token names."""
        token = os.environ.get("NEPTUNE_API_TOKEN", "")
        if self._mode() != "async":
            return Destination()
        if not token:
            return Destination(
                lacks="NEPTUNE_API_TOKEN", fix="Set it to the token of your server, or mode to 'offline'."
            )
        if not (self.project or os.environ.get("NEPTUNE_PROJECT")):
            return Destination(
                lacks="a project", fix='Write Neptune(project="workspace/project") or set NEPTUNE_PROJECT.'
            )
        try:
            told = json.loads(base64.b64decode(token, validate=True))
            return Destination(str(told["api_address"]))
        except (ValueError, KeyError, TypeError):
            return Destination(
                lacks="a NEPTUNE_API_TOKEN that can be read", fix="Copy the token from your server once more."
            )

    def _mode(self) -> str:
        if self.mode != "auto":
            return self.mode
        asked = os.environ.get("NEPTUNE_MODE", "")
        if asked in ("offline", "debug"):
            return asked
        return "async" if os.environ.get("NEPTUNE_API_TOKEN") else "offline"


class _NeptuneSession(ConfirmingSession):
    def __init__(self, connected: Any, run: RunInfo, *, mode: str, is_implied: bool) -> None:
        self._run = connected
        self._directory = run.directory
        self._uid = _run_id(run.uid)
        self._is_server = mode == "async"
        self._waiting: dict[str, list[tuple[int, float, float]]] = {}
        self.destination = mode
        if self._is_server:
            self.address = str(connected.get_url())
            self.destination = self.address.rsplit("/e/", 1)[0]
        elif mode == "offline" and is_implied and not os.environ.get("NEPTUNE_API_TOKEN"):
            self.notice = OFFLINE_NOTICE
        elif mode == "offline":
            self.notice = "offline; the run is kept in .neptune of its folder."
        parameters = dict(flat(run.recipe))
        last = next(reversed(parameters), None)
        if last is not None and not (self._is_server and connected.exists(f"recipe/{last}")):
            for name, value in parameters.items():
                connected[f"recipe/{name}"] = value
        connected[UID] = self._uid
        for name, value in environment_of(run).items():
            connected[f"environment/{name}"] = value

    def log(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        for name, value in values.items():
            self._waiting.setdefault(name, []).append((step, value, time))

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for name, points in waiting.items():
            steps, values, times = zip(*points, strict=True)
            self._run[f"metrics/{name}"].extend(list(values), steps=list(steps), timestamps=list(times))
        self._run.wait(disk_only=True)

    def last_steps(self, names: Iterable[str]) -> dict[str, int] | None:
        if not self._is_server:
            if self.destination != "offline":
                return None
            return last_steps(self._directory, self._uid)
        found: dict[str, int] = {}
        for name in names:
            field = f"metrics/{name}"
            if self._run.exists(field):
                table = self._run[field].fetch_values(include_timestamp=False, progress_bar=False)
                if len(table):
                    found[name] = int(table["step"].max())
        return found

    def conclude(self, outcome: Outcome) -> None:
        self._run["package"] = outcome.location
        self._run["best_step"] = outcome.best_step
        for split, (names, matrix) in outcome.confusions.items():
            self._run[f"confusion/{split}"].upload(_file(as_csv(names, matrix)))

    def artifact(self, path: Path) -> None:
        inside = path.is_relative_to(self._directory)
        name = path.relative_to(self._directory).as_posix() if inside else path.name
        self._run[f"artifacts/{name}"].upload(str(path))

    def finish(self) -> None:
        self._run.stop(seconds=STOP_SECONDS)


def _file(text: str) -> Any:
    from neptune.types import File

    return File.from_content(text, extension="csv")


def _run_id(uid: str) -> str:
    """Neptune takes ids of 36 characters at most."""
    return uid if len(uid) <= 36 else hashlib.sha256(uid.encode()).hexdigest()[:32]
