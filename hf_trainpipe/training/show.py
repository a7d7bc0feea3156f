"""``show``: a recipe and what follows from it. Loads no weights, fetches no data, and refuses what training refuses.

The data's first rows are looked at before torch or transformers are imported, so that a mistake is told at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hf_trainpipe.recipe import Scratch
from hf_trainpipe.utils.resources import is_local, require_weights, resolve

if TYPE_CHECKING:
    from hf_trainpipe.data.preview import Checked
    from hf_trainpipe.plan import Plan
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe.interfaces import Preview, Size
    from hf_trainpipe.runtime.tasks.columns import Labels


@dataclass(frozen=True)
class Look:
    """What ``show`` found."""

    recipe: Recipe
    plan: Plan | None
    """None if the number of examples is not known."""
    sizes: Mapping[str, Size]
    checked: Checked
    """Labels and warnings."""
    unchecked: list[str]
    """What could not be checked, and why; a sentence each."""

    def to_json(self) -> dict[str, Any]:
        from hf_trainpipe.codec import to_json

        return {
            "recipe": to_json(self.recipe),
            "plan": None if self.plan is None else asdict(self.plan),
            "rows": {split: {"rows": size.rows, "exact": size.exact} for split, size in self.sizes.items()},
            "labels": list(self.checked.labels.names),
            "counts": None if self.checked.counts is None else dict(self.checked.counts),
            "warnings": self.checked.warnings,
            "unchecked": self.unchecked,
        }

    def __str__(self) -> str:
        from hf_trainpipe.data.label_notes import label_lines

        data = [f"  {split}: {size}" for split, size in self.sizes.items()]
        if self.checked.labels.names:
            data.append("  labels: id, name" + ("" if self.checked.counts is None else " (in train)"))
            data += [f"  {line}" for line in label_lines(self.checked.labels, self.checked.counts)]
        data += [f"  warning: {line}" for line in self.checked.warnings]
        data += [f"  not checked: {line}" for line in self.unchecked]
        plan = ["  not known before the data is here"] if self.plan is None else self.plan.lines()
        return "\n".join(
            ["recipe", *_choices(self.recipe, "  "), "", "data", *data, "", "plan", *(f"  {line}" for line in plan)]
        )


def look(recipe: Recipe) -> Look:
    """Check a recipe against the first rows of its data, and derive its plan.

    Raises:
        TrainpipeError: what training would refuse.
    """
    from hf_trainpipe import metrics
    from hf_trainpipe.data.preview import all_of, check

    metrics.check_for(recipe.task, recipe.evaluation.named)
    if not isinstance(recipe.model, Scratch) and is_local(recipe.model.name):
        require_weights(resolve(recipe.model.name))
    preview = recipe.data.preview() or all_of(recipe.data.splits())
    checked = check(recipe, preview)
    train = preview.sizes.get("train")
    external = [name for name in recipe.evaluation.named if metrics.is_external(name)]
    unchecked = [*preview.unchecked, *(f"{name} is loaded when training begins." for name in external)]
    labels = checked.labels or recipe.task.label_names
    num_labels = len(labels) if labels or preview.whole else 2
    is_known = train is not None and (not isinstance(recipe.model, Scratch) or "train" in preview.rows)
    plan = None
    if train is not None and is_known:
        with _with_model(recipe, preview) as made:
            plan = _plan_of(made, train.rows, labels=labels, num_labels=num_labels, streamed=preview.streamed)
    return Look(recipe, plan, preview.sizes, checked, unchecked)


@contextmanager
def _with_model(recipe: Recipe, preview: Preview) -> Iterator[Recipe]:
    """The recipe with its model pinned; one from random weights lies in a folder meanwhile, with a tokenizer of the first rows."""
    from hf_trainpipe.model.names import pin_model

    if not isinstance(recipe.model, Scratch):
        yield replace(recipe, model=pin_model(recipe.model))
        return
    from hf_trainpipe.model.scratch import made_from_scratch

    with TemporaryDirectory() as folder:
        place = Path(folder) / "model"
        made = made_from_scratch(recipe, place, rows=preview.rows["train"], with_weights=False)
        yield replace(recipe, model=made)


def _plan_of(recipe: Recipe, num_examples: int, *, labels: Labels, num_labels: int, streamed: bool) -> Plan:
    """The plan of a recipe on this machine: loads the model's configuration and tokenizer, and those of a teacher.

    Args:
        labels: As far as they are known.
    """
    import torch

    from hf_trainpipe.engine.machine import this_machine
    from hf_trainpipe.model.limits import model_limits
    from hf_trainpipe.model.tokenizer import load_tokenizer
    from hf_trainpipe.plan import make_plan

    teacher = None
    if recipe.distil is not None:
        from hf_trainpipe.training.teacher import find_teacher

        found = find_teacher(recipe.distil)
        found.check(recipe.task, labels)
        teacher = recipe.distil.teacher, found.facts(recipe.task)
    ranks, on_gpu = int(os.environ.get("WORLD_SIZE", "1")), torch.cuda.is_available()
    return make_plan(
        recipe,
        limits=model_limits(recipe.model, recipe.task, load_tokenizer(recipe.model)),
        machine=this_machine(recipe.optim.precision, ranks=ranks, on_gpu=on_gpu),
        num_examples=num_examples,
        num_labels=num_labels,
        streamed=streamed,
        teacher=teacher,
    )


def _choices(value: Any, indent: str = "") -> list[str]:
    """A recipe as indented lines, one a field, defaults included."""
    lines: list[str] = []
    for item in fields(value):
        found = getattr(value, item.name)
        if is_dataclass(found):
            lines.append(f"{indent}{item.name}: {type(found).__name__}")
            lines.extend(_choices(found, indent + "  "))
        elif isinstance(found, tuple) and found and is_dataclass(found[0]):
            lines.append(f"{indent}{item.name}:")
            lines.extend(f"{indent}  {part!r}" for part in found)
        else:
            lines.append(f"{indent}{item.name}: {found!r}")
    return lines
