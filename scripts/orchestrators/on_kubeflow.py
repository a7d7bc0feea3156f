"""The emitted files under Kubeflow Pipelines and Trainer themselves; scripts/kubeflow makes the environment and calls this.

    on_kubeflow.py FOLDER here        # the reference: pipeline run, here
    on_kubeflow.py FOLDER kfp         # compiled; begun and killed here, continued by KFP's SubprocessRunner, interrupted once more
    on_kubeflow.py FOLDER trainjob    # valid; posted by the SDK to a stand-in; its command on two machines: network namespaces

Each part ends with one line of JSON, which is kept in FOLDER/results.jsonl, and fails if the weights are not the reference's, or two
trainers of one stage were alive.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import proof
import psutil
import sample

PYTHON = proof.ROOT / ".environments" / "kubeflow" / "bin" / "python"
PAUSE = ("time.sleep(60)", "time.sleep(2)")
"""What is shortened in the emitted file."""
MACHINES = ("10.231.7.1", "10.231.7.2")
PORT = 29500


def in_kubeflow(what: str, *words: str | Path) -> dict[str, Any]:
    """Run in_kubeflow.py in Kubeflow's environment; its last line of output."""
    environment = {**proof.ENVIRONMENT, "PYTHONPATH": "", "PATH": f"{PYTHON.parent}:{os.environ['PATH']}"}
    command = [PYTHON, proof.ROOT / "scripts" / "orchestrators" / "in_kubeflow.py", what, *words]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{what} ended with {done.returncode}\n{done.stdout[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def kfp(folder: Path) -> None:
    """Compile the emitted file, and run it without a cluster."""
    place = proof.made(folder / "kfp", epochs=proof.EPOCHS, pipeline=sample.SHORT)
    options = ("--folder", str(place), "--python", sys.executable, "--image", "python:3.11", "--volume", "")
    file = proof.emitted(place, "kfp", folder, *options)
    file.write_text(file.read_text().replace(*PAUSE))
    compiled = in_kubeflow("compile", file)

    if not (place / "runs").exists():
        begun_here(place)
    threading.Thread(target=proof.interrupt, args=[place], daemon=True).start()
    began = time.monotonic()
    with proof.counted(place) as seen:
        ran = in_kubeflow("run", file, folder / "kfp-outputs")
    proof.check(
        folder, sample.weights(folder / "here"), sample.weights(place), part="kfp", seconds=round(time.monotonic() - began),
        compiled=compiled, ran=ran, most_trainers=seen["most"], trainers=len(seen["ids"]),
    )  # fmt: skip


def begun_here(place: Path) -> None:
    """Begin the pipeline on another engine, ``pipeline run``, and kill all of it -9 while it trains."""
    command = [sys.executable, "-m", "hf_trainpipe", "pipeline", "run", "pipeline.py"]
    engine = psutil.Process(subprocess.Popen(command, cwd=place, env=proof.ENVIRONMENT, start_new_session=True).pid)
    proof.wait(lambda: proof.steps_done(place) > proof.MIDDLE / 2, seconds=300, what="the first steps")
    for process in [engine, *engine.children(recursive=True)]:
        process.kill()
    engine.wait()


@contextlib.contextmanager
def namespaces() -> Iterator[list[str]]:
    """Two network namespaces that see each other and nothing else; needs root."""
    names = [f"trainjob-{number}" for number in range(2)]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    for name in names:
        subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "pod0", "netns", names[0], "type", "veth", "peer", "name", "pod0", "netns", names[1])
        for name, address in zip(names, MACHINES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "pod0")
            for device in ("lo", "pod0"):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)


def machines(place: Path, names: list[str], command: list[str], log: Path) -> list[subprocess.Popen[bytes]]:
    """The job's command on each machine, with what Trainer's torch plugin sets there."""
    started = []
    for rank, name in enumerate(names):
        told = {
            "NNODES": len(names),
            "NODE_RANK": rank,
            "NPROC_PER_NODE": 1,
            "MASTER_ADDR": MACHINES[0],
            "MASTER_PORT": PORT,
        }
        variables = {f"PET_{key}": str(value) for key, value in told.items()} | {"GLOO_SOCKET_IFNAME": "pod0"}
        with log.with_name(f"{log.name}-{rank}.log").open("ab") as output:
            started.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", name, *command], cwd=place, env={**proof.ENVIRONMENT, **variables},
                    stdout=output, stderr=output, start_new_session=True,
                )
            )  # fmt: skip
    return started


def trainjob(folder: Path) -> None:
    """The TrainJob of two machines: its file, its way to a cluster, and what its pods would do."""
    place = proof.made(folder / "trainjob", epochs=proof.EPOCHS, pipeline=sample.SHORT)
    proof.hf_trainpipe(place, "pipeline", "run", "pipeline.py:two_ranks")
    options = ("--folder", str(place), "--python", sys.executable, "--nodes", "2")
    file = proof.emitted(place, "trainjob", folder, *options, pipeline="two_machines")
    posted = in_kubeflow("trainjob", file)
    run = place / "runs/two-machines/train"
    began = time.monotonic()
    with namespaces() as names:
        started = machines(place, names, posted["command"], folder / "machine")
        proof.wait(lambda: proof.steps_done(place, run) > 20, seconds=180, what="the middle of the training")
        os.kill(started[1].pid, signal.SIGTERM)  # the machine without rank 0, as an eviction does
        interrupted = [process.wait(120) for process in started]
        started = machines(place, names, posted["command"], folder / "machine")
        codes = [process.wait(240) for process in started]
        again = [process.wait(60) for process in machines(place, names, posted["command"], folder / "machine")]
    found = sample.weights(place)
    proof.check(
        folder, {"train": found.get("two-ranks/train")}, {"train": found.get("two-machines/train")}, part="trainjob",
        seconds=round(time.monotonic() - began), posted=posted, interrupted=interrupted, codes=codes, when_done=again,
    )  # fmt: skip


if __name__ == "__main__":
    proof.carry_out({"kfp": kfp, "trainjob": trainjob})
