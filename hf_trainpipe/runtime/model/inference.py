"""Logits of a model for many features, fast and in order."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from ..tokens.encoding import Encoded, pad, token_budget_batches
from ..tokens.ragged import ends_of, ranges
from .memory import give_back
from .unpad import is_unpadded, known_lengths

__all__ = ["forward", "takes_types", "token_budget_batches"]

_TRIM_EVERY = 4
"""Batches after which freed memory is given back."""


def forward(
    model: torch.nn.Module,
    encoded: Encoded,
    *,
    features: npt.NDArray[np.int64],
    level: Literal["sequence", "token"],
    max_tokens: int,
    pad_id: int,
    device: torch.device | str = "cpu",
) -> npt.NDArray[np.float32]:
    """Run a classification model over features. The model is in evaluation mode meanwhile.

    Args:
        model: A sequence or token classification model of transformers, bare or wrapped, on ``device``.
        features: Which features of ``encoded``, in any order.
        level: ``sequence``: one row a feature; ``token``: one row for each token with a word's number.
        max_tokens: Tokens of a batch, padding included.

    Returns:
        Sequence: [len(features), C]. Token: [K, C]. Rows follow the order of ``features``.
    """
    features = np.asarray(features, dtype=np.int64)
    lengths = encoded.starts[features + 1] - encoded.starts[features]
    with_types, unpadded = takes_types(model), is_unpadded(model)
    rows: list[npt.NDArray[np.int64]] = []
    logits: list[torch.Tensor] = []
    if level == "token":
        assert encoded.words is not None, "token level needs words"
        is_word = encoded.words >= 0
        words_until = ends_of(is_word)
        num_words = words_until[encoded.starts[features + 1]] - words_until[encoded.starts[features]]
        first_row = ends_of(num_words)[:-1]
    on_cpu = torch.device(device).type == "cpu"
    was_training = model.training
    if was_training:
        model.eval()
    try:
        with torch.inference_mode():
            for number, chosen in enumerate(token_budget_batches(lengths, max_tokens=max_tokens), 1):
                batch = pad(encoded, features[chosen], pad_id)
                if not with_types:
                    batch.pop("token_type_ids", None)
                inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
                with known_lengths(inputs["attention_mask"], lengths[chosen]) if unpadded else nullcontext():
                    out = model(**inputs).logits
                if level == "token":
                    width = batch["input_ids"].shape[1]
                    source = ranges(encoded.starts[features[chosen]], lengths[chosen])
                    target = ranges(np.arange(len(chosen), dtype=np.int64) * width, lengths[chosen])
                    index = torch.from_numpy(target[is_word[source]])
                    out = out.flatten(0, 1).index_select(0, index.to(device))
                    rows.append(ranges(first_row[chosen], num_words[chosen]))
                else:
                    rows.append(chosen)
                logits.append(out.float())
                if on_cpu and number % _TRIM_EVERY == 0:
                    give_back()
    finally:
        if was_training:
            model.train()
    if not logits:
        return np.zeros((0, int(getattr(getattr(model, "config", None), "num_labels", 0))), dtype=np.float32)
    values: npt.NDArray[np.float32] = torch.cat(logits).cpu().numpy()
    result = np.empty_like(values)
    result[np.concatenate(rows)] = values
    return result


def takes_types(model: torch.nn.Module) -> bool:
    """Whether a model, bare or wrapped, has a parameter for token types."""
    bare = model
    while True:
        inner = getattr(bare, "module", None) or getattr(bare, "_orig_mod", None)
        if not isinstance(inner, torch.nn.Module):
            break
        bare = inner
    kind: Any = type(bare)
    return _has_types(kind)


@cache
def _has_types(kind: Any) -> bool:
    return "token_type_ids" in inspect.signature(kind.forward).parameters
