"""Probabilities, costs and abstention of a task, and the same in a package by every backend."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_trainpipe import Calibration, MultiLabelClassification, TextClassification
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.runtime.errors import SchemaError
from hf_trainpipe.runtime.model.outputs import Outputs
from hf_trainpipe.runtime.tasks.registry import task_from_json

NAMES = ("calm", "angry", "sad")
LOGITS = st.lists(st.lists(st.floats(-8, 8, width=32), min_size=3, max_size=3), min_size=1, max_size=5)


def answers(calibration: Calibration | None, logits: np.ndarray, **parameters: object) -> list[list[dict[str, object]]]:
    task = TextClassification(names=NAMES, calibration=calibration)
    found = Outputs(np.arange(len(logits)), {"logits": logits})
    return task.answers(found, None, **parameters)  # type: ignore[arg-type]


@given(LOGITS, st.floats(0.2, 5), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_decisions(rows: list[list[float]], temperature: float, least: float) -> None:
    logits = np.array(rows, dtype=np.float32)
    plain = answers(None, logits)
    assert answers(Calibration(temperature=None), logits) == plain == answers(Calibration(temperature=1.0), logits)
    cooled = answers(Calibration(temperature=temperature), logits)
    costs = {"calm": {"angry": 9.0}, "sad": {"calm": 0.5}}
    costly = answers(Calibration(temperature=temperature, promise=0.9, least=least, costs=costs), logits)
    prices = 1.0 - np.eye(3)
    prices[0, 1], prices[2, 0] = 9.0, 0.5
    for row, before, after, chosen in zip(logits.astype(np.float64), plain, cooled, costly, strict=True):
        powers = np.exp((row - row.max()) / temperature)
        chances = dict(zip(NAMES, powers / powers.sum(), strict=True))
        assert [one["score"] for one in after] == pytest.approx(sorted(chances.values(), reverse=True))
        for answer in (before, after):  # logits that differ by less than a rounding are equal
            assert row[NAMES.index(str(answer[0]["label"]))] == pytest.approx(row.max(), abs=1e-9)
        given_labels = [one for one in chosen if one["label"] is not None]
        expected = np.array([chances[name] for name in NAMES]) @ prices
        assert [one["cost"] for one in given_labels] == pytest.approx(sorted(expected))
        assert all(one["score"] == pytest.approx(chances[one["label"]]) for one in given_labels)  # type: ignore[index]
        first = given_labels[0]["score"]
        withheld = chosen[0]["label"] is None
        assert withheld == (first < least)  # type: ignore[operator]
        if withheld:
            assert chosen[0] == {"label": None, "score": first, "abstains": True}


def test_settings_that_cannot_be_are_refused() -> None:
    for wrong in (
        {"temperature": 0.0},
        {"promise": 1.0},
        {"promise": 0.2},
        {"costs": {"calm": {"sad": -1}}},
        {"least": 3.0},
    ):
        with pytest.raises(RecipeError, match=r"task\.calibration"):
            Calibration(**wrong)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="found 'furious'"):
        TextClassification(names=NAMES, calibration=Calibration(costs={"calm": {"furious": 2}}))
    with pytest.raises(RecipeError, match="expected None with several labels"):
        MultiLabelClassification(names=NAMES, calibration=Calibration(promise=0.9))
    for broken in (5, {"temperature": "warm"}, {"cool": 1}):
        with pytest.raises(SchemaError):
            task_from_json({**TextClassification(names=NAMES).to_json(), "calibration": broken})


def test_a_task_without_it_is_written_as_before() -> None:
    from hf_trainpipe import Files, Pretrained, Recipe
    from hf_trainpipe.codec import from_json, to_json, with_defaults

    plain = TextClassification(names=NAMES)
    assert "calibration" not in plain.to_json()
    recipe = Recipe(name="a", model=Pretrained("m"), data=Files(train="a.csv"), task=plain)
    assert "calibration" not in with_defaults(to_json(recipe))["task"]
    asked = TextClassification(names=NAMES, calibration=Calibration(promise=0.9, costs={"calm": {"sad": 2.0}}))
    assert task_from_json(json.loads(json.dumps(asked.to_json()))) == asked
    whole = Recipe(name="a", model=Pretrained("m"), data=Files(train="a.csv"), task=asked)
    assert from_json(json.loads(json.dumps(to_json(whole)))) == whole
