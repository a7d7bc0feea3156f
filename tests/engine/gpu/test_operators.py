"""Attention as an operator inside compiled layers: one graph for each kind of layer, and the gradient of eager layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from torch.library import opcheck
from transformers import AutoConfig, AutoModelForCausalLM

from hf_trainpipe.engine import compiling
from hf_trainpipe.engine.gpu import operators
from hf_trainpipe.runtime.model import attention, kernels, unpad
from hf_trainpipe.runtime.model.kernels import band
from hf_trainpipe.runtime.model.unpad import known_lengths
from tests.engine.gpu.test_graphs import Steps
from tests.engine.gpu.test_rounding import features_of, rounded
from tests.nightly import at_night
from tests.runtime.model.test_unpad import build, largest_difference

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch, of itself, while it traces

CPU = torch.device("cpu")
MANY = ([9, 20, 4], [9, 21, 4, 39], [40] * 20, [1] * 30)
"""Lengths of micro-batches, of several shapes."""


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(kernels, "_CHOSEN", {})
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()
    attention.register(unpad.IMPLEMENTATION, hidden=False)
    kernels.operators.clear()


def weights_of(query: Any, key: Any, starts: Any, scale: float, left: int) -> Iterator[tuple[slice, torch.Tensor]]:
    """Where each text is, and its weights [h, n, n]."""
    for begin, end in zip(starts.tolist(), starts.tolist()[1:], strict=False):
        place = slice(begin, end)
        scores = torch.einsum("qhd,khd->hqk", query[place], key[place]) * scale
        near = band(end - begin, None if left < 0 else left + 1, CPU)
        yield place, (scores if near is None else scores.masked_fill(~near, -torch.inf)).softmax(-1)


@pytest.fixture(scope="module")
def on_cpu() -> None:
    """What the operators run on a CPU, where torch has no such kernels: without dropout."""

    def forward(query: Any, key: Any, value: Any, starts: Any, scale: float, left: int) -> torch.Tensor:
        found = weights_of(query, key, starts, scale, left)
        return torch.cat([torch.einsum("hqk,khd->qhd", weights, value[place]) for place, weights in found])

    def flash(
        query: Any, key: Any, value: Any, starts: Any, longest: int, _: float, scale: float, left: int, right: int
    ) -> tuple[torch.Tensor, ...]:
        seed, offset = (torch.zeros(size, dtype=torch.uint64) for size in ((2,), ()))
        logsumexp = torch.zeros(query.shape[1], query.shape[0])
        return forward(query, key, value, starts, scale, left), logsumexp, seed, offset

    def efficient(
        query: Any, key: Any, value: Any, starts: Any, longest: int, _: float, scale: float
    ) -> tuple[torch.Tensor, ...]:
        seed, offset = (torch.zeros((), dtype=torch.int64) for _ in range(2))
        logsumexp = torch.zeros(len(starts) - 1, query.shape[1], -(-longest // 32) * 32)
        return forward(query, key, value, starts, scale, -1), logsumexp, seed, offset

    def backward(grad: Any, query: Any, key: Any, value: Any, starts: Any, *rest: Any) -> tuple[torch.Tensor, ...]:
        scale, left = rest[6], rest[7] if len(rest) > 7 else -1
        grads = [torch.empty_like(tensor) for tensor in (query, key, value)]
        for place, weights in weights_of(query, key, starts, scale, left):
            behind = torch.einsum("qhd,khd->hqk", grad[place], value[place])
            scores = weights * (behind - (behind * weights).sum(-1, keepdim=True)) * scale
            grads[0][place] = torch.einsum("hqk,khd->qhd", scores, key[place])
            grads[1][place] = torch.einsum("hqk,qhd->khd", scores, query[place])
            grads[2][place] = torch.einsum("hqk,qhd->khd", weights, grad[place])
        return tuple(grads)

    operators.flash.register_kernel("cpu")(flash)
    operators.efficient.register_kernel("cpu")(efficient)
    operators._flash_backward.register_kernel("cpu")(backward)
    operators._efficient_backward.register_kernel("cpu")(backward)


def qkv(device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(4)
    drawn = [torch.randn(37, 2, 16, generator=generator).to(device, dtype).requires_grad_() for _ in range(3)]
    return *drawn, torch.tensor([0, 20, 33, 37], dtype=torch.int32, device=device)


@pytest.mark.parametrize("name", ["flash", "efficient"])
def test_schemas_fakes_and_gradients_hold(on_cpu: None, name: str) -> None:
    settings = (20, 0.0, 0.25, *((8, 8) if name == "flash" else ()))
    opcheck(getattr(operators, name), (*qkv(CPU, torch.float32), *settings))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["flash", "efficient"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_schemas_fakes_and_gradients_hold_on_a_gpu(name: str, dropout: float) -> None:
    dtype = torch.bfloat16 if name == "flash" else torch.float32
    settings = (20, dropout, 0.25, *((8, 8) if name == "flash" else ()))
    tests = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if not dropout:  # the last one compares two passes, of which each draws
        tests.append("test_aot_dispatch_dynamic")
    opcheck(getattr(operators, name), (*qkv(torch.device("cuda"), dtype), *settings), test_utils=tests)


def step_of(model: torch.nn.Module, lengths: list[int]) -> dict[str, torch.Tensor]:
    """The gradient of a micro-batch, rounded up."""
    batch = rounded(features_of(lengths))
    model.zero_grad()
    with known_lengths([(batch["attention_mask"], batch.where("input"))]):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    weights = batch["weights"].view(-1, *(1 for _ in logits.shape[1:]))
    if logits.dim() == 3:
        weights = weights * batch["attention_mask"][..., None]
    (logits.tanh() * weights).sum().backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def compiled(model: torch.nn.Module, backend: Any, said: list[str]) -> str | None:
    return compiling.compile_layers(
        model, lambda training: list(step_of(model.train(training), MANY[0]).values()),
        tolerance=compiling.FP32_TOLERANCE, whole=True, say=said.append, backend=backend,
    )  # fmt: skip


class Counting:
    """A compiler's backend that counts what it is given."""

    def __init__(self) -> None:
        self.operators: list[int] = []
        """How many of ours are in each graph."""

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        self.operators.append(sum("hf_trainpipe" in str(node.target) for node in graph.graph.nodes))
        return graph.forward


@pytest.mark.parametrize(
    ("kind", "name"), [("bert", "torch memory-efficient"), *at_night(("modernbert", "torch flash"))]
)
def test_a_layer_is_one_graph_with_the_operator_inside(on_cpu: None, kind: str, name: str) -> None:
    model, eager, said, backend = build(kind), build(kind), [], Counting()
    for one in (model, eager):
        assert unpad.unpad(one) is None
    expected = [step_of(eager, lengths) for lengths in MANY]
    for slides in (False, True):
        kernels._CHOSEN[CPU, torch.float32, 8, slides, False] = name
    eager_way, kernels.KERNELS[name] = kernels.KERNELS[name], kernels.padded_sdpa  # of the gradient to compare with
    try:
        assert compiled(model, backend, said) is None
        before = len(backend.operators)
        for lengths, gradient in zip(MANY, expected, strict=True):
            assert largest_difference(step_of(model, lengths), gradient) < 1e-5
    finally:
        kernels.KERNELS[name] = eager_way
    assert not said
    assert not counters["graph_break"]
    assert set(backend.operators) == {1}
    assert len(backend.operators) == before, "nothing is compiled again for other sizes"


def test_a_layer_of_a_decoder_is_one_graph() -> None:
    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 61}
    config = AutoConfig.for_model("llama", **sizes, num_attention_heads=4, num_key_value_heads=2)
    model, said, backend = AutoModelForCausalLM.from_config(config), [], Counting()
    assert unpad.unpad(model) is None
    expected = [step_of(model, lengths) for lengths in MANY]
    assert compiled(model, backend, said) is None
    before = len(backend.operators)
    for lengths, gradient in zip(MANY, expected, strict=True):
        assert largest_difference(step_of(model, lengths), gradient) < 1e-5
    assert not said
    assert not counters["graph_break"]
    assert len(backend.operators) == before


def test_layers_are_compiled_in_parts_where_the_operator_fails(monkeypatch) -> None:
    """There is no kernel for a CPU behind this name."""
    monkeypatch.setitem(kernels.KERNELS, "torch flash", kernels.padded_sdpa)
    monkeypatch.setitem(operators.BY_NAME, "torch flash", lambda call: call.query * 1.01)
    kernels._CHOSEN[CPU, torch.float32, 8, False, False] = "torch flash"
    model, eager, said = build("bert"), build("bert"), list[str]()
    for one in (model, eager):
        assert unpad.unpad(one) is None
    expected = step_of(eager, MANY[1])
    assert compiled(model, "eager", said) is None
    assert len(said) == 1
    assert "compiled in parts, with their attention between them: its gradient differs" in said[0]
    assert largest_difference(step_of(model, MANY[1]), expected) < 1e-5


class Compiled(Steps):
    """Steps through layers compiled with their attention inside."""

    def __init__(self, device: torch.device, *, attention: float, **settings: Any) -> None:
        super().__init__(device, **settings)
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = attention
            if isinstance(getattr(module, "attention_dropout", None), float):
                module.attention_dropout = attention  # of ModernBERT
        self.reason: list[str] = []

    def compile(self) -> str | None:
        tolerance = compiling.TOLERANCE_16_BIT if self.graphs.mixed.is_on else compiling.FP32_TOLERANCE

        def gradient(training: bool) -> list[torch.Tensor]:
            self.model.train(training)
            return list(self.gradients([MANY[0]], pins=True)[1])

        limit, self.graphs.limit = self.graphs.limit, 0  # nothing is recorded meanwhile
        try:
            return compiling.compile_layers(
                self.model, gradient, tolerance=tolerance, whole=True, say=self.reason.append
            )
        finally:
            self.graphs.limit = limit


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_on_a_gpu_compiled_layers_give_the_gradient_of_eager_ones(kind: str, precision: str) -> None:
    device = torch.device("cuda")
    eager, whole = (Compiled(device, kind=kind, precision=precision, attention=0.0, limit=0) for _ in range(2))
    expected = [eager.gradients([lengths], pins=True)[1] for lengths in MANY]
    assert whole.compile() is None
    assert not whole.reason
    for lengths, gradient in zip(MANY, expected, strict=True):
        found = whole.gradients([lengths], pins=True)[1]
        tolerance = compiling.FP32_TOLERANCE if precision == "fp32" else compiling.TOLERANCE_16_BIT
        assert compiling._relative_error(gradient, found) < tolerance
    assert not counters["graph_break"]


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_on_a_gpu_a_graph_of_compiled_layers_gives_their_bits_with_dropout(kind: str, precision: str) -> None:
    device = torch.device("cuda")
    steps = Compiled(device, kind=kind, precision=precision, attention=0.1)
    assert steps.compile() is None
    assert not steps.reason
    steps.model.train()
    limit, steps.graphs.limit = steps.graphs.limit, 0
    expected = [steps.gradients([lengths], pins=True) for lengths in MANY]
    again = steps.gradients([MANY[0]], pins=True)
    assert all(map(torch.equal, again[1], expected[0][1])), "the same seed, the same bits"
    steps.graphs.limit = limit
    for _ in range(3):
        for lengths, (losses, gradient) in zip(MANY, expected, strict=True):
            found_losses, found = steps.gradients([lengths], pins=True)
            assert found_losses == losses
            assert all(map(torch.equal, found, gradient))
    assert not steps.said
    assert steps.graphs.known
