"""What the proofs under Airflow and Kubeflow share: their parts, the sample pipeline, its run here, and a count of trainers that are alive."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import sample

ROOT = Path(__file__).resolve().parents[2]
SAME = {"HF_TRAINPIPE_THREADS": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
"""Of all engines: the number of threads decides about the last bits."""
ENVIRONMENT = {**os.environ, **SAME, "PYTHONPATH": str(ROOT)}
EPOCHS = 40
MIDDLE = 200
"""The step at which something happens; there are 760."""


def carry_out(parts: Mapping[str, Callable[[Path], None]]) -> None:
    """A proof's command line, FOLDER PART. The part ``here`` is the reference: ``pipeline run`` here."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    folder, part = Path(sys.argv[1]).resolve(), sys.argv[2]
    folder.mkdir(parents=True, exist_ok=True)
    {"here": reference, **parts}[part](folder)


def reference(folder: Path) -> None:
    """The pipeline by ``pipeline run``."""
    place = made(folder / "here", epochs=EPOCHS, pipeline=sample.SHORT)
    began = time.monotonic()
    hf_trainpipe(place, "pipeline", "run", "pipeline.py")
    found = sample.weights(place)
    check(folder, found, found, part="here", seconds=round(time.monotonic() - began))


def check(folder: Path, expected: Mapping[str, Any], found: Mapping[str, Any], **facts: Any) -> None:
    """Hold weights against those of the reference, and tell; also of ``most_trainers`` alive at a time no more than one is allowed."""
    same = bool(expected) and None not in expected.values() and expected == found
    tell(folder / "results.jsonl", **facts, same_weights=same, sha256=next(iter(found.values()), "")[:16])
    if not same:
        sys.exit(f"the weights are not the reference's: {expected} {found}")
    if facts.get("most_trainers", 1) > 1:
        sys.exit(f"{facts['most_trainers']} trainers of one stage were alive at a time")


def interrupt(place: Path) -> int:
    """Ask the trainer to save and end in the middle of the training; the step."""
    wait(lambda: steps_done(place) > MIDDLE, seconds=300, what="the middle of the training")
    step = steps_done(place)
    for process in trainers(place):
        process.send_signal(signal.SIGTERM)
    return step


def made(folder: Path, *, epochs: int, pipeline: str = sample.PIPELINE) -> Path:
    """The sample pipeline in a folder, as in that of the reference; one that is there is kept: a proof that was ended goes on."""
    here = folder.parent / "here"
    if not (folder / "pipeline.py").exists() and (here / "pipeline.py").exists():
        shutil.copytree(here, folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    elif not (folder / "pipeline.py").exists():
        sample.make(folder, epochs=epochs, pipeline=pipeline)
    return folder


def hf_trainpipe(folder: Path, *words: str, **variables: str) -> None:
    """Run a verb in a folder; its output is this script's."""
    command = [sys.executable, "-m", "hf_trainpipe", *words]
    subprocess.run(command, cwd=folder, env={**ENVIRONMENT, **variables}, check=True)


def emitted(folder: Path, engine: str, output: Path, *options: str, pipeline: str = "reviews") -> Path:
    """The file that ``pipeline emit`` writes into ``output``."""
    file = "pipeline.py" if pipeline == "reviews" else f"pipeline.py:{pipeline}"
    hf_trainpipe(folder, "pipeline", "emit", engine, file, "--output", str(output), *options)
    return output / f"{pipeline}_{engine}{'.yaml' if engine == 'trainjob' else '.py'}"


def trainers(folder: Path) -> list[psutil.Process]:
    """Processes that train in the stage ``train`` of a folder, without those that they have begun."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            trains = words[1:4] == ["-m", "hf_trainpipe", "train"] and "runs/reviews/train" in words
            if trains and Path(process.cwd()) == folder:
                found.append(process)
    ids = {process.pid for process in found}
    return [process for process in found if process.ppid() not in ids]


def commands(folder: Path) -> list[psutil.Process]:
    """Processes that work on the stage ``train`` of a folder, or wait for the one that does."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if (
                process.cmdline()[-4:] == ["pipeline", "stage", "pipeline.py", "train"]
                and Path(process.cwd()) == folder
            ):
                found.append(process)
    return found


@contextlib.contextmanager
def counted(folder: Path) -> Iterator[dict[str, Any]]:
    """While open, look ten times a second: ``most`` trainers alive at a time, ``most_commands`` of their stage, ``ids`` in order."""
    seen: dict[str, Any] = {"most": 0, "most_commands": 0, "ids": []}
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            with contextlib.suppress(psutil.Error):
                alive = [process.pid for process in trainers(folder)]
                seen["most"] = max(seen["most"], len(alive))
                seen["most_commands"] = max(seen["most_commands"], len(commands(folder)))
                seen["ids"] += [pid for pid in alive if pid not in seen["ids"]]

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def steps_done(folder: Path, run: Path | None = None) -> int:
    """The last step in the ledger of a run; of the stage ``train`` by default."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = ((run or folder / "runs/reviews/train") / "ledger.jsonl").read_text().splitlines()
        return max(json.loads(line).get("step", 0) for line in lines[-5:])
    return 0


def wait(until: Callable[[], Any], *, seconds: float, what: str) -> Any:
    """Wait for something to be true, and return it."""
    end = time.monotonic() + seconds
    while not (found := until()):
        if time.monotonic() > end:
            sys.exit(f"it did not come within {seconds:.0f} s: {what}")
        time.sleep(0.1)
    return found


def tell(file: Path, **facts: Any) -> None:
    """Print a result, and keep it."""
    line = json.dumps(facts)
    print(line, flush=True)
    with file.open("a") as stream:
        stream.write(line + "\n")
