"""The maximum length of a model's inputs, from the model itself.

Architectures count positions from different offsets. So a model without weights runs on short texts of different
lengths, and its embedding lookups are recorded: a table whose largest index grows with the length holds positions, and
indices below the first position are not available to texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.model.names import text_config

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Pretrained, Tokens
    from hf_trainpipe.runtime.tasks.base import Task

LENGTHS = (3, 7, 301)
"""Lengths of the texts. The last one (or the configured limit, if less) exceeds the buckets of relative positions,
whose indices grow too at first."""
LAYERS = 4
"""Linear layers after which the forward pass is stopped: positions are looked up earlier."""
WORD = 5
"""The token id of the texts, or the next one if this is padding: some models give padding no position."""
LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")
USUAL = 512
"""The limit of a model without one, such as T5 with relative positions."""


class Tables(NamedTuple):
    """Sizes of a model's embedding tables."""

    words: int | None
    """Rows of the word embedding; None where unknown."""
    positions: int | None
    """Number of usable positions; None where no table limits them."""


def look_up(model: Pretrained, task: Task, config: Any) -> Tables:
    """Build the model without weights and record its embedding lookups. About 0.1 s, no memory."""
    from accelerate import init_empty_weights

    try:
        with init_empty_weights(include_buffers=False):
            empty = task.model_class().from_config(config, trust_remote_code=model.trust_remote_code).eval()
    except Exception:  # model_facts raises the same error with a message
        return Tables(None, None)
    said = min(configured_limits(config), default=LENGTHS[-1])
    lengths = (*LENGTHS[:-1], max(LENGTHS[1] + 1, min(LENGTHS[-1], said - 4)))
    seen = [_seen(empty, length) for length in lengths]
    positions: list[int] = []
    for lookups in zip(*seen, strict=False):
        tables, largest = zip(*lookups, strict=True)
        steps = {index - length for index, length in zip(largest, lengths, strict=True)}
        if len(set(tables)) == len(steps) == 1:
            positions.append(tables[0] - steps.pop() - 1)
    words = _word_embedding(empty)
    return Tables(None if words is None else int(words.shape[0]), min(positions, default=None))


def _word_embedding(empty: Any) -> Any:
    try:
        return getattr(empty.get_input_embeddings(), "weight", None)
    except (AttributeError, NotImplementedError):  # character models have none, custom models may not define it
        return None


def _seen(empty: Any, length: int) -> list[tuple[int, int]]:
    """Rows and largest index of each embedding lookup for a text of ``length`` tokens, in order.

    Weights are on the meta device, indices on the CPU. Linear layers return zeros so that the forward pass continues; an
    operation that refuses mixed devices ends it, after the embeddings.
    """
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    found: list[tuple[int, int]] = []

    layers = iter(range(LAYERS))

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is functional.embedding and args[0].device.type == "cpu":
                indices, weight = args[0], args[1]
                if indices.numel():
                    found.append((int(weight.shape[0]), int(indices.max())))
                return torch.zeros(1).expand(*indices.shape, weight.shape[1])
            if function is functional.linear and args[1].is_meta:
                next(layers)
                return torch.zeros(1).expand(*args[0].shape[:-1], args[1].shape[0])
            if function is functional.layer_norm:
                return args[0]
            return function(*args, **(kwargs or {}))

    ids = torch.full((1, length), WORD + (getattr(text_config(empty.config), "pad_token_id", None) == WORD))
    try:
        with Watch(), torch.inference_mode():
            empty(input_ids=ids, attention_mask=torch.ones_like(ids))
    except Exception:  # the lookups before the error are what we need
        return found
    return found


def configured_limits(config: Any) -> list[int]:
    """Numbers of positions that a configuration names."""
    text = text_config(config)
    limits = [getattr(text, name, None) for name in LIMITS]
    return [limit for limit in limits if isinstance(limit, int) and limit > 0]


def usable_length(config: Any, tokenizer: Any, positions: int | None = None) -> int:
    """Maximum length of an input in tokens, special tokens included.

    Args:
        positions: Of :func:`look_up`.
    """
    found = configured_limits(config)
    if positions is not None:
        found.append(positions)
    if tokenizer.model_max_length and tokenizer.model_max_length < 1_000_000:
        found.append(int(tokenizer.model_max_length))
    return min(found, default=USUAL)


def max_length(tokens: Tokens, limit: int) -> int:
    """The recipe's ``tokens.max_length``, checked against the model's limit."""
    if tokens.max_length is None:
        return limit
    if tokens.max_length > limit:
        raise RecipeError(
            f"tokens.max_length: the model takes at most {limit} tokens, found {tokens.max_length}.",
            fix=f"Set tokens.max_length to {limit} or less, or to None; tokens.overflow='window' keeps the "
            "whole of longer texts.",
        )
    return tokens.max_length
