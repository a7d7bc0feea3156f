"""FSDP2 on real ranks; sharded checkpoints that resume on any number of ranks."""

from __future__ import annotations

import json

import pytest
from safetensors import safe_open
from transformers import AutoModelForSequenceClassification

FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
EXACT = ["recipes.py", "--model.dropout", "0.0", "--optim.peak-lr", "1e-3", "--budget.log-every", "1"]


def losses(workshop, run: str) -> dict[int, float]:
    return {step: value for (name, step), value in workshop.ledger(run).items() if name == "train/loss"}


@pytest.fixture(scope="module")
def sharded(workshop):
    """An uninterrupted run on two ranks."""
    done = workshop.train(*EXACT, "--run-dir", "sharded", ranks=2, HF_TRAINPIPE_TRACE="1", **FSDP)
    assert done.code == 0, done.err
    return done


@pytest.fixture(scope="module")
def alone(workshop):
    """The same on one rank, without sharding."""
    done = workshop.train(*EXACT, "--run-dir", "not-sharded")
    assert done.code == 0, done.err
    return done


@pytest.mark.nightly
def test_losses_and_scores_are_those_of_one_rank(workshop, sharded, alone) -> None:
    ours, theirs = losses(workshop, "sharded"), losses(workshop, "not-sharded")
    assert len(theirs) == 26
    assert ours == pytest.approx(theirs, rel=1e-5)  # 26 steps of drift; the first twelve within 1e-6
    assert {step: ours[step] for step in range(1, 13)} == pytest.approx(
        {step: theirs[step] for step in range(1, 13)}, rel=1e-6
    )
    assert sharded.result["scores"] == alone.result["scores"]
    AutoModelForSequenceClassification.from_pretrained(workshop.folder / "sharded/package")


def test_a_checkpoint_holds_the_rows_of_each_rank_under_one_manifest(workshop, sharded, alone) -> None:
    last = workshop.last_checkpoint("sharded")
    names = {f"{what}-0000{rank}-of-00002.safetensors" for what in ("model", "optimizer") for rank in (1, 2)}
    assert {file.name for file in last.iterdir()} == names | {"MANIFEST.json", "state.json"}
    assert set(json.loads((last / "MANIFEST.json").read_text())["files"]) == names | {"state.json"}
    whole = (workshop.last_checkpoint("not-sharded") / "optimizer.safetensors").stat().st_size
    for rank in (1, 2):
        assert (last / f"optimizer-0000{rank}-of-00002.safetensors").stat().st_size < 0.7 * whole
    with safe_open(last / "model-00002-of-00002.safetensors", framework="pt") as rows:
        assert set(rows.keys())
    assert not list((workshop.folder / "sharded/checkpoints").glob(".tmp-*"))


def test_killed_and_resumed_it_ends_bit_identical(workshop, sharded) -> None:
    for kill_at, rank in (("7", "1"), ("5", "0")):
        done = workshop.train(*EXACT, "--run-dir", "cut", ranks=2, KILL_AT=kill_at, KILL_RANK=rank, **FSDP)
        assert done.code != 0
    done = workshop.train(*EXACT, "--run-dir", "cut", ranks=2, **FSDP)
    assert done.code == 0, done.err
    assert "continuing after step" in done.err
    assert workshop.weights("cut") == workshop.weights("sharded")
    ours, theirs = workshop.last_checkpoint("cut"), workshop.last_checkpoint("sharded")
    for name in ("model-00002-of-00002.safetensors", "optimizer-00001-of-00002.safetensors"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()


def test_rows_of_two_ranks_are_read_by_one_and_by_three(workshop, alone) -> None:
    def killed_after(step: int, count: str, ranks: int):
        """Killed in the micro-batch ``count``, when the checkpoint of ``step`` is complete."""
        checkpoint = workshop.folder / f"moving/checkpoints/step-{step:08d}"
        waits = {"KILL_AT": count, "WAIT_AT": count, "WAIT_FOR": str(checkpoint)}
        done = workshop.train(*EXACT, "--run-dir", "moving", ranks=ranks, **waits, **FSDP)
        assert done.code != 0
        return done

    killed_after(5, "8", ranks=2)
    done = killed_after(10, "7", ranks=3)
    assert "continuing after step 5" in done.err, done.err
    assert (workshop.last_checkpoint("moving") / "model-00003-of-00003.safetensors").exists()
    done = workshop.train(*EXACT, "--run-dir", "moving")
    assert done.code == 0, done.err
    assert "continuing after step 10" in done.err
    assert losses(workshop, "moving") == pytest.approx(losses(workshop, "not-sharded"), rel=1e-5)


def test_the_first_version_is_refused(workshop) -> None:
    done = workshop.train(*EXACT, "--run-dir", "first", ranks=2, ACCELERATE_USE_FSDP="true", FSDP_VERSION="1")
    assert done.code != 0
    assert "expected FSDP version 2, found 1" in done.err
