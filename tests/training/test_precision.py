"""What a training step computes in: all weights in bf16 beside fp32 masters, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from hf_trainpipe import Budget, Lora, Optim, Pretrained, Recipe, execute
from hf_trainpipe.engine import sharding
from hf_trainpipe.engine.device import check_products
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.model.proof import prove_passes
from hf_trainpipe.training.options import RunOptions
from hf_trainpipe.training.run import Run
from hf_trainpipe.training.setup import set_up
from tests.training.test_choices import reproduces

PURE = Optim(precision="bf16-pure", peak_lr=1e-3)


def test_a_run_with_all_weights_in_bf16_keeps_and_packages_them_in_fp32(recipe: Recipe, tmp_path, capfd) -> None:
    result = execute(replace(recipe, optim=PURE, budget=Budget(max_steps=3, examples_per_step=16)), run_dir=tmp_path)
    assert "bf16-pure" in capfd.readouterr().err
    assert result.verified["passed"]
    assert reproduces(result)
    assert "fp32 masters" in (result.package / "README.md").read_text()
    (checkpoint,) = (tmp_path / "checkpoints").glob("step-*")
    files = [result.package / "model.safetensors", *checkpoint.glob("*.safetensors")]
    for file in files:
        with safe_open(file, "pt") as held:
            assert {held.get_slice(name).get_dtype() for name in held.keys()} == {"F32"}  # noqa: SIM118  # no mapping


def test_a_pass_reads_bf16_and_its_gradient_reaches_the_masters(recipe: Recipe, tmp_path) -> None:
    shared = replace(recipe, optim=PURE, model=Pretrained(recipe.model.name, dropout=0.0))
    with set_up(shared, RunOptions(), run_dir=tmp_path) as setup:
        run = Run(setup)
        run.model.train()
        (batch,) = run.feed.micro_batches(0)
        seen: list[torch.dtype] = []
        layer = run.bare.get_submodule("bert.encoder.layer.0")
        layer.register_forward_hook(lambda module, inputs, out: seen.append(out[0].dtype))
        run.mixed.backward(run.loss_sum(batch))
        found = {name: one.grad.clone() for name, one in run.bare.named_parameters()}
        run.optimizer.zero_grad()
        halves, run.mixed.halves = run.mixed.halves, None  # the same step in fp32
        run.loss_sum(batch).backward()
        run.mixed.halves = halves
        assert seen == [torch.bfloat16, torch.float32]
        for name, one in run.bare.named_parameters():
            assert one.dtype == found[name].dtype == torch.float32
            assert torch.equal(found[name], found[name].bfloat16().float()), f"{name}: a gradient of a copy in bf16"
            assert float((found[name] - one.grad).norm()) < 0.1 * float(one.grad.norm()) + 1e-3, name
        one = next(run.bare.parameters())
        with run.mixed.passes():
            assert next(run.bare.parameters()).dtype == torch.bfloat16
        assert next(run.bare.parameters()) is one


@pytest.mark.nightly
def test_two_ranks_that_are_killed_end_bit_identical(workshop) -> None:
    options = ["recipes.py", "--optim.precision", "bf16-pure", "--budget.epochs", "1"]
    done = workshop.train(*options, "--run-dir", "pure", ranks=2)
    assert done.code == 0, done.err
    killed = workshop.train(*options, "--run-dir", "pure-killed", ranks=2, KILL_AT="8", KILL_RANK="1")
    assert killed.code != 0
    done = workshop.train(*options, "--run-dir", "pure-killed", ranks=2)
    assert done.code == 0, done.err
    assert "continuing after step" in done.err
    assert workshop.weights("pure-killed") == workshop.weights("pure")
    assert workshop.ledger("pure-killed").keys() == workshop.ledger("pure").keys()


def test_what_does_not_go_with_it_is_refused(recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match=r"optim\.checkpoint_layers: expected False"):
        Optim(precision="bf16-pure", checkpoint_layers=True)
    with pytest.raises(RecipeError, match=r"optim\.precision: expected another one with model\.lora"):
        replace(recipe, model=Pretrained("model", lora=Lora()), optim=PURE)
    with pytest.raises(RecipeError, match="bf16-pure does not go with FSDP2"):
        sharding.check(PURE, precision="bf16-pure")
    with pytest.raises(RecipeError, match="tf32 needs a GPU that multiplies in it"):
        check_products("tf32", torch.device("cpu"))


class MixesTypes(torch.nn.Module):
    """Adds what it computes to numbers in fp32, and multiplies that."""

    def __init__(self) -> None:
        super().__init__()
        self.config, self.table, self.out = object(), torch.nn.Embedding(9, 4), torch.nn.Linear(4, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.out(self.table(input_ids) * attention_mask[..., None].double())


def test_a_model_whose_code_mixes_types_is_one_screen() -> None:
    from hf_trainpipe.engine.mixed import Mixed

    model, mixed = MixesTypes(), Mixed("bf16-pure")
    mixed.take(model)
    with pytest.raises(RecipeError, match="MixesTypes does not run with all its weights in bf16"):
        prove_passes(model, mixed.passes)


@pytest.mark.gpu
def test_tf32_is_what_steps_multiply_in_and_nothing_else(recipe: Recipe, tmp_path, capfd) -> None:
    result = execute(replace(recipe, optim=Optim(precision="tf32", peak_lr=1e-3)), run_dir=tmp_path)
    assert "fp32, matrices multiplied in TF32" in capfd.readouterr().err
    assert json.loads((tmp_path / "run.json").read_text())["compute"]["precision"] == "tf32"
    assert torch.get_float32_matmul_precision() == "highest", "as it was before the run"
    assert result.verified["passed"]
    assert reproduces(result)
    one = torch.randn(512, 512, device="cuda")
    exact = (one.double() @ one.double()).float()
    assert torch.allclose(one @ one, exact, atol=1e-3)


@pytest.mark.gpu
def test_graphs_with_all_weights_in_bf16_on_a_gpu(recipe: Recipe, tmp_path, capfd) -> None:
    budget = Budget(max_steps=12, examples_per_step=16)
    results = [
        execute(replace(recipe, optim=replace(PURE, graphs=graphs), budget=budget), run_dir=tmp_path / str(graphs))
        for graphs in (None, False)
    ]
    said = capfd.readouterr().err
    assert "steps       as CUDA graphs" in said
    assert "warning: steps of further shapes" not in said
    for result in results:
        assert result.verified["passed"]
        assert reproduces(result)
