"""Encoders without padding: real tokens only, one after the other, through every layer of the model.

A batch of features [B, L] becomes one row of T real tokens [1, T] before the model's embeddings, and [B, L, H] again
behind its last layer, so that embeddings, heads and losses stay the code of transformers. In between only attention
needs to know where a feature ends: :mod:`.attention`. The numbers are those of the padded model: see :func:`prove`,
which is asked before the path is taken, and the tests, which compare gradients.

Legend: B features of a batch, L longest of them, T tokens of all, H hidden size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import local
from typing import Any

import numpy.typing as npt
import torch

from ..brief import first_line
from .exact import exact_products
from .forking import apart
from .inference import bare, of_choices
from .layout import KnownLengths, Layout

IMPLEMENTATION = "hf_trainpipe_unpadded"
"""The name under which transformers knows the attention of this module."""

ARCHITECTURES = ("bert", "camembert", "distilbert", "electra", "modernbert", "roberta", "xlm-roberta")
"""``model_type`` of configurations that the tests compare with the padded model, gradients included."""

_FROM_PADDING = ("camembert", "roberta", "xlm-roberta")
"""Architectures that count positions from the padding token's id + 1."""

TOLERANCE = 1e-4
"""Of :func:`prove`: largest difference over the largest value. Wrong tokens attended to give some tenths."""

_TAKEN = "_hf_trainpipe_unpadded"
"""Attribute of a base model that :func:`unpad` took, so that a copy of the model has it too: what takes it back, its
hooks and the attention it had."""

_KNOWN = local()


@contextmanager
def known_lengths(known: Sequence[tuple[torch.Tensor, Sequence[int] | npt.NDArray[Any] | Layout]]) -> Iterator[None]:
    """Tell the lengths [B] of the batches that have these masks, or their layout, so that nobody asks a GPU for them.

    They hold for these very tensors: a model that is called with another one meanwhile asks for itself.
    """
    before = getattr(_KNOWN, "masks", ())
    _KNOWN.masks = (*before, *known)
    try:
        yield
    finally:
        _KNOWN.masks = before


def known_of(mask: torch.Tensor) -> Any:
    """What :func:`known_lengths` told of a mask, or of the one that it is a view of; None: nothing."""
    viewed = mask._base if mask._base is not None and mask._base.shape == mask.shape else mask
    return next((told for known, told in getattr(_KNOWN, "masks", ()) if known is viewed), None)


def is_unpadded(model: torch.nn.Module) -> bool:
    """Whether :func:`unpad` took the model."""
    return hasattr(_base(model), _TAKEN)


def unpad(model: Any) -> str | None:
    """Switch the path on, in place, where it is known and proven to give the padded model's numbers.

    Args:
        model: A model of transformers, with any head.

    Returns:
        None, or why the model stays as it is.
    """
    config = getattr(model, "config", None)
    kind = getattr(config, "model_type", None)
    base = _base(model)
    if config is not None and not getattr(config, "is_encoder_decoder", False) and _continues(model):
        from .packed import pack

        return pack(model)
    if kind not in ARCHITECTURES or config is None:
        return f"{kind or type(model).__name__} is not among {', '.join(ARCHITECTURES)}"
    if getattr(config, "is_decoder", False) or getattr(config, "position_embedding_type", "absolute") != "absolute":
        return "the configuration asks for a decoder or for relative positions"
    if is_unpadded(model):
        return None
    from .attention import register

    register(IMPLEMENTATION)
    first = (int(config.pad_token_id or 0) + 1) if kind in _FROM_PADDING else 0
    return take(model, IMPLEMENTATION, hook=lambda: _hook(base, first), probe=lambda: _probe(model))


def take(
    model: Any,
    implementation: str,
    *,
    hook: Callable[[], list[Any]],
    probe: Callable[[], list[torch.Tensor]],
    refuse: Callable[[list[torch.Tensor]], str | None] = lambda found: None,
) -> str | None:
    """Switch a path on, in place; leave the model as it was where it does not give the padded model's numbers.

    Args:
        implementation: The name under which transformers knows the path's attention.
        hook: Puts the hooks of the path on the base model.
        probe: Outputs of a small batch, without padding.
        refuse: Why the path is not taken all the same, by what it gave for that batch.

    Returns:
        None, or why the model stays as it is.
    """
    base, before = _base(model), model.config._attn_implementation
    try:
        expected = apart(probe)
        setattr(base, _TAKEN, (hook(), before))
        model.set_attn_implementation(implementation)
        found = apart(probe)
        difference = prove(expected, found)
        reason = refuse(found)
    except Exception as error:  # another version of transformers, a model of its own kind: the padded way is there
        reason = first_line(error, named=True)
    else:
        if reason is None and not difference <= TOLERANCE:  # also where it is no number
            reason = f"its outputs differ from the padded model's by {difference:.1e}"
    if reason is not None and is_unpadded(model):
        _undo(model)
    return reason


@contextmanager
def padded(model: Any) -> Iterator[None]:
    """The model as transformers has it, while this is open: for exporters, which trace it."""
    was_unpadded = is_unpadded(model)
    if was_unpadded:
        _undo(model)
    try:
        yield
    finally:
        if was_unpadded:
            unpad(model)


def _undo(model: Any) -> None:
    base = _base(model)
    hooks, implementation = getattr(base, _TAKEN)
    delattr(base, _TAKEN)
    for hook in hooks:
        hook.remove()
    model.set_attn_implementation(implementation)


def prove(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> float:
    """How far two outputs are from each other: the largest difference over the largest value expected."""
    pairs = list(zip(expected, found, strict=True))
    largest = max(float(one.abs().max()) for one, _ in pairs)
    return max(float((one - other).abs().max()) for one, other in pairs) / max(largest, 1e-30)


def _continues(model: Any) -> bool:
    """Whether it is a causal model with its head."""
    return bool(getattr(model, "can_generate", bool)())


def _base(model: torch.nn.Module) -> Any:
    """The model without its head."""
    inner = bare(model)
    return getattr(inner, getattr(inner, "base_model_prefix", "") or "", inner)


def gpu_kernels(model: Any, dtype: torch.dtype) -> list[str]:
    """The attention kernels that a training step of an unpadded model runs on its GPU in a type, by trying a small batch."""
    from .kernels import chosen

    device = next(model.parameters()).device
    was_training = model.training
    model.train()
    try:
        with torch.random.fork_rng([device]), torch.no_grad():
            model(**of_choices(model, _small_batch(model)))
    finally:
        model.train(was_training)
    return chosen(dtype)


_SMALL = (3, 9, 6)
"""Tokens of the features of :func:`_small_batch`."""


def _small_batch(model: Any) -> dict[str, torch.Tensor]:
    device, width = next(model.parameters()).device, max(_SMALL)
    ids = torch.arange(len(_SMALL) * width, device=device).view(len(_SMALL), width)
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    pad = int(getattr(model.config, "pad_token_id", None) or 0)
    ids = (ids * 7 + 5) % max(1, vocabulary - pad - 1) + pad + 1 if vocabulary > pad + 1 else ids % max(1, pad)
    mask = torch.arange(width, device=device)[None] < torch.tensor(_SMALL, device=device)[:, None]
    return {"input_ids": torch.where(mask, ids, pad), "attention_mask": mask.long()}


def _probe(model: Any) -> list[torch.Tensor]:
    """Outputs for three short features of different lengths, in evaluation mode, padding left out."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), exact_products():
            out = model(**of_choices(model, _small_batch(model)))
        result = out[0].float()
        is_of_tokens = result.dim() == 3 or "start_logits" in out
    finally:
        model.train(was_training)
    if is_of_tokens:
        return [result[row, :length] for row, length in enumerate(_SMALL)]
    return [result]


def _hook(base: Any, first_position: int) -> list[Any]:
    """Flatten what goes into a base model and restore what comes out of its layers."""
    names = list(inspect.signature(base.forward).parameters)
    takes_types = "token_type_ids" in names
    held = local()

    def flatten(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        held.layout = None
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        ids, mask = given.get("input_ids"), given.get("attention_mask")
        plain = given.get("inputs_embeds") is None and given.get("position_ids") is None
        asks = given.get("output_hidden_states") or given.get("output_attentions")
        if ids is None or mask is None or mask.dim() != 2 or not plain or asks:
            return args, kwargs
        layout = known_of(mask)
        if layout is None:
            layout = mask.sum(dim=1).tolist()
            if not _is_right_padded(mask, layout):
                return args, kwargs
        if not isinstance(layout, Layout):
            layout = Layout.of(layout, ids.shape[1], ids.device)
            if layout.num_tokens in (0, ids.numel()):  # nothing to leave out
                return args, kwargs
        if ids.is_cuda and isinstance(layout, KnownLengths):
            layout = layout.on_device()
        given["input_ids"] = layout.flatten(ids)
        given["position_ids"] = (layout.positions_T + first_position)[None]
        if takes_types:
            types = given.get("token_type_ids")
            flat = torch.zeros_like(given["input_ids"]) if types is None else layout.flatten(types)
            given["token_type_ids"] = flat
        given["attention_mask"] = {"full_attention": None, "sliding_attention": None} if slides else None
        given["layout"] = held.layout = layout
        return (), given

    def restore(_: Any, args: Any, output: Any) -> Any:
        layout, held.layout = getattr(held, "layout", None), None
        if layout is None:
            return output
        if isinstance(output, torch.Tensor):
            return layout.restore(output)
        output["last_hidden_state"] = layout.restore(output["last_hidden_state"])
        return output

    slides = getattr(base.config, "model_type", None) == "modernbert"
    last = next(
        (module for name in ("encoder", "transformer", "final_norm") if (module := getattr(base, name, None))), base
    )
    return [
        base.register_forward_pre_hook(flatten, with_kwargs=True),
        last.register_forward_hook(restore),
    ]


def _is_right_padded(mask: torch.Tensor, lengths: Sequence[int]) -> bool:
    places = torch.arange(mask.shape[1], device=mask.device)[None]
    return bool(((places < torch.tensor(lengths, device=mask.device)[:, None]) == mask.bool()).all())
