"""Tasks by name, and from the JSON that a package holds."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from ..errors import RecipeError, SchemaError
from .base import Task
from .classification import TextClassification
from .multi_label import MultiLabelClassification
from .regression import Regression
from .tagging import TokenClassification

BUILT_IN: Mapping[str, type[Task]] = {
    task.__name__: task for task in (TextClassification, MultiLabelClassification, Regression, TokenClassification)
}
"""The tasks that every package knows, by name."""


def is_built_in(task: Task) -> bool:
    """Whether a task needs no file of a recipe."""
    return BUILT_IN.get(type(task).__name__) is type(task)


_TRAINING = frozenset(
    [
        "check",
        "check_preprocessing",
        "count",
        "explain",
        "fit",
        "fitted_as",
        "judge",
        "loss_sum",
        "merged_batch",
        "metrics",
        "over",
        "precompute",
        "supervise",
        "tune",
        "unknown_labels",
    ]
)
"""What only the training calls."""


def travelling(task: Task) -> Task:
    """The task that a package needs: of a subclass that changes only how a built-in task is trained, that task."""
    for cls in type(task).__mro__:
        if BUILT_IN.get(cls.__name__) is cls:
            return cls(**{item.name: getattr(task, item.name) for item in fields(cls) if item.init})  # type: ignore[arg-type]
        if any(hasattr(Task, name) and name not in _TRAINING for name in vars(cls) if not name.startswith("_")):
            return task
    return task


def task_from_json(value: Mapping[str, Any], *, registry: Mapping[str, type[Task]] | None = None) -> Task:
    """Read what :meth:`.base.Task.to_json` wrote.

    Args:
        registry: Further classes by name: those of a recipe.

    Raises:
        SchemaError: The kind or a field is not known, a field is missing, or a value is not allowed.
    """
    known = {**BUILT_IN, **(registry or {})}
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in known:
        near = difflib.get_close_matches(str(kind), known, n=1)
        raise SchemaError(
            f"task: expected a known task, found kind {kind!r}. Known: {', '.join(sorted(known))}.",
            fix=f"Did you mean {near[0]!r}?" if near else "A task of a recipe needs that recipe's code.",
        )
    cls: Any = known[kind]
    values = {name: tuple(item) if isinstance(item, list) else item for name, item in value.items() if name != "kind"}
    allowed = {item.name: item for item in fields(cls) if item.init}
    unknown = sorted(set(values) - set(allowed))
    missing = [
        name
        for name, item in allowed.items()
        if name not in values and item.default is MISSING and item.default_factory is MISSING
    ]
    if unknown or missing:
        wrong = f"it has no field {unknown[0]!r}" if unknown else f"{missing[0]!r} is missing"
        raise SchemaError(f"task: {kind} takes {sorted(allowed)}; {wrong}.", fix=f"Correct the fields of {kind}.")
    try:
        task = cls(**values)
        task.columns()
        task.schema()
    except (RecipeError, TypeError, ValueError, KeyError) as error:
        raise SchemaError(
            f"task: {getattr(error, 'message', error)}", fix="Fetch or write the package again."
        ) from error
    assert isinstance(task, Task)
    return task
