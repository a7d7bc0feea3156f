"""The process group of a launcher, also with an Accelerator that already exists."""

from __future__ import annotations

import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedType

from hf_trainpipe.engine.ranks import make_accelerator, single_process_warning
from hf_trainpipe.errors import RecipeError


@pytest.fixture
def fresh(monkeypatch):
    """A process without an Accelerator."""
    for kind in (AcceleratorState, GradientState, PartialState):
        monkeypatch.setattr(kind, "_shared_state", type(kind._shared_state)())


def test_an_accelerator_of_another_precision_was_made_before(fresh) -> None:
    theirs = Accelerator(mixed_precision="bf16", gradient_accumulation_steps=4)
    ours = make_accelerator()
    assert theirs.mixed_precision == "bf16"
    assert (ours.native_amp, ours.scaler) == (False, None)


def test_an_accelerator_that_no_run_can_share_is_one_screen(fresh) -> None:
    Accelerator()
    PartialState().distributed_type = DistributedType.MEGATRON_LM
    with pytest.raises(RecipeError, match="cannot share: it is one for MEGATRON_LM"):
        make_accelerator()


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "29500"}, True),
        ({"ACCELERATE_MIXED_PRECISION": "no"}, False),
        ({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "29500", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, False),
        ({"MASTER_PORT": "29500"}, False),
    ],
)
def test_one_process_of_several_that_were_asked_for(monkeypatch, told, expected) -> None:
    for name in ("ACCELERATE_MIXED_PRECISION", "MASTER_PORT", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert ("hf-trainpipe launch" in (single_process_warning() or "")) == expected
