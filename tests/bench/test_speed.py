"""Every benchmark of speed runs on a tiny model, offline: both sides, as many examples each, and the ratios.

The figures of such a trial mean nothing, and none is looked at.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BENCH = REPOSITORY / "scripts/bench"
CORES = sorted(os.sched_getaffinity(0))


def start(script: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCH / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


# script -> further arguments, the case, the sides, a ratio that is to be there
TRIALS = {
    "step.py": (
        ["--cases", "sst2", "--sides", "ours,trainer"],
        "sst2",
        {"ours", "trainer"},
        "sst2: ours / trainer",
    ),
    "evaluate.py": (
        ["--cases", "wnut17", "--sides", "ours,trainer"],
        "wnut17",
        {"ours", "trainer"},
        "wnut17: ours / trainer",
    ),
    "preprocess.py": (
        ["--sides", "bare,map,ours"],
        "sst2-phrases",
        {"bare", "map", "ours"},
        "sst2-phrases: ours / bare, cold",
    ),
    "loop_overhead.py": ([], "tiny", {"bare", "ours", "trainer"}, "overhead, ours / trainer"),
    "gpu.py": (["--sides", "ours,tuned-bf16"], "minilm", {"ours", "tuned-bf16"}, "minilm: ours / tuned-bf16"),
    "startup.py": ([], "warm", {"ours", "run_glue"}, "warm: run_glue / ours"),
    "ranks.py": (["--sides", "ours,trainer"], "sst2", {"ours-2", "trainer-2"}, "trainer: efficiency"),
}


@pytest.mark.parametrize("script", TRIALS)
def test_both_sides_run_over_as_many_examples(script: str, tmp_path: Path) -> None:
    arguments, case, sides, ratio = TRIALS[script]
    if script == "ranks.py" and len(CORES) < 2:
        pytest.skip("two ranks of one core each need two cores")
    printed = start(script, *arguments, "--smoke", "--out", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    runs = found["runs"][case]
    assert sides <= set(runs)
    assert len({one["examples"] for side in sides for one in runs[side]}) == 1
    assert all(one["examples"] > 0 for side in sides for one in runs[side])
    (each,) = found["ratios"][ratio]["each"]
    assert each == found["ratios"][ratio]["median"]
    assert each != 0
    assert found["title"] in printed
    assert "figures mean nothing" in printed


def test_padding_reads_the_ledger_or_says_that_it_is_missing(tmp_path: Path) -> None:
    printed = start("padding.py", "--smoke", "--out", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    (ours,), (trainer,) = found["runs"]["bert"]["ours"], found["runs"]["trainer"]["trainer"]
    assert ours["examples"] == trainer["examples"] > 0
    assert found["ratios"]["trainer (any architecture)"]["median"] > 1.0
    if ours["padding"] is None:
        assert "the ledger has no train/padding" in printed
    else:
        assert found["ratios"]["bert"]["median"] >= 1.0


def test_without_a_gpu_the_gpu_benchmark_says_so_in_a_line(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    printed = start("gpu.py", "--out", str(tmp_path / "found.json"))
    assert printed.count("\n") == 1
    assert "no CUDA device" in printed
    assert not (tmp_path / "found.json").exists()


def test_all_runs_what_it_is_told_and_writes_the_page(tmp_path: Path) -> None:
    start("run_all.py", "--smoke", "--only", "loop_overhead", "--results", str(tmp_path))
    page = (tmp_path / "speed.md").read_text()
    assert page.startswith("# Speed\n")
    assert "## B3: what the loop adds" in page
    assert "B1" not in page
