"""Losses and counts equal plain reference implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.nn import functional

from hf_trainpipe import MultiLabelClassification, Regression, TextClassification, TokenClassification
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.errors import RecipeError


def answering(logits: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"logits": logits}


def batch(labels: torch.Tensor, weights: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    size = len(labels)
    return {
        "input_ids": torch.zeros(size, 4, dtype=torch.long),
        "labels": labels,
        "weights": torch.ones(size) if weights is None else weights,
    }


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def targets() -> torch.Tensor:
    return torch.tensor([0, 1, 2, 1, 1, 0])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, (0.5, 1.0, 3.0)])
def test_cross_entropy_with_weights_and_smoothing(logits, targets, smoothing, weights) -> None:
    task = TextClassification("text", class_weights=weights, label_smoothing=smoothing)
    mean = task.loss_sum(answering(logits), batch(targets)) / task.count(batch(targets))
    if smoothing and weights:
        # torch weighs the smoothed part by each class; ours weighs the example by its own class.
        per_example = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
        own = torch.tensor(weights)[targets]
        expected = (per_example * own).sum() / own.sum()
    else:
        weight = None if weights is None else torch.tensor(weights)
        expected = functional.cross_entropy(logits, targets, weight=weight, label_smoothing=smoothing)
    assert mean.item() == pytest.approx(expected.item(), rel=1e-6)


def test_focal_loss_is_that_of_the_paper(logits, targets) -> None:
    p = logits.softmax(-1)[torch.arange(6), targets]
    expected = (-((1 - p) ** 2.0) * p.log()).sum()
    found = TextClassification("text", focal_gamma=2.0).loss_sum(answering(logits), batch(targets))
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_balanced_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    values = np.array([0, 0, 0, 1, 2, 2])
    rows = Rows(Dataset.from_dict({"label": ["abc"[value] for value in values]}), "train")
    fitted = TextClassification("text", class_weights="balanced").fit(rows)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=values)
    assert fitted.class_weights == pytest.approx(expected)


def test_windows_of_an_example_weigh_as_one(logits, targets) -> None:
    weights = torch.tensor([1.0, 0.5, 0.5, 1.0, 0.0, 1.0])
    task = TextClassification("text")
    expected = (functional.cross_entropy(logits, targets, reduction="none") * weights).sum()
    assert task.loss_sum(answering(logits), batch(targets, weights)).item() == pytest.approx(expected.item())
    assert task.count(batch(targets, weights)).item() == 4.0


def test_multi_label_is_the_mean_over_classes(logits) -> None:
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0]]).float()
    task = MultiLabelClassification("text")
    mean = task.loss_sum(answering(logits), batch(labels)) / task.count(batch(labels))
    assert mean.item() == pytest.approx(functional.binary_cross_entropy_with_logits(logits, labels).item(), rel=1e-6)


def test_regression_is_squared_error(logits) -> None:
    numbers = torch.arange(6).float()
    task = Regression("text")
    mean = task.loss_sum(answering(logits[:, :1]), batch(numbers)) / task.count(batch(numbers))
    assert mean.item() == pytest.approx(functional.mse_loss(logits[:, 0], numbers).item(), rel=1e-6)


def test_tagging_counts_labelled_tokens_only() -> None:
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([[-100, 1, 2, -100], [-100, 0, -100, -100]])
    task = TokenClassification("tokens")
    assert task.count(batch(labels)).item() == 3
    mean = task.loss_sum(answering(logits), batch(labels)) / task.count(batch(labels))
    assert mean.item() == pytest.approx(functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).item())


@pytest.mark.parametrize(
    "make",
    [
        lambda: TextClassification("text", label_smoothing=1.0),
        lambda: TextClassification("text", focal_gamma=-1.0),
        lambda: TextClassification("text", names=("a", "b"), class_weights=(1.0,)),
        lambda: MultiLabelClassification("text", threshold=1.5),
        lambda: Regression("text", low=2.0, high=1.0),
        lambda: TokenClassification(text="text"),
        lambda: TokenClassification(scheme="BIOUX"),
    ],
)
def test_wrong_choices_are_refused_with_what_was_found(make) -> None:
    with pytest.raises(RecipeError, match="found"):
        make()


def _kl(taught: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    return (taught * (taught.log() - p.log())).sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_distance_from_a_teacher_is_the_divergence_of_softened_probabilities(logits, targets, temperature) -> None:
    teacher = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = torch.tensor([1.0, 0.5, 1.0, 0.25, 1.0, 1.0])
    seen = {**batch(targets, weights), "teacher": teacher.float()}
    soft, taught = logits.double() / temperature, teacher.float().double() / temperature
    classes = _kl(taught.softmax(-1), soft.softmax(-1)) * temperature**2
    sides = [torch.stack([side.sigmoid(), (-side).sigmoid()], dim=-1) for side in (taught, soft)]
    numbers = (logits[:, 0].double() - teacher[:, 0].float()) ** 2
    for task, expected in (
        (TextClassification(), classes * weights),
        (TextClassification(class_weights=(0.5, 1.0, 3.0)), classes * weights * torch.tensor([0.5, 1.0, 3.0])[targets]),
        (MultiLabelClassification(), _kl(*sides).mean(-1) * temperature**2 * weights),
        (Regression(), numbers * weights),
    ):
        found = task.distilled_sum(answering(logits), seen, temperature=temperature)
        assert found.item() == pytest.approx(expected.sum().item(), rel=1e-6)


def test_rows_without_labels_have_those_that_the_teacher_tells(logits) -> None:
    told = logits.numpy()
    assert TextClassification().taught(told).tolist() == [int(row.argmax()) for row in logits]
    assert MultiLabelClassification().taught(told).tolist() == (logits.sigmoid() > 0.5).int().tolist()
    assert Regression().taught(told[:, :1]).tolist() == told[:, 0].tolist()
