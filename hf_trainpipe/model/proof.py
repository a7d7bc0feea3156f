"""Checks of the model and tokenizer with encoded texts and weights, before the first step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.errors import DataError, RecipeError
from hf_trainpipe.runtime.model.exact import exact_products
from hf_trainpipe.runtime.model.inference import of_choices
from hf_trainpipe.utils.brief import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    import torch

MANY, NEARLY_ALL = 0.05, 0.9
LONGEST = 1024
"""Maximum tokens of the text that is tried: more would take seconds."""


def unknown_lines(tokenizer: Any, splits: Mapping[str, Any]) -> tuple[str | None, list[str]]:
    """The share of unknown tokens in each split, as a line of the plan; None if the tokenizer has no unknown token.

    Args:
        splits: Name to a split with ``features``.

    Returns:
        The line, and warnings.

    Raises:
        DataError: nearly every token of the training split is unknown.
    """
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown == tokenizer.eos_token_id:
        return None, []
    shares = {}
    for name, split in splits.items():
        streams = [stream[stream.ids] for stream in split.features.streams.values() if stream.ids is not None]
        around = split.features.num_features * int(tokenizer.num_special_tokens_to_add(False))
        total = sum(max(1, len(ids) - around) for ids in streams)
        shares[name] = sum(float((np.asarray(ids) == unknown).sum()) for ids in streams) / max(1, total)
    if shares.get("train", 0.0) > NEARLY_ALL:
        raise DataError(
            f"split 'train': {min(1.0, shares['train']):.0%} of its tokens are unknown to the tokenizer ({tokenizer.unk_token}).",
            fix="The tokenizer does not know this script or spelling: set model.name, or model.tokenizer, to one that does;\n"
            "or remove a preprocessing step that changes letters.",
        )
    line = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
    warnings = [
        f"{name}: {share:.1%} of the tokens are unknown to the tokenizer ({tokenizer.unk_token})"
        for name, share in shares.items()
        if share > MANY
    ]
    return f"unknown     {line} of the tokens", warnings


def prove_forward(model: torch.nn.Module, *, length: int, pad_id: int, pads_with_a_word: bool) -> None:
    """Run the model on the longest allowed text, and on a padded one if the tokenizer has no padding token.

    Args:
        length: Maximum tokens of a feature.
        pads_with_a_word: Whether ``pad_id`` is also an ordinary token.

    Raises:
        RecipeError: the model cannot run on such a text, or padding changes its outputs.
    """
    import torch

    device = next(model.parameters()).device
    trained = model.training
    model.eval()
    try:
        with torch.inference_mode(), exact_products():
            word = pad_id + 1
            ids = torch.full((1, min(length, LONGEST)), word, device=device)
            more = _for_decoder(model, ids)

            def given(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor | None:
                inputs = of_choices(model, {"input_ids": ids, "attention_mask": mask})
                found: torch.Tensor | None = getattr(model(**inputs, **more), "logits", None)
                return found

            logits = given(ids, torch.ones_like(ids))
            if logits is None:
                return  # a custom task with other outputs
            if pads_with_a_word and not more:
                short = torch.tensor([[word, word, pad_id]], device=device)
                alone = model(input_ids=short, attention_mask=torch.ones_like(short)).logits
                padded = torch.nn.functional.pad(short, (0, 3), value=pad_id)
                mask = torch.nn.functional.pad(torch.ones_like(short), (0, 3), value=0)
                with_padding = model(input_ids=padded, attention_mask=mask).logits
                gap = float((alone - (with_padding[:, :3] if with_padding.dim() == 3 else with_padding)).abs().max())
                without = model(input_ids=short[:, :2], attention_mask=torch.ones_like(short[:, :2])).logits
                if gap > 1e-4 or (alone.dim() == 2 and torch.allclose(alone, without, rtol=1e-5, atol=1e-6)):
                    raise RecipeError(
                        "model.name: the tokenizer has no padding token, and this model reads its output at the last token "
                        "that is not padding: texts that end in it would be read wrongly.",
                        fix="Add one: tokenizer.add_special_tokens({'pad_token': '[PAD]'}), then\n"
                        "model.resize_token_embeddings(len(tokenizer)), and save_pretrained both.",
                    )
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        if "out of memory" in str(error):
            return  # the training loop halves micro-batches that are too large
        raise RecipeError(
            f"model.name: the model does not take a text of {min(length, LONGEST)} tokens: "
            f"{one_line(error, named=True)}",
            fix="Lower tokens.max_length; if it fails with a few tokens too, the model needs other inputs than text.",
        ) from error
    finally:
        model.train(trained)
    if not bool(logits.isfinite().all()):
        raise RecipeError(
            "model.name: the model outputs NaN or infinity before any training.",
            fix="Choose another checkpoint of it.",
        )


def prove_passes(model: torch.nn.Module, passes: Callable[[], AbstractContextManager[None]]) -> None:
    """Run the model on a few tokens as training steps run it, where these read all weights in bf16.

    Raises:
        RecipeError: its code mixes types.
    """
    import torch

    ids = torch.arange(8, device=next(model.parameters()).device)[None]
    try:
        with torch.no_grad(), passes():
            model(
                **of_choices(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}),
                **_for_decoder(model, ids),
            )
    except RuntimeError as error:
        if "out of memory" in str(error):
            return  # as above
        raise RecipeError(
            f"optim.precision: {type(model).__name__} does not run with all its weights in bf16: {one_line(error)}",
            fix="Set optim.precision to 'bf16', which leaves the rest of the model in fp32.",
        ) from error


def _for_decoder(model: Any, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a model with an encoder and a decoder needs beside the ids [B, L]."""
    decodes = getattr(model.config, "is_encoder_decoder", False) and hasattr(model, "generate")
    return {"decoder_input_ids": ids[:, :1]} if decodes else {}
