"""On a GPU: a killed run ends bit-identical, memory that runs out, and a package that answers there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoTokenizer

import hf_trainpipe
from hf_trainpipe import (
    Budget,
    Optim,
    Pretrained,
    Recipe,
    execute,
    replace,
)
from tests.serve.conftest import start

pytestmark = pytest.mark.gpu


@pytest.fixture
def recipe(recipe: Recipe) -> Recipe:
    return replace(recipe, optim=Optim(peak_lr=1e-2), budget=Budget(max_steps=8, examples_per_step=16))


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32", "tf32", "bf16-pure"])
def test_a_killed_run_ends_bit_identical(workshop, precision) -> None:
    options = ["recipes.py", "--optim.precision", precision]
    done = workshop.train(*options, "--run-dir", f"gpu-{precision}")
    assert done.code == 0, done.err
    for kill_at in ("9", "6"):
        assert workshop.train(*options, "--run-dir", f"gpu-killed-{precision}", KILL_AT=kill_at).code != 0
    done = workshop.train(*options, "--run-dir", f"gpu-killed-{precision}")
    assert done.code == 0, done.err
    assert "continuing after step" in done.err
    assert workshop.weights(f"gpu-killed-{precision}") == workshop.weights(f"gpu-{precision}")


def test_memory_that_runs_out_halves_the_micro_batches_and_changes_no_step(recipe, tmp_path, capfd) -> None:
    larger = AutoConfig.from_pretrained(recipe.model.name, hidden_size=128, num_hidden_layers=8, intermediate_size=512)
    torch.manual_seed(7)
    AutoModel.from_config(larger).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(recipe.model.name).save_pretrained(tmp_path / "model")
    one = replace(
        recipe,
        model=Pretrained(str(tmp_path / "model"), dropout=0.0),
        optim=Optim(precision="fp32", peak_lr=1e-3),
        budget=Budget(max_steps=4, examples_per_step=200),
    )
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    whole = execute(one, run_dir=tmp_path / "whole")
    peak, total = torch.cuda.max_memory_reserved(), torch.cuda.get_device_properties(0).total_memory
    assert "out of memory" not in capfd.readouterr().err
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.6 * peak / total)
    try:
        halved = execute(one, run_dir=tmp_path / "halved")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "out of memory; from here on micro-batches hold up to" in capfd.readouterr().err
    first, second = (load_file(result.package / "model.safetensors") for result in (whole, halved))
    for name, weights in first.items():
        assert torch.allclose(second[name], weights, atol=1e-4), name


def test_the_server_answers_on_the_gpu_as_the_package_does_on_the_cpu(recipe, tmp_path) -> None:
    package = execute(recipe, run_dir=tmp_path / "run").package
    texts = ["a bright film", "the story was awful and very long", "it was fine", "a"]
    expected = hf_trainpipe.load(package, device="cpu").predict(texts)
    with start(package, tmp_path / "log") as server:
        assert "cuda" in str(server.get("/info").json)
        found = server.predict(texts)
    assert [one[0]["label"] for one in found] == [one[0]["label"] for one in expected]
    assert np.allclose([one[0]["score"] for one in found], [one[0]["score"] for one in expected], atol=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_server_answers_in_16_bits_on_the_gpu_within_the_gate(recipe, tmp_path, precision) -> None:
    package = execute(recipe, run_dir=tmp_path / "run").package
    texts = ["a bright film", "the story was awful and very long", "it was fine", "a"]
    expected = hf_trainpipe.load(package, device="cpu").predict(texts)
    with start(package, tmp_path / "log", "--precision", precision) as server:
        info = server.get("/info").json
        assert (info["precision"], info["device"][:4]) == (precision, "cuda")
        found = server.predict(texts)
    for one, other in zip(found, expected, strict=True):
        scores = [{entry["label"]: entry["score"] for entry in answer} for answer in (one, other)]
        assert scores[0] == pytest.approx(scores[1], abs=0.02)
