"""Tasks by name, and from the JSON that a package holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..errors import RecipeError, SchemaError
from ..kinds import from_json
from .base import Task
from .causal_lm import CausalLM
from .classification import TextClassification
from .embeddings import SentenceEmbeddings
from .instruction_tuning import InstructionTuning
from .masked_lm import MaskedLM
from .multi_label import MultiLabelClassification
from .multiple_choice import MultipleChoice
from .preferences import PreferenceTuning
from .question_answering import QuestionAnswering
from .regression import Regression
from .reranking import Reranking
from .summarization import Summarization
from .tagging import TokenClassification
from .translation import Translation

BUILT_IN: Mapping[str, type[Task]] = {
    task.__name__: task
    for task in (
        TextClassification,
        MultiLabelClassification,
        Regression,
        InstructionTuning,
        PreferenceTuning,
        TokenClassification,
        QuestionAnswering,
        SentenceEmbeddings,
        Summarization,
        Translation,
        MultipleChoice,
        CausalLM,
        Reranking,
        MaskedLM,
    )
}
"""The tasks that every package knows, by name."""


def is_built_in(task: Task) -> bool:
    """Whether a task needs no file of a recipe."""
    return BUILT_IN.get(type(task).__name__) is type(task)


_TRAINING = frozenset(
    [
        "check",
        "check_preprocessing",
        "completed",
        "count",
        "distilled_sum",
        "explain",
        "fit",
        "fitted_as",
        "judge",
        "keeps",
        "likelihood",
        "loss_sum",
        "merged_batch",
        "metrics",
        "over",
        "precompute",
        "prepare_model",
        "refers",
        "remark",
        "separable",
        "supervise",
        "taught",
        "teachable",
        "tune",
        "unknown_labels",
        "vary",
        "worst",
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
    try:
        task = from_json(value, {**BUILT_IN, **(registry or {})}, where="task", what="task")
        task.columns()
        task.schema()
    except SchemaError:
        raise
    except (RecipeError, TypeError, ValueError, KeyError) as error:
        raise SchemaError(
            f"task: {getattr(error, 'message', error)}", fix="Fetch or write the package again."
        ) from error
    assert isinstance(task, Task)
    return task
