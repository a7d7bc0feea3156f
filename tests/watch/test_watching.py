"""A package with a profile, logs, and a test that goes on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pytest
import torch

from hf_trainpipe.cli import run
from hf_trainpipe.errors import DRIFTED
from hf_trainpipe.package.layout import read_manifest, refuse_changed
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.runtime.model.outputs import Outputs
from hf_trainpipe.watch.measure import measure
from hf_trainpipe.watch.profile import ARRAYS, JSON
from hf_trainpipe.watch.vectors import WithVectors, taken_out, vectors_of
from hf_trainpipe.watch.watching import watch
from tests.package.conftest import SENTENCES, WORDS, write_package
from tests.package.conftest import tagger_run as tagger_run
from tests.watch.conftest import foreign, texts, write_log

SIZE = {"window": 60}


def test_a_package_gets_a_profile_of_numbers_and_answers_as_before(package: Path) -> None:
    manifest = read_manifest(package)
    refuse_changed(package, manifest)  # every file is listed with its hash
    assert {JSON, ARRAYS} <= set(manifest["files"])
    held = (package / JSON).read_bytes() + (package / ARRAYS).read_bytes()
    assert not [word for word in WORDS if len(word) > 7 and word.encode() in held]
    about = json.loads((package / JSON).read_bytes())
    assert about["texts"] == 300
    assert about["signals"] == ["embeddings", "novelty", "answers", "confidence", "vocabulary", "length"]
    assert sum(about["about"]["answers"].values()) == pytest.approx(1.0, abs=1e-3)
    assert len(Predictor.load(package).predict(["the parcel arrived"])) == 1


def test_a_text_is_measured_the_same_alone_and_among_others(package: Path) -> None:
    predictor = Predictor.load(package)
    asked = ["", *texts(6, seed=9), "ada " * 40, None]
    assert measure(predictor, ["", None]) == (None, [])
    together, kept = measure(predictor, asked)
    assert together is not None
    assert kept == list(range(1, 8))
    for position, at in enumerate(kept):
        alone, _ = measure(predictor, [asked[at]])
        assert alone is not None
        for name in ("vectors", "answers", "confidence"):
            np.testing.assert_allclose(getattr(together, name)[position], getattr(alone, name)[0], atol=1e-5)
        assert together.length[position] == alone.length[0]
    features = predictor.features([asked[at] for at in kept])
    by_itself = vectors_of(predictor, features, np.arange(len(kept)))  # of the encoder alone, without a head
    np.testing.assert_allclose(together.vectors, by_itself, atol=1e-5)


@pytest.mark.parametrize("given", [{"states": torch.ones(1, 2, 3)}, torch.ones(1, 2, 3), (torch.ones(1, 6),)])
def test_an_encoder_that_gives_no_known_states_has_no_vectors_and_fails_nothing(given: Any) -> None:
    class Odd(torch.nn.Module):
        base_model_prefix = "body"

        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Identity()

    task: Any = SimpleNamespace(
        outputs={}, predict=lambda model, inputs: {"logits": (model.body(given), torch.ones(1, 1))[1]}
    )
    found = WithVectors(task).predict(Odd(), {"attention_mask": torch.ones(1, 2, dtype=torch.int64)})
    arrays = {name: tensor.numpy() for name, tensor in found.items()}
    plain, vectors = taken_out(Outputs(np.arange(1), arrays))
    assert (list(plain.arrays), vectors) == (["logits"], None)


def test_words_are_measured_too(tagger_run: Path) -> None:
    found, kept = measure(Predictor.load(tagger_run / "package"), SENTENCES)
    assert kept == [0, 1, 2]
    assert found is not None
    assert found.answers is not None
    assert found.answers.shape == (3, 3)
    np.testing.assert_allclose(found.answers.sum(axis=1), 1.0, atol=1e-5)


def test_a_log_that_grows_is_read_on_and_tells_what_one_reading_of_the_whole_would(
    package: Path, tmp_path: Path
) -> None:
    rows = texts(200, seed=1)
    whole = watch(package, write_log(tmp_path / "whole.jsonl", rows), state=tmp_path / "a", promised=SIZE)
    log, state = tmp_path / "log.jsonl", tmp_path / "b"
    first = watch(package, write_log(log, rows[:70]), state=state, promised=SIZE)
    assert (first.rows, first.new, first.pending) == (70, 1, 10)
    again = watch(package, log, state=state)
    assert (again.rows, again.known, again.new) == (0, 70, 0)
    written = {path.name: path.stat().st_ino for path in state.glob("*-window-*")}
    second = watch(package, write_log(log, rows), state=state)
    assert written.items() < {path.name: path.stat().st_ino for path in state.glob("*-window-*")}.items(), (
        "written once"
    )
    assert (second.rows, second.known, second.new, second.pending) == (130, 70, 2, 20)
    assert not second.drifted
    for name, evidence in whole.windows.evidence.items():
        np.testing.assert_allclose(second.windows.evidence[name].log_money, evidence.log_money, atol=1e-4)
    held = "".join(path.read_bytes().decode("latin-1") for path in state.iterdir())
    assert not [row for row in rows if row in held]  # no text


def test_a_log_elsewhere_is_read_once_like_a_file(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    address = "memory://watched/log.jsonl"
    fsspec.filesystem("memory").pipe(address, write_log(tmp_path / "log.jsonl", texts(30, seed=6)).read_bytes())
    for rows, known in ((30, 0), (0, 30)):
        assert run(["watch", str(package), "--input", address, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["rows"], told["known_rows"], told["pending"]) == (rows, known, 30)


def test_foreign_texts_end_with_10_are_named_and_stay_an_alarm_until_a_new_test_begins(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = texts(300, seed=2)
    strange = dict(zip(range(60, 300, 3), foreign(80, seed=3), strict=True))
    log = write_log(tmp_path / "log.jsonl", [strange.get(row, text) for row, text in enumerate(rows)])
    page = tmp_path / "watch.html"
    arguments = ["watch", str(package), "--input", str(log), "--window", "60", "--json"]
    assert run([*arguments, "--html", str(page)]) == DRIFTED
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["drifted"]
    assert told["alarm"]["window"] in (2, 3, 4)
    assert min(told["alarm"]["since"].values()) in (1, 2, 3)
    named = {one["text"] for one in told["moved"] if one["signal"] in ("novelty", "vocabulary", "embeddings")}
    assert len(named & {*strange.values()}) >= len(named) * 0.8
    assert all(one["place"].startswith(str(log)) for one in told["moved"])
    content = page.read_text()
    assert "Drifted" in content
    assert told["moved"][0]["text"] in content
    assert told["verdict"].startswith("Drifted: ")
    assert run(arguments) == DRIFTED
    later = json.loads(capsys.readouterr().out)
    assert (later["new_windows"], later["moved"][0]["text"]) == (0, None)
    assert run(["watch", str(package), "--input", str(write_log(tmp_path / "plain.jsonl", rows)), "--reset"]) == 0
    assert "No drift shown" in capsys.readouterr().out


def test_what_cannot_be_watched_is_said(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write_log(tmp_path / "log.jsonl", texts(40, seed=4))
    bare = write_package(tmp_path / "bare")
    assert run(["watch", str(bare), "--input", str(log)]) == 2
    assert "--make-profile" in capsys.readouterr().err
    assert run(["watch", str(bare), "--make-profile", "--input", str(log)]) == 2
    assert "needs 100 texts" in capsys.readouterr().err
    assert run(["watch", str(package), "--input", str(log), "--window", "30"]) == 0
    assert run(["watch", str(package), "--input", str(log), "--window", "40"]) == 2
    assert "began with window 30" in capsys.readouterr().err
    assert run(["watch", str(package), "--input", str(log), "--reset", "--column", "nothing"]) == 2
    assert run(["watch", str(package), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["windows"] == 1, "a call that read nothing resets nothing"
    (package / ARRAYS).write_bytes(b"x")
    assert run(["watch", str(package), "--input", str(log)]) == 2
    assert "not as trainpipe.json says" in capsys.readouterr().err
