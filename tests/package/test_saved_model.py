"""A SavedModel: what is said where its environment is not there, and what a package may hold of it.

The conversion itself needs TensorFlow and takes minutes: ``scripts/tensorflow``.
"""

from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from hf_trainpipe.cli import run
from hf_trainpipe.cli.package_verbs import keep_models
from hf_trainpipe.errors import MissingExtra
from hf_trainpipe.package import layout
from hf_trainpipe.package.saved_model import card, environment
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.runtime.safety.files import is_package_file, limit_of

FACTS = {
    "tensorflow": "2.21.0",
    "inputs": ["input_ids", "attention_mask"],
    "preprocessing": [{"kind": "NormalizeSpace"}],
    "saved_model": {"n": 64, "max_abs_diff": 2e-6, "tolerance": 1e-4, "shapes": [[1, 1], [8, 128]], "shapes_max_abs_diff": 3e-6},
}  # fmt: skip


@pytest.mark.parametrize(("named", "lacks"), [("/nowhere", "an interpreter"), (sys.executable, "tensorflow")])
def test_without_its_environment_the_commands_that_make_it_are_said_and_nothing_is_written(
    named: str, lacks: str, classifier_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(environment.VARIABLE, named)
    before = layout.hash_files(classifier_run / "package")
    assert run(["package", str(classifier_run / "package"), "--tensorflow"]) == 2
    said = capsys.readouterr().err
    assert f"it lacks {lacks}" in said
    assert "-m venv" in said
    assert all(pin in said for pin in environment.REQUIREMENTS)
    assert len(said.splitlines()) < 12
    assert layout.hash_files(classifier_run / "package") == before


def test_the_pins_of_its_environment_are_those_that_were_tested() -> None:
    pins = (Path(__file__).parents[2] / "constraints.txt").read_text().split()
    assert {pin for pin in environment.REQUIREMENTS if not pin.startswith("tensorflow")} <= set(pins)
    assert issubclass(MissingExtra, ImportError)


def test_a_package_may_hold_a_saved_model_and_loads_without_reading_it(classifier_run: Path, tmp_path: Path) -> None:
    package = shutil.copytree(classifier_run / "package", tmp_path / "package")
    names = [
        "tensorflow/saved_model/saved_model.pb",
        "tensorflow/saved_model/fingerprint.pb",
        "tensorflow/saved_model/variables/variables.index",
        "tensorflow/saved_model/variables/variables.data-00000-of-00001",
        "tensorflow/model.tflite",
        "tensorflow/tokenizer.json",
        "tensorflow/facts.json",
    ]
    assert all(is_package_file(name) for name in names)
    assert not is_package_file("tensorflow/saved_model/assets/run.py")
    assert limit_of(names[3]) is limit_of(names[4]) is None
    for name in names:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("written")
    manifest = layout.read_manifest(package)
    layout.write_json(package / layout.MANIFEST, {**manifest, "files": layout.hash_files(package)})
    layout.refuse_changed(package, layout.read_manifest(package))
    (package / names[3]).write_text("changed")  # of the same size
    assert Predictor.load(package).predict(["The parcel arrived on time."])
    with pytest.raises(layout.PackageError, match="variables"):
        layout.refuse_changed(package, layout.read_manifest(package))


def test_the_card_has_a_loader_that_compiles_and_says_what_it_does_not_do() -> None:
    litert = {**FACTS["saved_model"], "lengths": [16, 32]}
    text = card.section({**FACTS, "litert": litert})
    blocks = text.split("```python\n")[1:]
    assert len(blocks) == 2
    for block in blocks:
        compile(block.partition("```")[0], "README.md", "exec")
    assert "NormalizeSpace" in text
    assert "8 x 128 tokens" in text


def test_a_package_that_is_written_again_keeps_its_further_models_or_says_what_it_has_lost(
    classifier_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = shutil.copytree(classifier_run, tmp_path / "run")
    manifest = layout.read_manifest(run_dir / "package")
    figures = {"file": "onnx/model.onnx", "tolerance": 1e-4}
    layout.write_json(
        run_dir / "package" / layout.MANIFEST, {**manifest, "backends": {"onnx": figures}, "backend": "onnx"}
    )
    asked = Namespace(onnx=False, int8=False, tensorflow=True, litert=False, backend=None)
    keep_models(run_dir, asked)
    assert (asked.onnx, asked.int8, asked.backend) == (True, False, "onnx")
    keep_models(run_dir, Namespace(onnx=False, tensorflow=False))
    assert f"hf-trainpipe package {run_dir} --onnx adds them" in capsys.readouterr().err
