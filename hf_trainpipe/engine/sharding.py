"""FSDP2: weights, gradients and optimizer state sharded over the ranks, by torch's ``fully_shard`` on each layer.

``accelerate launch --use_fsdp --fsdp_version 2`` turns it on (scripts/accelerate/fsdp2.yaml). Every rank has its rows of
every parameter; https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
from torch.distributed.tensor import DTensor, distribute_tensor

from hf_trainpipe.errors import RecipeError

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Optim

FSDP_VARIABLE = "ACCELERATE_USE_FSDP"


def is_wanted() -> bool:
    """Whether the launcher asks for FSDP2.

    Raises:
        RecipeError: it asks for FSDP1.
    """
    if os.environ.get(FSDP_VARIABLE, "false").lower() not in ("true", "1"):
        return False
    if os.environ.get("FSDP_VERSION", "2") != "2":
        raise RecipeError(
            f"expected FSDP version 2, found {os.environ['FSDP_VERSION']}.",
            fix="Launch with --fsdp_version 2, as scripts/accelerate/fsdp2.yaml does.",
        )
    return True


def check(optim: Optim, *, precision: str) -> None:
    """Refuse fp16 loss scaling, copies of all weights, and optimizers other than AdamW, whose states are not sharded here.

    Raises:
        RecipeError: the precision is fp16 or bf16-pure, or the optimizer is another one.
    """
    if optim.algorithm != "adamw":
        raise RecipeError(
            f"optim.algorithm: {optim.algorithm} does not go with FSDP2, which cuts weights and AdamW's moments over the "
            "ranks.",
            fix="Set optim.algorithm to 'adamw' (FSDP2 divides its memory by the ranks), or launch without FSDP2.",
        )
    if precision in ("fp16", "bf16-pure"):
        raise RecipeError(f"optim.precision: {precision} does not go with FSDP2 here.", fix="Use bf16 or fp32.")


def shard(model: torch.nn.Module, device: torch.device, ranks: int) -> None:
    """Shard a model on ``device`` in place, layer by layer, so that one layer at a time is gathered."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (ranks,))
    layers = set(getattr(model, "_no_split_modules", None) or ())
    for module in model.modules():
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def local_rows(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's rows, without a copy; an unsharded tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether this rank has only some of the rows."""
    return isinstance(tensor, DTensor)


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """All rows, on every rank. A collective."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(whole: torch.Tensor, example: torch.Tensor) -> torch.Tensor:
    """``whole`` on the device and with the sharding of ``example``; every rank takes its rows from its own copy."""
    if not isinstance(example, DTensor):
        return whole.to(example.device)
    return distribute_tensor(
        whole.to(example.device), example.device_mesh, list(example.placements), src_data_rank=None
    )
