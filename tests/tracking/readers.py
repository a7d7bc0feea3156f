"""What trackers hold, read back with the library of each: ``(name, step, value)``, sorted, duplicates included."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

Held = list[tuple[str, int, float]]


def tensorboard(root: Path) -> Held:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (place,) = (root / "tensorboard").iterdir()
    events = EventAccumulator(str(place), size_guidance={"scalars": 0})
    events.Reload()
    return sorted(
        (name, event.step, event.value) for name in events.Tags()["scalars"] for event in events.Scalars(name)
    )


def mlflow(root: Path) -> Held:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    names = run.data.metrics
    return sorted(
        (point.key, point.step, point.value)
        for name in names
        for point in client.get_metric_history(run.info.run_id, name)
    )


def trackio(root: Path) -> Held:
    from trackio.sqlite_storage import SQLiteStorage

    (record,) = SQLiteStorage.get_run_records("hf-trainpipe")
    rows = SQLiteStorage.get_logs("hf-trainpipe", run_id=record["id"])
    return sorted((name, row["step"], value) for row in rows for name, value in row.items() if isinstance(value, float))


def wandb(root: Path) -> Held:
    from hf_trainpipe.tracking.wandb import read_rows  # its own reader is gone from the library

    files = sorted(root.glob("wandb/offline-run-*/run-*.wandb"))
    return sorted(
        (name, row["step"], value)
        for file in files
        for row in read_rows(file)
        for name, value in row.items()
        if not name.startswith("_") and name != "step"
    )


def comet(root: Path) -> Held:
    held = []
    for file in sorted((root / "comet").glob("*.zip")):
        for line in zipfile.ZipFile(file).read("messages.json").splitlines():
            row = json.loads(line)
            if row["type"] == "metric_msg":
                found = row["payload"]["metric"]
                if found["metricName"] == "process duration":  # Comet's own
                    continue
                held.append((found["metricName"], found["step"], float(found["metricValue"])))
    return sorted(held)


def neptune(root: Path) -> Held:
    """With the client's own operations."""
    from neptune.internal.operation import LogFloats, Operation

    from hf_trainpipe.tracking.neptune_files import _operations, _places

    held = []
    for place in _places(root / ".neptune"):
        for row, _ in _operations(place):
            operation = Operation.from_dict(row)
            if isinstance(operation, LogFloats):
                name = "/".join(operation.path[1:])
                held += [(name, int(point.step), point.value) for point in operation.values]
    return sorted(held)


READERS = {
    "Neptune": neptune,
    "TensorBoard": tensorboard,
    "MLflow": mlflow,
    "Trackio": trackio,
    "WandB": wandb,
    "Comet": comet,
}


def about_mlflow(root: Path) -> dict[str, Any]:
    from mlflow import MlflowClient
    from mlflow.artifacts import load_text

    client = MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return {
        "params": run.data.params,
        "tags": run.data.tags,
        "status": run.info.status,
        "files": [file.path for file in client.list_artifacts(run.info.run_id)],
        "confusion": load_text(f"{run.info.artifact_uri}/confusion/validation.csv"),
    }


def about_trackio(root: Path) -> dict[str, Any]:
    from trackio.sqlite_storage import SQLiteStorage

    (record,) = SQLiteStorage.get_run_records("hf-trainpipe")
    return dict(SQLiteStorage.get_run_config("hf-trainpipe", run_id=record["id"]) or {})


def about_tensorboard(root: Path) -> list[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (place,) = (root / "tensorboard").iterdir()
    events = EventAccumulator(str(place))
    events.Reload()
    return list(events.Tags()["tensors"])


ABOUT = {"MLflow": about_mlflow, "Trackio": about_trackio, "TensorBoard": about_tensorboard}
