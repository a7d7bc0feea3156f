"""Compiled layers give the gradient of the eager, padded model, or the layers stay eager with a reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hf_trainpipe.engine import compiling
from hf_trainpipe.engine.cpu import dropout
from hf_trainpipe.engine.randomness import seed_everything
from hf_trainpipe.runtime.model.unpad import unpad
from tests.nightly import at_night
from tests.runtime.model.test_unpad import batch_of, build, gradients, largest_difference, loss_of

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch, of itself, while it traces

BATCHES = [batch_of([5, 17, 17, 3, 30, 9, 5, 1]), batch_of([2, 11, 8]), batch_of([30, 29, 4, 4, 4])]


def compiled(model: torch.nn.Module, *, backend: Any = "aot_eager") -> str | None:
    def gradient(training: bool) -> list[torch.Tensor]:
        model.train(training)
        return list(gradients(model, BATCHES[0])[1].values())

    return compiling.compile_layers(
        model, gradient, tolerance=compiling.FP32_TOLERANCE, whole=False, say=print, backend=backend
    )


@pytest.fixture(autouse=True)
def _nothing_kept():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("kind", ["bert", *at_night("modernbert", "distilbert", "mpnet")])
def test_gradients_are_those_of_the_padded_model(kind: str) -> None:
    model = build(kind)
    expected = [gradients(model, batch)[1] for batch in BATCHES]
    names = list(model.state_dict())
    assert (unpad(model) is None) == (kind != "mpnet")
    assert compiled(model) is None
    assert list(model.state_dict()) == names
    for batch, gradient in zip(BATCHES, expected, strict=True):
        assert largest_difference(gradients(model, batch)[1], gradient) < 1e-5


def test_dropout_changes_by_step_repeats_by_seed_and_evaluations_run_eagerly() -> None:
    torch.manual_seed(3)
    config = AutoConfig.for_model(
        "bert", vocab_size=61, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=40, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3,
    )  # fmt: skip
    model = AutoModelForSequenceClassification.from_config(config)
    assert unpad(model) is None
    dropout.use_fast_dropout(model)
    assert compiled(model) is None
    model.train()

    def loss(seed: int) -> float:
        seed_everything(seed, 0, 0, 0)
        return loss_of(model, BATCHES[0]).item()

    assert loss(1) == loss(1)
    assert loss(1) != loss(2)
    seen = []
    model.bert.encoder.layer[0].register_forward_hook(lambda *_: seen.append(torch.compiler.is_compiling()))
    with compiling.run_eagerly():
        loss_of(model.eval(), BATCHES[1])
    assert seen == [False]


def wrong(graph: torch.fx.GraphModule, _: list[torch.Tensor]):
    def run(*args: torch.Tensor):
        return tuple(out * 1.01 if out.is_floating_point() else out for out in graph(*args))

    return run


def broken(graph: torch.fx.GraphModule, _: list[torch.Tensor]):
    raise FileNotFoundError("no compiler for C++ was found")


@pytest.mark.parametrize(
    ("backend", "why"),
    [(wrong, "its gradient differs from the plain layers' by"), (broken, "no compiler for C++ was found")],
)
def test_the_plain_layers_stay_where_a_compiler_fails_or_gives_other_numbers(backend, why: str) -> None:
    model = build("bert")
    expected = gradients(model, BATCHES[1])[1]
    reason = compiled(model, backend=backend)
    assert reason is not None
    assert why in reason
    assert largest_difference(gradients(model, BATCHES[1])[1], expected) == 0.0


def test_a_model_without_layers() -> None:
    assert compiled(torch.nn.Linear(2, 2)) == "no layers were found in it"


@pytest.mark.parametrize(
    ("failures", "way", "told"),
    [
        (0, None, []),
        (1, None, ["warning: layers are compiled in parts, with their attention between them: another rank could not"]),
        (2, "another rank could not", []),
    ],
)
def test_all_ranks_go_the_way_that_each_of_them_can(failures: int, way: str | None, told: list[str]) -> None:
    """Another rank fails so many times, this one never; its layers are not called, so that nothing is traced."""
    asked, said, model = list[bool](), list[str](), build("bert")

    def on_any_rank(failed: bool) -> bool:
        asked.append(failed)
        return failed or len(asked) <= failures

    found = compiling.compile_layers(
        model,
        lambda training: [torch.ones(1)],
        tolerance=0.0,
        whole=True,
        say=said.append,
        on_any_rank=on_any_rank,
        backend="eager",
    )
    assert (found, said) == (way, told)
    assert asked == [False] * min(failures + 1, 2), "as often as on the other rank"
    assert (model.bert.encoder.layer[0]._compiled_call_impl is None) == (way is not None)
    hidden = getattr(ALL_ATTENTION_FUNCTIONS[compiling.IMPLEMENTATION], "_torchdynamo_disable", False)
    assert hidden == (failures == 1)
    compiling.undo(model)


@pytest.mark.nightly
def test_loading_a_package_during_a_compiled_training_does_not_recompile_attention() -> None:
    """The trial before the first step loads one; attention was then recompiled for each length."""
    model = build("bert")
    assert unpad(model) is None
    assert compiled(model) is None
    assert unpad(build("bert")) is None
    assert getattr(ALL_ATTENTION_FUNCTIONS[compiling.IMPLEMENTATION], "_torchdynamo_disable", False)
    compiling.undo(model)
    assert not getattr(ALL_ATTENTION_FUNCTIONS[compiling.IMPLEMENTATION], "_torchdynamo_disable", False)
