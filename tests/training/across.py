"""The gradient of the first step of a run with in-batch negatives, and of ones that learn preferences or from a teacher, written to files: python -m
tests.training.across FOLDER NAME PIECE."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import hf_trainpipe as h
from hf_trainpipe import RunOptions
from hf_trainpipe.training.across import losses
from hf_trainpipe.training.loop import compute_gradient
from hf_trainpipe.training.run import Run
from hf_trainpipe.training.setup import set_up
from tests.tasks import preference_runs
from tests.training import distilled

PAIRS = 512
EMBEDDINGS = h.SentenceEmbeddings(dimensions=(8,))
APART = h.Regression(text_pair="text_pair", pooling="mean", pairs="apart")


def gradient(
    folder: Path, name: str, *, piece: int | None, dropout: float = 0.0, apart: bool = False
) -> dict[str, torch.Tensor]:
    """Of each parameter; with ``loss``, the mean over the step on this rank's part.

    Args:
        piece: Texts of a micro-batch at most; None: the step at once.
        apart: Of a regression that reads the sides of pairs apart.
    """
    recipe = h.Recipe(
        name=name,
        model=h.Pretrained(str(folder / "model"), dropout=dropout),
        data=h.Files(train="pairs.jsonl", root=str(folder)),
        task=APART if apart else EMBEDDINGS,
        tokens=h.Tokens(max_length=16),
        optim=h.Optim(precision="fp32"),
        budget=h.Budget(max_steps=1, examples_per_step=PAIRS, micro_batch_examples=piece, micro_batch_tokens=1 << 20),
    )
    with set_up(recipe, RunOptions(), run_dir=folder / "runs" / name) as setup:
        run = Run(setup)
        run.model.train()
        micro_batches = run.feed.micro_batches(0)
        [count] = run.ranks.sums([float(sum(run.task.count(batch) for batch in micro_batches))])
        assert count == PAIRS
        assert (len(micro_batches) > 1) == (piece is not None)
        computed = compute_gradient(run, micro_batches, count)
        found = {name: one.grad.clone() for name, one in run.bare.named_parameters() if one.grad is not None}
        found["loss"] = torch.tensor(run.ranks.sums([float(computed.loss_sum)])[0] / count)
        if dropout:
            found |= {f"plain.{name}": one for name, one in _with_one_graph(run, micro_batches, count).items()}
        return found


def _with_one_graph(run: Run, micro_batches: list, count: float) -> dict[str, torch.Tensor]:
    """The gradient of the same step with the activations of all micro-batches held at once."""
    run.optimizer.zero_grad()
    across = losses(run, micro_batches)
    outputs = []
    for micro, batch in enumerate(micro_batches):
        across._seed(micro)  # type: ignore[attr-defined]
        outputs.append(run.outputs(batch)[0]["embedding"])
    [groups], rows = run.feed.global_batch(0)
    targets = rows.targets(torch.cat([torch.from_numpy(group) for group in groups]).numpy())
    (run.task.loss_sum({"embedding": torch.cat(outputs)}, targets) / count).backward()
    return {name: one.grad.clone() for name, one in run.bare.named_parameters() if one.grad is not None}


if __name__ == "__main__":
    from safetensors.torch import save_file

    place, said, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    tensors = {said: gradient(place, said, piece=size)}
    tensors[f"{said}-apart"] = gradient(place, f"{said}-apart", piece=size, apart=True)
    for loss in ("dpo", "kto"):
        recipe = preference_runs.recipe_of(place / "preferences", loss, micro_batch_examples=3)
        tensors[f"{said}-{loss}"] = preference_runs.gradient(recipe, place / f"{said}-{loss}", pieces=True)
    tensors[f"{said}-distil"] = distilled.gradient(distilled.cut(place / "distil", piece=7), place / f"{said}-distil")[
        1
    ]
    if torch.distributed.get_rank() == 0:
        for name, found in tensors.items():
            save_file(found, place / f"{name}.safetensors")
