"""A loss has one gradient, however the global batch is cut: one that looks across all of it, and one of sides that are read apart."""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from hf_trainpipe.testing import tiny_model, tiny_rows
from hf_trainpipe.training.across import losses
from tests.tasks import preference_runs
from tests.training import distilled
from tests.training.across import PAIRS, gradient
from tests.training.ranks import run_ranks

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("across")
    tiny_model(folder / "model")
    texts = [row["text"] for row in tiny_rows(PAIRS, seed=3)]
    rows = [
        {"text": text, "text_pair": f"{text.split()[-1]} {text.split()[0]}", "score": len(text) / 50} for text in texts
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def at_once(folder: Path) -> dict[str, torch.Tensor]:
    return gradient(folder, "whole", piece=None)


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    largest = max(float(one.abs().max()) for one in expected.values())
    assert largest > 1e-3
    for name, one in expected.items():
        assert float((found[name] - one).abs().max()) <= 1e-5 * max(1.0, largest), name


def test_pieces_of_16_texts_give_the_gradient_of_512_pairs(folder: Path, at_once: dict[str, torch.Tensor]) -> None:
    assert_same(gradient(folder, "pieces", piece=16), at_once)


@pytest.fixture(scope="module")
def two_ranks(folder: Path) -> Path:
    """Where two ranks left their gradients."""
    preference_runs.write_inputs(folder / "preferences")
    distilled.write_inputs(folder / "distil")
    distilled.untrained(folder / "distil", "head", id2label={0: "mean", 1: "kind"})
    cache = {"HF_TRAINPIPE_CACHE": str(folder / "cache"), "HF_TRAINPIPE_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    env = {**os.environ, **cache, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tests.training.across", str(folder), "two", "16"]
    code, _, said = run_ranks(command, 2, cwd=folder, env=env, timeout=240)
    assert code == 0, said
    return folder


def test_two_ranks_give_it_too(two_ranks: Path, at_once: dict[str, torch.Tensor]) -> None:
    assert_same(load_file(two_ranks / "two.safetensors"), at_once)


def test_sides_that_are_read_apart_give_one_gradient(two_ranks: Path) -> None:
    at_once = gradient(two_ranks, "apart", piece=None, apart=True)
    assert_same(gradient(two_ranks, "apart-pieces", piece=16, apart=True), at_once)
    assert_same(load_file(two_ranks / "two-apart.safetensors"), at_once)


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_two_ranks_learn_preferences_as_one_does(two_ranks: Path, tmp_path: Path, loss: str) -> None:
    asked = preference_runs.recipe_of(two_ranks / "preferences", loss)
    found = load_file(two_ranks / f"two-{loss}.safetensors")
    preference_runs.assert_same(found, preference_runs.gradient(asked, tmp_path / "one", pieces=False))


def test_two_ranks_learn_from_a_teacher_as_one_does(two_ranks: Path, tmp_path: Path) -> None:
    _, expected, _ = distilled.gradient(distilled.cut(two_ranks / "distil", piece=None), tmp_path / "one")
    assert_same(load_file(two_ranks / "two-distil.safetensors"), expected)


def test_the_second_pass_drops_what_the_first_one_dropped(folder: Path) -> None:
    found = gradient(folder, "dropout", piece=128, dropout=0.3)
    plain = {name.removeprefix("plain."): one for name, one in found.items() if name.startswith("plain.")}
    assert_same({name: found[name] for name in plain}, plain)


class _Run(SimpleNamespace):
    """Two micro-batches of a rank beside another's one, the second too large for the memory."""

    def outputs(self, batch):
        if batch == "too large":
            raise MemoryError
        return {"embedding": torch.ones(1, 3)}, None


def test_a_rank_without_memory_joins_the_exchange_and_then_fails() -> None:
    joined = []
    ranks = SimpleNamespace(
        size=2, rank=0, sharded=False, gather_rows=lambda rows, counts: joined.append((rows, counts))
    )
    run = _Run(
        ranks=ranks,
        task=SimpleNamespace(separable=False),
        recipe=SimpleNamespace(seed=0),
        state=SimpleNamespace(step=0),
        parallel=SimpleNamespace(forward_alone=nullcontext),
        feed=SimpleNamespace(
            global_batch=lambda step: ([[[0, 1], [2]], [[3]]], None),
            empty_batch=lambda: "empty",
        ),
    )
    with pytest.raises(MemoryError):
        losses(run, ["fits", "too large"])(0)
    [(rows, counts)] = joined
    assert counts == [3, 1]
    assert rows.shape == (3, 3)
    assert bool(rows.isnan().all())
