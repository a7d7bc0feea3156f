"""Outputs of a model for many features, fast and in order.

Legend: F features, B features of a batch, L the longest of them.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..tokens.batch import pad, token_budget_batches
from ..tokens.features import Features
from ..tokens.ragged import ends_of, ranges
from .outputs import Output, Outputs

if TYPE_CHECKING:
    import torch

    from ..tasks.base import Task
    from ..tokens.batch import Batch

Ints = npt.NDArray[np.int64]

_TRIM_EVERY = 4
"""Batches after which freed memory is given back."""


def run(
    model: torch.nn.Module,
    features: Features,
    *,
    task: Task,
    chosen: Ints,
    max_tokens: int,
    device: torch.device | str = "cpu",
    scores_targets: bool = False,
    done: Callable[[int], None] = lambda _: None,
) -> Outputs:
    """What a task predicts for features, or makes of their targets. The model is in evaluation mode meanwhile.

    Args:
        model: Bare or wrapped, on ``device``.
        chosen: Which features, in any order; the items of the result.
        max_tokens: Tokens of a batch, padding included.
        scores_targets: Whether its ``likelihood`` is asked, of features with targets, and not its ``predict``.
        done: Called after each batch with its number of features.
    """
    import torch

    from .memory import give_back
    from .unpad import is_unpadded

    with_types, unpadded = takes_types(model), is_unpadded(model)
    kind = torch.device(device).type
    was_training = model.training
    if was_training:
        model.eval()
    numbers = itertools.count(1)
    declared = (task.scored or {}) if scores_targets else task.outputs

    def compute(places: Ints) -> Mapping[str, torch.Tensor]:
        batch = pad(features, chosen[places], with_targets=scores_targets)
        there = (batch.pinned() if kind == "cuda" else batch).to(device)  # a copy from other memory waits for the GPU
        inputs = there.inputs
        if not with_types:
            inputs.pop("token_type_ids", None)
        with known_lengths_of(there, task if unpadded else None):
            out = task.likelihood(model, there) if scores_targets else task.predict(model, inputs)
        if kind == "cpu" and next(numbers) % _TRIM_EVERY == 0:
            give_back()
        done(len(places))
        return {name: out[name] for name in declared}

    def joined(parts: list[Any]) -> npt.NDArray[Any]:
        whole = torch.cat([part.float() if part.is_floating_point() else part for part in parts])
        array: npt.NDArray[Any] = whole.cpu().numpy()
        return array

    try:
        with torch.inference_mode():
            return collect(
                features,
                chosen,
                declared=declared,
                max_tokens=max_tokens,
                compute=compute,
                joined=joined,
                widths=task.widths(features)[chosen],
            )
    finally:
        if was_training:
            model.train()


def collect(
    features: Features,
    chosen: Ints,
    *,
    declared: Mapping[str, Output],
    max_tokens: int,
    compute: Callable[[Ints], Mapping[str, Any]],
    joined: Callable[[list[Any]], npt.NDArray[Any]],
    widths: Ints | None = None,
) -> Outputs:
    """Outputs of features, computed in batches of similar length under a token budget.

    Args:
        widths: int64[n, S], by which the batches are cut; None: the tokens of the features.
        compute: Positions in ``chosen`` to the batch's tensors, of any library.
        joined: Tensors one after the other, as an array.
    """
    chosen = np.asarray(chosen, dtype=np.int64)
    rows: dict[str, list[Any]] = {name: [] for name in declared}
    counts: dict[str, list[Ints]] = {name: [] for name in declared}
    order: list[Ints] = []
    widths = features.widths[chosen] if widths is None else widths
    for places in token_budget_batches(widths, max_tokens=max_tokens):
        order.append(places)
        found = compute(places)
        for name, output in declared.items():
            tensor = found[name]
            if output.rows == "feature":
                rows[name].append(tensor)
                continue
            index, count = _rows_of(output, features, chosen[places], tensor)
            rows[name].append(tensor if index is None else tensor.reshape(-1, *tensor.shape[2:])[index])
            counts[name].append(count)
    if not order:
        return Outputs(chosen, dict.fromkeys(declared, np.zeros((0, 1), dtype=np.float32)), {
            name: np.zeros(1, dtype=np.int64) for name, output in declared.items() if output.rows != "feature"
        })  # fmt: skip
    arrays = {name: joined(parts) for name, parts in rows.items()}
    starts = {name: ends_of(np.concatenate(found)) for name, found in counts.items() if found}
    computed = Outputs(np.concatenate(order), arrays, starts)
    back = np.empty(len(chosen), dtype=np.int64)
    back[computed.items] = np.arange(len(chosen), dtype=np.int64)
    ordered = computed.take(back)
    return Outputs(chosen, ordered.arrays, ordered.starts)


def _rows_of(output: Output, features: Features, chosen: Ints, tensor: Any) -> tuple[Ints | None, Ints]:
    """Which rows of a tensor [B, L, ...], flattened, belong to features (None: all of it, as it is), and how many each has."""
    width = 0 if output.picked else int(tensor.shape[1])
    if output.rows == "sequence":
        real = np.asarray((tensor != output.fill).cpu() if hasattr(tensor, "cpu") else tensor != output.fill)
        count = np.where(real.any(axis=1), width - np.argmax(real[:, ::-1], axis=1), 0).astype(np.int64)
        return ranges(np.arange(len(chosen), dtype=np.int64) * width, count), count
    stream = features.streams[output.stream]
    begin = np.asarray(stream.starts[chosen])
    lengths = np.asarray(stream.starts[chosen + 1]) - begin
    assert output.where is not None or not output.picked, "the tokens that are picked are named by a column"
    shift = np.zeros_like(lengths) if stream.side == "right" else width - lengths
    target = ranges(np.arange(len(chosen), dtype=np.int64) * width + shift, lengths)
    if output.where is None:
        return target, lengths
    kept = np.asarray(stream[output.where])[ranges(begin, lengths)] >= 0
    feature = np.repeat(np.arange(len(chosen)), lengths)
    index = None if output.picked else target[kept]
    return index, np.bincount(feature[kept], minlength=len(chosen)).astype(np.int64)


def known_lengths_of(batch: Batch, task: Task | None) -> AbstractContextManager[None]:
    """Tell the path without padding the lengths of the batch's streams that the task lets it take; None: of none."""
    from .unpad import known_lengths

    streams = [name for name in (task.unpadded if task is not None else ()) if name in batch.masks]
    return known_lengths([(batch[batch.masks[name]], batch.where(name)) for name in streams])


def of_choices(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Inputs [B, L] as a model takes them: transformers' models of multiple choice read [B, C, L], here of one choice each, and
    give logits [B, 1]; the others read [B, L]."""
    is_of_choices = type(bare(model)).__name__.endswith("ForMultipleChoice")
    return {name: tensor[:, None] if is_of_choices else tensor for name, tensor in inputs.items()}


def bare(model: torch.nn.Module) -> torch.nn.Module:
    """The model inside the wrappers of parallel training and of compilers."""
    import torch

    while isinstance(inner := getattr(model, "module", None) or getattr(model, "_orig_mod", None), torch.nn.Module):
        model = inner
    return model


def takes_types(model: torch.nn.Module) -> bool:
    """Whether a model, bare or wrapped, has a parameter for token types."""
    kind: Any = type(bare(model))
    return _has_types(kind)


def reads_apart(model: torch.nn.Module) -> bool:
    """Whether a model, bare or wrapped, reads two texts, each by itself."""
    kind: Any = type(bare(model))
    return "pair_input_ids" in inspect.signature(kind.forward).parameters


@cache
def _has_types(kind: Any) -> bool:
    return "token_type_ids" in inspect.signature(kind.forward).parameters
