"""Tasks: one file each. A new one is a frozen dataclass, in a recipe file too; docs/tasks.md writes one.

base            Task, and what its methods take and give;  schema: what a fitted one takes and gives, told to others
columns         columns and what their cells hold
classification, multi_label, regression, tagging, question_answering, multiple_choice, embeddings, reranking, summarization,
translation, causal_lm, instruction_tuning, preferences, masked_lm
registry        tasks by name;  older: what packages of older versions mean
merging, texts, tags, several, mining, text_to_text, continuing, conversing   what several of them need;  draws: what differs between epochs
preference_rows, preference_losses    what preferences is made of
squad, ranking, text_scores, preference_scores   scores of answers, of ranked lists and of written texts
"""

from __future__ import annotations

from ..model.outputs import Output, Outputs
from ..tokens.encoder import Encoder
from ..tokens.features import Features, Ragged, Stream
from .base import Metric, Requests, Task
from .causal_lm import CausalLM
from .classification import TextClassification
from .columns import ANYTHING, CHOICES, CLASS, CLASSES, NUMBER, SPANS, TAGS, TEXT, WORDS, Cell, Column, Labels
from .embeddings import SentenceEmbeddings
from .instruction_tuning import InstructionTuning
from .masked_lm import MaskedLM
from .multi_label import MultiLabelClassification
from .multiple_choice import MultipleChoice
from .preferences import PreferenceTuning
from .question_answering import QuestionAnswering
from .regression import Regression
from .reranking import Reranking
from .schema import Parameter, TaskSchema
from .summarization import Summarization
from .tagging import TokenClassification
from .text_to_text import TextToText
from .translation import Translation

__all__ = [
    "ANYTHING",
    "CHOICES",
    "CLASS",
    "CLASSES",
    "NUMBER",
    "SPANS",
    "TAGS",
    "TEXT",
    "WORDS",
    "CausalLM",
    "Cell",
    "Column",
    "Encoder",
    "Features",
    "InstructionTuning",
    "Labels",
    "MaskedLM",
    "Metric",
    "MultiLabelClassification",
    "MultipleChoice",
    "Output",
    "Outputs",
    "Parameter",
    "PreferenceTuning",
    "QuestionAnswering",
    "Ragged",
    "Regression",
    "Requests",
    "Reranking",
    "SentenceEmbeddings",
    "Stream",
    "Summarization",
    "Task",
    "TaskSchema",
    "TextClassification",
    "TextToText",
    "TokenClassification",
    "Translation",
]
