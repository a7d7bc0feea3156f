"""What an attempt to compile the layers leaves behind in a run."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from hf_trainpipe import Optim
from hf_trainpipe.engine import compiling
from hf_trainpipe.training.options import RunOptions
from hf_trainpipe.training.run import Run
from hf_trainpipe.training.setup import set_up


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch, of itself, while it traces
def test_a_backward_pass_that_fails_while_layers_are_compiled_leaves_no_gradient(recipe, tmp_path, monkeypatch) -> None:
    """A compiler comes to the backward pass of a layer when those behind it have their gradients already."""
    monkeypatch.setattr(compiling, "compile_layers", partial(compiling.compile_layers, backend="eager"))
    with set_up(replace(recipe, optim=Optim(precision="fp32")), RunOptions(), run_dir=tmp_path) as setup:
        run = Run(setup)
        backward, losses = run.mixed.backward, list[torch.Tensor]()

        def fail_in_the_second(loss: torch.Tensor) -> None:
            backward(loss)
            losses.append(loss)
            if len(losses) > 1:
                raise RuntimeError("no compiler for it")

        monkeypatch.setattr(run.mixed, "backward", fail_in_the_second)
        assert not run._compile()
        assert len(losses) == 2
        assert all(parameter.grad is None for parameter in run.bare.parameters())
