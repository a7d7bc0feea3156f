"""Fine-tune a Hugging Face text model from one recipe: train, evaluate, package, ask.

    from hf_trainpipe import HubData, Pretrained, Recipe, TextClassification, main

Every public name is imported when it is first used, so that ``import hf_trainpipe`` and
``hf-trainpipe --help`` load neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import replace as replace

    from hf_trainpipe.api.package import Package as Package
    from hf_trainpipe.api.package import load as load
    from hf_trainpipe.api.run import Run as Run
    from hf_trainpipe.augmentation.letters import Typos as Typos
    from hf_trainpipe.augmentation.tokens import TokenMask as TokenMask
    from hf_trainpipe.augmentation.words import SynonymReplacement as SynonymReplacement
    from hf_trainpipe.augmentation.words import WordDropout as WordDropout
    from hf_trainpipe.augmentation.words import WordNetReplacement as WordNetReplacement
    from hf_trainpipe.augmentation.words import WordSwap as WordSwap
    from hf_trainpipe.cli import main as main
    from hf_trainpipe.data.added_rows import AddedRows as AddedRows
    from hf_trainpipe.data.chosen_rows import ChosenRows as ChosenRows
    from hf_trainpipe.data.sources import Files as Files
    from hf_trainpipe.data.sources import Frame as Frame
    from hf_trainpipe.data.sources import HubData as HubData
    from hf_trainpipe.data.sources_parallel import ParallelFiles as ParallelFiles
    from hf_trainpipe.data.sources_shards import Shards as Shards
    from hf_trainpipe.data.sources_sql import Sql as Sql
    from hf_trainpipe.errors import CheckpointError as CheckpointError
    from hf_trainpipe.errors import DataError as DataError
    from hf_trainpipe.errors import Interrupted as Interrupted
    from hf_trainpipe.errors import MissingExtra as MissingExtra
    from hf_trainpipe.errors import PackageError as PackageError
    from hf_trainpipe.errors import PushError as PushError
    from hf_trainpipe.errors import RecipeError as RecipeError
    from hf_trainpipe.errors import ResumeMismatch as ResumeMismatch
    from hf_trainpipe.errors import RunLocked as RunLocked
    from hf_trainpipe.errors import TrainingDiverged as TrainingDiverged
    from hf_trainpipe.errors import TrainpipeError as TrainpipeError
    from hf_trainpipe.quickstart import SupportMessages as SupportMessages
    from hf_trainpipe.recipe import Augmentation as Augmentation
    from hf_trainpipe.recipe import Budget as Budget
    from hf_trainpipe.recipe import Data as Data
    from hf_trainpipe.recipe import Distil as Distil
    from hf_trainpipe.recipe import Evaluation as Evaluation
    from hf_trainpipe.recipe import Hub as Hub
    from hf_trainpipe.recipe import Lora as Lora
    from hf_trainpipe.recipe import Optim as Optim
    from hf_trainpipe.recipe import Pretrained as Pretrained
    from hf_trainpipe.recipe import Recipe as Recipe
    from hf_trainpipe.recipe import RunInfo as RunInfo
    from hf_trainpipe.recipe import Scratch as Scratch
    from hf_trainpipe.recipe import Session as Session
    from hf_trainpipe.recipe import Tokens as Tokens
    from hf_trainpipe.recipe import Tracker as Tracker
    from hf_trainpipe.runtime.tasks.base import Task as Task
    from hf_trainpipe.runtime.tasks.calibration import Calibration as Calibration
    from hf_trainpipe.runtime.tasks.causal_lm import CausalLM as CausalLM
    from hf_trainpipe.runtime.tasks.classification import TextClassification as TextClassification
    from hf_trainpipe.runtime.tasks.columns import Column as Column
    from hf_trainpipe.runtime.tasks.columns import Labels as Labels
    from hf_trainpipe.runtime.tasks.embeddings import SentenceEmbeddings as SentenceEmbeddings
    from hf_trainpipe.runtime.tasks.instruction_tuning import InstructionTuning as InstructionTuning
    from hf_trainpipe.runtime.tasks.masked_lm import MaskedLM as MaskedLM
    from hf_trainpipe.runtime.tasks.multi_label import MultiLabelClassification as MultiLabelClassification
    from hf_trainpipe.runtime.tasks.multiple_choice import MultipleChoice as MultipleChoice
    from hf_trainpipe.runtime.tasks.preferences import PreferenceTuning as PreferenceTuning
    from hf_trainpipe.runtime.tasks.question_answering import QuestionAnswering as QuestionAnswering
    from hf_trainpipe.runtime.tasks.regression import Regression as Regression
    from hf_trainpipe.runtime.tasks.reranking import Reranking as Reranking
    from hf_trainpipe.runtime.tasks.summarization import Summarization as Summarization
    from hf_trainpipe.runtime.tasks.tagging import TokenClassification as TokenClassification
    from hf_trainpipe.runtime.tasks.translation import Translation as Translation
    from hf_trainpipe.runtime.text.preprocessing import CleanUrls as CleanUrls
    from hf_trainpipe.runtime.text.preprocessing import Lowercase as Lowercase
    from hf_trainpipe.runtime.text.preprocessing import NltkLemmas as NltkLemmas
    from hf_trainpipe.runtime.text.preprocessing import NltkSentences as NltkSentences
    from hf_trainpipe.runtime.text.preprocessing import NltkStem as NltkStem
    from hf_trainpipe.runtime.text.preprocessing import NltkStopwords as NltkStopwords
    from hf_trainpipe.runtime.text.preprocessing import NltkTokens as NltkTokens
    from hf_trainpipe.runtime.text.preprocessing import NormalizeSpace as NormalizeSpace
    from hf_trainpipe.runtime.text.preprocessing import NormalizeUnicode as NormalizeUnicode
    from hf_trainpipe.runtime.text.preprocessing import Preprocessor as Preprocessor
    from hf_trainpipe.runtime.text.preprocessing import SpacyLemmas as SpacyLemmas
    from hf_trainpipe.runtime.text.preprocessing import SpacyMaskEntities as SpacyMaskEntities
    from hf_trainpipe.runtime.text.preprocessing import SpacySentences as SpacySentences
    from hf_trainpipe.runtime.text.preprocessing import SpacyTokens as SpacyTokens
    from hf_trainpipe.runtime.text.preprocessing import StripHtml as StripHtml
    from hf_trainpipe.tracking.comet import Comet as Comet
    from hf_trainpipe.tracking.mlflow import MLflow as MLflow
    from hf_trainpipe.tracking.neptune import Neptune as Neptune
    from hf_trainpipe.tracking.tensorboard import TensorBoard as TensorBoard
    from hf_trainpipe.tracking.trackio import Trackio as Trackio
    from hf_trainpipe.tracking.wandb import WandB as WandB
    from hf_trainpipe.training.execute import execute as execute
    from hf_trainpipe.training.options import RunOptions as RunOptions

__version__ = "0.1.0"

_NAMES_OF = {
    "dataclasses": "replace",
    "hf_trainpipe.augmentation.letters": "Typos",
    "hf_trainpipe.augmentation.tokens": "TokenMask",
    "hf_trainpipe.augmentation.words": "SynonymReplacement WordDropout WordNetReplacement WordSwap",
    "hf_trainpipe.cli": "main",
    "hf_trainpipe.data.added_rows": "AddedRows",
    "hf_trainpipe.data.chosen_rows": "ChosenRows",
    "hf_trainpipe.data.sources": "Files Frame HubData",
    "hf_trainpipe.data.sources_parallel": "ParallelFiles",
    "hf_trainpipe.data.sources_shards": "Shards",
    "hf_trainpipe.data.sources_sql": "Sql",
    "hf_trainpipe.training.execute": "execute",
    "hf_trainpipe.training.options": "RunOptions",
    "hf_trainpipe.errors": "CheckpointError DataError Interrupted MissingExtra PackageError PushError "
    "RecipeError ResumeMismatch RunLocked TrainingDiverged TrainpipeError",
    "hf_trainpipe.api.package": "Package load",
    "hf_trainpipe.api.run": "Run",
    "hf_trainpipe.quickstart": "SupportMessages",
    "hf_trainpipe.recipe": "Augmentation Budget Data Distil Evaluation Hub Lora Optim Pretrained Recipe RunInfo Scratch Session Tokens Tracker",
    "hf_trainpipe.runtime.text.preprocessing": "CleanUrls Lowercase NltkLemmas NltkSentences NltkStem NltkStopwords "
    "NltkTokens NormalizeSpace NormalizeUnicode Preprocessor "
    "SpacyLemmas SpacyMaskEntities SpacySentences SpacyTokens StripHtml",
    "hf_trainpipe.runtime.tasks.base": "Task",
    "hf_trainpipe.runtime.tasks.causal_lm": "CausalLM",
    "hf_trainpipe.runtime.tasks.calibration": "Calibration",
    "hf_trainpipe.runtime.tasks.classification": "TextClassification",
    "hf_trainpipe.runtime.tasks.columns": "Column Labels",
    "hf_trainpipe.runtime.tasks.embeddings": "SentenceEmbeddings",
    "hf_trainpipe.runtime.tasks.instruction_tuning": "InstructionTuning",
    "hf_trainpipe.runtime.tasks.multi_label": "MultiLabelClassification",
    "hf_trainpipe.runtime.tasks.masked_lm": "MaskedLM",
    "hf_trainpipe.runtime.tasks.multiple_choice": "MultipleChoice",
    "hf_trainpipe.runtime.tasks.preferences": "PreferenceTuning",
    "hf_trainpipe.runtime.tasks.question_answering": "QuestionAnswering",
    "hf_trainpipe.runtime.tasks.summarization": "Summarization",
    "hf_trainpipe.runtime.tasks.translation": "Translation",
    "hf_trainpipe.runtime.tasks.regression": "Regression",
    "hf_trainpipe.runtime.tasks.reranking": "Reranking",
    "hf_trainpipe.runtime.tasks.tagging": "TokenClassification",
    "hf_trainpipe.tracking.comet": "Comet",
    "hf_trainpipe.tracking.mlflow": "MLflow",
    "hf_trainpipe.tracking.neptune": "Neptune",
    "hf_trainpipe.tracking.tensorboard": "TensorBoard",
    "hf_trainpipe.tracking.trackio": "Trackio",
    "hf_trainpipe.tracking.wandb": "WandB",
}
PUBLIC: dict[str, str] = {name: module for module, names in _NAMES_OF.items() for name in names.split()}
"""Public name to the module that defines it."""
if not TYPE_CHECKING:  # a type checker takes what is imported for it above
    __all__ = sorted(PUBLIC)


def __getattr__(name: str) -> Any:
    module = PUBLIC.get(name)
    if module is None:
        hint = ""
        if not name.startswith("_"):
            from hf_trainpipe.errors import closest

            hint = closest(name, sorted(PUBLIC))
        raise AttributeError(f"module 'hf_trainpipe' has no attribute {name!r}.{hint}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*PUBLIC, *globals()})
