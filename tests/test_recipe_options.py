"""Overriding fields of a recipe on the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from hf_trainpipe import (
    Files,
    Hub,
    HubData,
    Neptune,
    NormalizeSpace,
    Pretrained,
    Recipe,
    RecipeError,
    Session,
    SpacySentences,
    TextClassification,
    Tokens,
    Tracker,
    replace,
)
from hf_trainpipe.recipe_file import leaves, override

if TYPE_CHECKING:
    from collections.abc import Mapping

    import nothing_of_this_name as absent


@dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True, kw_only=True)
class Own(Tracker):
    folder: Path | None = None
    pair: tuple[float, int] = (0.5, 1)
    sizes: tuple[int | None, ...] = ()
    words: list[str] = field(default_factory=list)
    weights: Mapping[str, float | None] = field(default_factory=dict)
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    level: Literal[1, 2, "max"] = 1
    inner: Inner = field(default_factory=Inner)
    frame: absent.Frame | None = None
    no_cache: bool = False

    def __post_init__(self) -> None:
        if self.level == 2:
            raise ValueError("level 2 is closed")

    def start(self, run: Any) -> Session:
        raise NotImplementedError


BASE = Recipe(
    name="x",
    model=Pretrained("m"),
    data=HubData("a/b", test=0.1),
    task=TextClassification("sentence", names=("a", "b")),
    preprocessing=(NormalizeSpace(), SpacySentences(pipeline="blank:en", keep_first=8)),
    trackers=(Own(),),
)


def get(recipe: Any, path: str) -> Any:
    for name in path.split("."):
        recipe = recipe[int(name)] if name.isdecimal() else getattr(recipe, name)
    return recipe


@pytest.mark.parametrize(
    ("args", "path", "value"),
    [
        ("--optim.peak-lr 1e-5", "optim.peak_lr", 1e-5),
        ("--optim.peak_lr 1e-5", "optim.peak_lr", 1e-5),
        ("--optim.peak-lr=1e-5", "optim.peak_lr", 1e-5),
        ("--seed 3", "seed", 3),
        ("--seed 3 --seed 4", "seed", 4),
        ("--name y", "name", "y"),
        ("--model.name org/other", "model.name", "org/other"),
        ("--model.revision main", "model.revision", "main"),
        ("--model.dropout 0", "model.dropout", 0.0),
        ("--task.label-smoothing 0.1", "task.label_smoothing", 0.1),
        ("--task.names yes no maybe", "task.names", ("yes", "no", "maybe")),
        ("--task.names yes,no", "task.names", ("yes", "no")),
        ('--task.names ["a,b","c"]', "task.names", ("a,b", "c")),
        ("--task.names none", "task.names", None),
        ("--task.class-weights balanced", "task.class_weights", "balanced"),
        ("--task.class-weights 1 2.5", "task.class_weights", (1.0, 2.5)),
        ("--evaluation.select f1", "evaluation.select", "f1"),
        ("--evaluation.metrics f1", "evaluation.metrics", ("f1",)),
        ("--data.test 0.25", "data.test", 0.25),
        ("--data.test held", "data.test", "held"),
        ("--data.test None", "data.test", None),
        ("--data.streaming --data.test none", "data.streaming", True),
        ("--data.no-streaming", "data.streaming", False),
        ("--data.test none --data.streaming true", "data.streaming", True),
        ("--data.streaming=no", "data.streaming", False),
        ("--data.rename review=text stars=label", "data.rename", {"review": "text", "stars": "label"}),
        ("--data.rename review=text,stars=label", "data.rename", {"review": "text", "stars": "label"}),
        ('--data.rename {"a":"b"}', "data.rename", {"a": "b"}),
        ('--data.values {"label":{"0":"no"}}', "data.values", {"label": {"0": "no"}}),
        ("--data.join text=title,body", "data.join", {"text": ("title", "body")}),
        ('--data.join {"text":["title","body"]}', "data.join", {"text": ("title", "body")}),
        ("--optim.betas 0.8 0.9", "optim.betas", (0.8, 0.9)),
        ("--optim.max-grad-norm none", "optim.max_grad_norm", None),
        ("--budget.max-steps 7", "budget.max_steps", 7),
        ("--tokens.max-length 16 --tokens.stride 8", "tokens", Tokens(max_length=16, stride=8)),
        ("--preprocessing.1.keep-first 4", "preprocessing.1.keep_first", 4),
        ("--preprocessing none", "preprocessing", ()),
        ("--trackers none", "trackers", ()),
        ("--hub.repo me/x --hub.private false", "hub", Hub("me/x", private=False)),
        ("--trackers.0.folder a/b", "trackers.0.folder", Path("a/b")),
        ("--trackers.0.pair -1.5 2", "trackers.0.pair", (-1.5, 2)),
        ("--trackers.0.sizes 1 none 3", "trackers.0.sizes", (1, None, 3)),
        ("--trackers.0.words a b", "trackers.0.words", ["a", "b"]),
        ("--trackers.0.weights a=1 b=none", "trackers.0.weights", {"a": 1.0, "b": None}),
        ("--trackers.0.level max", "trackers.0.level", "max"),
        ("--trackers.0.inner.depth 9", "trackers.0.inner.depth", 9),
        ("--trackers.0.no-cache", "trackers.0.no_cache", True),
    ],
)
def test_patches(args: str, path: str, value: Any) -> None:
    patched = override(BASE, args.split(" "))
    assert get(patched, path) == value
    assert type(get(patched, path)) is type(value)


def test_what_is_listed_is_near() -> None:
    for args, listed in (
        ("--epochs 1", "Options: --budget.epochs, --budget.max-steps"),
        ("--output x", "Options: --run-dir"),
        ("--frobnicate 1", "The nearest options: --"),
    ):
        with pytest.raises(RecipeError) as caught:
            override(BASE, args.split(" "), verb_options=("--run-dir", "--resume"))
        assert caught.value.fix.startswith(listed)
        assert len(caught.value.fix) < 300
    assert override(replace(BASE, preprocessing=()), ["--preprocessing", "none"]).preprocessing == ()


def test_parts_that_are_not_named_stay_the_same_objects() -> None:
    patched = override(BASE, ["--seed", "3"])
    assert patched == replace(BASE, seed=3)
    assert patched.trackers[0] is BASE.trackers[0]
    assert override(BASE, []) == BASE


def test_a_text_stays_one_text_where_a_list_is_possible_too() -> None:
    recipe = replace(BASE, data=Files(train="a.csv", root="x"))
    assert override(recipe, ["--data.train", "b,c.csv"]).data == Files(train="b,c.csv", root="x")
    assert override(recipe, ["--data.train", "b.csv", "c.csv"]).data == Files(train=("b.csv", "c.csv"), root="x")
    assert override(recipe, ["--data.train", '["b.csv"]']).data == Files(train=("b.csv",), root="x")
    assert override(recipe, ["--data.root", "y", "--data.header", "a", "b"]).data == Files(
        train="a.csv", root="y", header=("a", "b")
    )


def test_the_class_of_the_recipe_counts() -> None:
    recipe = replace(BASE, trackers=(Neptune(),))
    assert override(recipe, ["--trackers.0.project", "a/b"]).trackers == (Neptune(project="a/b"),)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            "--optim.peek-lr 1",
            "--optim.peek-lr: the recipe has no such option. Did you mean '--optim.peak-lr'?",
        ),
        ("--optim.peek_lr 1", "Did you mean '--optim.peak-lr'?"),
        ("--peak-lr 1", "Did you mean '--optim.peak-lr'?"),
        ("--peek-lr 1", "Did you mean '--optim.peak-lr'?"),
        ("--learning-rate 1", "--learning-rate: the recipe has no such option. Did you mean '--optim.peak-lr'?"),
        ("--epochs 1", "Did you mean '--budget.epochs'?"),
        ("--batch_size 1", "Did you mean '--budget.examples-per-step'?"),
        ("--output x", "Did you mean '--run-dir'?"),
        ("--optim.peak_lrr 1", "Did you mean '--optim.peak-lr'?"),
        ("--optm.peak-lr 1", "Did you mean '--optim.peak-lr'?"),
        ("--optim.peak-lr.x 1", "--optim.peak-lr.x: the recipe has no such option."),
        ("--optim 1", "--optim: the recipe has no such option."),
        ("--runn-dir x", "Did you mean '--run-dir'?"),
        ("--sede 1", "Did you mean '--seed'?"),
        ("--preprocessing.5.keep-first 1", "--preprocessing.5.keep-first: the recipe has no such option."),
        ("--preprocessing.1.keep 1", "--preprocessing.1.keep: the recipe has no such option."),
        ("--preprocessing StripHtml", "--preprocessing: the recipe has no such option."),
        ("--optim.no-peak-lr", "--optim.no-peak-lr: the recipe has no such option."),
        ("--seed three", "--seed: expected a whole number, found 'three'."),
        ("--seed 3.5", "--seed: expected a whole number, found '3.5'."),
        ("--seed", "--seed: expected a whole number, found no value."),
        ("--task.names", "found no value"),
        ("--seed 1 2", "--seed: expected a whole number, found '1 2'."),
        ("--optim.peak-lr fast", "--optim.peak-lr: expected a number, found 'fast'."),
        ("--optim.schedule linaer", "found 'linaer'. Did you mean 'linear'?"),
        ("--optim.betas 0.9", "--optim.betas: expected 2 values"),
        ("--optim.freeze-embeddings maybe", "expected true or false, found 'maybe'"),
        ("--task.class-weights a b", "--task.class-weights: expected a list (a number each)"),
        ("--data.rename review", "--data.rename: expected a mapping, found 'review'."),
        ("--data.rename {", "--data.rename: expected a mapping"),
        ("--optim.warmup 2", "optim.warmup: expected a number in [0, 1), found 2.0."),
        ("--tokens.stride -1", "tokens.stride: expected 0 or more"),
        ("--hub.private false", "--hub.private: the recipe has no Hub yet, and a new one needs --hub.repo."),
        ("--hub.rep me/x", "--hub.rep: the recipe has no such option. Did you mean '--hub.repo'?"),
        ("--hub none --hub.repo a/b", "given both as a whole and field by field"),
        ("--hub.repo a/b --hub none", "given both as a whole and field by field"),
        ("--trackers.0.level 2", "--trackers.0.level: level 2 is closed"),
        ("x --seed 1", "unexpected argument 'x'"),
    ],
)
def test_mistakes(args: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        override(BASE, args.split(" "), verb_options=("--run-dir", "--resume"))
    assert message in caught.value.message
    assert caught.value.fix
    assert caught.value.exit_code == 2


def test_a_field_whose_type_cannot_be_resolved_takes_text_or_refuses_nothing_else() -> None:
    patched = override(BASE, ["--trackers.0.pair", "1", "2"])
    assert get(patched, "trackers.0.frame") is None


def test_leaves_lists_every_option_once_and_each_can_be_given() -> None:
    listed = [leaf.option for leaf in leaves(BASE)]
    assert len(listed) == len(set(listed))
    assert {"--seed", "--optim.peak-lr", "--data.repo", "--trackers.0.inner.depth", "--hub"} <= set(listed)
    assert "--optim" not in listed
