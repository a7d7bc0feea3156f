"""From a model with adapters to the plain one that is scored and packaged, so that nothing that serves it needs peft."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_trainpipe.errors import PackageError
from hf_trainpipe.model.adapter import Adapter, load_with_peft
from hf_trainpipe.model.lora import is_adapted, merged
from hf_trainpipe.model.quantised import base_of
from hf_trainpipe.package.layout import ADAPTER
from hf_trainpipe.package.probe import gaps
from hf_trainpipe.package.verify import read_recorded
from hf_trainpipe.runtime.handler.predictor import Predictor, quiet
from hf_trainpipe.runtime.model.outputs import as_lists
from hf_trainpipe.runtime.tasks.base import Task
from hf_trainpipe.utils.brief import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from hf_trainpipe.runtime.model.outputs import Outputs
    from hf_trainpipe.training.run import Run

ROUNDING = 1e-5
"""The largest difference of an output that fp32 explains. Above it there is a warning, since the merged model is scored."""
BROKEN = 1e-3
"""Above it merging went wrong."""


def packaged_model(run: Run) -> torch.nn.Module:
    """The model that a package gets: the run's, or a copy of it with its adapters merged. All ranks call it."""
    model = run.whole_model()
    return merged(model) if is_adapted(model) else model


def say_gap(run: Run, outputs: Mapping[str, Outputs], *, count: int) -> None:
    """Say how far answers of the merged model are from those of the model with adapters. All ranks call it.

    Args:
        outputs: Of the merged model, in fp32, by split.
        count: Examples of the first split to compare, the recorded ones.

    Raises:
        PackageError: further than rounding explains.
    """
    if not is_adapted(run.bare):
        return
    split, found = next(iter(outputs.items()))
    some = found.take(np.arange(min(max(count, run.ranks.size), len(found)), dtype=np.int64))
    gap = difference(some, run.predict(split, autocast=False, examples=some.items), run.task)
    base = base_of(run.bare)
    into = "the weights" if base is None else f"the base, dequantised from {base.bits} bits"
    said = f"the adapters are merged into {into}: answers to {len(some)} examples differ by at most {gap:.1e}"
    if gap > BROKEN:
        raise PackageError(
            f"{said[0].upper()}{said[1:]}, more than rounding explains.",
            fix="The checkpoints are kept. Try another version of peft, then `hf-trainpipe package RUN`.",
        )
    run.console.say(said if gap <= ROUNDING else f"warning: {said}; the scores are those of the merged model")


def difference(one: Outputs, other: Outputs, task: Task | None = None) -> float:
    """The largest difference of a number in outputs for the same items, of one above 1 as a share of it, since a sum over a long
    answer is rounded more coarsely; infinite where they have other shapes. As the task tells it, where it has a way of its own.

    Of whole numbers, such as generated tokens, those that differ are not compared: one near tie changes all that follow.
    """
    if task is not None and type(task).gap is not Task.gap:
        ours, theirs = (as_lists(held, task.recorded, int(held.items.max()) + 1) for held in (one, other))
        return max(task.gap(ours[item], theirs[item]) or 0.0 for item in one.items.tolist())
    found = [0.0]
    for name, array in one.arrays.items():
        if array.dtype.kind == "f":
            there = other.arrays[name]
            if array.shape != there.shape:
                found.append(np.inf)
            else:
                found.append(float((np.abs(array - there) / np.maximum(1.0, np.abs(there))).max(initial=0.0)))
    return max(found) if all(number == number for number in found) else np.inf


def saved_adapter(run: Run) -> Adapter | None:
    """The adapter that the recipe wants in the package too, if it does. All ranks call it."""
    lora = run.recipe.model.lora
    return Adapter.of(run.whole_model(), run.recipe.model) if lora is not None and lora.save_adapter else None


def check_adapter(run: Run, package: Path, recorded: Path) -> float:
    """Load the adapter of a package as others do, with the base and peft alone, and compare with what was recorded.

    Returns:
        The largest difference of an output.

    Raises:
        PackageError: it does not load, or differs by more than rounding explains.
    """
    predictor = Predictor.load(package, device="cpu", allow_code=True, precision="fp32")
    fix = "Leave model.lora.save_adapter at False: the package itself holds the merged weights, and is complete."
    try:
        with quiet():
            model = load_with_peft(package / ADAPTER, run.recipe.model, predictor.task, say=lambda _: None)
        gap = max(gaps(predictor.with_model(model, predictor.tokenizer), read_recorded(recorded)))
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise PackageError(
            f"The adapter folder of the package cannot be used by peft: {one_line(error, named=True)}", fix=fix
        ) from error
    if gap > BROKEN:
        raise PackageError(f"The adapter, loaded by peft, gives other answers: they differ by {gap:.3g}.", fix=fix)
    return gap
