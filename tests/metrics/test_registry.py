"""Names of metrics: known, refused, greater or less is better. Importing them is fast."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from hf_trainpipe import metrics
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.metrics import Predictions, better, check, known
from hf_trainpipe.metrics.registry import greater_is_better

KINDS = ("single_label", "multi_label", "regression", "tags")


def test_importing_loads_only_numpy():
    code = (
        "import sys, hf_trainpipe.metrics\n"
        "heavy = {'datasets', 'evaluate', 'pandas', 'scipy', 'seqeval', 'sklearn', 'torch', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist():
    assert all(hasattr(metrics, name) for name in metrics.__all__)


@pytest.mark.parametrize("kind", KINDS)
def test_known_names_pass(kind):
    check([*known(kind), "loss", "evaluate:bleu"], kind)


def test_unknown_name_gets_a_suggestion():
    with pytest.raises(RecipeError, match="Did you mean 'accuracy'") as caught:
        check(["acuracy"], "single_label")
    assert "f1_macro" in caught.value.fix


def test_name_of_another_kind_is_refused():
    with pytest.raises(RecipeError, match=r"'pearson' is for regression; expected a metric of single_label"):
        check(["pearson"], "single_label")
    with pytest.raises(RecipeError, match="unknown metric 'evaluate:'"):
        check(["evaluate:"], "single_label")


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="single_label"):
        known("multiclass")


def test_entity_scores_of_tags_without_entities_are_refused():
    check(["tag_accuracy"], "tags", labels=["NOUN", "VERB"])
    check(["entity_f1"], "tags", labels=["O", "B-PER", "I-PER", "B"])
    with pytest.raises(RecipeError, match="'NOUN'"):
        check(["entity_f1"], "tags", labels=["O", "NOUN"])
    with pytest.raises(RecipeError, match="found none"):
        check(["entity_f1"], "tags", labels=[])


def test_direction():
    for name in (
        "loss",
        "mse",
        "rmse",
        "mae",
        "hamming_loss",
        "evaluate:wer",
        "evaluate:user/my-mse",
        "evaluate:x#cer",
    ):
        assert not greater_is_better(name)
    for name in ("accuracy", "f1_macro", "r2", "roc_auc", "entity_f1", "evaluate:bleu", "evaluate:meteor"):
        assert greater_is_better(name)


def test_better_is_safe_with_nan_and_none():
    nan = float("nan")
    assert better("loss", 0.1, 0.2)
    assert better("accuracy", 0.1, None)
    assert better("accuracy", 0.1, nan)
    assert not better("accuracy", nan, None)
    assert not better("accuracy", nan, 0.1)
    assert not better("accuracy", 0.1, 0.1)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("classes", {"outputs": np.zeros((2, 2)), "references": np.zeros(2, int)}),
        ("single_label", {"outputs": np.zeros(2), "references": np.zeros(2, int)}),
        ("single_label", {"outputs": np.zeros((2, 2)), "references": np.zeros(3, int)}),
        ("single_label", {"outputs": np.zeros((2, 2)), "references": np.array([0, 2])}),
        ("single_label", {"outputs": np.zeros((2, 2)), "references": np.array([0, -100])}),
        ("single_label", {"outputs": np.zeros((2, 2)), "references": np.array([0.0, 1.0])}),
        ("single_label", {"outputs": np.array([0, 3]), "references": np.array([0, 1]), "labels": ("a", "b")}),
        ("multi_label", {"outputs": np.zeros((2, 2)), "references": np.zeros(2, int)}),
        ("regression", {"outputs": np.zeros((2, 2)), "references": np.zeros(2)}),
        ("tags", {"outputs": np.zeros(2, int), "references": np.zeros(2, int)}),
        (
            "tags",
            {"outputs": np.zeros(2, int), "references": np.zeros(2, int), "word_starts": np.array([0, 1])},
        ),
        (
            "tags",
            {
                "outputs": np.zeros(0, int),
                "references": np.zeros(0, int),
                "word_starts": np.array([0]),
                "scheme": "X",
            },
        ),
    ],
)
def test_predictions_that_do_not_fit_are_refused(kind, options):
    with pytest.raises(ValueError, match=r"expected|fit|need"):
        Predictions(kind, **options)


def test_ranking_needs_logits():
    predictions = Predictions("single_label", outputs=np.array([0, 1]), references=np.array([0, 1]))
    with pytest.raises(ValueError, match="logits"):
        metrics.score(predictions, ["roc_auc"])
