"""Scores over folds: pooled or averaged, rows resampled by group, models that differ counted."""

from __future__ import annotations

import numpy as np

from hf_trainpipe.metrics.base import Predictions
from hf_trainpipe.metrics.folds import Fold, score_folds
from hf_trainpipe.metrics.joined import in_one_order, joined
from hf_trainpipe.metrics.saved import Predicted, load, save
from hf_trainpipe.metrics.scoring import intervals, score


def made(right: list[float], rows: int, seed: int = 0) -> list[Fold]:
    draw, found = np.random.default_rng(seed), []
    for number, chance in enumerate(right):
        gold = draw.integers(0, 2, rows)
        answer = np.where(draw.random(rows) < chance, gold, 1 - gold)
        held = Predictions("single_label", outputs=np.eye(2)[answer], references=gold, labels=("a", "b"))
        found.append(Fold(predictions=held, groups=np.arange(rows) + number * rows))
    return found


def pooled(folds: list[Fold]) -> Predictions:
    parts = [
        Predicted(predictions=one.predictions, rows=one.groups.astype(np.uint64), lengths=one.groups) for one in folds
    ]
    return joined(parts).predictions


def test_single_rows_and_like_models_give_the_interval_of_the_pooled_rows() -> None:
    folds = made([0.8] * 5, 100)
    found = score_folds(folds, ["accuracy", "f1_macro"])
    whole = intervals(pooled(folds), ["accuracy", "f1_macro"])
    for name, one in found.items():
        assert one.interval.value == whole[name].value
        if one.models_error == 0:
            assert (one.interval.low, one.interval.high) == (whole[name].low, whole[name].high)


def test_what_ranks_is_the_mean_over_folds() -> None:
    folds = made([0.7, 0.9], 60)
    alone = [score(one.predictions, ["roc_auc"])["roc_auc"] for one in folds]
    assert np.isclose(score_folds(folds, ["roc_auc"])["roc_auc"].interval.value, np.mean(alone))


def test_groups_and_models_that_differ_widen_it() -> None:
    alike = score_folds(made([0.8] * 5, 200), ["accuracy"])["accuracy"]
    differing = score_folds(made([0.6, 0.7, 0.8, 0.9, 0.99], 200), ["accuracy"])["accuracy"]
    assert differing.models_error > 2 * alike.models_error
    assert differing.interval.high - differing.interval.low > 2 * (alike.interval.high - alike.interval.low)
    copies = [
        Fold(
            predictions=Predictions(
                "single_label",
                outputs=np.repeat(one.predictions.outputs, 4, axis=0),
                references=np.repeat(one.predictions.references, 4),
                labels=("a", "b"),
            ),
            groups=np.repeat(one.groups, 4),
        )
        for one in made([0.8] * 5, 200)
    ]
    assert np.isclose(score_folds(copies, ["accuracy"])["accuracy"].rows_error, alike.rows_error)


def test_folds_with_other_labels_are_joined_by_name_and_kept(tmp_path) -> None:
    one = Predictions("single_label", outputs=np.array([[2.0, 1.0]]), references=np.array([0]), labels=("a", "b"))
    two = Predictions("single_label", outputs=np.array([[5.0, 9.0]]), references=np.array([1]), labels=("c", "a"))
    parts = in_one_order([one, two])
    assert [part.labels for part in parts] == [("a", "b", "c")] * 2
    rows, numbers = np.zeros(1, np.uint64), {"row": np.array([7])}
    held = [Predicted(predictions=part, rows=rows, lengths=rows.astype(np.int64), numbers=numbers) for part in parts]
    save(joined(held), tmp_path / "x.npz")
    found = load(tmp_path / "x.npz")
    assert found.predictions.decisions().tolist() == [0, 0]
    assert found.predictions.references.tolist() == [0, 0]
    assert found.numbers["row"].tolist() == [7, 7]
