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


def test_an_interval_stays_within_what_a_score_can_be() -> None:
    folds = made([1.0, 1.0, 1.0, 1.0, 0.7], 30)
    found = score_folds(folds, ["accuracy", "f1_macro", "mcc"])
    assert all(one.models_error > one.rows_error for one in found.values())
    assert [one.interval.high for one in found.values()] == [1.0, 1.0, 1.0]
    rating = [
        Fold(predictions=Predictions.of_own({"rating": own}, examples=np.arange(20)), groups=np.arange(20) + 20 * at)
        for at, own in enumerate([np.full(20, 5.0), np.full(20, 5.0), np.r_[np.full(10, 1.0), np.full(10, 5.0)]])
    ]
    found = score_folds(rating, ["rating"])["rating"]
    assert found.models_error > found.rows_error
    assert found.interval.high == 5.0


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


def test_tags_and_thresholds_of_folds_are_joined() -> None:
    def tagged(outputs: list[int], gold: list[int], starts: list[int]) -> Predictions:
        made = {"outputs": np.array(outputs), "references": np.array(gold), "word_starts": np.array(starts)}
        return Predictions("tags", labels=("O", "B-x", "I-x"), **made)

    parts = [tagged([0, 1, 2, 0], [0, 1, 2, 1], [0, 3, 4]), tagged([1, 1], [1, 0], [0, 2])]
    folds = [Fold(predictions=part, groups=np.arange(len(part)) + 2 * at) for at, part in enumerate(parts)]
    found = score_folds(folds, ["entity_f1", "tag_accuracy"], resamples=20)
    assert pooled(folds).word_starts.tolist() == [0, 3, 4, 6]
    for name, one in score(pooled(folds), ["entity_f1", "tag_accuracy"]).items():
        assert np.isclose(found[name].interval.value, one)
    logits, gold = np.array([[0.5, -2.0]]), np.array([[1, 0]])
    sets = [
        Predictions("multi_label", outputs=logits, references=gold, labels=("a", "b"), threshold=threshold)
        for threshold in (0.9, 0.5)
    ]
    alone = [Fold(predictions=part, groups=np.array([at])) for at, part in enumerate(sets)]
    assert score_folds(alone, ["exact_match"], resamples=5)["exact_match"].folds == (0.0, 1.0)  # each by its own
