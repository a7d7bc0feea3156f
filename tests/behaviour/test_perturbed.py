"""Small changes of texts: the same for the same seed and row, and with a way back for places and labels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from hf_trainpipe.behaviour.given import read_perturbations
from hf_trainpipe.behaviour.perturbations import BUILT_IN, Draws, Perturbation, numbers
from hf_trainpipe.behaviour.perturbed import perturbed
from hf_trainpipe.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = {one.name: one for one in BUILT_IN}
TEXT = "Anna Smith didn't pay 250 dollars to IBM, and John is happy."


def changed(text: object, name: str, row: int = 3) -> object:
    found = perturbed(text, KNOWN[name], Draws.of(0, row, name))
    return None if found is None else found.given


def test_each_changes_what_it_says() -> None:
    assert changed("It Is fine.", "lower") == "it is fine."
    assert changed("It Is fine.", "upper") == "IT IS FINE."
    assert changed("all small", "lower") is None
    assert changed("one two", "spaces") == "one  two "
    assert (changed("Fine !", "punctuation"), changed("Fine", "punctuation")) == ("Fine", "Fine.")
    told = {
        "it ca n't be": "it can be", "He won't go": "He will go", "She is not here": "She is here", "It is here": "It is not here",
        "We didn't": "We did", "Nothing to see": None,
    }  # fmt: skip
    assert {text: changed(text, "negation") for text in told} == told
    for row in range(50):
        new = str(changed("call 07 or 400", "numbers", row))
        assert new.startswith("call ")
        assert [len(part) for part in new.split()] == [4, 2, 2, 3]
        assert new.split()[1] != "07"
        assert new.split()[3] != "400"
        assert new.split()[3][0] != "0"
        typed = str(changed("a wonderful day", "typos", row))
        assert typed != "a wonderful day"
        assert abs(len(typed) - 15) <= 1


def test_both_texts_of_a_pair_get_the_same_names_and_only_the_last_a_negation() -> None:
    pair = {"text": "Anna has 3 dogs", "text_pair": "Anna is at 3"}
    names = changed(pair, "names")
    assert isinstance(names, dict)
    first, second = (str(text).split()[0] for text in names.values())
    assert first == second != "Anna"
    assert changed(pair, "negation") == {"text": "Anna has 3 dogs", "text_pair": "Anna is not at 3"}


@pytest.mark.parametrize("name", KNOWN)
def test_places_and_labels_of_a_text_keep_their_words(name: str) -> None:
    again = [perturbed(TEXT, KNOWN[name], Draws.of(5, 9, name)) for _ in range(2)]
    assert again[0] is not None
    assert again[1] is not None
    assert again[0].given == again[1].given
    person, company = (again[0].forth(*place) for place in ((0, 10), (37, 40)))
    assert person is not None
    assert company is not None
    assert again[0].back(*person) == (0, 10)
    assert again[0].back(*company) == (37, 40)
    assert again[0].given[slice(*company)].upper() == "IBM"
    assert again[0].given[slice(*person)].upper().endswith("SMITH") or name == "typos"


@pytest.mark.parametrize("name", KNOWN)
def test_tags_of_words_go_with_them(name: str) -> None:
    words = ["Anna", "Smith", "does", "not", "pay", "250", "to", "IBM", "."]
    tags = ["B-PER", "I-PER", "O", "O", "O", "O", "O", "B-ORG", "O"]
    found = perturbed({"words": words}, KNOWN[name], Draws.of(1, 2, name))
    if name == "spaces":
        assert found is None
        return
    assert found is not None
    new = found.given["words"]
    moved = found.tags(tags)
    assert len(moved) == len(new)
    assert [tag for tag in moved if tag != "O"] == ["B-PER", "I-PER", "B-ORG"]
    place = moved.index("B-ORG")
    assert new[place].upper() == "IBM"
    assert found.back(place, place + 1) == (7, 8)
    assert found.forth(7, 8) == (place, place + 1)


def test_what_is_put_in_has_no_place_before_and_what_goes_none_after() -> None:
    found = perturbed({"words": ["It", "is", "fine"]}, KNOWN["negation"], Draws.of(0, 0, ""))
    assert found is not None
    assert found.given == {"words": ["It", "is", "not", "fine"]}
    assert found.back(2, 3) is None
    assert found.back(1, 4) == (1, 3)
    assert found.tags(["O", "B-X", "O"], inside={"B-X": "I-X"}) == ["O", "B-X", "I-X", "O"]
    assert found.tags(["O", "B-X", "O"], outside="O") == ["O", "B-X", "O", "O"]
    stopped = perturbed({"words": ["It", "is", "fine"]}, KNOWN["punctuation"], Draws.of(0, 0, ""))
    assert stopped is not None
    assert (stopped.given, stopped.put_in) == ({"words": ["It", "is", "fine", "."]}, {3})
    gone = perturbed("It is not fine", KNOWN["negation"], Draws.of(0, 0, ""))
    assert gone is not None
    assert gone.forth(6, 9) is None


def test_a_persons_perturbations(tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    told = [
        {"name": "brands", "find": "IBM", "replace": ["Globex", "Initech"]},
        {
            "name": "swap",
            "find": r"(\w+) and (\w+)",
            "regex": True,
            "replace": r"\2 and \1",
            "expect": "rises",
            "label": "a",
        },
    ]
    file.write_text(json.dumps(told))
    brands, swap = read_perturbations(file)
    assert {perturbed("IBM or IBM, no IBMs", brands, Draws.of(0, row, "")).given for row in range(9)} == {  # type: ignore[union-attr]
        "Globex or Globex, no IBMs", "Initech or Initech, no IBMs",
    }  # fmt: skip
    assert perturbed("you and me", swap, Draws.of(0, 0, "")).given == "me and you"  # type: ignore[union-attr]
    assert (swap.expect, swap.label, brands.expect) == ("rises", "a", "same")
    wrong = {
        "{": "line 1: expected JSON",
        "{}": "expected a list of perturbations",
        '[{"name": "a", "find": "b"}]': "found no replace",
        '[{"name": "a", "find": "b", "replace": 3}]': "replace: found 3",
        '[{"name": "typos", "find": "b", "replace": "c"}]': "a second time",
        '[{"name": "a", "find": "(", "replace": "c", "regex": true}]': "expected a pattern",
        '[{"name": "a", "find": "b", "replace": "c", "expects": "same"}]': "Did you mean",
        '[{"name": "a", "find": "b", "replace": "c", "expect": "best"}]': "found 'best'",
    }
    for text, said in wrong.items():
        file.write_text(text)
        with pytest.raises(DataError, match=said.replace("(", r"\(")):
            read_perturbations(file)


def test_draws_belong_to_seed_row_and_name() -> None:
    one = Perturbation(name="numbers", about="", edits=numbers)
    found = {
        perturbed("12345678", one, Draws.of(*key)).given for key in ((0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b"))
    }  # type: ignore[union-attr]
    assert len(found) == 4
