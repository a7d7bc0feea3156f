"""Three ranks that share memory take the steps of one: weights, moments and norms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

REPOSITORY = Path(__file__).resolve().parents[3]

RANKS = """
import json
import sys

import torch
from safetensors.torch import save_file

from hf_trainpipe.checkpoint import flatten_optimizer, load_optimizer
from hf_trainpipe.engine import rows
from hf_trainpipe.engine.mixed import Mixed
from hf_trainpipe.engine.parallel import parallelize
from hf_trainpipe.engine.ranks import Ranks, make_accelerator
from hf_trainpipe.recipe import Optim

rows.LEAST = 1


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(50, 8, padding_idx=0)
        self.head = torch.nn.Linear(8, 3)
        self.deep = torch.nn.Parameter(torch.randn(5, 2, 3))
        self.seldom = torch.nn.Parameter(torch.randn(7))
        self.never = torch.nn.Parameter(torch.randn(4, 4))

    def forward(self, ids, seldom):
        if not ids:
            return self.deep.square().sum() * 0.1
        loss = (self.head(self.table(torch.tensor(ids)).tanh()) @ self.deep[0].T).square().sum()
        return loss + self.seldom.square().sum() if seldom else loss


# A step is what each of three ranks computes: ids that it looks up (none: another way through the model), and
# whether one more parameter takes part. Ids are shared and not, at the ends of the table, and padding.
STEPS = [
    [([3, 4, 4, 0], False), ([4, 9, 49, 3], True), ([1], False)],
    [([], False), ([7, 7, 7, 1], False), ([], False)],
    [([0, 16, 17, 33, 34], False), ([49], False), ([3, 3, 8], False)],
    [([5], True), ([6], True), ([], True)],
    [([5, 48], False), ([20, 30, 40], False), ([2, 2], False)],
]

ranks = Ranks(make_accelerator())
torch.manual_seed(ranks.rank)  # rank 0's weights are everyone's
model = Model()
parallel = parallelize(model, Optim(peak_lr=0.05, weight_decay=0.1), ranks, Mixed())
norms = []
for number, step in enumerate(STEPS):
    parts = step if ranks.size == 1 else [step[ranks.rank]]
    for ids, seldom in parts:
        (model(ids, seldom) * parallel.loss_scale * (float("nan") if number == 3 else 1.0)).backward()
    norm = parallel.clip(0.5 if number else 1e9)
    parallel.step(norm)
    norms.append(float(norm))
    if number == 1:  # a checkpoint, and what comes of it
        named = list(model.named_parameters())
        tensors, state = flatten_optimizer(parallel.optimizer, named)
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        ranks.wait()
        load_optimizer(parallel.optimizer, named, tensors=tensors, state=state, options="current")
        parallel.loaded()
tensors, _ = flatten_optimizer(parallel.optimizer, model.named_parameters())
found = {name: tensor.clone() for name, tensor in {**model.state_dict(), **tensors}.items()}
save_file(found, f"{sys.argv[1]}-{ranks.rank}.safetensors")
model.head.to(torch.device("cpu", ranks.rank))  # a copy, to torch
try:
    said = str(parallel.clip(1.0))
except RuntimeError as error:
    said = str(error)
if ranks.is_main:
    with open(f"{sys.argv[1]}.json", "w") as stream:
        json.dump({"norms": norms, "way": type(parallel).__name__, "moved": said}, stream)
"""


def steps(folder: Path, *, ranks: int) -> tuple[dict[str, object], list[dict[str, torch.Tensor]]]:
    script = folder / "ranks.py"
    script.write_text(RANKS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environ = {
        **os.environ,
        **({"ACCELERATE_USE_CPU": "true"} if torch.accelerator.is_available() else {}),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY),
        "HF_TRAINPIPE_TIMEOUT": "60",
    }
    arguments = [str(script), str(folder / "found")]
    done = subprocess.run([*command, *arguments], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    each = [load_file(folder / f"found-{rank}.safetensors") for rank in range(ranks)]
    return json.loads((folder / "found.json").read_text()), each


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return [steps(tmp_path_factory.mktemp(f"ranks{ranks}"), ranks=ranks) for ranks in (1, 3)]


def test_three_ranks_take_the_steps_of_one(both) -> None:
    (one, (alone,)), (three, (together, *_)) = both
    assert (one["way"], three["way"]) == ("SingleProcess", "SharedMemory")
    assert three["norms"] == pytest.approx(one["norms"], rel=1e-6, nan_ok=True)
    assert [norm != norm for norm in one["norms"]] == [False, False, False, True, False]
    assert set(alone) <= set(together)
    for name, tensor in alone.items():
        assert torch.allclose(together[name], tensor, rtol=1e-5, atol=1e-7), name


def test_all_ranks_see_the_same_numbers(both) -> None:
    _, (_, (first, *others)) = both
    for other in others:
        for name, tensor in first.items():
            assert torch.equal(other[name], tensor), name


def test_a_weight_that_was_moved_is_noticed(both) -> None:
    _, (three, _) = both
    assert "left the memory" in three["moved"]


def test_what_has_no_gradient_stays_as_it_is(both) -> None:
    _, (_, (found, *_)) = both
    assert found["step/never"] == 0
    assert found["step/seldom"] == 1, "once; the other time the gradient was not finite"
    assert found["step/table.weight"] == 4
    assert not found["exp_avg/never"].any()
