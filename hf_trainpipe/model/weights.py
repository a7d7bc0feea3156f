"""Load the weights of a model in fp32 with a head for the task; refuse missing or mismatched ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.model.head import fit_head, label_names
from hf_trainpipe.model.lora import adapt
from hf_trainpipe.model.names import from_pretrained, load_config, load_options, local_folder
from hf_trainpipe.model.tokenizer import load_tokenizer
from hf_trainpipe.utils.brief import listed
from hf_trainpipe.utils.resources import check_sha256, require_weights, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    import torch

    from hf_trainpipe.recipe import Pretrained
    from hf_trainpipe.runtime.tasks.base import Task

DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "dropout_rate", "attention_dropout",
            "classifier_dropout", "seq_classif_dropout", "embedding_dropout", "mlp_dropout",
            "summary_last_dropout", "activation_dropout")  # fmt: skip


def build_model(model: Pretrained, task: Task, *, say: Callable[[str], None]) -> torch.nn.Module:
    """Load the weights in fp32 with a head for the task; a new head is drawn from torch's generator.

    A pretrained head is kept if it has the same label names, and reordered to the task's order; else it is newly
    initialized, and ``say`` is called with a warning. With ``model.lora`` everything but the head is frozen and has adapters.

    Raises:
        RecipeError: the folder has no weights, their sha256 or sizes differ from what the recipe or config.json says, layers
            of the encoder are missing or not finite, or there are only pickles.
    """
    from transformers.utils import logging

    if local_folder(model.name) is not None:
        weights = require_weights(resolve(model.name))
        if model.sha256 is not None:
            check_sha256(weights, model.sha256)
    config = load_config(model)
    had, architectures = label_names(config), tuple(getattr(config, "architectures", None) or ())
    if getattr(config, "quantization_config", None):
        raise RecipeError(
            f"model.name: the weights of {model.name!r} are quantized, and such weights cannot be trained.",
            fix="Name the model that they were made from.",
        )
    if model.dropout is not None:
        for name in DROPOUTS:
            if getattr(config, name, None) is not None:
                setattr(config, name, model.dropout)
    for name, value in task.model_options().items():
        setattr(config, name, value)
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # a new head is expected: no warning
    logging.disable_progress_bar()
    try:
        loaded, info = from_pretrained(
            task.model_class(),
            model.name,
            what="safetensors weights",
            config=config,
            use_safetensors=True,
            dtype="float32",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **load_options(model),
        )
    finally:
        logging.set_verbosity(level)
    _check_sizes(loaded, info["mismatched_keys"], name=model.name, say=say)
    _check_missing(loaded, info["missing_keys"], info["unexpected_keys"], name=model.name, say=say)
    _check_finite(loaded, name=model.name)
    fresh = {*info["missing_keys"], *(key for key, _, _ in info["mismatched_keys"])}
    fit_head(loaded, model, task, had=had, architectures=architectures, fresh=fresh, say=say)
    if getattr(loaded.config, "pad_token_id", None) is None:
        loaded.config.pad_token_id = load_tokenizer(model).pad_token_id or 0
    if model.lora is not None:
        adapt(loaded, model.lora, fresh=fresh, say=say)
    built: torch.nn.Module = loaded
    task.prepare_model(built)
    return built


def _check_sizes(loaded: Any, mismatched: Iterable[Any], *, name: str, say: Callable[[str], None]) -> None:
    """Weights of the wrong size: a head for other labels is newly initialized, anything else is refused."""
    for key, found, expected in sorted(mismatched):
        if _is_of_base(loaded, key):
            raise RecipeError(
                f"model.name: the weights of {name!r} do not fit its config.json: {key}: expected {list(expected)}, "
                f"found {list(found)}.",
                fix="Point model.name to a folder whose config.json belongs to its weights.",
            )
        say(f"warning: {key} is newly initialized: {name!r} has {list(found)}, these labels need {list(expected)}")


def _is_of_base(loaded: Any, key: str) -> bool:
    """Whether a tensor is one of the encoder, not of the head."""
    prefix: str = loaded.base_model_prefix
    return bool(prefix) and hasattr(loaded, prefix) and key.startswith(f"{prefix}.")


def _check_missing(
    loaded: Any, missing: Collection[str], unexpected: Collection[str], *, name: str, say: Callable[[str], None]
) -> None:
    """Missing layers of the encoder: a pooler is newly initialized, anything else is refused."""
    absent = sorted(key for key in missing if _is_of_base(loaded, key))
    lost = [key for key in absent if "pooler" not in key]
    if lost:
        total = sum(_is_of_base(loaded, key) for key in loaded.state_dict())
        there = f" The file has {listed(sorted(unexpected), 3)} instead." if unexpected else ""
        raise RecipeError(
            f"model.name: the weights of {name!r} lack {len(lost):,} of the encoder's {total:,} tensors: "
            f"{listed(sorted(lost), 3)}.{there}",
            fix="They would be random. Point model.name to a folder made by save_pretrained, whose config.json and "
            "weights belong together.",
        )
    if absent:
        say(
            f"warning: {listed(sorted(absent), 3)} are not in the weights of {name!r} and are newly initialized, like "
            "the head"
        )


def _check_finite(loaded: Any, *, name: str) -> None:
    for key, parameter in loaded.named_parameters():
        if not bool(parameter.detach().sum().isfinite()):
            raise RecipeError(
                f"model.name: the weights of {name!r} contain NaN or infinity: {key}.",
                fix="Download the weights again, or choose an earlier checkpoint of them.",
            )
