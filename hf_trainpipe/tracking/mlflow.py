"""MLflow: a server's address, or an SQLite file. Its registry gets a model only where that is asked for.

Environment, read by MLflow itself:
    MLFLOW_TRACKING_URI            the server, where the recipe names none; without both, an SQLite file beside the run
    MLFLOW_TRACKING_TOKEN, ..._USERNAME, ..._PASSWORD      credentials
    MLFLOW_HTTP_REQUEST_TIMEOUT, MLFLOW_HTTP_REQUEST_MAX_RETRIES
                                   10 seconds and 1 here unless set: with MLflow's own, an answer of 500 takes 4 minutes

MLflow keeps one point for each name, step, time and value. The times are those of the ledger, so that what is sent again adds
nothing; a server is asked for its last steps all the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.recipe import Destination, RunInfo, Tracker
from hf_trainpipe.tracking.base import ConfirmingSession, check_tags, missing
from hf_trainpipe.tracking.facts import Outcome, as_csv, beside, environment_of, flat, state_of

CLIENT_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""What the client is told where the environment does not say otherwise."""
POINTS_A_REQUEST, PARAMETERS_A_REQUEST = 900, 90
LONGEST_NAME, LONGEST_PARAMETER, LONGEST_TAG = 250, 6000, 5000
UID = "hf_trainpipe.uid"
STATUS = {"complete": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", "running": "RUNNING"}


@dataclass(frozen=True, kw_only=True)
class MLflow(Tracker):
    """Log to MLflow. A resumed run continues the MLflow run that carries its id.

    >>> MLflow(uri="http://localhost:5000", register="reviews", alias="champion").register
    'reviews'
    """

    uri: str | None = None
    """``http://...``, or ``sqlite:///mlflow.db``, where a relative file lies beside the run's folder; None:
    MLFLOW_TRACKING_URI, else ``sqlite:///mlflow.db``."""
    experiment: str | None = None
    """The experiment's name; None: MLFLOW_EXPERIMENT_NAME, else ``hf-trainpipe``."""
    tags: tuple[str, ...] = ()
    """Tags of the run, ``NAME`` or ``NAME=VALUE``."""
    upload_package: bool = False
    """Upload the package's files; otherwise only its location is told."""
    register: str | None = None
    """Register the package of a complete run as a new version of the model of this name: a pyfunc with the package in it."""
    alias: str | None = None
    """Give this alias to the new version: ``models:/NAME@ALIAS``. Needs ``register``."""

    def __post_init__(self) -> None:
        check_tags(self, self.tags)
        if self.alias is not None and self.register is None:
            raise RecipeError(
                f"MLflow.alias: expected register beside it, found alias={self.alias!r} alone.",
                fix=f'Write MLflow(register="NAME", alias={self.alias!r}).',
            )

    def destination(self) -> Destination:
        """The server, if one is named."""
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or ""
        return Destination(uri if uri.startswith("http") else None)

    def start(self, run: RunInfo) -> ConfirmingSession:
        """Find the run on the server, or create it.

        Raises:
            MissingExtra: where mlflow is not installed.
        """
        for name, value in CLIENT_SETTINGS.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise missing("MLflow") from error
        uri = _absolute(self.uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db", run)
        return _MLflowSession(MlflowClient(tracking_uri=uri, registry_uri=uri), self, run, uri)


class _MLflowSession(ConfirmingSession):
    def __init__(self, client: Any, settings: MLflow, run: RunInfo, uri: str) -> None:
        self._client, self._settings, self._run = client, settings, run
        self._waiting: list[tuple[str, float, float, int]] = []
        experiment = _experiment(client, settings, run, uri)
        where = f"tags.`{UID}` = '{run.uid}'"
        found = client.search_runs([experiment], where, order_by=["attributes.start_time ASC"], max_results=1)
        begun = found[0] if found else client.create_run(experiment, tags={UID: run.uid}, run_name=run.name)
        self._id = begun.info.run_id
        shown = re.sub(r"//[^/@]*@", "//", uri)
        self.destination = f"{shown} {experiment}"
        self.address = (
            f"{shown}/#/experiments/{experiment}/runs/{self._id}"
            if shown.startswith("http")
            else f"mlflow ui --backend-store-uri {shown}"
        )
        self._tell(begun.data.params)
        client.update_run(self._id, status="RUNNING")

    def log(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        self._waiting += [(_name(name), value, time, step) for name, value in values.items()]

    def flush(self) -> None:
        from mlflow.entities import Metric

        waiting, self._waiting = self._waiting, []
        for some in _parts(waiting, POINTS_A_REQUEST):
            metrics = [Metric(name, value, round(time * 1000), step) for name, value, time, step in some]
            self._client.log_batch(self._id, metrics=metrics, synchronous=True)

    def last_steps(self, names: Iterable[str]) -> dict[str, int]:
        # The newest point of each metric, by step; their order is the ledger's, and a request is taken whole or not at all.
        held = {metric.key: int(metric.step) for metric in self._client.get_run(self._id).data._metric_objs}
        return {name: held[_name(name)] for name in names if _name(name) in held}

    def artifact(self, path: Path) -> None:
        self._client.log_artifact(self._id, str(path))
        if path.name == "README.md":
            text = re.sub(r"(?s)\A---\n.*?\n---\n", "", path.read_text("utf-8"))
            self._client.set_tag(self._id, "mlflow.note.content", text[:LONGEST_TAG])

    def conclude(self, outcome: Outcome) -> None:
        self._client.set_tag(self._id, "package", outcome.location)
        self._client.set_tag(self._id, "best_step", str(outcome.best_step))
        for split, (names, matrix) in outcome.confusions.items():
            self._client.log_text(self._id, as_csv(names, matrix), f"confusion/{split}.csv")
        if self._settings.upload_package:
            self._client.log_artifacts(self._id, str(outcome.package), "package")
        if self._settings.register is not None:
            from hf_trainpipe.tracking.mlflow_registry import register

            register(
                self._client,
                outcome.package,
                name=self._settings.register,
                alias=self._settings.alias,
                run_id=self._id,
            )

    def finish(self) -> None:
        self._client.set_terminated(self._id, STATUS[state_of(self._run)])

    def _tell(self, held: Mapping[str, str]) -> None:
        """Parameters and tags. A parameter that has changed since the run began stays, and a tag tells what it is now."""
        from mlflow.entities import Param, RunTag

        wanted = {_name(name): str(value) for name, value in flat(self._run.recipe, separator=".")}
        missing = [Param(name, value[:LONGEST_PARAMETER]) for name, value in wanted.items() if name not in held]
        for some in _parts(missing, PARAMETERS_A_REQUEST):
            self._client.log_batch(self._id, params=some, synchronous=True)
        tags = {name: value or "true" for name, _, value in (tag.partition("=") for tag in self._settings.tags)}
        tags |= {f"environment.{name}": value for name, value in environment_of(self._run).items()}
        changed = {
            name: value for name, value in wanted.items() if name in held and held[name] != value[:LONGEST_PARAMETER]
        }
        tags |= {f"now.{name}"[:LONGEST_NAME]: value for name, value in changed.items()}
        listed = [RunTag(_name(name), value[:LONGEST_TAG]) for name, value in tags.items()]
        for some in _parts(listed, PARAMETERS_A_REQUEST):
            self._client.log_batch(self._id, tags=some, synchronous=True)


def _experiment(client: Any, settings: MLflow, run: RunInfo, uri: str) -> str:
    from mlflow.exceptions import MlflowException

    name = settings.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "hf-trainpipe"
    found = client.get_experiment_by_name(name)
    if found is None:
        files = beside(run, "mlflow-files").as_uri() if uri.startswith("sqlite:") else None
        try:
            return str(client.create_experiment(name, artifact_location=files))
        except MlflowException:  # another run was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _absolute(uri: str, run: RunInfo) -> str:
    file = uri.removeprefix("sqlite:///")
    return f"sqlite:///{beside(run, file)}" if file != uri else uri.rstrip("/")


def _name(name: str) -> str:
    """A name as MLflow takes it: ``recall@5`` is ``recall_at_5``.

    >>> _name("f1[B-PER]"), _name("validation/recall@5")
    ('f1_B-PER_', 'validation/recall_at_5')
    """
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"))[:LONGEST_NAME]


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
