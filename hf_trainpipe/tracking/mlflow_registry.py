"""A package as a model of MLflow: a pyfunc from code, which loads the handler that the package brings."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

PACKAGE = "hf_trainpipe.package"
FOLDER = "model"


def register(client: Any, package: Path, *, name: str, alias: str | None, run_id: str) -> str:
    """Make a version of the registered model ``name``; the same package of a run is registered once.

    Args:
        client: An ``MlflowClient``.
        package: The package's folder.
        alias: What the new version is called from now on; a version that was there keeps what it is called.

    Returns:
        The version's number.
    """
    from mlflow.exceptions import MlflowException

    digest = hashlib.sha256((package / "trainpipe.json").read_bytes()).hexdigest()
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.run_id == run_id and version.tags.get(PACKAGE) == digest:
            return str(version.version)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / FOLDER
        save(package, model)
        client.log_artifacts(run_id, str(model), FOLDER)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{FOLDER}"
    made = client.create_model_version(name, source, run_id=run_id, tags={PACKAGE: digest})
    if alias is not None:
        client.set_registered_model_alias(name, alias, made.version)
    return str(made.version)


def save(package: Path, folder: Path) -> None:
    """Write the MLflow model: the package, the code that loads it, and what it needs."""
    import mlflow.pyfunc

    needed = (package / "requirements.txt").read_text("utf-8").split("\n")
    mlflow.pyfunc.save_model(
        str(folder),
        python_model=str(Path(__file__).with_name("mlflow_model.py")),
        artifacts={"package": str(package)},
        pip_requirements=[f"mlflow=={mlflow.__version__}", *filter(None, map(str.strip, needed))],
    )
