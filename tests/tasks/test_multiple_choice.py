"""The right one of several choices: any number of them in one batch, labels of any form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForMultipleChoice, BertTokenizerFast

from hf_trainpipe import DataError, Files, MultipleChoice, Pretrained, Recipe
from hf_trainpipe.data.audit import audit
from hf_trainpipe.data.preview import check
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.data.sampler import micro_batches
from hf_trainpipe.package.columns import Chooser, Known
from hf_trainpipe.runtime.errors import InputError
from hf_trainpipe.runtime.handler.requests import read_inputs
from hf_trainpipe.runtime.model.inference import known_lengths_of, run
from hf_trainpipe.runtime.model.unpad import unpad
from hf_trainpipe.runtime.tokens.batch import pad, token_budget_batches
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.runtime.tokens.features import Features, features_of
from hf_trainpipe.testing import PLAIN, tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return BertTokenizerFast.from_pretrained(folder)


def row(number: int, count: int) -> dict[str, Any]:
    draws = np.random.default_rng(number)
    choices = [" ".join(draws.choice(PLAIN, size=draws.integers(1, 9))) + f" {place}" for place in range(count)]
    return {"prompt": " ".join(draws.choice(PLAIN, size=8)), "choices": choices, "label": int(draws.integers(count))}


def prepared(tokenizer: Any, rows: list[dict[str, Any]], **options: Any) -> Features:
    task = MultipleChoice(label_form="index")
    encoder = Encoder(tokenizer, **{"max_length": 32, **options})
    read = Rows(Dataset.from_list(rows), "train")
    return task.supervise(read, task.encode(read.inputs(task), encoder))


def gradients(model: Any, features: Features, groups: list[np.ndarray]) -> tuple[float, dict[str, torch.Tensor]]:
    task, total = MultipleChoice(label_form="index"), 0.0
    model.zero_grad()
    for group in groups:
        batch = pad(features, group, with_targets=True)
        with known_lengths_of(batch, task):
            loss = task.loss_sum(task.forward(model, batch.inputs), batch)
        loss.backward()
        total += float(loss.detach())
    return total, {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_examples_of_two_to_ten_choices_equal_each_alone(kind: Any, tmp_path: Path) -> None:
    model = AutoModelForMultipleChoice.from_pretrained(tiny_model(tmp_path, kind=kind)).eval()
    assert unpad(model) is None
    tokenizer = BertTokenizerFast.from_pretrained(tmp_path)
    features = prepared(tokenizer, [row(number, 2 + number) for number in range(9)])
    everything = np.arange(features.num_features)
    alone = [features_of(features, [example]) for example in range(9)]
    groups = micro_batches(everything, features.lengths, max_tokens=150, cost=None, together=features.example)
    loss, expected = gradients(model, features, alone)
    for cut in ([everything], groups):
        found, grads = gradients(model, features, cut)
        assert found == pytest.approx(loss, abs=1e-5)
        assert max(float((grads[name] - one).abs().max()) for name, one in expected.items()) < 1e-5
    assert len(groups) > 2


def test_loss_and_gradient_are_those_of_transformers(folder: Path, tokenizer: Any) -> None:
    model = AutoModelForMultipleChoice.from_pretrained(folder).eval()
    rows = [row(number, 4) for number in range(6)]
    given_rows = tokenizer(
        [one["prompt"] for one in rows for _ in range(4)], [text for one in rows for text in one["choices"]],
        padding=True, return_tensors="pt",
    )  # fmt: skip
    stock = model(
        **{name: tensor.view(6, 4, -1) for name, tensor in given_rows.items()},
        labels=torch.tensor([one["label"] for one in rows]),
    )
    model.zero_grad()
    (stock.loss * 6).backward()
    expected = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    features = prepared(tokenizer, rows)
    loss, found = gradients(model, features, [np.arange(12), np.arange(12, 24)])
    assert loss / 6 == pytest.approx(float(stock.loss.detach()), abs=1e-6)
    assert max(float((found[name] - one).abs().max()) for name, one in expected.items()) < 1e-5
    task = MultipleChoice(label_form="index")
    merged = task.merge(run(model, features, task=task, chosen=np.arange(24)[::-1].copy(), max_tokens=99), features)
    assert np.allclose(merged["logits"].reshape(6, 4), stock.logits.detach().numpy(), atol=1e-5)
    outputs, batch = ({k: torch.from_numpy(v) for k, v in part.items()} for part in task.merged_batch(merged, features))
    assert float(task.loss_sum(outputs, batch)) == pytest.approx(loss, abs=1e-5)
    assert float(task.count(batch)) == pytest.approx(6)


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=20),
    max_tokens=st.one_of(st.none(), st.integers(1, 200)),
    max_items=st.one_of(st.none(), st.integers(1, 9)),
    cost=st.one_of(st.none(), st.just(7)),
)
def test_features_of_an_example_are_never_parted(counts, max_tokens, max_items, cost) -> None:
    owners = np.repeat(np.arange(len(counts)), counts)
    lengths = np.random.default_rng(len(owners)).integers(1, 30, size=len(owners))
    examples = np.random.default_rng(1).permutation(len(counts))
    items = np.concatenate([np.flatnonzero(owners == one) for one in examples])
    cut = {"max_tokens": max_tokens, "max_items": max_items, "cost": cost, "together": owners}
    groups = micro_batches(items, lengths, **cut)
    evaluated = list(token_budget_batches(lengths[items], max_tokens=max_tokens or 1 << 40, together=owners[items]))
    for parts in (groups, [items[places] for places in evaluated]):
        assert sorted(np.concatenate(parts)) == list(range(len(owners)))
        for part in parts:
            held = owners[part]
            assert np.count_nonzero(np.diff(held)) == len(set(held.tolist())) - 1, "one after the other"
            assert sum(counts[one] for one in set(held.tolist())) == len(part)
    for group in groups:
        if len(set(owners[group].tolist())) > 1:
            size = lengths[group].sum() if cost is None else lengths[group].max() * len(group)
            assert max_tokens is None or size <= max_tokens
            assert max_items is None or len(group) <= max_items


def test_a_rank_without_a_share_adds_nothing(folder: Path, tokenizer: Any) -> None:
    from hf_trainpipe.data.prepare import Prepared

    features = prepared(tokenizer, [row(3, 5), row(4, 3)])
    batch = Prepared("train", features, Rows(Dataset.from_list([]), "train"), "").empty_batch()
    task = MultipleChoice(label_form="index")
    loss = task.loss_sum(task.forward(AutoModelForMultipleChoice.from_pretrained(folder), batch.inputs), batch)
    loss.backward()
    assert (float(loss.detach()), float(task.count(batch))) == (0.0, 0.0)


FORMS = [
    ("index", [2, 0, 1]),
    ("index", ["2", "0", "1.0"]),
    ("number", [3, 1, 2]),
    ("letter", ["C", "a", "B"]),
    ("text", ["six ", "ten", "two"]),
    ("key", ["iii", "i", "ii"]),
]


@pytest.mark.parametrize(("form", "labels"), FORMS)
def test_every_form_of_label_is_found(form: str, labels: list[Any]) -> None:
    texts = (["one", "five", "six"], ["ten", "nine", "two"], ["nine", "two"])
    keys = ("i", "ii", "iii")
    as_keys = [{"text": found, "label": list(keys[: len(found)])} for found in texts]
    as_pairs = [[{"text": text, "label": key} for key, text in zip(keys, found, strict=False)] for found in texts]
    plain = [json.dumps(found) if form == "text" else found for found in texts]
    for choices in (as_keys, as_pairs) if form == "key" else (plain,):
        rows = [{"prompt": "x", "choices": c, "label": la} for c, la in zip(choices, labels, strict=True)]
        read = Rows(Dataset.from_list(rows), "train")
        task = MultipleChoice().fit(read)
        assert task.label_form == form
        assert task._labels(read).tolist() == [2, 0, 1]
        assert audit(task, {"train": read.dataset}) == []
        read.inputs(task)


def test_labels_that_may_mean_two_things_are_asked_about() -> None:
    rows = Rows(Dataset.from_list([{"prompt": "x", "choices": ["0", "1", "2"], "label": 1},
                                   {"prompt": "x", "choices": ["2", "1", "3"], "label": 2}]), "train")  # fmt: skip
    with pytest.raises(DataError, match="'2' may be the text of a choice, or a number, 0 for the first") as refused:
        MultipleChoice().fit(rows)
    assert "task.label_form to 'text' or 'index'" in refused.value.fix
    assert MultipleChoice(label_form="text").fit(rows)._labels(rows).tolist() == [1, 0]


def test_show_looks_at_labels_without_a_tokenizer(tmp_path: Path) -> None:
    good = {"prompt": "x", "choices": ["a", "b"], "label": 0}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (good, {**good, "label": 2})))
    recipe = Recipe(
        name="x",
        model=Pretrained("none"),
        data=Files(train="a.jsonl", root=str(tmp_path)),
        task=MultipleChoice(label_form="index"),
    )
    with pytest.raises(DataError, match=r"a.jsonl, line 2: .* found '2' for 2 choices"):
        check(recipe, recipe.data.preview())
    (tmp_path / "a.jsonl").write_text(json.dumps(good) + "\n" + json.dumps({**good, "prompt": "y"}) + "\n")
    assert check(recipe, recipe.data.preview()).warnings == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"label": 4}, "expected labels that name a choice in one way"),
        ({"label": None}, "found nothing"),
        ({"choices": ["a"]}, "expected a list of choices, found 1 choices"),
        ({"choices": ["a", " "]}, "found an empty text"),
        ({"choices": None}, "expected choices, found nothing"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_row(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    good = {"prompt": "x", "choices": ["a", "b"], "label": 0}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (good, good, {**good, **change})))
    rows = Rows(Files(train="a.jsonl", root=str(tmp_path)).splits()["train"], "train")
    with pytest.raises(DataError, match=expected) as refused:
        MultipleChoice().fit(rows)
    assert "a.jsonl, line 3" in str(refused.value)


def test_requests_are_checked() -> None:
    schema = MultipleChoice(stem="s").schema()
    assert read_inputs(schema.examples, schema)[0].values["choices"] == ("made tea.", "fell asleep.")
    for wrong, found in (("tea", "no list of choices: str 'tea'"), (["a"], "1 choices"), (["a", 3], "int 3")):
        with pytest.raises(InputError) as refused:
            read_inputs([{"prompt": "x", "stem": "y", "choices": wrong}], schema)
        assert found in str(refused.value)


def test_an_example_is_too_long_as_a_whole(tokenizer: Any) -> None:
    rows = [row(1, 3), {"prompt": "a", "choices": ["it", "it was " * 20, "so"], "label": 2}, row(2, 2)]
    dropped = prepared(tokenizer, rows, overflow="drop")
    assert dropped.example.tolist() == [0, 0, 0, 2, 2]
    assert (dropped.overflow.examples, dropped.overflow.over_length, dropped.overflow.dropped) == (3, 1, 1)
    with pytest.raises(InputError, match="Example 1 has 41 tokens") as refused:
        prepared(tokenizer, rows, overflow="error")
    assert refused.value.position == 1
    windows = prepared(tokenizer, rows, overflow="window", stride=4)
    assert windows.dense["choice"][windows.example == 1].tolist() == [0, 1, 1, 2]


def test_columns_of_choices_become_lists_in_training_and_in_files_to_predict(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q,e0,e1,e2,y\nwho,a,b,,1\nwhat,c,d,e,2\n")
    data = Files(train="a.csv", root=str(tmp_path), rename={"y": "label"}, lists={"choices": ("e0", "e1", "e2")})
    assert data.splits()["train"]["choices"][:] == [["a", "b"], ["c", "d", "e"]]
    known = Known(
        (("prompt", "choices"),), {"prompt": "q", "choices": "choices"}, lists={"choices": ("e0", "e1", "e2")}
    )
    rows = ({"q": "who", "e0": "a", "e1": "b", "e2": None}, {"q": "who", "e0": "a", "e1": "b", "e2": "c"})
    chooser = Chooser(known, name="a.csv")
    assert [chooser.input_of(one)["choices"] for one in rows] == [["a", "b"], ["a", "b", "c"]]
