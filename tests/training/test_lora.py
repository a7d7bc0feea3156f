"""Runs with adapters: each task, killed and resumed, on several ranks, from a base that must stay."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hf_trainpipe import Lora, RunOptions
from hf_trainpipe.errors import CheckpointError
from hf_trainpipe.model.quantised import Base
from hf_trainpipe.runtime.model.outputs import Outputs
from hf_trainpipe.training.execute import execute
from hf_trainpipe.training.merging import difference
from tests.nightly import at_night
from tests.tasks import contract
from tests.training.test_resume import comparable

FOREIGN = Path(__file__).parents[1] / "tasks/foreign.py"
ADAPTED = ["recipes.py", "--model.name", "base", "--model.lora.rank", "2", "--model.lora.dropout", "0.1"]
EXACT = ["recipes.py:exact", "--model.lora.rank", "2", "--optim.peak-lr", "1e-2"]
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    contract.write_inputs(folder)
    shutil.copy(FOREIGN, folder / "foreign.py")
    return folder


TASKS = (
    "classification",
    "regression",
    "tags",
    "answers",
    "embeddings",
    "choices",
)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("name", [*TASKS, *at_night("rewriting", "documents", "multi_label")])
def test_each_task_trains_resumes_and_is_packaged(name, inputs, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(inputs / "cache"))
    monkeypatch.setenv("TRAINPIPE_ALLOW_CODE", "1")
    lora = Lora(rank=2, save_adapter=True)
    trained = contract.train(name, inputs, tmp_path / "run", inputs / "foreign.py", lora=lora)
    if name in ("tags", "rewriting", "documents"):
        contract.resumes_after_a_kill(trained, tmp_path / "killed", monkeypatch)
    names = held(max((tmp_path / "run/checkpoints").glob("step-*")))
    packaged = load_file(tmp_path / "run/package/model.safetensors")
    assert {name for name in names if ".lora_" not in name} <= packaged.keys()
    assert not any("lora" in name for name in packaged)
    before = load_file(Path(trained.recipe.model.name) / "model.safetensors")
    changed = {
        name for name, tensor in packaged.items() if not tensor.equal(before.get(name.removeprefix("bert."), tensor))
    }
    adapted = {name.partition(".lora_")[0] + ".weight" for name in names if ".lora_" in name}
    assert changed == adapted, "adapters moved every layer they are in, and nothing else of the base moved"
    by_peft_alone(tmp_path / "run/package", Path(trained.recipe.model.name))


def by_peft_alone(package: Path, base: Path) -> None:
    """The adapter folder on the base, with nothing of hf_trainpipe, does what the package does."""
    config = json.loads((package / "config.json").read_text())
    kind = getattr(transformers, config["architectures"][0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)  # another head than the run's
        plain = kind.from_pretrained(base, num_labels=len(config.get("id2label", "ab")))
    ids = torch.arange(5, 25).view(2, 10)
    asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if config.get("is_encoder_decoder"):
        asked["decoder_input_ids"] = ids[:, :3]
    if kind.__name__.endswith("MultipleChoice"):
        asked = {name: tensor[:, None] for name, tensor in asked.items()}
    with torch.no_grad():
        before = plain.eval()(**asked)[0]
        found = peft.PeftModel.from_pretrained(plain, package / "adapter").eval()(**asked)[0]
        expected = kind.from_pretrained(package).eval()(**asked)[0]
    assert float((found - expected).abs().max()) < 1e-5 < 1e-3 < float((before - expected).abs().max())


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize(("name", "bits"), [("tags", 4), *at_night(("tags", 8), ("instructions", 8), ("wanted", 8))])
def test_beside_a_base_in_few_bits(inputs, tmp_path, monkeypatch, capsys, name, bits) -> None:
    """It trains, resumes at the same bits, is merged into the dequantised base, and knows that base again."""
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(inputs / "cache"))
    lora = Lora(rank=2, save_adapter=True, base_bits=bits)
    trained = contract.train(name, inputs, tmp_path / "run", FOREIGN, lora=lora)
    said = " ".join(capsys.readouterr().err.split())
    assert f"the base is held in {bits} bits" in said
    assert f"the adapters are merged into the base, dequantised from {bits} bits: answers to" in said
    contract.resumes_after_a_kill(trained, tmp_path / "killed", monkeypatch)
    if bits == 8:
        contract.serves(trained)
        contract.predict_is_evaluate(trained)
    checkpoint = max((tmp_path / "run/checkpoints").glob("step-*"))
    whole = {"classifier"} if name == "tags" else set()
    assert {name.rpartition(".")[0] for name in held(checkpoint) if ".lora_" not in name} == whole
    base = json.loads((checkpoint / "MANIFEST.json").read_text())["base"]
    assert base["bits"] == bits
    packaged = load_file(tmp_path / "run/package/model.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in packaged.values())
    again = RunOptions(source=trained.source, resume="must")
    monkeypatch.setattr("hf_trainpipe.training.checkpointing.base_of", lambda _: Base(bits, "of another library"))
    with pytest.raises(CheckpointError, match=f"trained beside other weights in {bits} bits"):
        execute(trained.recipe, run_dir=tmp_path / "killed", options=again)


def test_a_sum_over_a_long_answer_is_compared_by_its_size() -> None:
    def far(*nats: float) -> float:
        both = (Outputs(np.arange(len(one)), {"nats": np.array(one)}) for one in ((800.0, 0.5), nats))
        return difference(*both)

    assert far(800.0008, 0.5) == pytest.approx(1e-6)
    assert far(800.0, 0.501) == pytest.approx(1e-3)
    assert far(800.0) == float("inf")


def held(checkpoint: Path) -> set[str]:
    with safe_open(checkpoint / "model.safetensors", framework="pt") as file:
        return set(file.keys())


def test_killed_it_ends_bit_identical_and_another_base_is_refused(workshop) -> None:
    base = shutil.copytree(workshop.folder / "model", workshop.folder / "base", dirs_exist_ok=True)
    done = workshop.train(*ADAPTED, "--run-dir", "adapted")
    assert done.code == 0, done.err
    assert "the adapters are merged into the weights: answers to 61 examples differ by at most" in done.err
    assert "trained" in next(line for line in done.err.splitlines() if line.startswith("lora"))
    done = workshop.train(*ADAPTED, "--run-dir", "adapted-killed", KILL_AT="9")
    assert done.code == -9, done.err
    weights = base / "model.safetensors"
    content, tensors = weights.read_bytes(), load_file(weights)
    tensors["encoder.layer.0.output.dense.bias"] += 1e-4
    save_file(tensors, weights, metadata={"format": "pt"})
    done = workshop.train(*ADAPTED, "--run-dir", "adapted-killed")
    assert done.code == 2, done.err
    assert "fingerprints.base: " in done.err
    weights.write_bytes(content)
    done = workshop.train(*ADAPTED, "--run-dir", "adapted-killed")
    assert done.code == 0, done.err
    assert "continuing after step" in done.err
    assert workshop.weights("adapted-killed") == workshop.weights("adapted")
    assert comparable(workshop.ledger("adapted-killed")) == comparable(workshop.ledger("adapted"))
    ours, theirs = workshop.last_checkpoint("adapted-killed"), workshop.last_checkpoint("adapted")
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    manifest = json.loads((ours / "MANIFEST.json").read_text())
    assert manifest["adapter"] == {"scaling": 8.0, "transposed": False}
    assert (
        manifest["fingerprints"]["base"]
        == json.loads((base.parent / "adapted/run.json").read_text())["fingerprints"]["base"]
    )


@pytest.mark.nightly
def test_the_best_checkpoint_stays_since_a_package_holds_no_adapter(workshop) -> None:
    """And the package is written again from it."""
    still = ["--budget.evaluate-every", "2", "--budget.max-steps", "6", "--optim.peak-lr", "1e-12"]
    done = workshop.train(*EXACT, *still, "--run-dir", "adapted-best")
    assert done.code == 0, done.err
    assert done.result["best_step"] == 2
    kept = sorted(path.name for path in (workshop.folder / "adapted-best/checkpoints").glob("step-*"))
    assert kept == ["step-00000002", "step-00000006"]
    before = workshop.weights("adapted-best")
    again = workshop.run(sys.executable, "-m", "hf_trainpipe", "package", "adapted-best")
    assert again.code == 0, again.err
    assert workshop.weights("adapted-best") == before


@pytest.mark.parametrize(
    "launch", [pytest.param({}, id="ddp"), pytest.param(FSDP, id="fsdp2", marks=pytest.mark.nightly)]
)
def test_two_ranks_give_the_losses_of_one(workshop, launch) -> None:
    if not (workshop.folder / "adapted-alone").exists():
        assert workshop.train(*EXACT, "--run-dir", "adapted-alone").code == 0
    name = f"adapted-{len(launch)}"
    done = workshop.train(*EXACT, "--run-dir", name, ranks=2, **launch)
    assert done.code == 0, done.err
    alone = {key: value for key, value in workshop.ledger("adapted-alone").items() if key[0] == "train/loss"}
    assert len(alone) == 12
    found = workshop.ledger(name)
    assert {key: found[key] for key in alone} == pytest.approx(alone, rel=1e-5)
    assert "lora" in done.err


FEW = ["recipes.py", "--model.dropout", "0.0", "--model.lora.rank", "2", "--optim.peak-lr", "1e-2", "--budget.max-steps", "12",
       "--budget.log-every", "1"]  # fmt: skip


@pytest.mark.nightly
@pytest.mark.usefixtures("real_processes")
@pytest.mark.parametrize(("launch", "bits"), [({}, 4), ({}, 8), (FSDP, 4), (FSDP, 8)])
def test_two_ranks_beside_a_base_in_few_bits_learn_as_one_and_resume(workshop, launch, bits) -> None:
    few = [*FEW, "--model.lora.base-bits", str(bits)]
    alone, two, cut = f"few-{bits}", *(f"few-{bits}-{len(launch)}-{name}" for name in ("two", "cut"))
    if not (workshop.folder / alone).exists():
        assert workshop.train(*few, "--run-dir", alone).code == 0
    done = workshop.train(*few, "--run-dir", two, ranks=2, **launch)
    assert done.code == 0, done.err
    assert f"dequantised from {bits} bits" in " ".join(done.err.split())
    expected = {key: value for key, value in workshop.ledger(alone).items() if key[0] == "train/loss"}
    assert len(expected) == 12
    found = workshop.ledger(two)
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-5)
    assert workshop.train(*few, "--run-dir", cut, ranks=2, KILL_AT="7", KILL_RANK="1", **launch).code != 0
    done = workshop.train(*few, "--run-dir", cut, ranks=2, **launch)
    assert done.code == 0, done.err
    assert "continuing after step 5" in done.err
    assert workshop.weights(cut) == workshop.weights(two)
