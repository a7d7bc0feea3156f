"""Keep a pretrained head whose labels are the task's, with its rows in the task's order; else re-initialize it.

Tensors with one row per label have no fixed name (``classifier``, ``score``, ``out_proj``). So the model is built
without weights for one label more: the dimensions that grow are those of labels.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import torch

from hf_trainpipe.utils.brief import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from hf_trainpipe.recipe import Pretrained
    from hf_trainpipe.runtime.tasks.base import Task

_UNNAMED = re.compile(r"LABEL_\d+")
_SHOWN = 6


def label_names(config: Any) -> tuple[str, ...] | None:
    """The label names of a configuration in the order of its outputs; None where it names none (``LABEL_0``, ...)."""
    mapping = getattr(config, "id2label", None) or {}
    try:
        named = {int(number): str(name) for number, name in mapping.items()}
    except (TypeError, ValueError):
        return None
    if sorted(named) != list(range(len(named))):
        return None
    names = tuple(named[number] for number in range(len(named)))
    return None if not names or all(map(_UNNAMED.fullmatch, names)) else names


def label_order(had: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """The index of each wanted label in the head, by exact name, else ignoring case; None if the labels differ.

    >>> label_order(("NEG", "POS"), ("pos", "neg"))
    [1, 0]
    >>> label_order(("a", "b"), ("a", "c")) is None
    True
    """
    for spell in (str, _folded):
        places = {spell(name): place for place, name in enumerate(had)}
        asked = [spell(name) for name in wanted]
        if len(places) == len(had) == len(set(asked)) and set(places) == set(asked):
            return [places[name] for name in asked]
    return None


def _folded(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def fit_head(
    loaded: Any,
    model: Pretrained,
    task: Task,
    *,
    had: tuple[str, ...] | None,
    architectures: Sequence[str],
    fresh: Iterable[str],
    say: Callable[[str], None],
) -> None:
    """Keep, reorder or re-initialize the outputs of a pretrained head, and report which.

    Args:
        loaded: The model, with the task's labels in its configuration.
        had: Label names of the pretrained head, in the order of its outputs.
        architectures: Of the pretrained configuration.
        fresh: Parameters that the weights do not contain.
    """
    labels = task.label_names
    outputs = label_tensors(loaded, model, task)
    kept = {name: dim for name, dim in outputs.items() if name not in set(fresh)}
    if not kept:
        return
    name, kind = model.name, type(loaded).__name__
    other = [given for given in architectures if _head_type(given) not in ("", _head_type(kind))]
    if other and len(other) == len(architectures):
        _reinitialize(loaded, kept)
        say(
            f"warning: the outputs of {name!r} are newly initialized: they are those of a {other[0]}, this task needs a {kind}"
        )
        return
    if not len(labels):
        return
    if had is None:
        say(
            f"the outputs of {name!r} have no label names: they are used for {listed(labels.names, _SHOWN)}, in this order"
        )
        return
    order = label_order(had, labels.names)
    if order is None:
        _reinitialize(loaded, kept)
        say(
            f"warning: the outputs of {name!r} are newly initialized: its labels are {listed(had, _SHOWN)}, these are "
            f"{listed(labels.names, _SHOWN)}"
        )
    elif order != list(range(len(order))):
        _reorder(loaded, kept, order)
        say(
            f"the outputs of {name!r} are kept, reordered from its labels ({listed(had, _SHOWN)}) to "
            f"{listed(labels.names, _SHOWN)}"
        )


def _head_type(architecture: str) -> str:
    """``SequenceClassification`` of ``BertForSequenceClassification``; empty for a model without a head."""
    return architecture.partition("For")[2]


def label_tensors(loaded: Any, model: Pretrained, task: Task) -> dict[str, int]:
    """Parameter name to its dimension of labels; nothing where the model's code refuses another number of them."""

    config = copy.deepcopy(loaded.config)
    config.num_labels = loaded.config.num_labels + 1
    try:
        with torch.device("meta"):
            wider = task.model_class().from_config(config, trust_remote_code=model.trust_remote_code)
    except ValueError:  # DistilBERT's head for questions has two outputs, whatever they are called
        return {}
    shapes = {name: parameter.shape for name, parameter in wider.named_parameters()}
    found = {}
    for name, parameter in loaded.named_parameters():
        here, there = parameter.shape, shapes.get(name, parameter.shape)
        if len(here) == len(there) and here != there:
            found[name] = next(dim for dim in range(len(here)) if here[dim] != there[dim])
    return found


def _reorder(loaded: Any, kept: Mapping[str, int], order: Sequence[int]) -> None:
    parameters = dict(loaded.named_parameters())
    with torch.no_grad():
        for name, dim in kept.items():
            parameters[name].copy_(parameters[name].index_select(dim, torch.tensor(order)))


def _reinitialize(loaded: Any, kept: Mapping[str, int]) -> None:
    """Initialize these parameters as transformers does for a new head, from torch's generator."""

    for owner in dict.fromkeys(name.rpartition(".")[0] for name in kept):
        module: torch.nn.Module = loaded.get_submodule(owner)
        for parameter in module.parameters(recurse=False):
            parameter._is_hf_initialized = False  # type: ignore[attr-defined]
        loaded._init_weights(module)
