"""What trackers hold, read back with the library of each: ``(name, step, value)``, sorted, duplicates included."""

from __future__ import annotations

from pathlib import Path

Held = list[tuple[str, int, float]]


def tensorboard(root: Path) -> Held:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (place,) = (root / "tensorboard").iterdir()
    events = EventAccumulator(str(place), size_guidance={"scalars": 0})
    events.Reload()
    return sorted((name, event.step, event.value) for name in events.Tags()["scalars"] for event in events.Scalars(name))


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


READERS = {"TensorBoard": tensorboard, "MLflow": mlflow}
