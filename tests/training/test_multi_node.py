"""Two launchers that rendezvous at a port, like two machines; and the Slurm script around one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PLAIN = ["--mixed_precision", "no", "--dynamo_backend", "no"]
TRAIN = ["-m", "hf_trainpipe", "train", "recipes.py"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def machines(workshop, run: str, *options: str) -> list[subprocess.Popen]:
    """One launcher a machine, each with one rank."""
    shape = ["--multi_gpu", "--num_machines", "2", "--num_processes", "2", "--main_process_ip", "127.0.0.1",
             "--main_process_port", str(free_port()), *PLAIN]  # fmt: skip
    started = []
    for number in range(2):
        with (workshop.folder / f"{run}-{number}.err").open("w") as said:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "hf_trainpipe", "launch", *shape, "--machine_rank", str(number), *TRAIN,
                     "--run-dir", run, *options],
                    cwd=workshop.folder,
                    env=workshop.environment({"ACCELERATE_USE_CPU": "true"}),
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                )
            )  # fmt: skip
    return started


def said(workshop, run: str, number: int) -> str:
    return (workshop.folder / f"{run}-{number}.err").read_text()


def wait_for(condition, *, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


@pytest.mark.nightly
def test_two_machines_stop_together_and_end_as_two_ranks_of_one(workshop) -> None:
    run = "machines"
    processes = machines(workshop, run)
    wait_for(lambda: "step  4/26" in said(workshop, run, 0) or "step 4/26" in said(workshop, run, 0))
    processes[1].send_signal(signal.SIGTERM)  # the machine that rank 0 is not on
    assert [process.wait(timeout=120) for process in processes] == [75, 75], said(workshop, run, 0)
    assert "Continue with the same command" in said(workshop, run, 0)

    processes = machines(workshop, run)
    assert [process.wait(timeout=240) for process in processes] == [0, 0], said(workshop, run, 0)
    assert "continuing after step" in said(workshop, run, 0)
    done = workshop.train("recipes.py", "--run-dir", "one-machine", ranks=2)
    assert done.code == 0, done.err
    assert workshop.weights(run) == workshop.weights("one-machine")


@pytest.fixture
def slurm(workshop) -> dict[str, str]:
    """What a job on one node without GPUs sees; srun and scontrol, which need a cluster, only do what is said here."""
    folder = workshop.folder / "slurm"
    folder.mkdir()
    commands = {
        "srun": 'shift; exec "$@"\n',  # less --kill-on-bad-exit
        "scontrol": 'if [[ $1 == show ]]; then echo 127.0.0.1; else echo "$@" >> "$(dirname "$0")/asked"; fi\n',
    }
    for name, body in commands.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{body}")
        (folder / name).chmod(0o755)
    return {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "SLURM_JOB_ID": str(4000 + os.getpid() % 1000),
        "SLURM_JOB_NODELIST": "node1",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
    }


@pytest.mark.nightly
def test_a_slurm_job_that_is_stopped_is_queued_again_and_continues(workshop, slurm) -> None:
    command = [str(REPOSITORY / "scripts/slurm/train.sbatch"), "recipes.py", "--run-dir", "queued"]
    with (workshop.folder / "queued-0.err").open("w") as stream:
        process = subprocess.Popen(
            command,
            cwd=workshop.folder,
            env=workshop.environment(slurm),
            stdout=stream,
            stderr=stream,
        )
    wait_for(lambda: "step  4/26" in said(workshop, "queued", 0) or "step 4/26" in said(workshop, "queued", 0))
    (launcher,) = psutil.Process(process.pid).children()  # Slurm signals the tasks of a step, not the batch script
    launcher.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=120) == 75, said(workshop, "queued", 0)
    asked = workshop.folder / "slurm/asked"
    assert asked.read_text() == f"requeue {slurm['SLURM_JOB_ID']}\n"
    done = workshop.run(*command, **slurm)
    assert done.code == 0, done.err
    assert "continuing after step" in done.err
    assert asked.read_text().count("requeue") == 1


@pytest.mark.parametrize("file", sorted((REPOSITORY / "scripts/accelerate").glob("*.yaml")), ids=lambda file: file.stem)
def test_launch_configurations_are_accelerates_own(file) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(file))
    assert config.to_dict()["num_processes"] == yaml.safe_load(file.read_text())["num_processes"]


@pytest.mark.nightly
def test_the_cpu_configuration_trains(workshop) -> None:
    config = str(REPOSITORY / "scripts/accelerate/cpu.yaml")
    done = workshop.run(sys.executable, "-m", "accelerate.commands.launch", "--config_file", config,
                        "recipes.py", "--run-dir", "configured", "--budget.max-steps", "3")  # fmt: skip
    assert done.code == 0, done.err
