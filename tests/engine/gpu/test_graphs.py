"""Gradients added up by graphs are those of eager passes, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from hf_trainpipe.engine.gpu.embedding import add_in_order
from hf_trainpipe.engine.gpu.graphs import Graphs
from hf_trainpipe.engine.gpu.joined import JoinedLinear
from hf_trainpipe.engine.gpu.rounding import RoundedBatch
from hf_trainpipe.engine.mixed import Mixed
from hf_trainpipe.engine.randomness import seed_everything
from hf_trainpipe.runtime.model import unpad
from hf_trainpipe.runtime.model.unpad import known_lengths
from tests.engine.gpu.recorder import Again
from tests.engine.gpu.test_rounding import features_of, rounded
from tests.runtime.model.test_unpad import build

CPU = torch.device("cpu")
LENGTHS = ([9, 20, 4], [30, 3, 1], [7, 20, 5], [9, 21, 4, 40], [8, 22, 2], [9, 20, 35, 40], [33], [12, 13, 8])


def sometimes_wrong(run: Callable[[], None]) -> Any:
    return Again(lambda: (torch.rand(1), run()))


def refusing(run: Callable[[], None]) -> Any:
    raise RuntimeError("operation not permitted when stream is capturing\nsecond line")


class Steps:
    """A model with dropout whose gradient is added up over micro-batches."""

    def __init__(
        self,
        device: torch.device,
        *,
        kind: str = "bert",
        precision: str = "fp32",
        halves: bool = True,
        joins: bool = True,
        **settings: Any,
    ) -> None:
        self.model = build(kind).to(device)
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.1
        assert unpad.unpad(self.model) is None
        add_in_order(self.model)
        self.said: list[str] = []
        mixed = Mixed(precision, device)  # type: ignore[arg-type]
        if mixed.scaler is not None:
            mixed.scaler = torch.amp.GradScaler(device.type, init_scale=64.0)
        if mixed.is_on and halves:
            mixed.take(self.model, joins=joins)
        self.runs, self.inside = 0, mixed.around(self.model)
        self.graphs = Graphs(
            parameters=list(self.model.parameters()), device=device, mixed=mixed, loss_of=self.loss_of,
            say=self.said.append, **settings,
        )  # fmt: skip

    def loss_of(self, batch: RoundedBatch) -> torch.Tensor:
        self.runs += 1
        with known_lengths([(batch["attention_mask"], batch.where("input"))]):
            logits = self.inside(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return (logits.tanh().sum(1) * batch["weights"] * (batch["score"] + 2.0)).sum()

    def gradients(
        self, micro_batches: list[list[int]], *, pins: bool = False
    ) -> tuple[list[float], list[torch.Tensor]]:
        """Losses and gradients of one step."""
        losses = []
        for micro, lengths in enumerate(micro_batches):
            seed_everything(3, sum(map(sum, micro_batches)), micro, 0)
            batch = rounded(features_of(lengths))
            losses.append(self.graphs.add_gradient(batch.pinned() if pins else batch, 0.5).clone())
        found = [parameter.grad.clone() for parameter in self.model.parameters() if parameter.grad is not None]
        self.model.zero_grad()
        return [float(loss) for loss in losses], found


def compare(eager: Steps, graphed: Steps, *, pins: bool = False, more: Sequence[list[list[int]]] = ()) -> None:
    steps = [*more, *([one] for one in LENGTHS), [*LENGTHS], [LENGTHS[3], LENGTHS[5], LENGTHS[1]], [[3, 9], LENGTHS[2]]]
    for step in steps:
        losses, expected = eager.gradients(step, pins=pins)
        found_losses, found = graphed.gradients(step, pins=pins)
        assert found_losses == losses
        assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("precision", ["fp32", "bf16-pure"])
def test_graphs_are_recorded_when_a_shape_comes_again_and_give_the_same_bits(precision: str) -> None:
    eager, graphed = (
        Steps(CPU, precision=precision, limit=0),
        Steps(CPU, precision=precision, record=lambda device: Again),
    )
    compare(eager, graphed)
    assert not graphed.said
    assert len(graphed.graphs.known) == len({shape for shape, count in graphed.graphs.seen.items() if count > 1}) > 1
    assert not eager.graphs.known


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (refusing, "operation not permitted when stream is capturing"),
        (sometimes_wrong, "differs from that of the eager"),
    ],
)
def test_a_graph_that_fails_or_is_wrong_is_not_used_and_said_once(record: Any, why: str) -> None:
    eager, graphed = Steps(CPU, limit=0), Steps(CPU, record=lambda device: record)
    compare(eager, graphed)
    assert not graphed.graphs.known
    assert len(graphed.said) == 1
    assert why in graphed.said[0]
    assert "second line" not in graphed.said[0]


def test_memory_is_given_back_and_graphs_are_recorded_again() -> None:
    eager, graphed = Steps(CPU, limit=0), Steps(CPU, record=lambda device: Again)
    for _ in range(2):
        compare(eager, graphed)
        assert graphed.graphs.known
        graphed.graphs.forget()
        assert not graphed.graphs.known


def test_weights_in_16_bits_made_at_once_give_the_bits_of_autocast() -> None:
    plain, halved = (Steps(CPU, precision="bf16", halves=halves, joins=False, limit=0) for halves in (False, True))
    compare(plain, halved)
    for steps in (plain, halved):
        for parameter in steps.model.parameters():
            assert parameter.dtype == torch.float32
        steps.graphs.parameters[10].data.mul_(1.1)  # an update
    compare(plain, halved)


@pytest.mark.parametrize("device", [CPU, pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)])
def test_query_key_and_value_in_one_product_give_the_same_gradient(device: torch.device) -> None:
    three, one = (Steps(device, precision="bf16", joins=joins, limit=0) for joins in (False, True))
    layers = [module for module in one.model.modules() if type(module) is JoinedLinear]
    assert len(layers) == 3 * one.model.config.num_hidden_layers
    assert not any(type(module) is JoinedLinear for module in three.model.modules())
    (losses, expected), (found_losses, found) = (
        steps.gradients([LENGTHS[3], LENGTHS[2]], pins=device.type == "cuda") for steps in (three, one)
    )
    assert found_losses == pytest.approx(losses, rel=2e-2)
    assert list(one.model.state_dict()) == list(three.model.state_dict())
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.shape == theirs.shape
        assert float((mine - theirs).norm()) <= 3e-2 * float(theirs.norm()) + 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32", "bf16-pure"])
def test_on_a_gpu(precision: str) -> None:
    device = torch.device("cuda")
    eager, graphed = Steps(device, precision=precision, limit=0), Steps(device, precision=precision)
    many = [[40] * 200]  # more tokens than the simplest kernels take
    compare(eager, graphed, pins=True, more=[many, many, many])
    if precision != "bf16-pure":  # autocast gives the same
        plain, halved = (Steps(device, precision=precision, halves=halves, joins=False) for halves in (False, True))
        compare(plain, halved, pins=True)
    assert not graphed.said
    runs = graphed.runs
    compare(eager, graphed, pins=True)
    assert graphed.graphs.known
    assert graphed.runs - runs < 8, "the rest was replayed"


@pytest.mark.gpu
def test_graphs_share_their_memory() -> None:
    device = torch.device("cuda")
    steps, reserved = Steps(device), []
    for tokens in range(100, 170):
        for _ in range(2):
            steps.gradients([[40] * tokens], pins=True)
        torch.cuda.empty_cache()
        reserved.append((len(steps.graphs.known), torch.cuda.memory_reserved()))
    few = next(size for known, size in reserved if known == 4)
    assert reserved[-1][0] > 12
    assert reserved[-1][1] < 1.5 * few
