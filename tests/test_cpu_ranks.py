"""accelerate's options for several CPU processes start as many as asked for."""

from __future__ import annotations

import os
import subprocess

import pytest
import torch
from accelerate.commands import launch

from hf_trainpipe.cli import cpu_ranks

CONFIG = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_CPU
use_cpu: true
num_machines: 1
num_processes: 2
machine_rank: 0
main_training_function: main
mixed_precision: 'no'
"""


@pytest.fixture
def launched(monkeypatch):
    """Which launcher was called, and with what."""
    calls = []
    monkeypatch.setenv("ACCELERATE_USE_CPU", "no")
    monkeypatch.setattr(launch, "multi_gpu_launcher", lambda settled: calls.append(("ranks", settled)))
    monkeypatch.setattr(launch, "launch_command", lambda settled: calls.append(("accelerate", settled)))
    return calls


@pytest.mark.parametrize("ask", [["--cpu", "--num_processes", "2"], ["--config_file", "ranks.yaml"]])
def test_several_on_a_cpu_are_ranks(launched, tmp_path, monkeypatch, ask) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ranks.yaml").write_text(CONFIG)
    cpu_ranks.main([*ask, "recipe.py", "--seed", "3"])
    ((way, settled),) = launched
    assert way == "ranks"
    assert (settled.num_processes, settled.main_process_port) == (2, 0)
    assert (settled.training_script, settled.training_script_args) == ("recipe.py", ["--seed", "3"])
    assert os.environ["ACCELERATE_USE_CPU"] == "true"


@pytest.mark.parametrize("ask", [["--cpu", "--num_processes", "1"], ["--multi_gpu", "--num_processes", "2"]])
def test_all_else_is_accelerates(launched, ask) -> None:
    cpu_ranks.main([*ask, "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "recipe.py"])
    assert [way for way, _ in launched] == ["accelerate"]


def test_several_without_a_gpu_are_on_the_cpu(launched, monkeypatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    cpu_ranks.main(["--num_processes", "2", "--num_machines", "1", "recipe.py"])
    assert [way for way, _ in launched] == ["ranks" if not torch.cuda.is_available() else "accelerate"]


@pytest.mark.parametrize(("code", "expected"), [(75, 75), (-9, 137)])
def test_a_process_that_failed_is_not_followed_by_the_launchers_traceback(
    monkeypatch, launched, code, expected
) -> None:
    def fail(_: object) -> None:
        raise subprocess.CalledProcessError(code, "recipe.py")

    monkeypatch.setattr(launch, "launch_command", fail)
    with pytest.raises(SystemExit) as ended:
        cpu_ranks.main(["--cpu", "--num_processes", "1", "recipe.py"])
    assert ended.value.code == expected
