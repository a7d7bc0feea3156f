"""A package of weights that are still being trained, made from a checkpoint without the trainer's help.

Before the first step the trainer writes a template: the package as it would be now. A package of a checkpoint is
the template with that checkpoint's weights, its scores and the curve so far. It has to load and to answer in a
fresh process before it may be pushed, as every package does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import PackageError
from hf_trainpipe.package import layout
from hf_trainpipe.package.card import CardFacts, read_curve, render
from hf_trainpipe.package.verify import verify

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.checkpoint.snapshot import Checkpoint

_WEIGHTS = "model.safetensors"


def write_interim(
    template: Path, checkpoint: Checkpoint, target: Path, *, facts: Mapping[str, Any], run: Path, select: str
) -> Path:
    """Write the package of a checkpoint into ``target``, which is replaced, and verify it.

    Args:
        template: A package of the same model, with any weights.
        facts: The fields of :class:`~hf_trainpipe.package.card.CardFacts` as JSON.
        run: The run's directory, for its ledger.
        select: The metric that chooses the best model.

    Raises:
        PackageError: the checkpoint's tensors are not those of the model's files, or it does not load.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(template, target)
    _replace_weights(target, checkpoint)
    manifest = json.loads((target / layout.MANIFEST).read_bytes())
    best = checkpoint.state["run"].get("best") or {}
    tuned = best.get("tuned") or {}
    manifest["task"] |= tuned
    manifest["about"]["options"] |= {name: tuned[name] for name in manifest["about"]["options"] if name in tuned}
    scored = best.get("step") == checkpoint.step
    manifest["scores"] = {"validation": {name: {"value": v} for name, v in best["scores"].items()}} if scored else {}
    told = {**facts, "curve": _until(read_curve(run, select=select), checkpoint.step)}
    told["limits"] = [f"Training goes on: these are the weights of step {checkpoint.step:,}.", *facts["limits"]]
    (target / "README.md").write_text(render(manifest, CardFacts(**told)), encoding="utf-8", newline="\n")
    layout.write_json(target / layout.MANIFEST, {**manifest, "files": layout.hash_files(target), "verified": None})
    verify(target, allow_code=True, needs_records=False)  # the run's own code
    return target


def _until(curve: Mapping[str, list[tuple[int, float]]], step: int) -> dict[str, list[tuple[int, float]]]:
    found = {name: [point for point in points if point[0] <= step] for name, points in curve.items()}
    return {name: points for name, points in found.items() if points}


def _weights(package: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {name: tensor for file in package.glob("model*.safetensors") for name, tensor in load_file(file).items()}


def _replace_weights(package: Path, checkpoint: Checkpoint) -> None:
    """The checkpoint's tensors under the names, and in the types, that the template's files have."""
    from safetensors.torch import save_file

    trained, chosen = checkpoint.load_model(), {}
    before = _weights(package)
    if how := checkpoint.manifest.get("adapter"):
        from hf_trainpipe.model.lora import merged_weights

        trained = merged_weights(before, trained, how)
    for name, untrained in before.items():
        if name not in trained or trained[name].shape != untrained.shape:
            raise PackageError(
                f"The checkpoint of step {checkpoint.step} has no {name} of the shape that the model's files "
                "have, so that it cannot be pushed while it trains.",
                fix='Push at the end: hub=Hub(..., when="end").',
            )
        chosen[name] = trained[name].to(untrained.dtype).contiguous()
    for file in package.glob("model*.safetensors"):
        file.unlink()
    (package / f"{_WEIGHTS}.index.json").unlink(missing_ok=True)
    save_file(chosen, package / _WEIGHTS, metadata={"format": "pt"})
