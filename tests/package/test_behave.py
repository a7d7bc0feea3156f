"""A package's weak slices and its behaviour under small changes, from the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import hf_trainpipe
from hf_trainpipe.api.behaviour import behave
from hf_trainpipe.behaviour.answers import comparison_for
from hf_trainpipe.behaviour.behave import chosen_perturbations
from hf_trainpipe.behaviour.perturbations import BUILT_IN, Draws
from hf_trainpipe.behaviour.perturbed import perturbed
from hf_trainpipe.cli import run
from tests.package.conftest import WORDS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def package(classifier_run: Path) -> hf_trainpipe.Package:
    return hf_trainpipe.load(classifier_run)


@pytest.fixture(scope="module")
def gold(package: hf_trainpipe.Package, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows whose label is the package's answer, but of every other one sold in the ``shop`` another label."""
    file = tmp_path_factory.mktemp("gold") / "gold.csv"
    texts = [f"{one} {two} {three}" for one in WORDS[:16] for two in WORDS[:10] for three in ("Anna", "phone", "is 3")]
    answers = package.predict(texts, top_k=1)
    lines = ["text,label,sold"]
    for at, (text, answer) in enumerate(zip(texts, answers, strict=True)):
        label, other = answer[0]["label"], next(name for name in package.labels if name != answer[0]["label"])
        lines.append(f"{text},{other if at % 10 == 0 else label},{'shop' if at % 5 == 0 else 'web'}")
    file.write_text("\n".join(lines) + "\n")
    return file


def test_slices_of_a_labelled_file(
    classifier_run: Path, gold: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    html = tmp_path / "slices.html"
    assert run(["slices", str(classifier_run), str(gold), "--html", str(html), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metric"] == "accuracy"
    assert (told["rows"], told["halved"]) == (480, True)
    assert told["tested"] < 480
    first = told["slices"][0]
    assert first["found"]
    assert first["slice"] == 'sold is "shop"'
    assert first["low"] < 0.5 < first["high"] < first["rest"] == 1.0
    assert first["share_of_errors"] == 1.0
    assert first["errors"][0]["place"].startswith(str(gold))
    assert " predicted as " in first["errors"][0]["told"]
    assert "sold is &#34;shop&#34;" in html.read_text()
    assert not (classifier_run / "slices.json").exists()  # it is of a file, not of the run's data


def test_few_rows_are_told_on_a_screen(
    classifier_run: Path, gold: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few.csv"
    few.write_text("".join(gold.read_text().splitlines(keepends=True)[:3]))
    assert run(["slices", str(classifier_run), str(few)]) == 0
    assert "no slice is shown to be worse than the rest" in capsys.readouterr().out
    assert run(["slices", str(classifier_run), str(few), "--level", "3"]) == 2
    assert "expected a number between 0 and 1" in capsys.readouterr().err


def test_answers_hold_or_do_not(
    classifier_run: Path, gold: Path, package: hf_trainpipe.Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.json"
    own.write_text('[{"name": "phone", "find": "phone", "replace": "time", "expect": "changes"}]')
    command = ["behave", str(classifier_run), str(gold), "--rows", "60", "--perturbations", str(own)]
    assert (
        run(
            [
                *command,
                "--only",
                "lower",
                "--only",
                "typos",
                "--only",
                "phone",
                "--json",
                "--output",
                str(tmp_path / "out.jsonl"),
            ]
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    lower, typos, phone = told["perturbations"]
    assert told["rows"] == 60
    assert told["left_out"] == {"not drawn": 420}
    assert (lower["name"], lower["rate"]) == ("lower", 1.0)  # its tokenizer makes letters small
    assert lower["rows"] + lower["unchanged"] == 60
    assert 0 < typos["passed"] < typos["rows"] == 60 - typos["unchanged"]
    assert typos["low"] < typos["rate"] < typos["high"]
    for failure in typos["worst"]:
        before, after = package.predict([failure["before"], failure["after"]], top_k=1)
        assert before[0]["label"] != after[0]["label"]
        assert failure["answer_before"].startswith(before[0]["label"])
        assert failure["answer_after"].startswith(after[0]["label"])
    moved = [failure["moved"] for failure in typos["worst"]]
    assert moved == sorted(moved, reverse=True)
    assert phone["expect"] == "changes"
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == lower["rows"] + typos["rows"] + phone["rows"]
    assert set(rows[0]) == {"text", "label", "sold", "perturbation", "row"}
    again = behave(package, gold, most_rows=60, perturbations=chosen_perturbations(["typos"]))
    assert again.to_json()["perturbations"][0]["worst"] == typos["worst"]
    assert run([*command, "--only", "typo"]) == 2
    assert "Did you mean 'typos'" in capsys.readouterr().err


def test_entities_are_compared_in_the_text_as_it_was(tagger_run: Path, tmp_path: Path) -> None:
    package = hf_trainpipe.load(tagger_run)
    text = "Ada Lovelace lived in London."
    compare = comparison_for(package.predictor.task)
    spaces = next(one for one in BUILT_IN if one.name == "spaces")
    new = perturbed(text, spaces, Draws.of(0, 0, "spaces"))
    assert new is not None
    before, after = package.predict([text, new.given])
    assert before
    assert compare.holds(spaces, before, after, new, 0.0) == (True, 0.0)
    moved = [{**one, "start": one["start"] + 1} for one in after]
    assert compare.holds(spaces, before, moved, new, 0.0)[0] is False
    file = tmp_path / "rows.jsonl"
    spans = [{"start": 0, "end": 12, "label": "PER"}, {"start": 22, "end": 28, "label": "LOC"}]
    file.write_text(json.dumps({"text": text, "spans": spans}) + "\n")
    found = behave(package, file, output=tmp_path / "out.jsonl", perturbations=BUILT_IN)
    assert {one.perturbation.name for one in found.held if one.rows} >= {
        "typos",
        "lower",
        "upper",
        "spaces",
        "punctuation",
    }
    for line in (tmp_path / "out.jsonl").read_text().splitlines():
        row = json.loads(line)
        marked = [row["text"][span["start"] : span["end"]].upper() for span in row["spans"]]
        assert [one.split()[0][0] for one in marked] == ["A", "L"]
        assert row["perturbation"] == "typos" or marked[1] == "LONDON"


def test_numbers_and_sets_are_compared_too() -> None:
    from hf_trainpipe import MultiLabelClassification, Regression, Reranking

    class Still:
        given = ""

    numbers = comparison_for(Regression("text"))
    negation = next(one for one in BUILT_IN if one.name == "negation")
    typos = BUILT_IN[0]
    assert numbers.asked(negation) is None
    allowed = numbers.tolerance([{"score": float(value)} for value in range(11)])
    assert allowed == pytest.approx(0.8)
    assert numbers.holds(typos, {"score": 1.0}, {"score": 1.7}, Still(), allowed)[0]  # type: ignore[arg-type]
    assert not numbers.holds(typos, {"score": 1.0}, {"score": 1.9}, Still(), allowed)[0]  # type: ignore[arg-type]
    sets = comparison_for(MultiLabelClassification("text", names=("a", "b")))
    one, two = [{"label": "a", "score": 0.9}], [{"label": "a", "score": 0.8}, {"label": "b", "score": 0.6}]
    assert sets.holds(typos, one, one, Still(), 0.05) == (True, 0.0)  # type: ignore[arg-type]
    assert sets.holds(typos, one, two, Still(), 0.05) == (False, 0.6)  # type: ignore[arg-type]
    assert sets.holds(negation, one, two, Still(), 0.05)[0]  # type: ignore[arg-type]
    with pytest.raises(hf_trainpipe.DataError, match="expected one of a, b, found 'c'"):
        sets.asked(replace(typos, label="c"))
    with pytest.raises(hf_trainpipe.RecipeError, match="answers something else"):
        comparison_for(Reranking())
