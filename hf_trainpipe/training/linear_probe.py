"""A head that begins as a linear model over what the encoder gives before the first step (``model.head="probe"``).

The features are what the last layer of the head reads, of the training split, in fp32 and without dropout; the last layer then is
the linear model that fits them (:mod:`hf_trainpipe.model.linear_probe`). It is kept beside the token cache, by a hash of what it
follows from: a resumed run, and every rank, begins with the same numbers.

Legend: F features (windows of examples), H numbers that the last layer reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from hf_trainpipe.data.reference import tokens_digest
from hf_trainpipe.engine.kept import parts_of
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.model.head import label_tensors
from hf_trainpipe.model.linear_probe import ALPHA, KINDS, STRENGTH, Linear, fitted
from hf_trainpipe.model.lora import base_fingerprint
from hf_trainpipe.runtime.model.exact import exact_products
from hf_trainpipe.runtime.model.inference import run as outputs_of
from hf_trainpipe.runtime.model.outputs import Output
from hf_trainpipe.runtime.tasks.texts import TextTask
from hf_trainpipe.utils.cache import cache_root
from hf_trainpipe.utils.cached import Entry

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.data.prepare import Prepared
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.runtime.tokens.features import Features
    from hf_trainpipe.training.setup import Setup
    from hf_trainpipe.utils.pieces import Pieces

VERSION = 1
MOST_EXAMPLES = 16_384
"""Training examples that it is fitted to; of a larger split so many are drawn by the recipe's seed."""
_TOKENS = 4096
"""Of a batch, padding included."""
_FILES = ("weight", "bias")


def begin_as_probe(setup: Setup, model: torch.nn.Module, warmed: Mapping[str, Any] | None = None) -> None:
    """Put the linear model into the last layer of a model, in place. All ranks call it.

    Args:
        model: Not wrapped, on the device, with the weights that training begins with.
        warmed: What the weights follow from beside those of the recipe's model; None: nothing.

    Raises:
        RecipeError: the task or the head is not one that a linear model may begin.
    """
    name, layer = last_layer(setup.recipe, setup.task, model)
    settings = {**settings_of(setup), "fit": [STRENGTH, ALPHA, MOST_EXAMPLES, version("scikit-learn")]}
    if warmed is not None:
        settings["warmed"] = warmed
    entry = Entry(cache_root() / "heads", settings)
    find = partial(entry.get, partial(_fitted, setup, model, layer, entry.pieces), read=_read, write=_write)
    with setup.console.working("fitting the head to the training split"):
        linear: Linear = setup.ranks.from_main(find)
    import torch

    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(linear.weight))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(linear.bias))
    setup.console.say(f"head        {name} begins as a linear model of the training split")


def last_layer(recipe: Recipe, task: Task, model: Any) -> tuple[str, Any]:
    """The linear layer that gives the outputs, and its name.

    Raises:
        RecipeError: the task has no such head, or the model has another.
    """
    import torch

    if not isinstance(task, TextTask) or task.judged_as not in KINDS:
        raise RecipeError(
            f"model.head: a linear model begins the heads of classification, multi-label classification and regression, found "
            f"{type(task).__name__}.",
            fix="Leave model.head out.",
        )
    owners = {name.rpartition(".")[0] for name in label_tensors(model, recipe.model, task)}
    layers = {name: model.get_submodule(name) for name in owners}
    [(name, layer), *others] = list(layers.items()) or [("", None)]
    if others or not isinstance(layer, torch.nn.Linear):
        raise RecipeError(
            f"model.head: the outputs of {type(model).__name__} are no one linear layer: {', '.join(sorted(owners)) or 'none'}.",
            fix="Set task.pooling to 'mean', or leave model.head out.",
        )
    return name, layer


def _fitted(setup: Setup, model: torch.nn.Module, layer: torch.nn.Module, pieces: Pieces) -> Linear:
    train, examples = setup.data.train, _examples(setup)
    found = _fit(setup, model, layer, train, train.features_of(examples), pieces)
    setup.console.say(f"fitted a linear model to {len(examples):,} training examples; kept")
    return found


def _write(linear: Linear, folder: Path) -> None:
    for name in _FILES:
        np.save(folder / f"{name}.npy", getattr(linear, name))


def _read(folder: Path) -> Linear:
    return Linear(*(np.load(folder / f"{name}.npy") for name in _FILES))


def settings_of(setup: Setup) -> dict[str, Any]:
    """What a head, or an encoder, that is fitted to the training split follows from."""
    recipe, train = setup.recipe, setup.data.train
    return {
        "version": VERSION,
        "weights": base_fingerprint(recipe.model),
        "drawn": [recipe.seed, recipe.model.reinit_layers],  # layers of the head, or of the encoder, that are new
        "task": setup.task.to_json(),
        "tokens": tokens_digest(train.features),
        "split": train.digest,
    }


def _examples(setup: Setup) -> np.ndarray:
    """int64[<= MOST_EXAMPLES]: those that it is fitted to, ascending."""
    usable = setup.data.train.usable
    if len(usable) <= MOST_EXAMPLES:
        return usable
    drawn = np.random.default_rng(setup.recipe.seed).choice(len(usable), MOST_EXAMPLES, replace=False)
    return np.asarray(usable[np.sort(drawn)])


def _fit(
    setup: Setup, model: torch.nn.Module, layer: Any, train: Prepared, chosen: np.ndarray, pieces: Pieces
) -> Linear:
    """The linear model that fits the targets of some features of the training split."""
    task = setup.task
    assert isinstance(task, TextTask)
    budget = max(_TOKENS, setup.plan.max_length)

    def read(part: np.ndarray) -> Mapping[str, np.ndarray]:
        return outputs_of(
            model,
            train.features,
            task=Reading(task, layer),  # type: ignore[arg-type]
            chosen=part,
            max_tokens=budget,
            device=setup.accelerator.device,
        ).arrays

    with exact_products():
        parts = parts_of(chosen, task.widths(train.features)[chosen], max_tokens=budget)
        found = pieces.whole(parts, read)["read"]
    if found.ndim != 2:
        raise RecipeError(
            f"model.head: the head of {type(model).__name__} gives outputs of every token and takes those of one.",
            fix="Set task.pooling to 'mean', or leave model.head out.",
        )
    dense = train.targets(chosen)
    return fitted(
        str(task.judged_as),
        found,
        dense["labels"].numpy(),
        task.weigh(dense).double().numpy(),
        num_outputs=int(layer.weight.shape[0]),
    )


@dataclass(frozen=True)
class Reading:
    """Computes what a task's model does, and gives what a layer of it reads: [B, H]."""

    task: Task
    layer: torch.nn.Module

    outputs: ClassVar[Mapping[str, Output]] = {"read": Output()}

    @property
    def unpadded(self) -> tuple[str, ...]:
        return self.task.unpadded

    def widths(self, features: Features) -> npt.NDArray[np.int64]:
        return self.task.widths(features)

    def predict(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        read: list[torch.Tensor] = []
        hook = self.layer.register_forward_pre_hook(lambda _, given: read.append(given[0]))
        try:
            self.task.predict(model, inputs)
        finally:
            hook.remove()
        return {"read": read[-1]}
