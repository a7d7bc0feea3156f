"""An alias in MLflow's registry, of the server that MLFLOW_TRACKING_URI names.

Packages are versions of the registered model. A record of the log is a parameter of one MLflow run: MLflow takes a parameter once and
refuses another value, so of two records under one number one is taken. That run is the one that made the model's first version. The
registry's aliases ``champion`` and ``challenger`` follow: ``models:/NAME@champion``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import DataError, TrainpipeError
from hf_trainpipe.promotion.alias import Store, digest_of
from hf_trainpipe.tracking.base import missing
from hf_trainpipe.tracking.mlflow import CLIENT_SETTINGS, LONGEST_PARAMETER
from hf_trainpipe.tracking.mlflow_registry import FOLDER, PACKAGE, register
from hf_trainpipe.utils.atomic import new_folder
from hf_trainpipe.utils.cache import cache_root

if TYPE_CHECKING:
    from hf_trainpipe.promotion.alias import Record

_PREFIX = "hf_trainpipe.record."
EXPERIMENT = "hf-trainpipe promotions"


class MlflowStore(Store):
    """A registered model, made where it is missing."""

    def __init__(self, name: str) -> None:
        for setting, value in CLIENT_SETTINGS.items():
            os.environ.setdefault(setting, value)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise missing("MLflow") from error
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not name or not uri:
            raise DataError(
                f"mlflow:{name}: expected the name of a registered model, and MLFLOW_TRACKING_URI in the environment, found "
                f"{uri or 'none'}.",
                fix="export MLFLOW_TRACKING_URI=http://... and write mlflow:NAME",
            )
        self._name, self._client = name, MlflowClient(tracking_uri=uri, registry_uri=uri)

    def describe(self) -> str:
        return f"mlflow:{self._name}"

    def records(self) -> list[dict[str, Any]]:
        run = self._run()
        if run is None:
            return []
        found = {
            name: value for name, value in self._client.get_run(run).data.params.items() if name.startswith(_PREFIX)
        }
        return [json.loads(found[name]) for name in sorted(found)]

    def append(self, number: int, record: Mapping[str, Any]) -> bool:
        from mlflow.exceptions import MlflowException

        run = self._run()
        if run is None:
            raise TrainpipeError(f"{self.describe()}: no version is registered.", fix="Promote a package first.")
        name = f"{_PREFIX}{number:06}"
        if name in self._client.get_run(run).data.params:
            return False
        try:
            self._client.log_param(run, name, _short(record))
        except MlflowException as error:
            if error.error_code == "INVALID_PARAMETER_VALUE" and name in self._client.get_run(run).data.params:
                return False
            raise
        return True

    def put(self, package: Path) -> str:
        """Registered once: the run that holds its files is found again by the package's digest."""
        digest = digest_of(package)
        experiment = self._experiment()
        found = self._client.search_runs([experiment], f"tags.`{PACKAGE}` = '{digest}'", max_results=1)
        run = found[0] if found else self._client.create_run(experiment, tags={PACKAGE: digest}, run_name=self._name)
        return register(self._client, package, name=self._name, alias=None, run_id=run.info.run_id)

    def fetch(self, reference: str) -> Path:
        version = self._client.get_model_version(self._name, reference)
        place = cache_root() / "mlflow" / f"{self._name}-{reference}-{version.run_id[:8]}"
        if not place.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            with new_folder(place) as building:
                self._client.download_artifacts(version.run_id, FOLDER, str(building))
        found = sorted(file.parent for file in place.rglob("trainpipe.json"))
        if not found:
            raise DataError(
                f"{self.describe()}, version {reference}: expected a package, found none in it.",
                fix="Register it again: hf-trainpipe promote RUN --over ALIAS",
            )
        return found[0]

    def point(self, names: Mapping[str, Record]) -> None:
        held = dict(self._client.get_registered_model(self._name).aliases)
        for name, record in names.items():
            if str(held.get(name)) != record.package.reference:
                self._client.set_registered_model_alias(self._name, name, record.package.reference)

    def _run(self) -> str | None:
        """The run of the model's first version; None: there is none yet."""
        versions = self._client.search_model_versions(f"name = '{self._name}'")
        by_number = {int(one.version): str(one.run_id) for one in versions if one.run_id}
        return by_number[min(by_number)] if by_number else None

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            try:
                return str(self._client.create_experiment(EXPERIMENT))
            except MlflowException:  # somebody else was faster
                found = self._client.get_experiment_by_name(EXPERIMENT)
                if found is None:
                    raise
        return str(found.experiment_id)


def _short(record: Mapping[str, Any]) -> str:
    """A record as a parameter takes it: without the figures of slices where they make it too long."""
    whole = json.dumps(record, ensure_ascii=False)
    if len(whole) <= LONGEST_PARAMETER:
        return whole
    decision = {**record["decision"], "slices": [one for one in record["decision"]["slices"] if one["broken"]][:3]}
    return json.dumps({**record, "decision": decision, "told": record["told"][:500]}, ensure_ascii=False)
