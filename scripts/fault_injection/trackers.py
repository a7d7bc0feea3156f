"""Six trackers with their real libraries: killed with -9, and at servers that hang, answer 500 or die (scripts/trackers)."""

from __future__ import annotations

import argparse
import base64
import contextlib
import csv
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hf_trainpipe.package.clean import create_environment
from hf_trainpipe.testing import BAD, GOOD, PLAIN, tiny_model
from hf_trainpipe.tracking.ledger import read
from tests.tracking.readers import READERS

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "docs/results/trackers.md"
KINDS = ("MLflow", "Neptune", "TensorBoard", "Trackio", "WandB", "Comet")
STEPS, SAVE_EVERY = 400, 10
RECIPE = f"""
from hf_trainpipe import *

def recipe():
    return Recipe(
        name="tiny", model=Pretrained("model"), data=Files(train="train.csv", validation="dev.csv"),
        task=TextClassification("text", label="label"), tokens=Tokens(max_length=32),
        optim=Optim(peak_lr=1e-3, precision="fp32"),
        budget=Budget(epochs=20, max_steps={STEPS}, examples_per_step=8, log_every=2, evaluate_every=50, save_every={SAVE_EVERY}),
        evaluation=Evaluation(resamples=50),
    )
"""
SLOWED = """
import os, sys, time
from hf_trainpipe.training import monitor
log_step = monitor.TrainingLog.log_step
def slowly(self, report):
    time.sleep(float(os.environ["STEP_SECONDS"]))
    return log_step(self, report)
monitor.TrainingLog.log_step = slowly
from hf_trainpipe.cli import run
sys.exit(run(sys.argv[1:]))
"""
"""A trainer whose steps take a while, as those of larger models do."""


class Place:
    """A folder with a tiny model, its data and its recipe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tiny_model(folder / "model")
        for name, count, seed in (("train", 400, 1), ("dev", 80, 2)):
            chance = random.Random(seed)
            with (folder / f"{name}.csv").open("w", newline="") as stream:
                writer = csv.writer(stream)
                writer.writerow(["text", "label"])
                for _ in range(count):
                    words = chance.choice([GOOD, BAD])
                    text = [chance.choice(PLAIN), chance.choice(words), chance.choice(PLAIN), chance.choice(words)]
                    writer.writerow([" ".join(text), "good" if words is GOOD else "bad"])
        (folder / "recipe.py").write_text(RECIPE)

    def environment(self, **extra: str) -> dict[str, str]:
        secret = ("NEPTUNE_", "COMET_", "WANDB_", "MLFLOW_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(secret)}
        own = {"HF_TRAINPIPE_CACHE": str(self.folder / "cache"), "TRACKIO_DIR": str(self.folder / "trackio")}
        return {**inherited, **own, **extra}

    def train(self, run: str, *trackers: str, step_seconds: float, **extra: str) -> subprocess.Popen[str]:
        """Begin, or continue, a run with trackers."""
        named = [argument for tracker in trackers for argument in ("--track", tracker.lower())]
        return subprocess.Popen(
            [sys.executable, "-c", SLOWED, "train", "recipe.py", "--run-dir", run, *named],
            cwd=self.folder,
            env=self.environment(STEP_SECONDS=str(step_seconds), **extra),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def command(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hf_trainpipe", *arguments],
            cwd=self.folder,
            env=self.environment(**extra),
            capture_output=True,
            text=True,
            timeout=300,
        )

    def sync(self, run: str, *to: str, **extra: str) -> dict[str, Any]:
        done = self.command("track", "sync", run, *to, "--json", **extra)
        assert done.stdout.strip(), done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def weights(self, run: str) -> str:
        return hashlib.sha256((self.folder / run / "package/model.safetensors").read_bytes()).hexdigest()[:12]


def followers(run: Path) -> list[int]:
    """The follower processes of a run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = entry.read_bytes().split(b"\0")
            if b"hf_trainpipe.tracking.process" in words and str(run).encode() in words:
                found.append(int(entry.parent.name))
    return found


def compare(place: Place, run: str, kind: str) -> tuple[int, int, int, int, float]:
    """Points of the ledger and of a tracker; missing, more than once, and the largest relative difference."""
    points = list(read(place.folder / run / "ledger.jsonl"))
    attempts = {point.step: float(point.attempt) for point in points}
    wanted = {(point.name, point.step): point.value for point in points}
    wanted |= {("attempt", step): attempt for step, attempt in attempts.items()}
    held: dict[tuple[str, int], list[float]] = {}
    for name, step, value in READERS[kind](place.folder / run if kind == "Neptune" else place.folder):
        held.setdefault((name, step), []).append(value)
    shared = [(wanted[key], held[key][0]) for key in wanted.keys() & held.keys()]
    gap = max((abs(a - b) / max(abs(a), 1e-30) for a, b in shared), default=0.0)
    more = sum(len(values) - 1 for values in held.values()) + len(held.keys() - wanted.keys())
    return len(wanted), sum(map(len, held.values())), len(wanted.keys() - held.keys()), more, gap


def kills(place: Place) -> tuple[bool, list[str]]:
    """One run, six trackers, five kills at random instants, of the trainer alone or of its follower too."""
    chance, run = random.Random(5), place.folder / "runs/killed"
    reference = place.train("runs/whole", step_seconds=0)
    assert reference.wait() == 0
    told = []
    for kill in range(5):
        log = run / "tracking/follower.log"
        before = log.read_text().count(": connected to") if log.exists() else 0
        process = place.train("runs/killed", *KINDS, step_seconds=0.12)
        end = time.monotonic() + 30
        while time.monotonic() < end and process.poll() is None:
            if log.exists() and log.read_text().count(": connected to") - before >= len(KINDS):
                break
            time.sleep(0.1)
        time.sleep(chance.uniform(0, 2.5))
        beside = followers(run)
        if process.poll() is not None:
            print(
                "ended by itself:",
                process.returncode,
                process.stderr.read() if process.stderr else "",
                log.read_text()[-6000:],
            )
            return False, ["A trainer ended by itself."]
        os.killpg(process.pid, signal.SIGKILL)
        with_follower = kill % 2 == 0
        if with_follower:
            for pid in beside:
                os.kill(pid, signal.SIGKILL)
        process.wait()
        last = max((point.step for point in read(run / "ledger.jsonl")), default=0)
        connected = log.read_text().count(": connected to") - before if log.exists() else 0
        told.append(f"step {last} ({'both' if with_follower else 'the trainer'}, {connected} connected)")
        print("killed at", told[-1], flush=True)
    process = place.train("runs/killed", *KINDS, step_seconds=0.0)
    code, errors = process.wait(), (process.stderr.read() if process.stderr else "")
    if code:
        print(errors[-3000:])
    same = place.weights("runs/killed") == place.weights("runs/whole")
    first, again = place.sync("runs/killed"), place.sync("runs/killed")
    rows = [
        "| tracker | points of the ledger | held | missing | twice or strange | largest relative difference |",
        "|---|---|---|---|---|---|",
    ]
    good = code == 0 and same and first["complete"] and all(item["num_sent"] == 0 for item in again["trackers"])
    os.environ["TRACKIO_DIR"] = str(place.folder / "trackio")
    place_of_shared = Place.__new__(Place)
    place_of_shared.folder = place.folder / "runs"
    for kind in KINDS:
        wanted, held, missing, more, gap = compare(place_of_shared, "killed", kind)
        good = good and not missing and not more and gap < 1e-6
        rows.append(f"| {kind} | {wanted:,} | {held:,} | {missing} | {more} | {gap:.1e} |")
    moved_well, moved = moved_from_neptune(place, run)
    good = good and moved_well
    lines = [
        f"One run of {STEPS} steps ({len(list(read(run / 'ledger.jsonl'))):,} numbers, a checkpoint every {SAVE_EVERY} steps) with all six trackers, "
        f"killed with -9 at {', '.join(told)}, then continued to its end; `track sync` sent the rest, and a second one "
        f"{sum(item['num_sent'] for item in again['trackers'])} points. Final weights are "
        f"{'identical to' if same else 'DIFFERENT from'} those of a run without trackers. Read back with each library:",
        "",
        *rows,
        "",
        "TensorBoard keeps 32-bit floats. Points are those of the ledger and `attempt`, one a step.",
        "",
        moved,
    ]
    return good, lines


def moved_from_neptune(place: Place, run: Path) -> tuple[bool, str]:
    """The offline Neptune folder of the run, imported and sent to MLflow, which is killed in the middle."""
    imported = place.command("track", "import", str(run / ".neptune"), "--output", "old", "--json")
    (made,) = json.loads(imported.stdout.splitlines()[-1])["runs"]
    sync = [sys.executable, "-m", "hf_trainpipe", "track", "sync", made["run"], "--to", "mlflow", "--json"]
    state = place.folder / made["run"] / "tracking/MLflow-0.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(sync, cwd=place.folder, env=place.environment(), **quiet)  # type: ignore[call-overload]
    while not state.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.15)
    process.send_signal(signal.SIGKILL)
    process.wait()
    sent = [place.sync(made["run"], "--to", "mlflow")["trackers"][0]["num_sent"] for _ in range(2)]
    old = Place.__new__(Place)
    old.folder = place.folder / "old"
    wanted, held, missing, more, gap = compare(old, Path(made["run"]).name, "MLflow")
    good = not missing and not more and gap == 0 and sent[1] == 0
    return good, (
        f"The Neptune folder of this run, by `track import` a run of {made['points']:,} points; `track sync --to mlflow`, killed with -9 in "
        f"the middle, then again ({sent[0]:,} points) and again ({sent[1]}): {held:,} of {wanted:,} points held, {missing} missing, {more} twice."
    )


class Bad:
    """A server that hangs, or answers 500."""

    def __init__(self, kind: str) -> None:
        self.over = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def answer(handler) -> None:
                if kind == "hangs":
                    self.over.wait(120)
                    return
                handler.send_response(500)
                handler.send_header("Content-Length", "0")
                handler.end_headers()

            do_GET = do_POST = do_PUT = do_PATCH = do_HEAD = answer

            def log_message(handler, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def settings(self) -> dict[str, str]:
        token = json.dumps({"api_address": self.url, "api_url": self.url, "api_key": "k"})
        return {
            "MLFLOW_TRACKING_URI": self.url,
            "NEPTUNE_API_TOKEN": base64.b64encode(token.encode()).decode(),
            "NEPTUNE_PROJECT": "team/project",
            "WANDB_API_KEY": "x" * 40,
            "WANDB_BASE_URL": self.url,
            "COMET_API_KEY": "x" * 25,
            "COMET_URL_OVERRIDE": f"{self.url}/clientlib/",
        }

    def stop(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


def loop_seconds(run: Path) -> float:
    """From the first to the last number of the training."""
    times = [point.time for point in read(run / "ledger.jsonl") if point.name == "train/loss"]
    return times[-1] - times[0]


def servers(place: Place) -> tuple[bool, list[str]]:
    """Trackers at servers that hang, answer 500, or die in the middle of a run."""
    networked = ("MLflow", "Neptune", "WandB", "Comet")
    pace = 0.06  # a step of 60 ms: what a tracker costs is compared with a training of some weight
    rows = ["| servers | exit | weights | loop, seconds | warnings by tracker |", "|---|---|---|---|---|"]
    good, told = True, []

    def run(
        name: str, trackers: tuple[str, ...], *, during: Callable[[Path], None] | None = None, **extra: str
    ) -> None:
        nonlocal good
        process = place.train(f"runs/{name}", *trackers, step_seconds=pace, **extra)
        if during is not None:
            during(place.folder / f"runs/{name}")
        _, errors = process.communicate()
        said = {kind: [line for line in errors.splitlines() if line.startswith(f"{kind}: ")] for kind in trackers}
        bad = {kind: [line for line in lines if "The run goes on" in line] for kind, lines in said.items()}
        seconds = loop_seconds(place.folder / f"runs/{name}")
        same = place.weights(f"runs/{name}") == place.weights("runs/alone")
        once = all(
            len(lines) <= 1 for lines in bad.values()
        )  # none: the tracker was still trying when the run was over
        good = good and process.returncode == 0 and same and once
        counts = ", ".join(f"{kind} {len(lines)}" for kind, lines in bad.items()) or "-"
        rows.append(
            f"| {name} | {process.returncode} | {'identical' if same else 'DIFFERENT'} | {seconds:.2f} | {counts} |"
        )
        told.extend(f"{name}: {line}" for lines in bad.values() for line in lines)
        print(rows[-1], flush=True)

    run("alone", ())
    for kind in ("hangs", "500"):
        server = Bad(kind)
        run(kind, networked, **server.settings())
        server.stop()
    run("alone-again", ())
    completed = []
    for kind in networked:
        found = place.sync("runs/hangs", "--to", kind.lower())
        (report,) = found["trackers"]
        good = good and found["complete"]
        completed.append(f"{kind} {report['num_sent']:,} points, {report['num_left']} left")
    with mlflow_server(place.folder / "server") as (url, pid):

        def die(folder: Path) -> None:
            end = time.monotonic() + 60
            while time.monotonic() < end and not (folder / "tracking/MLflow-0.json").exists():
                time.sleep(0.1)
            time.sleep(2)
            os.kill(pid, signal.SIGKILL)

        run("dies", ("MLflow",), during=die, MLFLOW_TRACKING_URI=url)
        port = int(url.rsplit(":", 1)[1])
    with mlflow_server(place.folder / "server", port=port) as (url, _):
        before = json.loads((place.folder / "runs/dies/tracking/MLflow-0.json").read_text())
        first = place.sync("runs/dies", MLFLOW_TRACKING_URI=url)
        again = place.sync("runs/dies", MLFLOW_TRACKING_URI=url)
    sent = [item["num_sent"] for item in (first["trackers"][0], again["trackers"][0])]
    good = good and first["complete"] and sent[1] == 0
    held = sum(len(found["steps"]) for found in before["destinations"].values())
    lines = [
        f"Runs of {STEPS} steps of {pace * 1000:.0f} ms and more. `hangs` and `500`: MLflow, Neptune, W&B and Comet together, each at a server that takes a "
        "connection and says nothing, or answers 500. `dies`: a real MLflow server, killed with -9 two seconds after the run was created. "
        "The time is that from the first to the last number of the training; two runs without trackers show how far it varies by itself.",
        "",
        *rows,
        "",
        *[f"    {line}" for line in told],
        "",
        f"Later, `track sync --to` sent the run of `hangs` to local places: {'; '.join(completed)}. With the MLflow server back, `track sync` sent "
        f"{sent[0]:,} points of the run that it had lost ({held} series had begun), and a second one {sent[1]}.",
    ]
    return good, lines


@contextlib.contextmanager
def mlflow_server(folder: Path, *, port: int | None = None) -> Iterator[tuple[str, int]]:
    """A real MLflow server on this machine: its address and process id."""
    folder.mkdir(exist_ok=True)
    if port is None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
    code = (
        "import sys; from mlflow.server import app, handlers\n"
        "handlers.initialize_backend_stores('sqlite:///server.db', 'sqlite:///server.db', sys.argv[2])\n"
        "from werkzeug.serving import run_simple; run_simple('127.0.0.1', int(sys.argv[1]), app, threaded=True)"
    )
    files = (folder / "files").as_uri()
    environment = {
        **os.environ,
        "_MLFLOW_SERVER_FILE_STORE": "sqlite:///server.db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": files,
    }
    with open(folder / "log", "a") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(port), files], cwd=folder, env=environment, stdout=log, stderr=log
        )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.kill()
        process.wait()


ANSWERS = """
import json, sys
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/tiny@champion")
print(json.dumps(model.predict(json.load(open(sys.argv[2])))))
"""


def registry(place: Place) -> tuple[bool, list[str]]:
    """The package as a registered model, asked in a new environment that has no hf_trainpipe."""
    (place.folder / "registered.py").write_text(
        RECIPE.replace("evaluation=", 'trackers=(MLflow(register="tiny", alias="champion"),), evaluation=').replace(
            str(STEPS), "60"
        )
    )
    done = place.command("train", "registered.py", "--run-dir", "runs/registered")
    assert done.returncode == 0, done.stderr
    place.sync("runs/registered")
    with (place.folder / "runs/registered/recorded.jsonl").open(encoding="utf-8") as stream:
        recorded = [json.loads(line) for line in stream]
    texts = [row["input"] for row in recorded]
    needed = (place.folder / "runs/registered/package/requirements.txt").read_text() + f"mlflow=={version('mlflow')}\n"
    (place.folder / "requirements.txt").write_text(needed)
    python = str(create_environment(place.folder / "clean", place.folder / "requirements.txt"))
    (place.folder / "texts.json").write_text(json.dumps(texts))
    asked = subprocess.run(
        [python, "-P", "-c", ANSWERS, f"sqlite:///{place.folder / 'runs/mlflow.db'}", "texts.json"],
        cwd=place.folder,
        env={name: value for name, value in place.environment().items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 0, asked.stderr
    import numpy as np

    names = json.loads((place.folder / "runs/registered/run.json").read_text())["labels"]
    gap = 0.0
    for row, answer in zip(recorded, json.loads(asked.stdout.splitlines()[-1]), strict=True):
        logits = np.array(row["output"])
        chances = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        gap = max(gap, *(abs(item["score"] - chances[names.index(item["label"])]) for item in answer))
    return gap < 1e-5, [
        f'`MLflow(register="tiny", alias="champion")`; then `mlflow.pyfunc.load_model("models:/tiny@champion")` in a new environment that '
        f"has what the package's requirements.txt names, and mlflow: {len(texts)} recorded answers, largest difference of a probability {gap:.1e}.",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/trackers", description=__doc__)
    parts = {"kills": kills, "servers": servers, "registry": registry}
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    parser.add_argument("--report", action="store_true", help=f"write {REPORT.relative_to(ROOT)}")
    options = parser.parse_args()
    titles = {
        "kills": "Killed five times",
        "servers": "Servers that hang, answer 500, or die",
        "registry": "The registry",
    }
    wrong, texts = [], []
    for name in options.parts or parts:
        with tempfile.TemporaryDirectory(prefix="trackers-") as folder:
            good, lines = parts[name](Place(Path(folder)))
        text = "\n".join([f"## {titles[name]}", "", *lines]).replace(folder, "FOLDER")
        print(text, "\n", "as expected" if good else "NOT as expected", flush=True)
        texts.append(text)
        if not good:
            wrong.append(name)
    if options.report and not wrong:
        head = "# Trackers under faults\n\nMade by `scripts/trackers --report`: real libraries (the pins of constraints.txt), local storage, one machine with two cores."
        kept = REPORT.read_text().split("\n## ")[1:] if REPORT.exists() else []
        sections = {part.partition("\n")[0]: f"## {part}".strip() for part in kept}
        sections |= {text.partition("\n")[0].removeprefix("## "): text for text in texts}
        REPORT.write_text(
            "\n\n".join([head, *(sections[title] for title in titles.values() if title in sections)]) + "\n"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
