"""The optimizer and its parameter groups: weight decay, layer-wise learning rates, frozen layers.

Two optimizers take less memory than AdamW's two moments in fp32: ``adafactor`` keeps a row and a column of the second
moment of each matrix (https://arxiv.org/abs/1804.04235; torch's own implementation), ``adamw_8bit`` both moments in 8 bits
with a scale for each block (https://arxiv.org/abs/2110.02861; by bitsandbytes, imported only when used).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from hf_trainpipe.errors import RecipeError

if TYPE_CHECKING:
    from hf_trainpipe.engine.cpu.sparse_embedding_gradient import EmbeddingGradients
    from hf_trainpipe.recipe import Optim

LAYER = re.compile(r"(?:^|\.)(?:layer|layers|h|block|blocks)\.(\d+)\.")
EMBEDDINGS = re.compile(r"(?:^|\.)(?:embeddings?|wte|wpe|word_embeddings|embed_tokens)\.")
ENCODER_NORM = re.compile(r"(?:^|\.)(?:final_norm|ln_f|emb_norm)\.")


def depth_of(name: str, *, num_layers: int) -> int:
    """The depth of a parameter: 0 for embeddings, 1.. for layers, ``num_layers + 1`` for the head.

    >>> depth_of("bert.encoder.layer.3.output.dense.weight", num_layers=6)
    4
    """
    found = LAYER.search(name)
    if found:
        return int(found.group(1)) + 1
    if EMBEDDINGS.search(name):
        return 0
    return num_layers if ENCODER_NORM.search(name) else num_layers + 1


def _num_layers(model: torch.nn.Module) -> int:
    found = [LAYER.search(name) for name, _ in model.named_parameters()]
    return max((int(match.group(1)) + 1 for match in found if match), default=0)


def freeze(model: torch.nn.Module, optim: Optim) -> None:
    """Freeze the embeddings and the first layers, as the recipe asks."""
    if not optim.freeze_embeddings and optim.freeze_layers == 0:
        return
    num_layers = _num_layers(model)
    if optim.freeze_layers > num_layers:
        raise RecipeError(
            f"optim.freeze_layers: the model has {num_layers} layers, found {optim.freeze_layers}.",
            fix=f"Set optim.freeze_layers to {num_layers} or less.",
        )
    for name, parameter in model.named_parameters():
        depth = depth_of(name, num_layers=num_layers)
        if (depth == 0 and optim.freeze_embeddings) or 1 <= depth <= optim.freeze_layers:
            parameter.requires_grad_(False)


def reinitialize_top(model: Any, count: int) -> None:
    """Draw the weights of the last layers of an encoder anew, and those of a pooler, from torch's generator.

    The layers next to the output know the pretraining's own task best, and may be a worse start than none (Zhang et al. 2021,
    arXiv 2006.05987). They are drawn as the architecture draws them.

    Args:
        model: Of transformers.

    Raises:
        RecipeError: the model has fewer layers.
    """
    if count == 0:
        return
    num_layers = _num_layers(model)
    if count > num_layers:
        raise RecipeError(
            f"model.reinit_layers: the model has {num_layers} layers that are known by their names, found {count}.",
            fix=f"Set model.reinit_layers to {num_layers} or less.",
        )
    for name, module in model.base_model.named_modules():
        found = LAYER.search(f"{name}.")
        is_top = found is not None and int(found.group(1)) >= num_layers - count
        if is_top or name.partition(".")[0] == "pooler":
            for parameter in module.parameters(recurse=False):
                parameter._is_hf_initialized = False
            model._init_weights(module)


def build_optimizer(model: torch.nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """The recipe's optimizer over the trainable parameters; ``scale`` of a group multiplies the learning rate.

    Raises:
        RecipeError: nothing is left to train, or a library is missing.
    """
    num_layers = _num_layers(model)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        depth = depth_of(name, num_layers=num_layers) if optim.layer_decay < 1.0 else num_layers + 1
        plain = parameter.ndim <= 1 or name.endswith(".bias")  # biases and normalisation weights do not decay
        group = groups.setdefault(
            (depth, plain),
            {
                "params": [],
                "weight_decay": 0.0 if plain else optim.weight_decay,
                "scale": optim.layer_decay ** (num_layers + 1 - depth),
            },
        )
        group["params"].append(parameter)
    if not groups:
        raise RecipeError("Every parameter is frozen.", fix="Lower optim.freeze_layers.")
    chosen = [groups[key] for key in sorted(groups)]
    if optim.algorithm == "adafactor":
        return torch.optim.Adafactor(chosen, lr=optim.peak_lr)  # relative to the size of each weight
    if optim.algorithm == "adamw_8bit":
        tables = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
        return _adamw_8bit(chosen, optim, tables=tables)
    return torch.optim.AdamW(chosen, lr=optim.peak_lr, betas=optim.betas, eps=optim.eps, fused=True)


def _adamw_8bit(groups: list[dict[str, Any]], optim: Optim, *, tables: set[int]) -> torch.optim.Optimizer:
    """bitsandbytes' AdamW.

    Args:
        tables: ``id()`` of embedding weights, kept in fp32: few of their rows get a gradient, and blocks share one scale.

    Raises:
        RecipeError: bitsandbytes is not installed.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        raise RecipeError(
            f"optim.algorithm: adamw_8bit needs bitsandbytes: {error}.",
            fix="pip install 'hf-trainpipe[8bit]'; or choose adafactor, which needs nothing more.",
        ) from None

    class AdamW8bit(bitsandbytes.optim.AdamW8bit):  # type: ignore[misc, unused-ignore]
        def get_config(self, gindex: int, pindex: int, group: dict[str, Any]) -> dict[str, Any]:
            found: dict[str, Any] = super().get_config(gindex, pindex, group)
            return {**found, "optim_bits": 32} if id(group["params"][pindex]) in tables else found

    made: torch.optim.Optimizer = AdamW8bit(groups, lr=optim.peak_lr, betas=optim.betas, eps=optim.eps)
    return made


def state_bytes(algorithm: str, *, parameters: int, in_tables: int) -> int:
    """Approximate bytes of an optimizer's state, without row and column factors and scales.

    Args:
        in_tables: Parameters of embedding tables, whose moments stay in fp32 with ``adamw_8bit`` too.
    """
    if algorithm == "adafactor":
        return 0
    return 8 * parameters if algorithm == "adamw" else 2 * (parameters - in_tables) + 8 * in_tables


class Clipping:
    """Clips the gradient, or skips the step, inside the fused optimizer step.

    torch's fused AdamW divides gradients by ``grad_scale`` as it reads them, and skips the step where ``found_inf`` is 1
    (both made for loss scaling). Both stay on the device, so nothing synchronises.

    Args:
        optimizer: Fused, without a loss scaler.
        embeddings: Knows the non-zero rows of large embedding gradients, so that the norm skips the others.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, *, embeddings: EmbeddingGradients | None = None) -> None:
        self._optimizer: Any = optimizer
        self._embeddings = embeddings
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def measure(self, max_norm: float | None) -> torch.Tensor:
        """The norm of the gradient, a scalar; the next step of the optimizer clips it to ``max_norm``."""
        if self._embeddings is not None:
            found = self._embeddings.nonzero_parts(self._parameters)
        else:
            found = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(found)
        self._optimizer.found_inf = (~torch.isfinite(norm)).float()
        self._optimizer.grad_scale = None
        # On a CPU reading the norm costs nothing, while scaling makes the optimizer write every gradient back.
        if max_norm is not None and (norm.device.type != "cpu" or norm > max_norm):
            self._optimizer.grad_scale = torch.where(norm > max_norm, (norm + 1e-6) / max_norm, 1.0)
        return norm
