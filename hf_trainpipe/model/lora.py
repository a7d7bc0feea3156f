"""LoRA (https://arxiv.org/abs/2106.09685) by peft: a frozen model, small matrices beside its linear layers, and its head.

peft puts its layers into the model in place. So the model keeps its class, its hooks and the names of its layers, and
everything that works on it works on. What trains is decided here: peft's own wrapper trains a head only where it is told
the kind of task, and says nothing where it is not.

Adapters are merged into the weights by :func:`merged_weight`, for a package as for a checkpoint that is pushed while it trains.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from hf_trainpipe.errors import MissingExtra, RecipeError
from hf_trainpipe.model import quantised
from hf_trainpipe.utils.atomic import sha256_file
from hf_trainpipe.utils.resources import is_local, require_weights, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from hf_trainpipe.recipe import Lora, Pretrained

ADAPTER = "default"
"""peft's name of the one adapter, part of the names of its parameters."""
_CONFIG = "peft_config"
"""peft's attribute of a model that has adapters."""
_BARE_HEADS = ("qa_outputs",)
"""Heads that lie beside the parts of an encoder, with no module around these (T5ForQuestionAnswering)."""
_MARK = ".lora_"
"""In the name of every parameter of an adapter, and of no other."""


def _peft() -> Any:
    """The library.

    Raises:
        MissingExtra: it is not installed.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it, and it warns of a kernel for 4 bits
    try:
        import peft
    except ImportError as error:
        raise MissingExtra(f"model.lora needs peft: {error}.", fix="pip install 'hf-trainpipe[lora]'") from None
    return peft


def adapt(model: Any, lora: Lora, *, fresh: Collection[str] = (), say: Callable[[str], None] | None = None) -> int:
    """Freeze a model of transformers in place, and put adapters beside its linear layers; with ``base_bits`` these hold their
    weights in few bits then.

    What trains is the adapters, the head, and whatever is new. The first matrix of an adapter is drawn from torch's
    generator, the second is zero: the outputs stay as they were.

    Args:
        model: With weights, or on the meta device.
        fresh: Names of parameters that the weights did not contain: random, so never frozen.
        say: Called with a line about a base in few bits.

    Returns:
        How many weights of the base are held in few bits.

    Raises:
        MissingExtra: peft or bitsandbytes is not installed.
        RecipeError: ``lora.targets`` names no layer, or there is none to quantise.
    """
    peft = _peft()
    whole = head_of(model) | {name for name, _ in model.named_parameters() if name in fresh}
    layers = {name: _is_transposed(layer) for name, layer in _linear_layers(model, without=whole)}
    chosen = {name: layers[name] for name in _matching(lora.targets, layers, model=type(model).__name__)}
    if len({*chosen.values()}) > 1:
        raise RecipeError(
            f"model.lora.targets: expected layers of one kind, found Linear and Conv1D: {_ends(chosen)}.",
            fix="Name the layers of one of them: targets=(...).",
        )
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=sorted(chosen),
        use_rslora=lora.rank_stabilised,
        use_dora=lora.dora,
        fan_in_fan_out=any(chosen.values()),
    )
    on_meta = next(model.parameters()).device.type == "meta"
    count = 0
    if lora.base_bits is not None:
        count = quantised.check(model, layers, lora.base_bits)
        error = None if on_meta else quantised.quantise(model, layers, lora.base_bits)
        if error is not None and say is not None:
            say(
                f"the base is held in {lora.base_bits} bits: {count:,} weights of linear layers, which differ from the model's own "
                f"by {error:.1%} (root mean square)"
            )
    peft.inject_adapter_in_model(config, model, ADAPTER, low_cpu_mem_usage=on_meta)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in whole or _MARK in name)
    return count


def quantise_as_trained(model: Any, bits: int, *, whole: Collection[str]) -> None:
    """Put the layers of a model without adapters into few bits that :func:`adapt` would.

    Args:
        whole: Modules that were trained whole.
    """
    inside = tuple(f"{module}." for module in whole)
    kept = head_of(model) | {name for name, _ in model.named_parameters() if name.startswith(inside)}
    quantised.quantise(model, [name for name, _ in _linear_layers(model, without=kept)], bits)


def head_of(model: Any) -> set[str]:
    """The parameters outside of the encoder. None of a language model, whose head is pretrained and often tied to its
    embeddings, nor of a model without a head."""
    base = model.base_model
    if model.get_output_embeddings() is not None:
        return set()
    if base is model:
        return {name for name, _ in model.named_parameters() if name.partition(".")[0] in _BARE_HEADS}
    inside = {id(parameter) for parameter in base.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) not in inside}


def _linear_layers(model: Any, *, without: Collection[str]) -> Iterator[tuple[str, torch.nn.Module]]:
    """Linear layers by name, but the output embeddings of a language model and those that train whole."""
    from transformers.pytorch_utils import Conv1D

    outputs = model.get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not outputs and f"{name}.weight" not in without:
            yield name, module


def _is_transposed(layer: torch.nn.Module) -> bool:
    """Whether the weight is [in, out], as in GPT-2."""
    return not isinstance(layer, torch.nn.Linear)


def _matching(targets: str | tuple[str, ...], layers: Collection[str], *, model: str) -> list[str]:
    """The layers that targets name: all, or those whose name ends in one of them.

    Raises:
        RecipeError: one of them names none.
    """
    if isinstance(targets, str):
        return list(layers)
    found = {target: [name for name in layers if f".{name}".endswith(f".{target}")] for target in targets}
    for target, named in found.items():
        if not named:
            raise RecipeError(
                f"model.lora.targets: {target!r} is the end of no linear layer of {model} that can have an adapter.",
                fix=f"Its linear layers are called: {_ends(layers)}; or targets='all-linear'.",
            )
    return sorted({name for named in found.values() for name in named})


def _ends(layers: Collection[str]) -> str:
    """The last parts of names, each once."""
    return ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in layers))


def is_adapted(model: torch.nn.Module) -> bool:
    """Whether the model has adapters."""
    return hasattr(model, _CONFIG)


def is_of_adapter(parameter: str) -> bool:
    """Whether the name is of a parameter of an adapter."""
    return _MARK in parameter


def config_of(model: Any) -> Any:
    """peft's configuration of the adapters."""
    return getattr(model, _CONFIG)[ADAPTER]


def num_trained(model: torch.nn.Module) -> int:
    """How many parameters are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def held(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What a checkpoint holds, by name: everything, or of a model with adapters what is not frozen."""
    found: dict[str, torch.Tensor] = model.state_dict()
    if not is_adapted(model):
        return found
    frozen = {name for name, tensor in model.named_parameters(remove_duplicate=False) if not tensor.requires_grad}
    return {name: tensor for name, tensor in found.items() if name not in frozen}


def merged(model: Any) -> Any:
    """A copy of a model without its adapters, whose weights do what weights and adapters did.

    A base in few bits is dequantised first: to merge into its bits would round the adapters away.
    """
    from peft.tuners.lora import LoraLayer

    plain = copy.deepcopy(model)
    how = how_to_merge(model)
    quantised.dequantise(plain)
    with torch.no_grad():
        for name, layer in list(plain.named_modules()):
            if isinstance(layer, LoraLayer):
                base, magnitude = layer.get_base_layer(), layer.lora_magnitude_vector
                a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
                of_rows = magnitude[ADAPTER].weight if ADAPTER in magnitude else None
                base.weight.copy_(merged_weight(base.weight, a, b, of_rows, **how))
                plain.set_submodule(name, base)
    delattr(plain, _CONFIG)
    return plain.requires_grad_(False)


def how_to_merge(model: Any) -> dict[str, Any]:
    """What :func:`merged_weight` needs to know besides tensors, as JSON; of a model without adapters, nothing."""
    if not is_adapted(model):
        return {}
    config = config_of(model)
    scaling = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
    return {"scaling": scaling, "transposed": bool(config.fan_in_fan_out)}


def merged_weight(
    weight: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    magnitude: torch.Tensor | None = None,
    *,
    scaling: float,
    transposed: bool,
) -> torch.Tensor:
    """The weight [out, in] of a layer with its adapter: ``weight + scaling * b @ a``.

    Args:
        weight: Of the frozen layer; [in, out] where ``transposed``.
        a: [rank, in]
        b: [out, rank]
        magnitude: [out] the length of each row (DoRA, section 4.1 of arXiv 2402.09353); None: as it comes out.
    """
    delta = (b @ a) * scaling
    total = (weight.T if transposed else weight) + delta
    if magnitude is not None:
        total = total * (magnitude / torch.linalg.norm(total, dim=1))[:, None]
    return total.T.contiguous() if transposed else total


def merged_weights(
    base: Mapping[str, torch.Tensor], trained: Mapping[str, torch.Tensor], how: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    """Weights by the names of a model without adapters.

    Args:
        base: Of the model before its first step.
        trained: What :func:`held` gave.
        how: :func:`how_to_merge`.
    """
    weights, end = dict(base), f"{_MARK}A.{ADAPTER}.weight"
    for name, tensor in trained.items():
        if name.endswith(end):
            layer = name.removesuffix(end)
            b, magnitude = (f"{layer}{_MARK}{part}.{ADAPTER}.weight" for part in ("B", "magnitude_vector"))
            weight = base[f"{layer}.weight"]
            weights[f"{layer}.weight"] = merged_weight(weight, tensor, trained[b], trained.get(magnitude), **how)
        elif _MARK not in name:
            weights[name] = tensor
    return weights


def base_fingerprint(model: Pretrained) -> str:
    """What identifies the frozen weights, which no checkpoint holds: the commit on the Hub, or a hash of the files, and the bits they
    are held in.

    Args:
        model: Pinned (:func:`~hf_trainpipe.model.names.pin_model`).
    """
    if model.lora is not None and model.lora.base_bits is not None:
        return f"{base_fingerprint(replace(model, lora=None))} in {model.lora.base_bits} bits"
    if not is_local(model.name):
        return str(model.revision)
    weights = require_weights(folder := resolve(model.name))
    files = {weights, folder / "config.json"}
    if weights.suffix == ".json":
        files |= {folder / shard for shard in json.loads(weights.read_bytes())["weight_map"].values()}
    hashes = {path.name: sha256_file(path) for path in files}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
