"""What a trial gets is a function of (seed, number, ledger), and when it is ended early one of curves."""

from __future__ import annotations

import math

import pytest

from hf_trainpipe.studies import Choice, Integer, LogUniform, Space
from hf_trainpipe.studies.proposals import fresh_seeds, propose, pruned_at
from hf_trainpipe.studies.trials import Trial, TrialLedger

SPACE = Space(
    {
        "optim.peak_lr": LogUniform(1e-5, 1e-2),
        "budget.epochs": Integer(1, 4),
        "optim.schedule": Choice("linear", "cosine"),
    }
)
OWN = {"optim.peak_lr": 1e-4, "budget.epochs": 2}


def ended(number: int, values: dict) -> Trial:
    """A rate above 3e-3 diverges; the best one is 1e-3."""
    rate = math.log10(values["optim.peak_lr"])
    score = None if rate > -2.5 else -((rate + 3) ** 2)
    state = "complete" if score is not None else "diverged"
    return Trial(run=f"trials/{number:03d}", number=number, values=values, seed=17, state=state, score=score)


def proposed(number: int, trials: list[Trial], *, parallel: int, seed: int = 3) -> dict:
    began = {trial.number: trial.values for trial in trials}
    return propose(
        SPACE, number, seed=seed, parallel=parallel, trials=trials, began=began, greater_is_better=True, own=OWN
    )


@pytest.mark.parametrize("parallel", [1, 3])
def test_every_trial_follows_from_the_ledger_before_it_and_none_comes_twice(parallel) -> None:
    trials: list[Trial] = []
    for number in range(12):
        trials.append(ended(number, proposed(number, trials, parallel=parallel)))
    assert {name: trials[0].values[name] for name in OWN} == OWN
    for number in range(12):  # as a process that was just started would propose it, from what the ledger has
        assert proposed(number, trials[:number], parallel=parallel) == trials[number].values
    assert len({tuple(trial.values.values()) for trial in trials}) == 12
    assert proposed(11, trials[:11], parallel=parallel, seed=4) != trials[11].values

    # How a trial ended that it may not know yet changes nothing; how one ended that it may know does.
    other = [*trials[:10], Trial(**{**vars(trials[10]), "score": 5.0, "state": "complete"})]
    assert (proposed(11, other, parallel=parallel) == trials[11].values) is (parallel > 1)


def test_a_space_of_four_is_tried_whole_before_anything_is_tried_twice() -> None:
    space = Space({"optim.schedule": Choice("linear", "cosine"), "budget.epochs": Integer(1, 2)})
    trials: list[Trial] = []
    for number in range(4):
        values = propose(space, number, seed=1, parallel=1, trials=trials, began={}, greater_is_better=True, own={})
        trials.append(
            Trial(run=f"trials/{number:03d}", number=number, values=values, seed=1, state="complete", score=0.5)
        )
    assert len({tuple(trial.values.values()) for trial in trials}) == 4


def test_seeds_of_finalists_are_none_that_the_search_used() -> None:
    seeds = fresh_seeds(17, 3, used=17)
    assert len({*seeds, 17}) == 4
    assert fresh_seeds(17, 3, used=seeds[1]) == [seeds[0], seeds[2], fresh_seeds(17, 4, used=17)[3]]


def curve(*scores: float) -> list[tuple[float, float]]:
    return [(epoch + 1.0, score) for epoch, score in enumerate(scores)]


def complete(number: int, *scores: float) -> Trial:
    return Trial(
        run=f"trials/{number:03d}",
        number=number,
        values={},
        seed=1,
        state="complete",
        score=max(scores),
        curve=curve(*scores),
    )


OTHERS = [complete(number, 0.5 + number / 10, 0.6 + number / 10, 0.7 + number / 10) for number in range(4)]


@pytest.mark.parametrize(
    ("scores", "rule", "expected"),
    [
        ((0.1, 0.2, 0.3), "median", 0),
        ((0.66, 0.67, 0.9), "median", 1),  # the median of the best so far is 0.65, then 0.75
        ((0.7, 0.8, 0.1), "median", None),  # its best counts, and its last evaluation ends nothing
        ((0.1, 0.9, 0.9), "none", None),
        ((0.75, 0.1, 0.1), "halving", 0),  # of five at the first rung one goes on
        ((0.85, 0.1, 0.1), "halving", None),
    ],
)
def test_pruning_says_the_same_whenever_it_is_asked(scores, rule, expected) -> None:
    found = [pruned_at(curve(*scores[:seen]), OTHERS, rule, greater_is_better=True, epochs=2.9) for seen in (1, 2, 3)]
    assert found[-1] == expected
    assert set(found) <= {None, expected}
    assert all(one is not None for one in found[expected:]) or expected is None
    mirrored = [(epoch, -score) for epoch, score in curve(*scores)]
    falling = [Trial(**{**vars(one), "curve": [(epoch, -score) for epoch, score in one.curve]}) for one in OTHERS]
    assert pruned_at(mirrored, falling, rule, greater_is_better=False, epochs=2.9) == expected
    assert pruned_at(curve(0.0), OTHERS[:3], rule, greater_is_better=True, epochs=2.9) is None  # too few to tell


def test_a_torn_last_line_is_cut_off_and_the_ledger_goes_on(tmp_path) -> None:
    file = tmp_path / "trials.jsonl"
    with TrialLedger(file) as ledger:
        ledger.begin("trials/000", number=0, values={"optim.peak_lr": 0.1})
        ledger.end(complete(0, 0.5))
        ledger.begin("trials/001", number=1, values={"optim.peak_lr": 0.2})
    whole = file.read_bytes()
    for torn in range(len(whole) - 40, len(whole)):
        file.write_bytes(whole[:torn])
        with TrialLedger(file) as ledger:
            assert list(ledger.began) == ["trials/000"]
            assert ledger.trials()[0].curve == [(1.0, 0.5)]
            ledger.begin("trials/001", number=1, values={"optim.peak_lr": 0.2})
        assert file.read_bytes() == whole
