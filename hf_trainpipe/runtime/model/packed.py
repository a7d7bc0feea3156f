"""Causal models over flat tokens: documents one after the other in one row, each alone.

As :mod:`.unpad` does it for encoders, and with its layouts and its promise: the numbers are those of the padded model.
Positions start again with each document, there is neither a mask nor a cache, and attention goes document by document. Before
the path is taken a model shows that no document sees another: one is changed, and the others must stay as they were. A
model that fails, or that is known to let documents see each other, is padded, where each document has a row of its own.

Legend: B documents of a batch, L longest of them, T tokens of all, h heads, k heads of keys and values, d size of a head.
"""

from __future__ import annotations

import inspect
from threading import local
from typing import Any

import torch
import torch.nn.functional as F

from .exact import exact_products
from .forking import apart
from .layout import Branched, KnownLengths, Layout
from .unpad import _base, _is_right_padded, is_unpadded, known_of, prove, take

IMPLEMENTATION = "hf_trainpipe_packed"
"""The name under which transformers knows the attention of this module."""

ARCHITECTURES = ("arcee", "cohere", "ernie4_5", "exaone4", "gemma", "gemma3_text", "glm", "gpt2", "gpt_bigcode", "gpt_neox",
                 "granite", "helium", "hunyuan_v1_dense", "llama", "mistral", "mixtral", "olmo", "olmo2", "opt", "phi",
                 "phi3", "qwen2", "qwen3", "smollm3", "starcoder2")  # fmt: skip
"""``model_type`` of configurations that the tests compare with the padded model, gradients included."""

LEAKING = {
    **dict.fromkeys(("bloom", "falcon", "mpt", "stablelm", "xglm"), "its attention looks at all tokens of a row"),
    **dict.fromkeys(("lfm2", "mamba", "mamba2", "qwen3_next"), "its state runs on from one document into the next"),
}
"""``model_type`` of configurations whose packed documents would see each other, and why."""

_SEEN = 1e-5
"""Most that a changed document may move the outputs of others, over their largest value: sums over experts come in another
order. One that is seen gives some tenths."""

_HELD = local()


def why_not(model_type: str) -> str | None:
    """Why documents of a causal model are padded, as far as its configuration tells; None: they are not."""
    if model_type in LEAKING:
        return f"packed documents of {model_type} would see each other: {LEAKING[model_type]}"
    if model_type not in ARCHITECTURES:
        return f"{model_type} is not among {', '.join(ARCHITECTURES)}"
    return None


def pack(model: Any) -> str | None:
    """Switch the path on, in place, where documents are proven to be alone and to give the padded model's numbers.

    Args:
        model: A causal model of transformers with its head.

    Returns:
        None, or why the model stays as it is.
    """
    if (reason := why_not(getattr(model.config, "model_type", type(model).__name__))) is not None:
        return reason
    if is_unpadded(model):
        return None

    def sees_others(found: list[torch.Tensor]) -> str | None:
        seen = prove(found[1:], apart(lambda: _probe(model, 1))[1:])
        return f"a changed document moves the outputs of others by {seen:.1e}" if seen > _SEEN else None

    register()
    base = _base(model)
    return take(model, IMPLEMENTATION, hook=lambda: _hook(base), probe=lambda: _probe(model, 0), refuse=sees_others)


def register() -> None:
    """Make :func:`attend` known to transformers, with the masks of sdpa for batches that are not flat."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(IMPLEMENTATION, attend)
    AttentionMaskInterface.register(IMPLEMENTATION, _mask)


def _mask(*args: Any, **options: Any) -> torch.Tensor | None:
    from transformers.masking_utils import sdpa_mask

    if getattr(_HELD, "layout", None) is not None:
        return None
    found: torch.Tensor | None = sdpa_mask(*args, **options)
    return found


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function of transformers, for causal models.

    Args:
        query: [1, h, T, d]; ``key`` and ``value`` [1, k, T, d]. Without a layout [B, h, L, d] and [B, k, L, d].
        attention_mask: Without a layout, as sdpa takes it; else unused.
        sliding_window: A token sees itself and those fewer than this many places before it.
        layout: Where each document of the flat tokens is; None: an ordinary batch, or a step of generation.

    Returns:
        [1, T, h, d] (or [B, L, h, d]), and no weights.

    Raises:
        NotImplementedError: the model asks for attention that this is not: soft caps, sinks.
    """
    if layout is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return out, None
    if asked := [name for name in ("softcap", "s_aux", "position_bias") if kwargs.get(name) is not None]:
        raise NotImplementedError(f"attention with {', '.join(asked)}")
    options = {"dropout_p": dropout, "scale": scaling, "enable_gqa": query.shape[1] != key.shape[1]}
    if isinstance(layout, Branched):
        return _eagerly(_by_branch)(query, key, value, layout, sliding_window, options)[None], None
    if query.is_cuda or not isinstance(layout, KnownLengths):
        return _at_once(query, key, value, layout, sliding_window, options)[None], None
    with exact_products():  # blocks this small gain nothing from bf16
        return _by_document(query, key, value, layout, sliding_window, options)[None], None


def _by_document(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: KnownLengths, window: int | None, options: Any
) -> torch.Tensor:
    """[T, h, d]: documents of one length together, by torch's fused kernel, on views."""
    parts, begin = [], 0
    for length, count in layout.groups:
        end = begin + length * count
        q, k, v = (t[0, :, begin:end].view(t.shape[1], count, length, -1).transpose(0, 1) for t in (query, key, value))
        parts.append(_causal(q, k, v, window, options).transpose(1, 2).flatten(0, 1))
        begin = end
    return torch.cat(parts)


def _by_branch(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Branched, window: int | None, options: Any
) -> torch.Tensor:
    """[T, h, d]: a beginning and its first end as one document; the second end sees the beginning and itself."""
    if query.is_cuda:
        return _branches_at_once(query, key, value, layout, window, options)
    parts, at = [], 0
    with exact_products():
        for begin, first, second in layout.parts.tolist():
            fork, end = at + begin + first, at + begin + first + second
            q, k, v = (t[:, :, at:fork] for t in (query, key, value))
            parts.append(_causal(q, k, v, window, options))
            k, v = (torch.cat([t[:, :, at : at + begin], t[:, :, fork:end]], dim=2) for t in (key, value))
            parts.append(_causal(query[:, :, fork:end], k, v, window, options))
            at = end
    return torch.cat([part[0].transpose(0, 1) for part in parts])


_eagerly: Any = torch.compiler.disable
"""What a compiler does not look inside: the sizes of branches differ from feature to feature."""


def _branches_at_once(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Branched, window: int | None, options: Any
) -> torch.Tensor:
    """[T, h, d]: the same by one call, padded on the right for the attention alone, with a mask."""
    q, k, v = _padded(query, key, value, layout)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=layout.sees(window)[:, None], **options)
    return out.transpose(1, 2).flatten(0, 1).index_select(0, layout.source_T)


def _padded(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout) -> tuple[torch.Tensor, ...]:
    """[B, h, L, d] each, zeros where there is no token."""
    return tuple(
        layout.restore(t[0].transpose(0, 1).flatten(1)[None])
        .view(-1, layout.width, t.shape[1], t.shape[3])
        .transpose(1, 2)
        for t in (query, key, value)
    )


def _at_once(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, window: int | None, options: Any
) -> torch.Tensor:
    """[T, h, d]: padded on the right for the attention alone, where a causal token sees no padding; one call."""
    q, k, v = _padded(query, key, value, layout)
    out = _causal(q, k, v, window, options)
    return out.transpose(1, 2).flatten(0, 1).index_select(0, layout.source_T)


def _causal(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: int | None, options: Any
) -> torch.Tensor:
    """[b, h, n, d]: each token sees itself and those before it, ``window`` of them at most; the queries are of the last keys."""
    length, before = key.shape[2], key.shape[2] - query.shape[2]
    if not before and (window is None or length <= window):
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, **options)
    places = torch.arange(length, device=query.device)
    behind = places[before:, None] - places[None, :]
    sees = (behind >= 0) & (behind < (window or length))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=sees, **options)


def _hook(base: Any) -> list[Any]:
    """Flatten what goes into a base model and restore what comes out of it."""
    names = list(inspect.signature(base.forward).parameters)
    absent = ("inputs_embeds", "position_ids", "past_key_values", "output_hidden_states", "output_attentions")

    def flatten(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        _HELD.layout = None
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        ids, mask = given.get("input_ids"), given.get("attention_mask")
        if ids is None or mask is None or mask.dim() != 2 or any(given.get(name) for name in absent[3:]):
            return args, kwargs
        if mask.shape != ids.shape or any(given.get(name) is not None for name in absent[:3]):
            return args, kwargs
        lengths = known_of(mask)
        if lengths is None:
            if given.get("use_cache"):  # generation begins, whose later steps need what this one keeps
                return args, kwargs
            lengths = mask.sum(dim=1).tolist()
            if not _is_right_padded(mask, lengths):
                return args, kwargs
        layout = lengths if isinstance(lengths, Layout) else Layout.of(lengths, ids.shape[1], ids.device)
        if layout.num_tokens == 0:
            return args, kwargs
        if ids.is_cuda and type(layout) is KnownLengths:
            layout = layout.on_device()
        given["input_ids"] = layout.flatten(ids)
        given["position_ids"] = layout.positions_T[None]
        given |= {"attention_mask": None, "use_cache": False, "layout": layout}
        _HELD.layout = layout
        return (), given

    def restore(_: Any, args: Any, output: Any) -> Any:
        layout, _HELD.layout = getattr(_HELD, "layout", None), None
        if layout is None:
            return output
        output["last_hidden_state"] = layout.restore(output["last_hidden_state"])
        return output

    return [
        base.register_forward_pre_hook(flatten, with_kwargs=True),
        base.register_forward_hook(restore),
    ]


_SMALL = (9, 3, 6, 3)
"""Tokens of the documents of :func:`_probe`."""


def _probe(model: Any, change: int) -> list[torch.Tensor]:
    """Logits of a few short documents, in evaluation mode, padding left out.

    Args:
        change: Added to the ids of the first document.
    """
    device, width = next(model.parameters()).device, max(_SMALL)
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    ids = (torch.arange(len(_SMALL) * width, device=device).view(len(_SMALL), width) * 7 + 5) % vocabulary
    ids[0] = (ids[0] + change) % vocabulary
    mask = torch.arange(width, device=device)[None] < torch.tensor(_SMALL, device=device)[:, None]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), exact_products():
            logits = model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits.float()
    finally:
        model.train(was_training)
    return [logits[row, :length] for row, length in enumerate(_SMALL)]
