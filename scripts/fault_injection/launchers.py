"""Two ranks on Spark, Dask and Ray: weights as torchrun's, stopped, and with a worker lost. See ``scripts/launchers``."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from .lab import Lab
from .process import Process, Unexpected, expect, until

SLOW = "150"
LONGEST = 1800
"""Seconds after which a run that takes one minute hangs: a machine with a load of fourteen on two cores took ten."""
CLUSTERS = {
    "Spark, local mode": ["--on", "spark"],
    "Spark, tasks of a barrier": ["--on", "spark", "--address", "local[2]"],
    "Dask, workers of its own": ["--on", "dask"],
    "Dask, a scheduler that runs": ["--on", "dask", "--address", "ADDRESS"],
    "Ray": ["--on", "ray"],
}


def launch(lab: Lab, run: str, options: Sequence[str], *, ranks: int = 2, **environment: str) -> Process:
    """``hf-trainpipe launch --on ...`` of the faulty recipe."""
    train = ["-m", "hf_trainpipe", "train", "faulty.py", "--run-dir", run]
    command = [sys.executable, "-m", "hf_trainpipe", "launch", *options, "--ranks", str(ranks), *train]
    return Process(command, folder=lab.folder, environment=lab.workshop.environment(environment))


def weights(lab: Lab, run: str) -> str:
    """The beginning of the hash of the packaged weights."""
    return hashlib.sha256(lab.workshop.weights(run)).hexdigest()[:16]


def torchrun(lab: Lab) -> str:
    """The weights of two ranks that torchrun starts; made once."""
    if not (lab.folder / "torchrun/package").is_dir():
        train = ["-m", "hf_trainpipe", "train", "faulty.py", "--run-dir", "torchrun"]
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *train]
        environment = lab.workshop.environment({"ACCELERATE_USE_CPU": "true", "HF_TRAINPIPE_TRACE": "1"})
        done = Process(command, folder=lab.folder, environment=environment).end(timeout=LONGEST)
        expect(done.code == 0, f"torchrun: {done.code}: {done.last}")
    return weights(lab, "torchrun")


@contextlib.contextmanager
def dask_cluster(lab: Lab, workers: int = 2) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and workers in processes of their own, as on machines: the address and the workers, once all are there."""
    from distributed import Client

    environment = lab.workshop.environment({"PACE": SLOW})
    address = lab.folder / "scheduler.json"
    address.unlink(missing_ok=True)
    shown = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment, "cwd": lab.folder}
    cli = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--scheduler-file", str(address), "--port", "0"]
    processes = [subprocess.Popen([*cli, "--no-dashboard"], **shown)]  # type: ignore[call-overload]
    until(address.exists, seconds=LONGEST)
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(address), "--nthreads", "1"]
    processes += [subprocess.Popen([*worker, "--no-nanny", "--no-dashboard"], **shown) for _ in range(workers)]  # type: ignore[call-overload]
    try:
        found = re.findall(r"tcp://[^\"]+", address.read_text())[0]
        with Client(found, timeout=LONGEST) as client:
            client.wait_for_workers(workers, timeout=LONGEST)
        yield found, processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def resolved(lab: Lab, options: Sequence[str]) -> Iterator[list[str]]:
    """The options with the address of a scheduler that runs."""
    if "ADDRESS" not in options:
        yield list(options)
        return
    with dask_cluster(lab) as (address, _):
        yield [address if given == "ADDRESS" else given for given in options]


def equal(lab: Lab, name: str) -> str:
    """The same weights as torchrun's."""
    run = lab.name("equal")
    with resolved(lab, CLUSTERS[name]) as options:
        done = launch(lab, run, options).end(timeout=LONGEST)
    if done.code and name == "Ray":
        return f"skipped: {done.last[:160]}"
    expect(done.code == 0, f"{done.code}: {done.last}")
    expect(weights(lab, run) == torchrun(lab), "other weights than torchrun's")
    return f"{weights(lab, run)}, as torchrun's; {done.seconds:.0f} s"


def until_saved(lab: Lab, run: str, process: Process) -> None:
    """Wait for the first checkpoint of a run that goes on."""
    until(lambda: lab.steps(run) or not process.running, seconds=LONGEST)
    expect(process.running, f"it ended before: {process.stderr[-300:]}")


def continued(lab: Lab, run: str, options: Sequence[str]) -> str:
    """The weights of a run that the same command ends, which have to be torchrun's."""
    done = launch(lab, run, options).end(timeout=LONGEST)
    expect(done.code == 0, f"continued: {done.code}: {done.last}")
    expect(weights(lab, run) == torchrun(lab), "other weights after the resume")
    return f"continued: {weights(lab, run)}"


def stopped(lab: Lab, name: str) -> str:
    """SIGTERM to the launcher: all save at one step and it ends with 75; continued, the weights are the same."""
    run = lab.name("stopped")
    with resolved(lab, CLUSTERS[name]) as options:
        process = launch(lab, run, options, PACE=SLOW)
        until_saved(lab, run, process)
        process.send(signal.SIGTERM)
        done = process.end(timeout=LONGEST)
        expect(done.code == 75, f"{done.code}: {done.last}")
        return f"75 after a save at step {lab.steps(run)[-1]}; {continued(lab, run, options)}"


def rank_killed(lab: Lab, name: str) -> str:
    """kill -9 of rank 1: 75, and the same command continues."""
    run = lab.name("killed")
    with resolved(lab, CLUSTERS[name]) as options:
        process = launch(lab, run, options, PACE=SLOW)
        until_saved(lab, run, process)
        os.kill(lab.rank_pid(run, 1), signal.SIGKILL)
        killed = time.monotonic()
        done = process.end(timeout=LONGEST)
        seconds = time.monotonic() - killed
        expect(done.code == 75, f"{done.code}: {done.last}")
        return f"75 after {seconds:.0f} s; {continued(lab, run, options)}"


def worker_lost(lab: Lab, name: str) -> str:
    """kill -9 of a Dask worker, with ``--at-least 1``: it goes on by itself on one rank, with the same examples a step."""
    torchrun(lab)
    run = lab.name("lost")
    with dask_cluster(lab) as (address, workers):
        options = ["--on", "dask", "--address", address, "--at-least", "1"]
        process = launch(lab, run, options, HF_TRAINPIPE_TRACE="1", HF_TRAINPIPE_TIMEOUT="60")
        until_saved(lab, run, process)
        pid = lab.rank_pid(run, 1)
        victim = next(one for one in workers if psutil.Process(pid).ppid() == one.pid)
        victim.kill()
        done = process.end(timeout=LONGEST)
    expect(done.code == 0, f"{done.code}: {done.last}")
    expect("continuing on 1" in done.stderr, f"it never said that a worker was lost: {done.last}")
    ours, theirs = lab.examples(run), lab.examples("torchrun")
    differing = [step for step in theirs if ours.get(step) != theirs[step]]
    expect(not differing, f"other examples in steps {differing}")
    return f"went on with 1 of 2 ranks; all {len(theirs)} steps have the examples of two ranks"


PARTS: dict[str, tuple[Callable[[Lab, str], str], tuple[str, ...]]] = {
    "equal": (equal, tuple(CLUSTERS)),
    "stopped": (stopped, ("Spark, local mode", "Dask, workers of its own", "Dask, a scheduler that runs")),
    "killed": (rank_killed, ("Spark, local mode", "Dask, workers of its own")),
    "lost": (worker_lost, ("Dask, a scheduler that runs",)),
}


def main(names: Sequence[str]) -> int:
    """Run the parts; 1 where something was not as expected."""
    failed = 0
    with tempfile.TemporaryDirectory(prefix="trainpipe-launchers-") as folder:
        lab = Lab(Path(os.environ.get("LAUNCHERS_FOLDER") or folder))
        for part in names or PARTS:
            act, clusters = PARTS[part]
            only = os.environ.get("ONLY", "")
            for name in (one for one in clusters if only in one):
                try:
                    told = act(lab, name)
                except (Unexpected, StopIteration, subprocess.TimeoutExpired) as error:
                    failed += 1
                    told = f"NOT AS EXPECTED: {error}"
                print(f"| {part} | {name} | {told} |", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
