"""Weak slices: as they are written, how often one is found where there is none, and that one which is there is found."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import false_discovery_control, fisher_exact

from hf_trainpipe.errors import DataError
from hf_trainpipe.metrics.base import Predictions
from hf_trainpipe.metrics.discovery import by_yekutieli, tail_of_counts, tail_of_draws, wilson
from hf_trainpipe.metrics.errors import Errors, errors_of
from hf_trainpipe.metrics.scoring import score
from hf_trainpipe.metrics.slice_search import Search, weak_slices
from hf_trainpipe.metrics.slices import RowFacts, Slice

WORDS = 40


def world(seed: int, rows: int, *, weak: float = 0.12, tags: bool = False) -> tuple[Errors, RowFacts, np.ndarray]:
    """Rows with words, a column and lengths, wrong in 12 % of cases; in ``weak`` of those with the word w5."""
    random = np.random.Generator(np.random.Philox(seed))
    has = random.random((rows, WORDS)) < 0.35 / np.arange(1, WORDS + 1) ** 0.6
    rate = np.where(has[:, 5], weak, 0.12)
    lengths = has.sum(axis=1) + random.integers(1, 5, rows).astype(float)
    units = random.poisson(lengths) if tags else np.ones(rows, dtype=np.int64)
    facts = RowFacts(
        size=rows,
        words={f"w{word}": np.flatnonzero(has[:, word]) for word in range(WORDS)},
        values={"channel": random.choice(["web", "phone", "mail"], rows)},
        numbers={"tokens": lengths},
    )
    errors = Errors(score="accuracy", wrong=random.binomial(units, rate).astype(float), units=units.astype(float))
    return errors, facts, random.integers(0, 1 << 63, rows, dtype=np.uint64)


def test_a_slice_is_read_as_it_is_written() -> None:
    facts = RowFacts.of(
        [["Not", "bad"], ["good"], ["bad", '"']],
        values={"sold by": np.array(["web", "a b", "web"])},
        numbers={"tokens": np.array([2.0, 1.0, np.nan])},
    )
    told = {
        'has "bad"': [0, 2], 'lacks "not" and has "bad"': [2], '"sold by" is "a b"': [1], "tokens from 2 to 3": [0],
        "tokens up to 1": [1], "tokens from 1": [0, 1], 'has "\\""': [2], "channel is web": [], 'lacks "unheard"': [0, 1, 2],
    }  # fmt: skip
    for text, rows in told.items():
        one = Slice.parse(text)
        assert Slice.parse(str(one)) == one
        assert np.flatnonzero(one.rows(facts)).tolist() == rows, text
    for wrong in ("", "bad", 'has "a" or has "b"', "tokens from x"):
        with pytest.raises(DataError, match="joined by 'and'"):
            Slice.parse(wrong)


def test_tests_and_corrections_are_those_of_scipy() -> None:
    assert tail_of_counts(np.array([20]), np.array([7]), count=200, total=30)[0] == pytest.approx(
        fisher_exact([[7, 13], [23, 157]], alternative="greater").pvalue
    )
    p = np.array([0.2, 0.001, 0.04, 0.013, 0.9])
    assert by_yekutieli(p) == pytest.approx(false_discovery_control(p, method="by"))
    assert by_yekutieli(p[:2], tests=50)[1] == pytest.approx(
        false_discovery_control([*p[:2], *[1.0] * 48], method="by")[1]
    )
    random = np.random.Generator(np.random.Philox(3))
    residuals = random.gamma(0.5, size=300)  # far from normal
    drawn = np.array([random.choice(residuals, 25, replace=False).sum() for _ in range(20_000)])
    for quantile in (0.9, 0.99, 0.999):
        at = np.quantile(drawn, quantile)
        chance = tail_of_draws(np.array([25]), np.array([at]), residuals)[0]
        assert 0.8 * (1 - quantile) < chance < 2 * (1 - quantile)
    assert wilson(0, 10)[0] == 0.0
    assert np.isnan(wilson(0, 0)).all()


def test_errors_add_up_to_the_score_of_the_split() -> None:
    random = np.random.Generator(np.random.Philox(1))
    starts = np.arange(0, 401, 8)
    tags = Predictions(
        "tags", outputs=random.integers(0, 3, 400), references=random.integers(0, 3, 400), labels=("O", "B-X", "I-X"), word_starts=starts
    )  # fmt: skip
    numbers = Predictions("regression", outputs=random.random(50), references=random.random(50))
    sets = Predictions("multi_label", outputs=random.integers(0, 2, (50, 3)), references=random.integers(0, 2, (50, 3)))
    single = Predictions("single_label", outputs=random.random((50, 3)), references=random.integers(0, 3, 50))
    own = Predictions.of_own({"f1": np.array([0.5, np.nan, 1.0])}, examples=np.arange(3))
    for predictions in (tags, numbers, sets, single, own):
        errors = errors_of(predictions, select="f1")
        assert errors is not None
        whole = np.ones(len(predictions), dtype=bool)
        assert errors.value(whole) == pytest.approx(score(predictions, [errors.score])[errors.score])
        low, high = errors.interval(whole, confidence=0.95)
        assert low < errors.value(whole) < high
    assert errors_of(own, select="rouge") is None


@pytest.mark.parametrize(("rows", "tags"), [(250, False), (900, False), (900, True)])
def test_without_a_weak_slice_findings_are_as_rare_as_is_said(rows: int, tags: bool) -> None:
    worlds = 40
    findings = [bool(_search(seed, rows, tags=tags).found) for seed in range(worlds)]
    assert sum(findings) <= 0.1 * worlds


def test_a_weak_slice_is_found_and_its_score_is_not_too_bad_by_luck() -> None:
    found, covered, tested = 0, 0, []
    for seed in range(20):
        result = _search(1000 + seed, 1200, weak=0.4)
        assert result.is_halved
        weak = next((one for one in result.found if str(one.slice) == 'has "w5"'), None)
        if weak is not None:
            found, covered = found + 1, covered + (weak.low <= 0.6 <= weak.high)
            tested.append(weak.score)
            assert weak.adjusted <= 0.1 < weak.share
    assert found >= 18
    assert covered >= 0.9 * found
    assert np.mean(tested) == pytest.approx(0.6, abs=0.03)


def test_equal_rows_choose_or_test_together_and_rows_are_in_any_order() -> None:
    errors, facts, hashes = world(7, 1000, weak=0.4)
    twice = Errors(score="accuracy", wrong=np.tile(errors.wrong, 2), units=np.tile(errors.units, 2))
    words = {word: np.concatenate([rows, rows + 1000]) for word, rows in facts.words.items()}
    doubled = weak_slices(twice, RowFacts(size=2000, words=words), np.tile(hashes, 2))
    assert doubled.tested % 2 == 0
    order = np.random.Generator(np.random.Philox(0)).permutation(1000)
    place = np.argsort(order)
    moved = RowFacts(
        size=1000,
        words={word: np.sort(place[rows]) for word, rows in facts.words.items()},
        values={name: values[order] for name, values in facts.values.items()},
        numbers={name: values[order] for name, values in facts.numbers.items()},
    )
    other = Errors(score="accuracy", wrong=errors.wrong[order], units=errors.units[order])
    assert weak_slices(other, moved, hashes[order]).to_json() == weak_slices(errors, facts, hashes).to_json()


def test_few_rows_and_no_errors_are_a_result() -> None:
    nothing = Errors(score="accuracy", wrong=np.zeros(500), units=np.ones(500))
    _, facts, hashes = world(0, 500)
    assert not weak_slices(nothing, facts, hashes).slices
    for rows in (0, 1, 3):
        errors = Errors(score="accuracy", wrong=np.ones(rows), units=np.ones(rows))
        result = weak_slices(errors, RowFacts(size=rows), np.zeros(rows, dtype=np.uint64))
        assert (result.rows, result.slices) == (rows, ())
        json.dumps(result.to_json(), allow_nan=False)


def _search(seed: int, rows: int, **further: float | bool) -> Search:
    return weak_slices(*world(seed, rows, **further))  # type: ignore[arg-type]
