"""An optimizer as flat tensors and JSON, and back, bit for bit.

State is found by the names of the parameters, not by their position, and is put back without the casts of
``torch.optim.Optimizer.load_state_dict`` (which turns fp32 moments of a bf16 parameter into bf16).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_trainpipe.engine.sharding import is_sharded, shard_like
from hf_trainpipe.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch


def flatten_optimizer(
    optimizer: torch.optim.Optimizer, named_parameters: Iterable[tuple[str, torch.nn.Parameter]]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Take an optimizer apart, without copying.

    Args:
        optimizer: Any whose state and options are tensors, numbers, strings, None or tuples of them; a
            wrapper with ``state`` and ``param_groups`` (accelerate's) will do.
        named_parameters: ``model.named_parameters()``.

    Returns:
        Tensors by name (``exp_avg/encoder.weight``), and the rest as JSON.

    Raises:
        TypeError: state of another kind.
        ValueError: a parameter of the optimizer is not among ``named_parameters``.
    """
    import torch

    names = _names(named_parameters)
    tensors: dict[str, torch.Tensor] = {}
    groups: list[dict[str, Any]] = []
    values: dict[str, dict[str, Any]] = {}
    for position, group in enumerate(optimizer.param_groups):
        members = [_name_of(parameter, names) for parameter in group["params"]]
        options: dict[str, Any] = {}
        for key, value in group.items():
            if isinstance(value, torch.Tensor):
                tensors[f"@{position}/{key}"] = value
            elif key != "params":
                options[key] = _plain(value, f"param_groups[{position}].{key}")
        groups.append({"params": members, "options": options})
        for name, parameter in zip(members, group["params"], strict=True):
            for key, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    tensors[f"{key}/{name}"] = value
                else:
                    values.setdefault(name, {})[key] = _plain(value, f"{key} of {name}")
    return tensors, {"groups": groups, "values": values}


def load_optimizer(
    optimizer: torch.optim.Optimizer,
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
    *,
    tensors: Mapping[str, torch.Tensor],
    state: Mapping[str, Any],
) -> None:
    """Put back what :func:`flatten_optimizer` took apart, but the options of groups: those are the recipe's.

    Args:
        optimizer: A new optimizer with the same groups of the same parameters.
        named_parameters: ``model.named_parameters()``.
        tensors: Whole; copied to the device of their parameter and cut over the ranks as it is (``step`` stays on
            the CPU unless the optimizer is fused or capturable, as torch has it). Their dtype is kept.
        state: The JSON part.

    Raises:
        CheckpointError: other groups or other parameters.
    """
    names = _names(named_parameters)
    members = [[_name_of(parameter, names) for parameter in group["params"]] for group in optimizer.param_groups]
    saved = [list(group["params"]) for group in state["groups"]]
    if members != saved:
        raise CheckpointError(
            f"The optimizer's parameters differ from the checkpoint's: {_first_difference(saved, members)}.",
            fix="Resume with the model and optimizer of the interrupted run, or use another --run-dir.",
        )
    parameters = {name: parameter for parameter, name in names.items()}
    group_of = {name: group for listed, group in zip(members, optimizer.param_groups, strict=True) for name in listed}
    optimizer.state.clear()
    for name in group_of:
        if name in state["values"]:
            optimizer.state[parameters[name]] = dict(state["values"][name])
    for flat, tensor in tensors.items():
        key, name = flat.split("/", 1)
        if key.startswith("@"):
            continue
        parameter, group = parameters[name], group_of[name]
        if tensor.shape == parameter.shape and is_sharded(parameter):
            copy = shard_like(tensor, parameter)
        else:
            on_host = key == "step" and not (group.get("capturable") or group.get("fused"))
            copy = tensor.detach().to("cpu" if on_host else parameter.device, copy=True)
        optimizer.state.setdefault(parameter, {})[key] = copy


def _names(named_parameters: Iterable[tuple[str, torch.nn.Parameter]]) -> dict[torch.nn.Parameter, str]:
    return {parameter: name for name, parameter in named_parameters}


def _name_of(parameter: torch.nn.Parameter, names: Mapping[torch.nn.Parameter, str]) -> str:
    if parameter not in names:
        raise ValueError(
            f"The optimizer holds a parameter of shape {tuple(parameter.shape)} that has no name. "
            "Pass the named_parameters() of the model it was made for."
        )
    return names[parameter]


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, (bool, int, float, str, type(None))):
        return value
    if isinstance(value, (tuple, list)):
        return type(value)(_plain(item, where) for item in value)
    raise TypeError(f"{where}: expected a tensor, a number, a string or None, found {type(value).__name__}.")


def _first_difference(saved: list[list[str]], found: list[list[str]]) -> str:
    if len(saved) != len(found):
        return f"{len(saved)} groups were saved, {len(found)} are here"
    for position, (before, now) in enumerate(zip(saved, found, strict=True)):
        if before != now:
            missing = [name for name in before if name not in set(now)]
            new = [name for name in now if name not in set(before)]
            if not missing and not new:
                return f"group {position} has another order"
            return f"group {position} lacks {missing[:3]} and has {new[:3]} instead"
    raise AssertionError("called for equal groups")
