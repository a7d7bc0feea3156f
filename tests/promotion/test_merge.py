"""What becomes of new labels: nothing that is tested on is trained on, and contradictions are told."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from hf_trainpipe import AddedRows, ChosenRows, Files, Pretrained, Recipe, TextClassification
from hf_trainpipe.data.place import place
from hf_trainpipe.data.readers_base import AS_FOUND
from hf_trainpipe.errors import DataError, RecipeError
from hf_trainpipe.promotion.labels import read_labels
from hf_trainpipe.promotion.merge import Merged, merge, write

LONG = "the parcel that was promised for last monday has not arrived at the address in the order"


def texts(kind: str, count: int) -> list[tuple[str, str]]:
    return [(f"{kind} message number {at} about topic {at * 7919 % 1009}", ("a", "b")[at % 2]) for at in range(count)]


def table(file: Path, rows: list[tuple[str, str]], head: tuple[str, str] = ("text", "label")) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([head, *rows])


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    table(tmp_path / "train.csv", texts("old", 40))
    table(tmp_path / "dev.csv", texts("dev", 10))
    table(tmp_path / "test.csv", [*texts("test", 10), (LONG, "a")])
    return Recipe(
        name="r",
        model=Pretrained("m"),
        data=Files(train="train.csv", validation="dev.csv", test="test.csv", root=str(tmp_path)),
        task=TextClassification("text", label="label"),
    )


NEW = [
    (LONG + " now", "b"),  # nearly a test row
    ("TEST message number 3 about topic 550!", "b"),  # a test row, but for case and signs
    ("dev message number 2 about topic 703", "a"),
    ("old message number 1 about topic 856", "b"),  # known
    ("old message number 2 about topic 703", "b"),  # contradicts
    ("", "a"),
    ("a label nobody knows", "c"),
    ("twice", "a"),
    ("Twice!", "a"),
    ("torn", "a"),
    ("torn", "b"),
    *texts("new", 60),
]


def merged(recipe: Recipe, folder: Path, rows: list[tuple[str, str]], **options: str) -> Merged:
    table(folder / "new.csv", rows)
    new = read_labels(recipe, [folder / "new.csv"], AS_FOUND)
    return merge(recipe, new, hold_out=0.25, **{"conflicts": "old", **options})  # type: ignore[arg-type]


def test_each_new_row_is_trained_on_held_out_or_left_out_for_a_reason(recipe: Recipe, tmp_path: Path) -> None:
    found = merged(recipe, tmp_path, NEW)
    assert found.counts["left_out"] == {
        "in test": 1,
        "in train with another label": 1,
        "in train with the same label": 1,
        "in validation": 1,
        "nearly in test": 1,
        "twice among the new ones": 1,
        "with labels that training has not: 'c'": 1,
        "with several labels among the new ones": 2,
        "without a text": 1,
    }
    assert found.counts["trained_on"] + found.counts["selected_on"] + found.counts["held_out"] == 61
    assert 0 < found.counts["selected_on"] < 15
    assert 5 < found.counts["held_out"] < 30
    said = [(where, label, other) for _, label, where, other in found.conflicts]
    assert said == [("train", "b", "a"), ("new labels", "a", "b"), ("new labels", "b", "a")]


def test_a_row_is_on_the_same_side_whatever_comes_with_it(recipe: Recipe, tmp_path: Path) -> None:
    whole = merged(recipe, tmp_path, NEW)
    part = merged(recipe, tmp_path, NEW[30:50])

    def side(found: Merged) -> dict[str, bool]:
        return {found.corpus.raw[row]: row in found.fresh for row in (*found.trained, *found.selected, *found.fresh)}

    assert side(part).items() <= side(whole).items()


def test_newer_labels_replace_older_ones_where_they_are_said_to_be_right(recipe: Recipe, tmp_path: Path) -> None:
    found = merged(recipe, tmp_path, NEW, conflicts="new")
    assert found.counts["replaced"] == 1
    write(found, tmp_path / "merge")
    data = ChosenRows.of(
        AddedRows.of(recipe.data, tmp_path / "merge" / "added.jsonl"), tmp_path / "merge" / "rows.json"
    )
    splits = data.splits()
    assert len(splits["train"]) == found.counts["training_rows"] == 39 + found.counts["trained_on"]
    assert len(splits["validation"]) == 10 + found.counts["selected_on"], "the best step is chosen on new rows too"
    assert splits["test"].to_dict() == recipe.data.splits()["test"].to_dict(), "the frozen test stays"
    assert "old message number 2 about topic 703" not in splits["train"]["text"][:39]
    last = len(splits["train"]) - 1
    assert str(place(splits["train"], "train", last)).startswith(str(tmp_path / "new.csv")), "a row knows its line"
    fresh = [json.loads(line)["text"] for line in (tmp_path / "merge" / "fresh.jsonl").read_text().splitlines()]
    assert not set(fresh) & {*splits["train"]["text"], *splits["validation"]["text"]}
    (tmp_path / "merge" / "added.jsonl").write_text('{"text": "x", "label": "a"}\n')
    with pytest.raises(RecipeError, match="sha256"):
        data.splits()


def test_further_rows_may_hold_any_mark_that_ends_a_line_elsewhere(recipe: Recipe, tmp_path: Path) -> None:
    strange = [(f"one {mark} two {at} {mark}", "a") for mark in "\u2028\u2029\x85\x0b\x1c" for at in range(4)]
    found = merged(recipe, tmp_path, strange)
    write(found, tmp_path / "merge")
    added = tmp_path / "merge" / "added.jsonl"
    splits = AddedRows.of(recipe.data, added).splits()
    assert {*splits["added"]["text"]} <= {text for text, _ in strange}
    assert len(splits["added"]) == found.counts["trained_on"] + found.counts["selected_on"]
    with added.open("a") as stream:
        stream.write("\n3\n")
    with pytest.raises(DataError, match=r"added.jsonl, line \d+: expected an object, found int"):
        AddedRows.of(recipe.data, added).splits()


def test_names_of_before_renaming_are_understood_and_others_refused(recipe: Recipe, tmp_path: Path) -> None:
    from dataclasses import replace

    renamed = replace(
        recipe, data=replace(recipe.data, rename={"body": "text"}, values={"label": {"yes": "a", "no": "b"}})
    )
    table(tmp_path / "new.csv", [("hello", "yes"), ("bye", "b")], ("body", "label"))
    rows = read_labels(renamed, [tmp_path / "new.csv"], AS_FOUND)
    assert (rows["text"][:], rows["label"][:]) == (["hello", "bye"], ["a", "b"])
    turned = replace(recipe, data=replace(recipe.data, values={"label": {"a": "b", "b": "a"}}))
    assert read_labels(turned, [tmp_path / "test.csv"], AS_FOUND)["label"][:2] == ["b", "a"]
    assert read_labels(turned, [tmp_path / "test.csv"], AS_FOUND, shaped=True)["label"][:2] == ["a", "b"]
    table(tmp_path / "other.csv", [("hello", "yes")], ("txet", "label"))
    with pytest.raises(DataError, match=r"expected the columns text, label of the recipe, found txet, label"):
        read_labels(recipe, [tmp_path / "other.csv"], AS_FOUND)


@pytest.mark.parametrize("names", [("b", "a"), ("bad", "fine")])
def test_an_id_is_the_label_that_the_recipe_says_also_where_a_class_label_has_another_order(
    recipe: Recipe, tmp_path: Path, names: tuple[str, ...]
) -> None:
    from dataclasses import replace

    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["a", "b"])})
    for name in ("train", "test"):
        rows = [{"text": text, "label": label} for text, label in texts(name, 10)]
        Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / f"{name}.parquet"))
    ids = [(f"number {at * 7919 % 1009}", str(at % 2)) for at in range(20)]
    coded = replace(
        recipe,
        data=Files(train="train.parquet", test="test.parquet", root=str(tmp_path)),
        task=TextClassification("text", label="label", names=names),
    )
    write(merged(coded, tmp_path, ids), tmp_path / "merge")
    added = AddedRows.of(coded.data, tmp_path / "merge" / "added.jsonl").splits()["added"]
    # names in another order number the ids of a file; names that the data does not have rename those of the data
    meant = {text: int(label) ^ (names == ("b", "a")) for text, label in ids}
    assert dict(zip(added["text"], added["label"], strict=True)).items() <= meant.items()
    assert len(added) > 5


def test_nothing_left_is_an_error(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the 2 new labels is left to train on: 1 in test, 1 nearly in test"):
        merged(recipe, tmp_path, NEW[:2])
