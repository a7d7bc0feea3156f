"""What a package's trainpipe.json says about its task, for whoever does not load the task's class."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Task


def about(task: Task) -> dict[str, Any]:
    """Of a fitted task, as JSON.

    Returns:
        ``reads`` and ``answers`` (what /info calls them), ``forms`` (roles of one input), ``columns`` (role to the recipe's
        name), ``target`` (the column of what is right, or None), ``labels``, ``options`` (such as a threshold), ``examples``
        (made-up inputs), ``pipeline`` (the Hub's name of the task), ``does`` and ``notes`` (words for the card), ``model``
        (the transformers class), ``gives_logits`` (whether that class alone gives what answers are made of).
    """
    schema, target = task.schema(), task.target
    told = {
        "reads": schema.reads,
        "answers": schema.answers,
        "forms": [list(form) for form in schema.inputs],
        "columns": {role: column.name for role, column in task.inputs.items()},
        "target": None if target is None else target.name,
        "labels": list(task.label_names),
        "options": dict(schema.options),
        "examples": list(schema.examples),
        "pipeline": schema.pipeline,
        "does": schema.does,
        "notes": list(schema.notes),
        "model": schema.model,
        "gives_logits": task.exportable and schema.model != "AutoModel",
    }
    plain: dict[str, Any] = json.loads(json.dumps(told, allow_nan=False))
    return plain
