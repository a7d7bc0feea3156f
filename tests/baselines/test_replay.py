"""Whether choosing what to label gains anything, replayed on labelled data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas
import pytest
from scipy import stats

from hf_trainpipe import Frame, Pretrained, Recipe, TextClassification, Tokens, replace
from hf_trainpipe.baselines.replay import Replayed, replay
from hf_trainpipe.errors import DataError
from hf_trainpipe.testing import tiny_model, tiny_rows
from hf_trainpipe.tracking.console import Console


def test_both_arms_begin_alike_and_runs_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    rows = pandas.DataFrame(tiny_rows(160))
    recipe = Recipe(
        name="tiny",
        model=Pretrained(str(tiny_model(tmp_path / "model"))),
        data=Frame(train=rows[:120], validation=rows[120:]),
        task=TextClassification("text"),
        tokens=Tokens(max_length=32),
    )
    console = Console(0, is_main=False)
    found = replay(recipe, console=console, starts=2, rounds=2)
    assert found.labels == [20, 40, 60]
    assert (found.chosen[:, 0] == found.random[:, 0]).all()
    assert ((found.chosen >= 0) & (found.chosen <= 1)).all()
    again = replay(recipe, console=console, starts=2, rounds=2)
    assert np.array_equal(again.chosen, found.chosen)
    with pytest.raises(DataError, match="needs 220 training rows, found 120"):
        replay(recipe, console=console)
    with pytest.raises(DataError, match="no validation split"):
        replay(replace(recipe, data=Frame(train=rows)), console=console)


def test_the_verdict_follows_the_interval() -> None:
    draw = np.random.default_rng(5)
    random = draw.uniform(0.6, 0.7, (10, 3))
    better = Replayed(labels=[20, 40, 60], chosen=random + 0.05 + draw.normal(0, 0.01, (10, 3)), random=random)
    each = (better.chosen - better.random)[:, 1:].mean(axis=1)
    wanted = stats.ttest_1samp(each, 0).confidence_interval(0.95)
    assert better.gain[1:] == pytest.approx((wanted.low, wanted.high))
    assert better.verdict.startswith("choosing gains +")
    level = Replayed(labels=[20, 40, 60], chosen=random + draw.normal(0, 0.01, (10, 3)), random=random)
    assert level.verdict.startswith("no gain shown: ")
