"""The model and the tokenizer of a recipe: resolved, checked and loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_trainpipe.cache import COMMIT, pin, pinned
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.resources import check_sha256, require_weights, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import torch

    from hf_trainpipe.recipe import Pretrained, Tokens
    from hf_trainpipe.tasks.base import Labels, Task

__all__ = ["ModelFacts", "build_model", "load_config", "load_tokenizer", "model_facts", "pin_model", "usable_length"]

HUB_TIMEOUT_S = 5.0

DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout",
            "classifier_dropout", "seq_classif_dropout", "embedding_dropout", "mlp_dropout",
            "summary_last_dropout", "activation_dropout")  # fmt: skip


@dataclass(frozen=True)
class ModelFacts:
    """What a configuration tells without loading weights."""

    parameters: int
    encoder_parameters: int
    """Without the embedding tables: what a token is multiplied with."""
    layers: int
    hidden: int
    vocab_size: int | None
    max_length: int
    architecture: str
    model_type: str = ""


def _local(name: str) -> str | None:
    """The folder that a model name means, or None for a Hub id."""
    if name.startswith(("package:", ".", "/", "~")) or os.path.exists(name):
        return str(resolve(name))
    return None


def _not_on_reach(name: str, error: Exception) -> RecipeError:
    return RecipeError(
        f"model.name: {name!r} is no folder here, the Hub cannot be reached ({type(error).__name__}), and the "
        "cache does not hold it.",
        fix="Connect to the network (and unset HF_HUB_OFFLINE); or name a folder made by save_pretrained, or\n"
        "package:NAME/folder.",
        field="model.name",
    )


def pin_model(model: Pretrained) -> Pretrained:
    """The model at the commit that its revision means: the pinned one, the Hub's, or the cached one.

    Folders and resources of packages come back as they are, once they are seen to hold weights.

    Raises:
        RecipeError: the Hub knows no such model, or cannot be reached with nothing cached.
    """
    if _local(model.name) is not None:
        require_weights(resolve(model.name))
        return model
    if model.revision and COMMIT.fullmatch(model.revision):
        return model
    key = f"models/{model.name}@{model.revision or 'main'}"
    commit = pinned(key)
    if commit is None:
        commit = _ask_hub(model)
        pin(key, commit)
    return replace(model, revision=commit)


def _ask_hub(model: Pretrained) -> str:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        commit = HfApi().model_info(model.name, revision=model.revision, timeout=HUB_TIMEOUT_S).sha
    except HFValidationError:
        raise RecipeError(
            f"model.name: expected a Hub id (user/name), a folder or package:NAME/folder, found {model.name!r}.",
            fix="Correct the name; a folder must exist.",
            field="model.name",
        ) from None
    except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise RecipeError(
            f"model.name: the Hub gives no {model.name!r} at revision {model.revision or 'main'!r} "
            f"({type(error).__name__}).",
            fix="Correct the name or the revision. A private or gated model needs HF_TOKEN.",
            field="model.name",
        ) from None
    except Exception as error:
        try:
            cached = snapshot_download(model.name, revision=model.revision, local_files_only=True)
        except Exception:
            raise _not_on_reach(model.name, error) from None
        return os.path.basename(cached)
    assert commit is not None
    return commit


def _from_pretrained(loader: Any, name: str, *, what: str, **options: Any) -> Any:
    """Load something by a name that may be a folder, turning the many ways to fail into one screen."""
    local = _local(name)
    if local is not None:
        options.pop("revision", None)
        try:
            return loader.from_pretrained(local, local_files_only=True, **options)
        except (OSError, ValueError) as error:
            raise RecipeError(
                f"model.name: the folder {name!r} holds no usable {what}: {str(error).splitlines()[0]}",
                fix="Point model.name to a folder made by save_pretrained, or set model.tokenizer.",
                field="model.name",
            ) from None
    try:
        return loader.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise _not_on_reach(name, error) from None


def _common(model: Pretrained) -> dict[str, Any]:
    return {"revision": model.revision, "trust_remote_code": model.trust_remote_code}


def load_config(model: Pretrained) -> Any:
    """The configuration of a model, without its weights."""
    from transformers import AutoConfig

    return _from_pretrained(AutoConfig, model.name, what="configuration", **_common(model))


def load_tokenizer(model: Pretrained) -> Any:
    """The fast tokenizer of a model; decoders without a padding token are given one.

    Raises:
        RecipeError: there is none, or only a slow one.
    """
    from transformers import AutoTokenizer

    name = model.tokenizer or model.name
    options = _common(model) if model.tokenizer is None else {}
    tokenizer = _from_pretrained(AutoTokenizer, name, what="tokenizer", **options)
    if not tokenizer.is_fast:
        raise RecipeError(
            f"model.tokenizer: expected a fast tokenizer, found the slow {type(tokenizer).__name__}.",
            fix="Convert it to tokenizer.json, or choose a model that has one.",
            field="model.tokenizer",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if getattr(load_config(model), "is_encoder_decoder", False):
        # BART, T5 and their kin answer at the end token and refuse a batch whose texts hold unequal numbers of it: one
        # that somebody writes into a text is a text. The package keeps this with the tokenizer.
        tokenizer.split_special_tokens = tokenizer.init_kwargs["split_special_tokens"] = True
        tokenizer.backend_tokenizer.encode_special_tokens = True
    return tokenizer


def usable_length(config: Any, tokenizer: Any) -> int:
    """Tokens that one input of the model may hold, special tokens included."""
    limits = [getattr(config, "max_position_embeddings", None), getattr(config, "n_positions", None)]
    found = [int(limit) for limit in limits if limit]
    # RoBERTa and its kin count positions from padding_idx + 1.
    if found and config.model_type in ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet"):
        found = [limit - (config.pad_token_id or 0) - 1 for limit in found]
    if tokenizer.model_max_length and tokenizer.model_max_length < 1_000_000:
        found.append(int(tokenizer.model_max_length))
    return min(found, default=512)


def max_length(tokens: Tokens, limit: int) -> int:
    """The recipe's ``tokens.max_length``, held against what the model can take."""
    if tokens.max_length is None:
        return limit
    if tokens.max_length > limit:
        raise RecipeError(
            f"tokens.max_length: the model takes at most {limit} tokens, found {tokens.max_length}.",
            fix=f"Set tokens.max_length to {limit} or less, or to None; tokens.overflow='window' keeps the "
            "whole of longer texts.",
            field="tokens.max_length",
        )
    return tokens.max_length


def model_facts(model: Pretrained, task: Task, *, num_labels: int, limit: int) -> ModelFacts:
    """Count parameters on the meta device: no weights are read and no memory is taken."""
    import torch

    config = load_config(model)
    config.num_labels = max(1, num_labels)
    with torch.device("meta"):
        empty = task.model_class().from_config(config, trust_remote_code=model.trust_remote_code)
    total = sum(parameter.numel() for parameter in empty.parameters())
    embeddings = sum(module.weight.numel() for module in empty.modules() if isinstance(module, torch.nn.Embedding))
    return ModelFacts(
        parameters=total,
        encoder_parameters=total - embeddings,
        layers=int(getattr(config, "num_hidden_layers", 0) or 0),
        hidden=int(getattr(config, "hidden_size", 0) or 0),
        vocab_size=getattr(config, "vocab_size", None),
        max_length=limit,
        architecture=type(empty).__name__,
        model_type=getattr(config, "model_type", ""),
    )


def build_model(model: Pretrained, task: Task, labels: Labels, *, say: Callable[[str], None]) -> torch.nn.Module:
    """Load the weights in fp32 with a head for the task; the head comes from torch's generator.

    A head that comes with the weights is kept where it has as many outputs; else ``say`` is told that it begins anew.

    Raises:
        RecipeError: the folder has no weights, their sha256 differs, they are of other sizes than its config.json says,
            or only pickles are offered.
    """
    from transformers.utils import logging

    local = _local(model.name)
    if local is not None:
        weights = require_weights(resolve(model.name))
        if model.sha256 is not None:
            check_sha256(weights, model.sha256)
    config = load_config(model)
    if model.dropout is not None:
        for name in DROPOUTS:
            if getattr(config, name, None) is not None:
                setattr(config, name, model.dropout)
    for name, value in task.model_options(labels).items():
        setattr(config, name, value)
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # a new head is what a task wants; no need to warn of it
    logging.disable_progress_bar()
    try:
        loaded, info = _from_pretrained(
            task.model_class(),
            model.name,
            what="safetensors weights",
            config=config,
            use_safetensors=True,
            dtype="float32",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **_common(model),
        )
    finally:
        logging.set_verbosity(level)
    _check_sizes(loaded, info["mismatched_keys"], name=model.name, say=say)
    if getattr(loaded.config, "pad_token_id", None) is None:
        loaded.config.pad_token_id = load_tokenizer(model).pad_token_id
    built: torch.nn.Module = loaded
    return built


def _check_sizes(loaded: Any, mismatched: Iterable[Any], *, name: str, say: Callable[[str], None]) -> None:
    """Weights of other sizes than the model's: a head for other labels begins anew, all else is refused."""
    for key, found, expected in sorted(mismatched):
        if key.startswith(f"{loaded.base_model_prefix}."):
            raise RecipeError(
                f"model.name: the weights of {name!r} do not fit its config.json: {key}: expected {list(expected)}, "
                f"found {list(found)}.",
                fix="Point model.name to a folder in which both belong together.",
                field="model.name",
            )
        say(f"warning: {key} begins anew: {name!r} has {list(found)}, these labels need {list(expected)}")
