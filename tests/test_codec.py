"""Recipes to JSON and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_trainpipe import (
    Budget,
    CleanUrls,
    Evaluation,
    Files,
    Frame,
    Hub,
    HubData,
    MultiLabelClassification,
    Neptune,
    NormalizeSpace,
    NormalizeUnicode,
    Optim,
    Pretrained,
    Recipe,
    RecipeError,
    Regression,
    SpacyMaskEntities,
    SpacySentences,
    SupportMessages,
    TextClassification,
    TokenClassification,
    Tokens,
    Tracker,
    replace,
)
from hf_trainpipe.codec import from_json, to_json, with_defaults
from hf_trainpipe.codec.fields import conforms, field_types, spell

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Session


def make(**changes: Any) -> Recipe:
    recipe = Recipe(
        name="sst2",
        model=Pretrained("some/model"),
        data=HubData("stanfordnlp/sst2"),
        task=TextClassification("sentence", names=("negative", "positive")),
    )
    return replace(recipe, **changes)


def round_trip(recipe: Recipe, **extra: type) -> Recipe:
    text = json.dumps(to_json(recipe), allow_nan=False)
    return from_json(json.loads(text), extra=extra)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data": Files(train=("a.csv", "b.csv"), validation=0.1, rename={"review": "text"})},
        {"data": Files(train="a.csv", join={"text": ("title", "body")}, values={"label": {"0": "no", "1": "yes"}})},
        {"data": HubData("a/b", config="c", test=0.25, streaming=True, take=5)},
        {"data": SupportMessages()},
        {"task": TextClassification(class_weights="balanced")},
        {"task": TextClassification(names=("a", "b"), class_weights=(1.0, 2.5), focal_gamma=2.0)},
        {"task": MultiLabelClassification()},
        {"task": Regression("a", text_pair="b", low=0.0, high=5.0)},
        {"task": TokenClassification()},
        {"task": TokenClassification(scheme=None)},
        {
            "preprocessing": (
                NormalizeSpace(),
                NormalizeUnicode(form="NFC"),
                CleanUrls(),
                SpacySentences(pipeline="blank:en", keep_first=2),
                SpacyMaskEntities(pipeline="en_core_web_sm"),
            )
        },
        {"trackers": (Neptune(project="team/x"),), "hub": Hub("me/model", private=False)},
        {"evaluation": Evaluation(select="f1", metrics=("accuracy", "evaluate:bleu"))},
        {"optim": Optim(max_grad_norm=None, weight_decay=float("inf"), betas=(0.8, 0.9))},
        {"tokens": Tokens(max_length=None, overflow="window"), "budget": Budget(max_steps=7)},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_round_trip(changes: dict[str, Any]) -> None:
    recipe = make(**changes)
    assert round_trip(recipe) == recipe


def test_the_form_is_readable() -> None:
    encoded = to_json(make(preprocessing=(NormalizeSpace(),)))
    assert encoded["kind"] == "Recipe"
    assert encoded["model"]["kind"] == "Pretrained"
    assert encoded["data"]["kind"] == "HubData"
    assert encoded["task"]["names"] == ["negative", "positive"]
    assert encoded["preprocessing"] == [{"kind": "NormalizeSpace"}]
    assert encoded["hub"] is None


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9_-]{0,20}", fullmatch=True),
    model=st.builds(
        Pretrained,
        st.text(min_size=1),
        revision=st.none() | st.text(),
        dropout=st.none() | st.floats(0, 1, exclude_max=True),
        trust_remote_code=st.booleans(),
    ),
    task=st.builds(
        TextClassification,
        st.text(),
        names=st.none() | st.lists(st.text(), unique=True).map(tuple),
        label_smoothing=st.floats(0, 1, exclude_max=True),
        class_weights=st.sampled_from([None, "balanced"]),
    ),
    optim=st.builds(
        Optim,
        peak_lr=st.floats(min_value=0, exclude_min=True),
        betas=st.tuples(st.floats(0, 1), st.floats(0, 1)),
        schedule=st.sampled_from(["linear", "cosine", "constant"]),
        max_grad_norm=st.none() | st.floats(min_value=1e-9),
    ),
    budget=st.builds(Budget, epochs=st.floats(0.1, 100) | st.integers(1, 10), max_steps=st.none() | st.integers(1)),
    rename=st.dictionaries(st.text(), st.text()),
    seed=st.integers(0),
)
def test_round_trip_of_any_values(rename: dict[str, str], **parts: Any) -> None:
    recipe = Recipe(data=Files(train="x.csv", rename=rename), **parts)
    assert round_trip(recipe) == recipe


@dataclass(frozen=True, kw_only=True)
class Own(Tracker):
    """A class of a recipe file."""

    folder: Path = Path("logs")
    either: str | Path = "x"
    tags: frozenset[str] = frozenset()
    steps: list[int] | None = None
    pairs: tuple[tuple[str, float], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    mode: Literal["a", 1, True] = "a"

    def start(self, run: Any) -> Session:
        raise NotImplementedError


@dataclass(frozen=True)
class WithKind(Own):
    kind: str = "x"


@pytest.mark.parametrize(
    "own",
    [
        Own(),
        Own(folder=Path("a/b"), either=Path("c"), options={"kind": "x", "deep": {"kind": ("y",)}}),
        Own(tags=frozenset({"b", "a"}), steps=[1, 2], pairs=(("a", 1.5),), options={"x": (1, None)}),
        Own(options={"low": float("-inf")}, mode=1),
    ],
)
def test_classes_of_a_recipe_file(own: Own) -> None:
    recipe = make(trackers=(own,))
    assert to_json(recipe)["trackers"][0]["kind"] == "custom:Own"
    assert round_trip(recipe, Own=Own) == recipe


def test_a_class_of_a_recipe_file_needs_extra() -> None:
    with pytest.raises(RecipeError, match=r"trackers\[0\]: Own is a class of the recipe file") as caught:
        round_trip(make(trackers=(Own(),)))
    assert "Python file" in caught.value.fix


def test_a_public_name_of_another_class_is_custom() -> None:
    impostor = type("Neptune", (Own,), {})()
    assert to_json(make(trackers=(impostor,)))["trackers"][0]["kind"] == "custom:Neptune"


def changed(path: str, value: Any) -> dict[str, Any]:
    encoded = to_json(make())
    *parents, last = path.split(".")
    node = encoded
    for name in parents:
        node = node[name]
    node[last] = value
    return encoded


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("optim.peek_lr", 1.0, "optim.peek_lr: Optim has no field 'peek_lr'. Did you mean 'peak_lr'?"),
        (
            "task.kind",
            "TextClasification",
            "task: no part of a recipe is called 'TextClasification'. Did you mean",
        ),
        ("task.kind", "os.system", "task: no part of a recipe is called 'os.system'"),
        ("task.kind", "execute", "no part of a recipe is called 'execute'"),
        ("task.kind", "RecipeError", "no part of a recipe is called 'RecipeError'"),
        ("seed", "3", "seed: expected a whole number, found '3'."),
        ("seed", True, "seed: expected a whole number, found True."),
        (
            "optim.schedule",
            "linaer",
            "optim.schedule: expected one of 'linear', 'cosine', 'constant', found 'linaer'",
        ),
        ("optim.betas", [0.9], "optim.betas: expected 2 values"),
        ("optim", {"peak_lr": 1}, "optim: expected an Optim"),
        ("task.names", "ab", "task.names: expected a list (text each) or none, found 'ab'."),
        ("model", {"kind": "Pretrained"}, "model.name: Pretrained needs a value for 'name'"),
        ("task", {"kind": "Optim"}, "task: expected a Task"),
        ("optim.warmup", 2.0, "optim.warmup: expected a number in [0, 1), found 2.0."),
        ("optim.eps", {"kind": "float", "value": "1; import os"}, "optim.eps: found a malformed float"),
        ("extra", 1, "extra: Recipe has no field 'extra'."),
    ],
)
def test_refusals(path: str, value: Any, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        from_json(changed(path, value))
    assert message in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize("value", [[], "x", {}, {"name": "x"}, {"kind": "Optim"}])
def test_what_is_no_recipe(value: Any) -> None:
    with pytest.raises(RecipeError, match="expected a recipe"):
        from_json(value)


def test_a_table_is_described_and_not_read_back() -> None:
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"text": ["a", "b"], "label": [0, 1], "tags": [["x"], []]})
    recipe = make(data=Frame(train=table, validation=0.5))
    encoded = json.loads(json.dumps(to_json(recipe)))["data"]
    assert encoded["kind"] == "Frame"
    assert encoded["validation"] == 0.5
    assert encoded["train"]["columns"] == ["text", "label", "tags"]
    assert encoded["train"]["rows"] == 2
    same = to_json(make(data=Frame(train=table.copy())))["data"]["train"]
    assert same["fingerprint"] == encoded["train"]["fingerprint"]
    other = to_json(make(data=Frame(train=table.assign(label=[1, 1]))))["data"]["train"]
    assert other["fingerprint"] != encoded["train"]["fingerprint"]
    with pytest.raises(RecipeError, match=r"data.train: the recipe was trained on a table in memory.*2 rows"):
        round_trip(recipe)


def test_values_without_a_form_in_json() -> None:
    with pytest.raises(RecipeError, match=r"trackers\[0\].options\['f'\]: a builtin_function_or_method has no form"):
        to_json(make(trackers=(Own(options={"f": len}),)))
    with pytest.raises(RecipeError, match="cannot be called kind"):
        to_json(make(trackers=(WithKind(),)))


def test_every_default_is_of_its_field_s_type() -> None:
    for part in (
        make(),
        Optim(),
        Budget(),
        Tokens(),
        Evaluation(),
        TokenClassification(),
        Files(train="x"),
        Neptune(),
    ):
        hints = field_types(type(part))
        for one in fields(part):
            assert conforms(getattr(part, one.name), hints[one.name]), (type(part), one.name)


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (float | None, "a number or none"),
        (Literal["a", "b"] | None, "one of 'a', 'b' or none"),
        (tuple[str, ...], "a list (text each)"),
        (tuple[float, float], "2 values (a number, a number)"),
        (Mapping[str, int], "a mapping"),
    ],
)
def test_types_are_described_in_words(hint: Any, text: str) -> None:
    assert spell(hint) == text


def test_fields_that_came_later_have_their_defaults() -> None:
    """A run that was begun by an earlier version goes on: what it did not know is what it did."""
    written = to_json(
        Recipe(
            name="old", model=Pretrained("m"), data=Files(train="x.csv"), task=TextClassification("text", label="label")
        )
    )
    older = json.loads(json.dumps(written))
    del older["optim"]["compile"], older["evaluation"]["resamples"], older["task"]["label_smoothing"]
    assert with_defaults(older) == written
