"""Every benchmark of speed runs on a tiny model, offline: both sides, as many examples each, and the ratios.

The figures of such a trial mean nothing, and none is looked at.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

CORES = sorted(os.sched_getaffinity(0))

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
    "gpu.py": (
        ["--sides", "ours,tuned-bf16"],
        "bert-base-short",
        {"ours", "tuned-bf16"},
        "bert-base-short: ours / tuned-bf16",
    ),
    "gpu_predict.py": (
        ["--cases", "predict", "--sides", "ours-fp32,ours-bf16,tuned-fp32"],
        "predict",
        {"ours-fp32", "ours-bf16", "tuned-fp32"},
        "predict: ours-bf16 / tuned-fp32",
    ),
    "profile_step.py": ([], "sst2", {"medium", "fp32"}, "medium: AdamW and the norm / the step"),
    "startup.py": ([], "warm", {"ours", "run_glue"}, "warm: run_glue / ours"),
    "ranks.py": (["--sides", "ours,trainer"], "sst2", {"ours-2", "trainer-2"}, "trainer: efficiency, the same step"),
}


@pytest.mark.nightly
@pytest.mark.parametrize("script", TRIALS)
def test_both_sides_run_over_as_many_examples(start: Callable[..., str], script: str, tmp_path: Path) -> None:
    arguments, case, sides, ratio = TRIALS[script]
    if script == "ranks.py" and len(CORES) < 2:
        pytest.skip("two ranks of one core each need two cores")
    printed = start(script, *arguments, "--smoke", "--out", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    compared(found, case, sides, ratio)
    assert found["title"] in printed
    assert "figures mean nothing" in printed


@pytest.mark.nightly
@pytest.mark.parametrize("script", ["sft.py", "language_model.py"])
def test_both_sides_of_a_language_model_learn_the_same(start: Callable[..., str], script: str, tmp_path: Path) -> None:
    sides = ["--sides", "ours,plain"] if script == "sft.py" else []
    printed = start(script, *sides, "--smoke", "--threads", "1", "--out", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    [runs] = found["runs"].values()
    [ours], [plain] = runs["ours"], runs["plain"]
    if script == "sft.py":
        assert ours["targets"] == plain["targets"] > 0
        assert ours["losses"] == pytest.approx(plain["losses"], abs=1e-5)
    else:
        assert ours["loss"] == pytest.approx(plain["loss"], rel=0.2)  # plain has no schedule
    assert found["ratios"]["ours / plain, CPU"]["median"] > 0
    assert "figures mean nothing" in printed


def compared(found: dict[str, Any], case: str, sides: set[str], ratio: str) -> None:
    runs = found["runs"][case]
    assert sides <= set(runs)
    assert len({one["examples"] for side in sides for one in runs[side]}) == 1
    assert all(one["examples"] > 0 for side in sides for one in runs[side])
    (each,) = found["ratios"][ratio]["each"]
    assert each == found["ratios"][ratio]["median"]
    assert each != 0


@pytest.mark.nightly
def test_all_runs_the_chosen_benchmarks_and_writes_the_page(start: Callable[..., str], tmp_path: Path) -> None:
    start("run_all.py", "--smoke", "--only", "loop_overhead", "--results", str(tmp_path))
    found = json.loads((tmp_path / "speed-loop.json").read_text())
    compared(found, "tiny", {"bare", "ours", "trainer"}, "overhead, ours / trainer")
    page = (tmp_path / "speed.md").read_text()
    assert page.startswith("# Speed\n")
    assert "## B3: what the loop adds" in page
    assert "figures mean nothing" in page
    assert "B1" not in page


@pytest.mark.nightly
def test_padding_comes_from_the_ledger_or_is_reported_missing(start: Callable[..., str], tmp_path: Path) -> None:
    printed = start("padding.py", "--smoke", "--out", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    (ours,), (trainer,) = found["runs"]["bert"]["ours"], found["runs"]["trainer"]["trainer"]
    assert ours["examples"] == trainer["examples"] > 0
    assert found["ratios"]["trainer (any architecture)"]["median"] > 1.0
    if ours["padding"] is None:
        assert "the ledger has no train/padding" in printed
    else:
        assert found["ratios"]["bert"]["median"] >= 1.0


@pytest.mark.nightly
def test_evaluations_on_a_gpu_are_compared(start: Callable[..., str], tmp_path: Path) -> None:
    sides = "ours,tuned-bf16"
    start("gpu_predict.py", "--smoke", "--cases", "evaluation", "--sides", sides, "--out", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    compared(found, "evaluation", {"ours", "tuned-bf16"}, "evaluation: ours / tuned-bf16")
    accuracies = [one["accuracy"] for runs in found["runs"]["evaluation"].values() for one in runs]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.05)


@pytest.mark.parametrize("script", ["gpu.py", "gpu_predict.py"])
def test_a_gpu_benchmark_prints_one_line_without_a_gpu(start: Callable[..., str], script: str, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    printed = start(script, "--out", str(tmp_path / "found.json"))
    assert printed.count("\n") == 1
    assert "no CUDA device" in printed
    assert not (tmp_path / "found.json").exists()
