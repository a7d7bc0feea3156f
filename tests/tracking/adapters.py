"""A program for test_adapters.py: sends a run to trackers while their process is killed, and prints what they hold.

    python -m tests.tracking.adapters FOLDER NUM_KILLS KIND ...

A child process follows the ledger, as the follower does, and is killed with -9 while points come; the run goes back to its
checkpoint each time. In the end ``track sync`` sends the rest: it is killed once, and then done twice.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from hf_trainpipe.recipe import RunInfo
from hf_trainpipe.tracking.base import describe, tracker_named, write_spec
from hf_trainpipe.tracking.feeder import Feeder
from hf_trainpipe.tracking.follower import sync
from hf_trainpipe.tracking.ledger import Ledger, read

from .readers import ABOUT, READERS, Held

UID = "b2d6a1c0-0000-4000-8000-000000000001"
RECIPE = {
    "name": "sst2",
    "optim": {"peak_lr": 5e-5, "max_grad_norm": None},
    "task": {"names": ["no", "yes"]},
    "long": "a" * 9000,
}
RESULT = {
    "select": "accuracy",
    "best_step": 40,
    "report": {"validation": {"names": ["no", "yes"], "confusion": [[3, 1], [0, 4]]}},
}
STEPS = 60
LIBRARIES = {
    "TensorBoard": "tensorboard.summary.writer.event_file_writer",
    "Trackio": "trackio.sqlite_storage",
    "WandB": "wandb.sdk.launch.inputs.internal",
    "Comet": "comet_ml",
    "MLflow": "mlflow.store.tracking.sqlalchemy_store",
}


def expected(run: Path) -> Held:
    """What each tracker is to hold."""
    points = list(read(run / "ledger.jsonl"))
    attempts = {point.step: point.attempt for point in points}
    return sorted(
        [
            *((point.name, point.step, point.value) for point in points),
            *(("attempt", s, float(a)) for s, a in attempts.items()),
        ]
    )


def follow(run: RunInfo, kinds: list[str], *, ready: Path) -> None:
    """What the follower process does, until it is killed."""
    os.setpgid(0, 0)
    feeders = [
        Feeder(run, describe(tracker_named(kind)), position=n, say=print, log=lambda text: print(text, file=sys.stderr))
        for n, kind in enumerate(kinds)
    ]
    for feeder in feeders:
        feeder.send_new()
    ready.touch()
    for feeder in feeders:
        threading.Thread(target=feeder.follow, args=(threading.Event(),), kwargs={"poll_s": 0.01}, daemon=True).start()
    time.sleep(600)


def log(ledger: Ledger, step: int) -> None:
    ledger.log({"train/loss": 1 / (step + 1), "train/tokens_per_second": random.random()}, step=step, epoch=step / 9)
    if step % 5 == 4:
        ledger.log({"validation/recall@5": step / 100}, step=step, epoch=step / 9)


def run_with_kills(root: Path, num_kills: int, kinds: list[str]) -> None:
    directory = root / "run"
    checkpoint, offset = -1, 0
    (directory / "attempts").mkdir(parents=True)
    (directory / "run.json").write_text(json.dumps({"name": "sst2", "uid": UID, "recipe": RECIPE, "fingerprints": {}}))
    for attempt in range(1, num_kills + 2):
        (directory / f"attempts/{attempt:04d}.json").write_text(
            json.dumps({"attempt": attempt, "versions": {"torch": f"2.{attempt}"}})
        )
        run = RunInfo("sst2", UID, directory, attempt, RECIPE)
        write_spec(run, [tracker_named(kind) for kind in kinds])
        ready = root / f"ready-{attempt}"
        is_last = attempt > num_kills
        child = os.fork() if not is_last else 0
        if child == 0 and not is_last:
            try:
                follow(run, kinds, ready=ready)
            finally:
                os._exit(1)
        while not (is_last or ready.exists()):
            time.sleep(0.01)
        with closing(
            Ledger(directory / "ledger.jsonl", attempt=attempt, truncate_to=offset, last_step=checkpoint)
        ) as ledger:
            for step in range(checkpoint + 1, STEPS if is_last else checkpoint + 9):
                log(ledger, step)
                if not is_last and step == checkpoint + 5:  # the run is killed 3 steps behind its next checkpoint
                    saved = (step, ledger.offset)
                    (directory / f"checkpoints/step-{step:08d}").mkdir(parents=True)
                time.sleep(0 if is_last else random.uniform(0, 0.05))
        if is_last:
            (directory / "package").mkdir()
            (directory / "package/README.md").write_text("# sst2\n")
            (directory / "tracking/artifacts.jsonl").write_text('{"path": "package/README.md", "time": 0}\n')
            (directory / "result.json").write_text(json.dumps(RESULT))
        else:
            checkpoint, offset = saved
            time.sleep(random.uniform(0, 0.3))
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)


def main(folder: str, num_kills: str, *kinds: str) -> None:
    root = Path(folder).resolve()
    os.environ["TRACKIO_DIR"] = str(root / "trackio")
    for kind in kinds:  # before the first fork: each child would import them anew
        importlib.import_module(LIBRARIES[kind])
    run_with_kills(root, int(num_kills), list(kinds))
    child = os.fork()
    if child == 0:
        sync(root / "run")
        os._exit(0)
    time.sleep(random.uniform(0.5, 1.5))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    reports: list[dict[str, Any]] = [*(sync(root / "run", to=kind) for kind in kinds), sync(root / "run")]
    found = {kind: READERS[kind](root) for kind in kinds}
    about = {kind: ABOUT[kind](root) for kind in kinds if kind in ABOUT}
    print(json.dumps({"expected": expected(root / "run"), "found": found, "reports": reports, "about": about}))


if __name__ == "__main__":
    main(*sys.argv[1:])
