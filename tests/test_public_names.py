"""The public names of the package: complete, in order, lazy."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hf_trainpipe

ROOT = Path(hf_trainpipe.__file__).parent
PUBLIC = [
    "Augmentation",
    "NltkLemmas",
    "NltkSentences",
    "NltkStem",
    "NltkStopwords",
    "NltkTokens",
    "SynonymReplacement",
    "TokenMask",
    "Typos",
    "WordDropout",
    "WordNetReplacement",
    "WordSwap",
    "Recipe",
    "Pretrained",
    "Scratch",
    "Tokens",
    "Optim",
    "Budget",
    "Distil",
    "Evaluation",
    "Hub",
    "Lora",
    "Data",
    "Tracker",
    "Session",
    "RunInfo",
    "TextClassification",
    "MultiLabelClassification",
    "Calibration",
    "Regression",
    "InstructionTuning",
    "TokenClassification",
    "ParallelFiles",
    "ChosenRows",
    "AddedRows",
    "QuestionAnswering",
    "SentenceEmbeddings",
    "Summarization",
    "Translation",
    "MultipleChoice",
    "PreferenceTuning",
    "CausalLM",
    "Reranking",
    "MaskedLM",
    "Task",
    "Column",
    "Labels",
    "HubData",
    "Files",
    "Frame",
    "Sql",
    "Shards",
    "Neptune",
    "MLflow",
    "TensorBoard",
    "Comet",
    "Trackio",
    "WandB",
    "SupportMessages",
    "main",
    "execute",
    "RunOptions",
    "load",
    "Package",
    "Run",
    "replace",
    "Preprocessor",
    "NormalizeSpace",
    "NormalizeUnicode",
    "StripHtml",
    "CleanUrls",
    "Lowercase",
    "SpacySentences",
    "SpacyTokens",
    "SpacyLemmas",
    "SpacyMaskEntities",
    "TrainpipeError",
    "RecipeError",
    "DataError",
    "MissingExtra",
    "CheckpointError",
    "ResumeMismatch",
    "RunLocked",
    "TrainingDiverged",
    "PackageError",
    "PushError",
    "Interrupted",
]


def test_all_is_what_was_agreed() -> None:
    assert sorted(hf_trainpipe.__all__) == sorted(PUBLIC)
    assert hf_trainpipe.__all__ == sorted(hf_trainpipe.__all__)
    assert set(hf_trainpipe.PUBLIC) == set(hf_trainpipe.__all__)
    assert set(hf_trainpipe.__all__) <= set(dir(hf_trainpipe))


def test_type_checkers_see_the_same_names_in_the_same_places() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    seen = {alias.name: n.module for n in block.body if isinstance(n, ast.ImportFrom) for alias in n.names}
    assert seen == hf_trainpipe.PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_resolves(name: str) -> None:
    assert getattr(hf_trainpipe, name).__name__ == name


def test_a_misspelled_name_gets_a_suggestion() -> None:
    with pytest.raises(AttributeError, match="Did you mean 'TextClassification'"):
        _ = hf_trainpipe.TextClasification


def test_version_is_the_project_s() -> None:
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert hf_trainpipe.__version__ == project["version"]


def test_recipe_names_load_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from hf_trainpipe import Recipe, TextClassification, SpacySentences, HubData, Files, Neptune, MLflow, main\n"
        "import hf_trainpipe.recipe_file, hf_trainpipe.codec, hf_trainpipe.cli.verbs\n"
        "heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'spacy', 'neptune', 'mlflow', 'sklearn', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=True)
    assert done.stdout.strip() == "[]"
