"""Paired tests against what they must give by definition, and how often they call equal models different."""

from __future__ import annotations

import numpy as np
import pytest

from hf_trainpipe.metrics import Predictions, score
from hf_trainpipe.metrics.paired import differences, holm, mcnemar, right
from hf_trainpipe.metrics.parts import by_length, by_part, constant_scores
from hf_trainpipe.metrics.reliability import reliability
from hf_trainpipe.metrics.saved import Predicted, load, save, taken


def single(rng: np.random.Generator, n: int, skill: float, gold: np.ndarray | None = None) -> Predictions:
    """Decisions with logits: right with the probability ``skill``."""
    gold = rng.integers(0, 3, n) if gold is None else gold
    logits = rng.normal(size=(n, 3))
    hit = rng.random(n) < skill
    logits[np.arange(n), gold] = np.where(hit, logits.max(axis=1) + 0.1, logits.min(axis=1) - 0.1)
    return Predictions("single_label", outputs=logits, references=gold, labels=("a", "b", "c"))


def test_mcnemar_is_the_exact_binomial_test() -> None:
    from scipy.stats import binomtest

    rng = np.random.default_rng(0)
    for n in (5, 40, 3000):
        first, second = rng.random(n) < 0.7, rng.random(n) < 0.65
        found = mcnemar(first, second)
        discordant = found.only_first + found.only_second
        assert found.p == pytest.approx(binomtest(found.only_first, discordant, 0.5).pvalue)
    assert mcnemar(np.array([True]), np.array([True])).p == 1.0


def test_equal_models_are_called_different_in_at_most_five_percent() -> None:
    """200 pairs of models of equal skill on 400 rows that both see, the smallest of Holm's p-values of two scores; with
    probability 0.05 each, 17 or fewer come with a chance of 0.98."""
    rng, found = np.random.default_rng(5), 0
    for _ in range(200):
        gold = rng.integers(0, 3, 400)
        one, two = (single(rng, 400, 0.8, gold) for _ in range(2))
        gaps = differences(one, two, ["f1_macro"], resamples=400, seed=1)
        sides = right(one), right(two)
        assert sides[0] is not None
        assert sides[1] is not None
        found += min(holm([gaps["f1_macro"].p, mcnemar(*sides).p])) < 0.05
    assert found <= 10


def test_a_better_model_is_found_with_its_interval() -> None:
    rng = np.random.default_rng(2)
    gold = rng.integers(0, 3, 600)
    worse, better = single(rng, 600, 0.6, gold), single(rng, 600, 0.85, gold)
    gap = differences(worse, better, ["accuracy"])["accuracy"]
    assert gap.value == pytest.approx(score(better, ["accuracy"])["accuracy"] - score(worse, ["accuracy"])["accuracy"])
    assert 0 < gap.low < gap.value < gap.high
    assert gap.p < 0.001
    same = differences(worse, worse, ["accuracy"])["accuracy"]
    assert (same.low, same.high, same.p) == (0, 0, 1.0)


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression", "tags", "own"])
def test_predictions_are_read_back_as_they_were(tmp_path, kind: str) -> None:
    rng = np.random.default_rng(3)
    made = {
        "single_label": {"outputs": rng.normal(size=(6, 3)), "references": rng.integers(0, 3, 6), "labels": ("a", "b", "c")},
        "multi_label": {
            "outputs": rng.normal(size=(6, 2)), "references": rng.integers(0, 2, (6, 2)), "labels": ("x", "y"),
            "threshold": np.array([0.3, 0.6]),
        },
        "regression": {"outputs": rng.normal(size=6), "references": rng.normal(size=6)},
        "tags": {
            "outputs": np.array([0, 1, 2, 0, 0, 1, 2]), "references": np.array([0, 1, 2, 0, 1, 1, -100]),
            "labels": ("O", "B-X", "I-X"), "word_starts": np.array([0, 2, 2, 4, 5, 6, 7]),
        },
        "own": {"outputs": np.zeros(6), "references": np.zeros(6), "own": {"mine": rng.normal(size=6)}},
    }[kind]  # fmt: skip
    names = {
        "single_label": ["f1_macro"],
        "multi_label": ["f1_micro"],
        "regression": ["mae"],
        "tags": ["entity_f1"],
        "own": ["mine"],
    }
    predictions = Predictions(kind, **made)  # type: ignore[arg-type]
    kept = Predicted(
        predictions=predictions,
        rows=np.arange(6, dtype=np.uint64),
        lengths=np.arange(6),
        slices={"source": ("a", "b", "a", "b", "a", "ü")},
    )
    save(kept, tmp_path / "p.npz")
    back = load(tmp_path / "p.npz")
    assert score(back.predictions, names[kind]) == score(predictions, names[kind])
    assert back.slices == kept.slices
    some = taken(back, np.array([4, 0]))
    assert some.slices["source"] == ("a", "a")
    part = by_part(predictions, names[kind][0], {"both": np.isin(np.arange(6), (0, 4))})["both"]
    assert part.value == pytest.approx(score(some.predictions, names[kind])[names[kind][0]], nan_ok=True)


def test_probabilities_that_are_honest_have_no_calibration_error() -> None:
    rng = np.random.default_rng(4)
    chances = rng.uniform(0.5, 1, 20_000)
    gold = np.where(rng.random(20_000) < chances, 1, 0)
    logits = np.stack([np.zeros(20_000), np.log(chances / (1 - chances))], axis=1)
    honest = reliability(Predictions("single_label", outputs=logits, references=gold))
    boastful = reliability(Predictions("single_label", outputs=3 * logits, references=gold))
    assert honest is not None
    assert boastful is not None
    assert honest.error < 0.02 < 0.1 < boastful.error


def test_a_constant_answer_is_the_most_frequent_label() -> None:
    gold = np.array([1, 1, 1, 0])
    predictions = Predictions("single_label", outputs=np.eye(2)[gold], references=gold, labels=("no", "yes"))
    assert constant_scores(predictions, ["accuracy"]) == ("'yes'", {"accuracy": 0.75})
    assert {name: int(part.sum()) for name, part in by_length(np.array([5, 5, 5])).items()} == {"5": 3}
