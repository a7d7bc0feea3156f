"""Fine-tune a Hugging Face text model from one recipe: train, evaluate, package, ask.

    from hf_trainpipe import HubData, Pretrained, Recipe, TextClassification, main

Every public name is imported when it is first used, so that ``import hf_trainpipe`` and
``hf-trainpipe --help`` load neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import replace

    from hf_trainpipe.api.package import Package, load
    from hf_trainpipe.api.run import Run
    from hf_trainpipe.cli import main
    from hf_trainpipe.data.sources import Files, Frame, HubData
    from hf_trainpipe.errors import (
        CheckpointError,
        DataError,
        Interrupted,
        MissingExtra,
        PackageError,
        PushError,
        RecipeError,
        ResumeMismatch,
        RunLocked,
        TrainingDiverged,
        TrainpipeError,
    )
    from hf_trainpipe.quickstart import SupportMessages
    from hf_trainpipe.recipe import (
        Budget,
        Data,
        Evaluation,
        Hub,
        Optim,
        Pretrained,
        Recipe,
        RunInfo,
        Session,
        Tokens,
        Tracker,
    )
    from hf_trainpipe.runtime.text.preprocessing import (
        CleanUrls,
        Lowercase,
        NormalizeSpace,
        NormalizeUnicode,
        Preprocessor,
        SpacyLemmas,
        SpacyMaskEntities,
        SpacySentences,
        SpacyTokens,
        StripHtml,
    )
    from hf_trainpipe.tasks.base import Column, Labels, Task
    from hf_trainpipe.tasks.classification import MultiLabelClassification, TextClassification
    from hf_trainpipe.tasks.regression import Regression
    from hf_trainpipe.tasks.tagging import TokenClassification
    from hf_trainpipe.tracking.neptune import Neptune
    from hf_trainpipe.training.execute import execute
    from hf_trainpipe.training.options import RunOptions

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "CheckpointError",
    "CleanUrls",
    "Column",
    "Data",
    "DataError",
    "Evaluation",
    "Files",
    "Frame",
    "Hub",
    "HubData",
    "Interrupted",
    "Labels",
    "Lowercase",
    "MissingExtra",
    "MultiLabelClassification",
    "Neptune",
    "NormalizeSpace",
    "NormalizeUnicode",
    "Optim",
    "Package",
    "PackageError",
    "Preprocessor",
    "Pretrained",
    "PushError",
    "Recipe",
    "RecipeError",
    "Regression",
    "ResumeMismatch",
    "Run",
    "RunInfo",
    "RunLocked",
    "RunOptions",
    "Session",
    "SpacyLemmas",
    "SpacyMaskEntities",
    "SpacySentences",
    "SpacyTokens",
    "StripHtml",
    "SupportMessages",
    "Task",
    "TextClassification",
    "TokenClassification",
    "Tokens",
    "Tracker",
    "TrainingDiverged",
    "TrainpipeError",
    "execute",
    "load",
    "main",
    "replace",
]

_NAMES_OF = {
    "dataclasses": "replace",
    "hf_trainpipe.cli": "main",
    "hf_trainpipe.data.sources": "Files Frame HubData",
    "hf_trainpipe.training.execute": "execute",
    "hf_trainpipe.training.options": "RunOptions",
    "hf_trainpipe.errors": "CheckpointError DataError Interrupted MissingExtra PackageError PushError "
    "RecipeError ResumeMismatch RunLocked TrainingDiverged TrainpipeError",
    "hf_trainpipe.api.package": "Package load",
    "hf_trainpipe.api.run": "Run",
    "hf_trainpipe.quickstart": "SupportMessages",
    "hf_trainpipe.recipe": "Budget Data Evaluation Hub Optim Pretrained Recipe RunInfo Session Tokens Tracker",
    "hf_trainpipe.runtime.text.preprocessing": "CleanUrls Lowercase NormalizeSpace NormalizeUnicode Preprocessor "
    "SpacyLemmas SpacyMaskEntities SpacySentences SpacyTokens StripHtml",
    "hf_trainpipe.tasks.base": "Column Labels Task",
    "hf_trainpipe.tasks.classification": "MultiLabelClassification TextClassification",
    "hf_trainpipe.tasks.regression": "Regression",
    "hf_trainpipe.tasks.tagging": "TokenClassification",
    "hf_trainpipe.tracking.neptune": "Neptune",
}
PUBLIC: dict[str, str] = {name: module for module, names in _NAMES_OF.items() for name in names.split()}
"""Public name to the module that defines it."""


def __getattr__(name: str) -> Any:
    module = PUBLIC.get(name)
    if module is None:
        hint = ""
        if not name.startswith("_"):
            from hf_trainpipe.errors import closest

            hint = closest(name, __all__)
        raise AttributeError(f"module 'hf_trainpipe' has no attribute {name!r}.{hint}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *globals()})
