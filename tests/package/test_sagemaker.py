"""``code/inference.py``, called like a SageMaker container: by file, from another folder, in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from hf_trainpipe.package.layout import read_manifest
from hf_trainpipe.runtime.handler.predictor import Predictor
from tests.package.conftest import SENTENCES, TEXTS

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import importlib.util, json, sys
def load(folder, number):
    spec = importlib.util.spec_from_file_location(f"inference{number}", folder + "/code/inference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
answers = []
for number, (folder, body) in enumerate(json.load(sys.stdin)):
    entry = load(folder, number)
    model = entry.model_fn(folder)
    for context in ((), (None,)):  # newer containers pass one
        data = entry.input_fn(json.dumps(body).encode(), "application/json; charset=utf-8", *context)
        answers.append(json.loads(entry.output_fn(entry.predict_fn(data, model, *context), "*/*", *context)))
    for wrong in (lambda: entry.input_fn(b"a,b", "text/csv"), lambda: entry.output_fn([], "text/csv"),
                  lambda: entry.predict_fn({"text": "a"}, model)):
        try:
            wrong()
        except ValueError as error:
            answers.append(str(error))
assert "hf_trainpipe" not in sys.modules
json.dump(answers, sys.stdout)
"""


def test_two_packages_answer_as_their_predictors(classifier_run: Path, tagger_run: Path, tmp_path: Path) -> None:
    cases = [
        (classifier_run / "package", {"inputs": TEXTS, "parameters": {"top_k": 2}}),
        (tagger_run / "package", {"inputs": SENTENCES[0]}),
    ]
    given = json.dumps([(str(folder), body) for folder, body in cases])
    done = subprocess.run(
        [sys.executable, "-X", "warm", "-I", "-B", "-c", SCRIPT],
        cwd=tmp_path,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = [
        Predictor.load(classifier_run / "package").predict(TEXTS, top_k=2),
        Predictor.load(tagger_run / "package").predict(SENTENCES[:1])[0],
    ]
    for place, answer in ((0, expected[0]), (1, expected[0]), (5, expected[1]), (6, expected[1])):
        assert json.dumps(found[place]) == json.dumps(answer)
    for place in (2, 7):
        assert found[place : place + 2] == [
            "Content-Type: expected application/json, found 'text/csv'.",
            "Accept: expected application/json, found 'text/csv'.",
        ]
        assert found[place + 2].startswith("body: expected an object with 'inputs'")


@pytest.mark.parametrize("name", ["inference.py", "requirements.txt"])
def test_it_is_part_of_the_package(classifier_run: Path, name: str) -> None:
    package = classifier_run / "package"
    assert f"code/{name}" in read_manifest(package)["files"]
    if name == "requirements.txt":
        assert (package / "code" / name).read_text() == (package / name).read_text()
