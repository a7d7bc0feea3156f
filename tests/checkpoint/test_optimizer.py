"""An optimizer that is flattened, saved and restored continues bit for bit."""

from __future__ import annotations

import pytest
import torch

from hf_trainpipe.checkpoint.optimizer import flatten_optimizer, load_optimizer
from hf_trainpipe.checkpoint.snapshot import Snapshot
from hf_trainpipe.checkpoint.store import Store
from hf_trainpipe.errors import CheckpointError

OPTIMIZERS = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=1e-2, betas=(0.8, 0.99)),
    "adamw-foreach": lambda groups: torch.optim.AdamW(groups, lr=1e-2, foreach=True),
    "adamw-fused": lambda groups: torch.optim.AdamW(groups, lr=1e-2, fused=True),
    "adamw-amsgrad": lambda groups: torch.optim.AdamW(groups, lr=1e-2, amsgrad=True),
    "adamw-tensor-lr": lambda groups: torch.optim.AdamW(groups, lr=torch.tensor(1e-2)),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=1e-2, momentum=0.9),
    "adagrad": lambda groups: torch.optim.Adagrad(groups, lr=1e-2),
    "adafactor": lambda groups: torch.optim.Adafactor(groups, lr=1e-2),
    "adamw-8bit": lambda groups: pytest.importorskip("bitsandbytes").optim.AdamW8bit(groups, lr=1e-2, min_8bit_size=1),
    "rprop": lambda groups: torch.optim.Rprop(groups, lr=1e-2),
}


def make(kind: str, seed: int = 0) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return model, OPTIMIZERS[kind](groups)


def train(model, optimizer, scheduler, steps) -> None:
    for step in steps:
        inputs = torch.randn(8, 5, generator=torch.manual_seed(step))
        model(inputs).square().sum().backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


def halve(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.97**step)


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_continued_steps_are_bit_identical(kind, tmp_path):
    whole, optimizer = make(kind)
    scheduler = halve(optimizer)
    train(whole, optimizer, scheduler, range(5))
    tensors, options = flatten_optimizer(optimizer, whole.named_parameters())
    Store(tmp_path).save(
        Snapshot(
            step=5,
            model=whole.state_dict(),
            optimizer=tensors,
            state={"optimizer": options, "scheduler": {"last_epoch": scheduler.last_epoch}},
        )
    )
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    train(whole, optimizer, scheduler, range(5, 12))

    checkpoint = Store(tmp_path).latest()
    resumed, optimizer_2 = make(kind, seed=1)
    scheduler_2 = halve(optimizer_2)
    resumed.load_state_dict(checkpoint.load_model())
    scheduler_2.last_epoch = checkpoint.state["scheduler"]["last_epoch"]
    load_optimizer(
        optimizer_2,
        resumed.named_parameters(),
        tensors=checkpoint.load_optimizer(),
        state=checkpoint.state["optimizer"],
    )
    for group, rate in zip(optimizer_2.param_groups, rates, strict=True):
        group["lr"] = torch.tensor(rate) if isinstance(group["lr"], torch.Tensor) else rate
    train(resumed, optimizer_2, scheduler_2, range(5, 12))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    after, options_after = flatten_optimizer(optimizer, whole.named_parameters())
    after_2, options_after_2 = flatten_optimizer(optimizer_2, resumed.named_parameters())
    assert options_after == options_after_2
    assert after.keys() == after_2.keys()
    assert all(torch.equal(after[name], after_2[name]) for name in after)


def test_fp32_moments_of_a_bf16_parameter_keep_their_dtype():
    model = torch.nn.Linear(3, 2, dtype=torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        optimizer.state[parameter] = {"step": torch.tensor(3.0), "exp_avg": torch.randn(parameter.shape)}
    tensors, state = flatten_optimizer(optimizer, model.named_parameters())
    again = torch.optim.AdamW(model.parameters())
    load_optimizer(again, model.named_parameters(), tensors=tensors, state=state)
    moment = again.state[model.weight]["exp_avg"]
    assert moment.dtype == torch.float32
    assert torch.equal(moment, optimizer.state[model.weight]["exp_avg"])
    assert moment is not optimizer.state[model.weight]["exp_avg"]


def test_options_stay_those_of_the_new_optimizer():
    model, optimizer = make("adamw")
    tensors, state = flatten_optimizer(optimizer, model.named_parameters())
    again = torch.optim.AdamW(optimizer.param_groups, lr=1.0)
    for group in again.param_groups:
        group["lr"] = 0.5
    load_optimizer(again, model.named_parameters(), tensors=tensors, state=state)
    assert [group["lr"] for group in again.param_groups] == [0.5, 0.5]


def test_other_parameters_are_refused_with_their_names():
    model, optimizer = make("adamw")
    tensors, state = flatten_optimizer(optimizer, model.named_parameters())
    model.append(torch.nn.Linear(2, 2))
    optimizer.param_groups[0]["params"].append(model[3].weight)
    with pytest.raises(CheckpointError, match=r"group 0.*3\.weight"):
        load_optimizer(optimizer, model.named_parameters(), tensors=tensors, state=state)
    single = torch.optim.AdamW(model.parameters())
    with pytest.raises(CheckpointError, match="2 groups were saved, 1 are here"):
        load_optimizer(single, model.named_parameters(), tensors=tensors, state=state)


def test_a_parameter_without_a_name_and_state_of_another_kind_are_refused():
    model, optimizer = make("adamw")
    with pytest.raises(ValueError, match="no name"):
        flatten_optimizer(optimizer, [])
    optimizer.state[model[0].weight]["history"] = {"a": 1}
    with pytest.raises(TypeError, match=r"history of 0\.weight"):
        flatten_optimizer(optimizer, model.named_parameters())
