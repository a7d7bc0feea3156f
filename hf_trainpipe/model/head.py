"""Whether the labels of a head that comes with the weights are the task's; its rows put in the task's order.

Which tensors have a row for each label is not known by name (``classifier``, ``score``, ``out_proj``): the model is
built without weights for one label more, and what grows counts labels.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from hf_trainpipe.recipe import Pretrained
    from hf_trainpipe.tasks.base import Labels, Task

__all__ = ["fit_head", "names_of", "order_of"]

_UNNAMED = re.compile(r"LABEL_\d+")
_SHOWN = 6


def names_of(config: Any) -> tuple[str, ...] | None:
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


def order_of(had: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """For each wanted label its place among those that the head had, by name, else by name without case; or None.

    >>> order_of(("NEG", "POS"), ("pos", "neg"))
    [1, 0]
    >>> order_of(("a", "b"), ("a", "c")) is None
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
    labels: Labels,
    *,
    had: tuple[str, ...] | None,
    architectures: Sequence[str],
    fresh: Iterable[str],
    say: Callable[[str], None],
) -> None:
    """Keep, reorder or begin anew the outputs that came with the weights, and say which.

    Args:
        loaded: The model, with the task's labels in its configuration.
        had: Label names of the checkpoint, in the order of its outputs.
        architectures: What the checkpoint's configuration says it is.
        fresh: Names of parameters that did not come with the weights.
    """
    outputs = _label_tensors(loaded, model, task)
    kept = {name: dim for name, dim in outputs.items() if name not in set(fresh)}
    if not kept:
        return
    name, kind = model.name, type(loaded).__name__
    other = [given for given in architectures if _job(given) not in ("", _job(kind))]
    if other and len(other) == len(architectures):
        _begin_anew(loaded, kept)
        say(
            f"warning: the outputs of {name!r} begin anew: they are those of a {other[0]}, and this task needs a {kind}"
        )
        return
    if not len(labels):
        return
    if had is None:
        say(f"the outputs of {name!r} have no names: they are taken as {_shown(labels.names)}, in this order")
        return
    order = order_of(had, labels.names)
    if order is None:
        _begin_anew(loaded, kept)
        say(
            f"warning: the outputs of {name!r} begin anew: its labels are {_shown(had)}, these are {_shown(labels.names)}"
        )
    elif order != list(range(len(order))):
        _reorder(loaded, kept, order)
        say(
            f"the outputs of {name!r} are kept, put from its order of labels ({_shown(had)}) into {_shown(labels.names)}"
        )


def _job(architecture: str) -> str:
    """``SequenceClassification`` of ``BertForSequenceClassification``; nothing for a model without a head."""
    return architecture.partition("For")[2]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _label_tensors(loaded: Any, model: Pretrained, task: Task) -> dict[str, int]:
    """Parameter to the dimension of it that counts labels."""
    config = copy.deepcopy(loaded.config)
    config.num_labels = loaded.config.num_labels + 1
    with torch.device("meta"):
        wider = task.model_class().from_config(config, trust_remote_code=model.trust_remote_code)
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


def _begin_anew(loaded: Any, kept: Mapping[str, int]) -> None:
    """Initialise these parameters as transformers does those of a new head, from torch's generator."""

    for owner in dict.fromkeys(name.rpartition(".")[0] for name in kept):
        module: torch.nn.Module = loaded.get_submodule(owner)
        for parameter in module.parameters(recurse=False):
            parameter._is_hf_initialized = False  # type: ignore[attr-defined]
        loaded._init_weights(module)
