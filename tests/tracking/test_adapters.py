"""Every tracker with its real library on local storage; what it holds is read back with that library."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hf_trainpipe.cli import run as command
from hf_trainpipe.errors import MissingExtra, RecipeError
from hf_trainpipe.tracking.base import KINDS, tracker_named, with_trackers
from hf_trainpipe.tracking.comet import Comet
from hf_trainpipe.tracking.mlflow import MLflow
from hf_trainpipe.tracking.neptune import Neptune
from hf_trainpipe.tracking.neptune_files import import_runs
from hf_trainpipe.tracking.tensorboard import TensorBoard
from hf_trainpipe.tracking.wandb import WandB

from . import readers
from .conftest import Place

LOCAL = ("TensorBoard", "Trackio", "WandB", "Comet", "MLflow")


def killed_and_sent(root: Path, kinds: tuple[str, ...], *, num_kills: int) -> dict[str, Any]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("COMET_", "WANDB_", "MLFLOW_"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.tracking.adapters", str(root), str(num_kills), *kinds],
        capture_output=True,
        text=True,
        timeout=200,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_each_tracker_holds_the_ledger_exactly_after_a_kill(tmp_path: Path) -> None:
    found = killed_and_sent(tmp_path, LOCAL, num_kills=1)
    for kind in LOCAL:
        spelt = [(name.replace("_at_", "@"), step) for name, step, _ in found["found"][kind]]
        assert sorted(spelt) == sorted((name, step) for name, step, _ in found["expected"]), kind
        rounding = 1e-7 if kind == "TensorBoard" else 0  # its values are 32-bit floats
        held = sorted((name.replace("_at_", "@"), step, value) for name, step, value in found["found"][kind])
        assert [value for *_, value in held] == pytest.approx(
            [value for *_, value in found["expected"]], rel=rounding, abs=0
        )
    *first, again = found["reports"]
    assert all(report["complete"] for report in (*first, again))
    assert [tracker["num_sent"] for tracker in again["trackers"]] == [0] * len(LOCAL)
    about = found["about"]
    assert about["MLflow"]["params"]["optim.peak_lr"] == "5e-05"
    assert len(about["MLflow"]["params"]["long"]) == 6000
    assert about["MLflow"]["tags"]["environment.versions.torch"] == "2.2"
    assert about["MLflow"]["tags"]["package"] == str(tmp_path / "run/package")
    assert about["MLflow"]["status"] == "FINISHED"
    assert about["MLflow"]["confusion"] == "gold,no,yes\nno,3,1\nyes,0,4\n"
    assert "README.md" in about["MLflow"]["files"]
    assert about["Trackio"]["optim.peak_lr"] == 5e-5
    assert {"parameters", "README.md", "confusion/validation", "package"} <= set(about["TensorBoard"])


def series(kind: str, name: str, *points: tuple[Any, float | None, float]) -> dict[str, Any]:
    """An operation of the Neptune client, as it writes it."""
    values = [{"value": value, "step": step, "ts": time} for value, step, time in points]
    return {"type": kind, "path": name.split("/"), "values": values}


def test_a_neptune_folder_becomes_a_run_that_any_tracker_takes(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place_of_log = tmp_path / ".neptune/async/run__4ce1d3f0-aaaa__17__x/exec-0"
    place_of_log.mkdir(parents=True)
    rows = [
        {"type": "AssignString", "path": ["sys", "custom_run_id"], "value": "mine"},
        {"type": "AssignFloat", "path": ["params", "lr"], "value": 0.1},
        series("LogFloats", "train/loss", (0.5, 1.0, 10.0), (0.25, 2.0, 11.0)),
        series("LogFloats", "train/half", (1.0, 0.5, 10.0), (2.0, 1.5, 11.0)),
        series("LogFloats", "train/loss", (0.125, 4.0, 12.0), (9.0, 2.0, 13.0)),  # a step that was there
        series("LogStrings", "notes", ("a line", None, 10.0)),
        {"type": "UploadFileContent", "path": ["..", "code"], "ext": "py", "file_content": "cGFzcw=="},
    ]
    written = "".join(json.dumps({"obj": row, "version": n}) + "\n" for n, row in enumerate(rows))
    (place_of_log / "data-1.log").write_text(written + '{"obj": {"type": "LogFloats", "path": ["train", "lo')  # killed

    assert command(["track", "import", ".neptune", "--output", "old"]) == 0
    assert "5" in capsys.readouterr().out
    (folder,) = Path("old").iterdir()
    again = import_runs(Path(), "old")["runs"]
    assert [(run["new"], run["points"], run["left_out"]) for run in again] == [(False, 5, 1)]
    run = json.loads((folder / "run.json").read_text())
    assert (run["uid"], run["recipe"]["params/lr"]) == ("mine", 0.1)
    assert json.loads((folder / "neptune.json").read_text())["texts"]["notes"][0][1] == "a line"
    assert (folder / "files/code.py").read_text() == "pass"

    for expected in (9, 0):  # five points, and the attempt of four steps
        assert command(["track", "sync", str(folder), "--to", "tensorboard", "--json"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["trackers"][0]["num_sent"] == expected
    points = [(n, s, v) for n, s, v in readers.tensorboard(tmp_path / "old") if n != "attempt"]
    assert points == [("train/half", 0, 1.0), ("train/half", 1, 2.0), ("train/loss", 1, 0.5), ("train/loss", 2, 0.25),
                      ("train/loss", 4, 0.125)]  # fmt: skip

    assert command(["track", "export", str(folder), "--output", "all.csv"]) == 0
    rows = list(csv.DictReader(Path("all.csv").read_text().splitlines()))
    assert [row["value"] for row in rows if row["name"] == "train/loss"] == ["0.5", "0.25", "0.125"]
    assert command(["track", "export", str(folder), "--output", "all.parquet"]) == 0
    import pyarrow.parquet

    assert pyarrow.parquet.read_table("all.parquet").num_rows == 5
    assert command(["track", "export", str(folder), "--output", "all.xls"]) == 2
    assert command(["track", "import", "old"]) == 2
    assert "expected offline runs of Neptune" in capsys.readouterr().err


def test_parts_of_a_neptune_run_are_joined_by_their_times(tmp_path: Path) -> None:
    for name, point in (("a", (0.25, 2.0, 20.0)), ("b", (0.5, 1.0, 10.0))):  # by name the later one comes first
        place = tmp_path / f".neptune/offline/run__{name}__1__x"
        place.mkdir(parents=True)
        uid = {"type": "AssignString", "path": ["hf_trainpipe", "uid"], "value": "ours"}
        rows = [uid, series("LogFloats", "metrics/train/loss", point)]
        (place / "data-1.log").write_text("".join(json.dumps({"obj": row, "version": n}) for n, row in enumerate(rows)))
    (made,) = import_runs(tmp_path, tmp_path / "old")["runs"]
    assert (made["points"], made["left_out"]) == (2, 0)


def test_trackers_by_name(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert [type(tracker_named(kind.lower())).__name__ for kind in KINDS] == list(KINDS)
    with pytest.raises(
        RecipeError, match="expected one of comet, mlflow, neptune, tensorboard, trackio, wandb"
    ) as caught:
        tracker_named("mlfow")
    assert "Did you mean 'mlflow'?" in caught.value.fix
    with pytest.raises(RecipeError, match=r"MLflow.alias: expected register"):
        MLflow(alias="champion")
    for kind in (Comet, WandB, Neptune):
        with pytest.raises(RecipeError, match=f"{kind.__name__}.mode: expected one of auto"):
            kind(mode="on")  # type: ignore[arg-type]
    assert command(["track", "export", str(place.run), "--to", "mlflow"]) == 2
    assert command(["track", "sync", str(place.run), "--to", "mlfow"]) == 2
    assert "Did you mean 'mlflow'?" in capsys.readouterr().err


def test_a_library_that_is_missing_is_named_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="Comet needs comet_ml, which is not installed") as caught:
        tracker_named("comet")
    assert caught.value.fix == "pip install 'hf-trainpipe[comet]'"


def test_named_trackers_join_those_of_a_recipe() -> None:
    from tests.test_codec import make

    recipe = with_trackers(make(trackers=(MLflow(experiment="mine"),)), ["mlflow", "tensorboard", "tensorboard"])
    assert recipe.trackers == (MLflow(experiment="mine"), TensorBoard())


@pytest.mark.parametrize("kind", ["mlflow", "comet"])
def test_a_server_that_is_not_there_is_an_error_within_seconds(
    kind: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checked in a process of its own: comet_ml leaves threads behind."""
    tracker = {"mlflow": 'MLflow(uri="http://127.0.0.1:9")', "comet": 'Comet(mode="online")'}[kind]
    code = (
        "import sys, os; from pathlib import Path; from hf_trainpipe import Comet, MLflow, RunInfo\n"
        f"try: {tracker}.start(RunInfo('r', 'u' * 32, Path(sys.argv[1]), 1))\n"
        "except Exception as error: print(type(error).__name__, flush=True)\n"
        "else: print('started', flush=True)\n"
        "os._exit(0)"
    )
    settings = {"COMET_API_KEY": "x" * 25, "COMET_URL_OVERRIDE": "http://127.0.0.1:9/clientlib/"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(place.run)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **settings},
    )
    assert done.stdout.split()[-1] in ("MlflowException", "ConnectionError"), done.stdout + done.stderr[-2000:]
