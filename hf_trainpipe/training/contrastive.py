"""An encoder that is warmed up on pairs of labelled rows before the head is fitted to it (``model.head="contrastive"``).

Of few rows a classifier's loss says little to an encoder, pairs of rows much (SetFit, Tunstall et al. 2022, arXiv 2209.11055). In each
of a few steps rows are drawn two by two, both of one label, the labels in turn. The loss is that of a search: a row has to find
its partner among the rows of the step that share no label with it, by the cosine of the vectors that the head's last layer reads
(:mod:`hf_trainpipe.runtime.tasks.embeddings` trains so too). Then the head is fitted (:mod:`.linear_probe`).

Rank 0 computes it, in fp32; the pairs of a step and its dropout are functions of (seed, step), so that a run that is killed inside
begins it again with the same bits. What the weights have become is kept beside the token cache.

Legend: P pairs of a step, F features (windows of examples) of the training split, H numbers that the last layer reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_trainpipe.data.sampler import micro_batches
from hf_trainpipe.engine.optimizer import build_optimizer
from hf_trainpipe.engine.randomness import seed_everything
from hf_trainpipe.engine.schedule import rate_factor
from hf_trainpipe.errors import RecipeError, TrainingDiverged
from hf_trainpipe.runtime.model.exact import exact_products
from hf_trainpipe.runtime.model.inference import known_lengths_of
from hf_trainpipe.runtime.model.unpad import is_unpadded
from hf_trainpipe.training.linear_probe import Reading, last_layer, settings_of
from hf_trainpipe.utils.cache import cache_root
from hf_trainpipe.utils.cached import Entry

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from hf_trainpipe.data.prepare import Prepared
    from hf_trainpipe.training.setup import Setup

    Tensors = dict[str, torch.Tensor]

VERSION = 1
STEPS, PAIRS = 50, 16
RATE, RAMP = 5e-5, 5
"""The highest learning rate, and the steps that it rises for; it then falls to 0."""
TEMPERATURE = 0.1
"""What cosines are divided by."""
MOST_KEPT = 4
"""Encoders that stay in the cache, the newest: each is as large as the model."""
_TOKENS = 4096
"""Of a micro-batch: a step in several gives the gradient of one (:mod:`.across`)."""
_READ_OF_OPTIM = ("weight_decay", "betas", "eps", "max_grad_norm", "layer_decay", "freeze_embeddings", "freeze_layers")
_FILE = "encoder.safetensors"
_STREAM = 2
"""Third word of the counter of its random numbers: no order of an epoch (0) and no draw of a task (1) shares any."""


def warm_up(setup: Setup, model: torch.nn.Module) -> Mapping[str, Any]:
    """Train the encoder of a model on pairs of training examples, in place. All ranks call it.

    Args:
        model: Not wrapped, on the device, with the weights that training begins with.

    Returns:
        What the weights follow from now, beside those of the recipe's model.

    Raises:
        RecipeError: the task has no labels that two rows may share, or all rows have the same.
        TrainingDiverged: a gradient is not finite.
    """
    import torch

    name, layer = last_layer(setup.recipe, setup.task, model)
    if not setup.task.label_names:
        raise RecipeError(
            "model.head: 'contrastive' draws pairs of rows with the same label, and a regression has numbers.",
            fix="Set model.head to 'probe'.",
        )
    trained = {
        key: one for key, one in model.named_parameters() if one.requires_grad and not key.startswith(f"{name}.")
    }
    if not trained:
        raise RecipeError(
            "model.head: 'contrastive' trains the encoder, and all of it is frozen.", fix="Set model.head to 'probe'."
        )
    settings = _settings(setup)
    find = partial(
        Entry(cache_root() / "encoders", settings).get,
        partial(_trained, setup, model, layer, trained),
        read=_read,
        write=_write,
        most=MOST_KEPT,
    )
    weights = setup.ranks.from_main(find)
    with torch.no_grad():
        for key, parameter in trained.items():
            parameter.copy_(weights[key])
    setup.console.say(f"encoder     warmed up on pairs of training rows: {STEPS} steps of {PAIRS} pairs")
    return settings


def _settings(setup: Setup) -> dict[str, Any]:
    recipe = setup.recipe
    lora = recipe.model.lora
    return {
        **settings_of(setup),
        "pairs": [VERSION, STEPS, PAIRS, RATE, RAMP, TEMPERATURE],
        "trained": [recipe.model.dropout, None if lora is None else vars(lora)],
        "optim": {name: getattr(recipe.optim, name) for name in _READ_OF_OPTIM},
    }


def _write(weights: Tensors, folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(weights, folder / _FILE)


def _read(folder: Path) -> Tensors:
    from safetensors.torch import load_file

    return load_file(folder / _FILE)


def _trained(
    setup: Setup, model: torch.nn.Module, layer: torch.nn.Module, trained: Mapping[str, torch.Tensor]
) -> Tensors:
    """Take all steps; the weights on the CPU."""
    import torch

    train = setup.data.train
    pairs = Pairs(train, seed=setup.recipe.seed)
    optimizer = build_optimizer(model, replace(setup.recipe.optim, algorithm="adamw", peak_lr=RATE))
    losses, was_training = [], model.training
    model.train()
    with (
        setup.console.working("warming up the encoder on pairs of rows", total=2 * PAIRS * STEPS) as done,
        exact_products(),
    ):
        for step in range(STEPS):
            rate = RATE * rate_factor(step + 1, total=STEPS + 1, warmup=RAMP, schedule="linear")
            for group in optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            drawn, share = pairs.of(step)
            losses.append(_gradient(setup, model, Reading(setup.task, layer), drawn, share, step))
            norm = torch.nn.utils.clip_grad_norm_(trained.values(), setup.recipe.optim.max_grad_norm or torch.inf)
            if not torch.isfinite(norm):
                raise TrainingDiverged(
                    f"Step {step + 1} of the warm-up: the gradient is not finite.",
                    fix="Set model.head to 'probe', or name another model.",
                    step=0,
                )
            optimizer.step()
            optimizer.zero_grad()
            done(2 * PAIRS * (step + 1))
    model.train(was_training)
    fifth = max(1, STEPS // 5)
    setup.console.say(
        f"warmed up the encoder on pairs of {len(train.usable):,} training examples: loss {np.mean(losses[:fifth]):.3f} -> "
        f"{np.mean(losses[-fifth:]):.3f}; kept"
    )
    return {name: one.detach().cpu().clone() for name, one in trained.items()}


class Pairs:
    """Features two by two, both of one label: as a function of (seed, step). Holds as many numbers as examples have labels."""

    def __init__(self, train: Prepared, *, seed: int) -> None:
        self._features, self._seed = train.features, seed
        targets = train.features.of_examples["labels"]
        self._targets = targets
        usable = train.usable
        if targets.ndim == 1:
            examples, labels = usable, targets[usable].astype(np.int64)
        else:
            rows, labels = np.nonzero(targets[usable] > 0.5)
            examples = usable[rows]
        order = np.argsort(labels, kind="stable")
        self._examples = examples[order]
        self._present, self._starts, self._counts = np.unique(labels[order], return_index=True, return_counts=True)
        if len(self._present) < 2:
            raise RecipeError(
                f"model.head: 'contrastive' needs training rows of two labels or more, found {len(self._present)}.",
                fix="Add rows of another label, or leave model.head out.",
            )

    def of(self, step: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The pairs of a step.

        Returns:
            int64[2 P]: features, each pair one after the other; a label with one example pairs it with itself.
            bool[2 P, 2 P]: whether two of them share a label.
        """
        random = np.random.Generator(np.random.Philox(key=[self._seed, step], counter=[0, 0, _STREAM, 0]))
        label = np.resize(random.permutation(len(self._present)), PAIRS)
        counts = self._counts[label]
        first = random.integers(counts)
        second = (first + 1 + random.integers(np.maximum(counts - 1, 1))) % counts
        examples = self._examples[self._starts[label][:, None] + np.stack([first, second], axis=1)].ravel()
        window = random.integers(self._features.windows[examples])
        targets = self._targets[examples]
        if targets.ndim == 1:
            share = targets[:, None] == targets[None]
        else:
            share = (targets > 0.5).astype(np.int64) @ (targets > 0.5).T > 0
        return self._features.first[examples] + window, share


def _gradient(
    setup: Setup,
    model: torch.nn.Module,
    reading: Reading,
    drawn: npt.NDArray[np.int64],
    share: npt.NDArray[np.bool_],
    step: int,
) -> float:
    """Add the gradient of a step to the weights, micro-batch by micro-batch (GradCache, arXiv 2101.06983); the loss."""
    import torch

    train, device = setup.data.train, setup.accelerator.device
    widths = train.features.widths[drawn]
    groups = micro_batches(
        np.arange(len(drawn)), widths, max_tokens=max(_TOKENS, int(widths.sum(axis=1).max())), cost=None
    )
    place = torch.from_numpy(np.argsort(np.concatenate(groups))).to(device)
    shared = torch.from_numpy(share).to(device)

    def vectors(number: int) -> torch.Tensor:
        seed_everything(setup.recipe.seed, step, number, 0, _STREAM)
        batch = train.batch(drawn[groups[number]]).to(device)
        with known_lengths_of(batch, reading if is_unpadded(model) else None):  # type: ignore[arg-type]
            return reading.predict(model, batch.inputs)["read"].float()

    if len(groups) == 1:
        loss = contrast(vectors(0)[place], shared)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())
    # With a graph, which is dropped at once: without one, kernels may draw other dropout masks.
    found = [vectors(number).detach() for number in range(len(groups))]
    whole = torch.cat(found).requires_grad_()
    loss = contrast(whole[place], shared)
    [gradient] = torch.autograd.grad(loss, [whole])
    for number, part in enumerate(torch.split(gradient, [len(group) for group in groups])):
        (vectors(number) * part).sum().backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def contrast(vectors: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
    """The mean over rows of the cross-entropy of finding the partner among the rows that share no label.

    Args:
        vectors: [2 P, H], each pair one after the other.
        shared: bool[2 P, 2 P], whether two rows share a label; partners do.
    """
    import torch
    from torch.nn import functional

    unit = functional.normalize(vectors, dim=1)
    scores = unit @ unit.T / TEMPERATURE
    row = torch.arange(len(unit), device=unit.device)
    partner = row ^ 1
    own = torch.zeros_like(shared)
    own[row, partner] = True
    return functional.cross_entropy(scores.masked_fill(shared & ~own, -torch.inf), partner)
