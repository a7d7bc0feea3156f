"""Which runtime answers, and what a server imports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from hf_trainpipe.errors import MissingExtra, PackageError
from hf_trainpipe.serve import engine
from tests.runtime.conftest import seal
from tests.serve.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def test_an_equal_runtime_is_the_installed_one(package: Path) -> None:
    loaded = engine.load(package, allow_code=True)
    assert (loaded.runtime, type(loaded.predictor).__module__) == (
        "installed",
        "hf_trainpipe.runtime.handler.predictor",
    )
    assert not loaded.differs
    assert engine.load(package.parent).info["name"] == loaded.info["name"], "a run is as good as its package"


def test_code_of_a_package_runs_only_with_consent(package: Path, tmp_path: Path) -> None:
    copy = tmp_path / "package"
    shutil.copytree(package, copy)
    with (copy / "trainpipe_runtime" / "handler" / "predictor.py").open("a") as stream:
        stream.write("\nPredictor.is_the_package_s_own = True\n")
    seal(copy)
    without = engine.load(copy)
    assert without.differs
    assert without.runtime == "installed"
    assert not hasattr(without.predictor, "is_the_package_s_own")
    own = engine.load(copy, allow_code=True)
    assert own.runtime == "package"
    assert own.predictor.is_the_package_s_own
    body = own.read_body({"inputs": ["ada"]})
    assert own.predictor.predict(body.inputs) == without.predictor.predict(["ada"])
    with pytest.raises(own.input_error, match="found an empty text"):
        own.predictor.open([""])


def test_a_runtime_that_is_too_old_is_told(package: Path, tmp_path: Path) -> None:
    copy = tmp_path / "package"
    shutil.copytree(package, copy)
    with (copy / "trainpipe_runtime" / "handler" / "predictor.py").open("a") as stream:
        stream.write("\ndel Predictor.open\n")
    seal(copy)
    with pytest.raises(PackageError, match="cannot share the model") as caught:
        engine.load(copy, allow_code=True)
    assert caught.value.exit_code == 2
    assert engine.load(copy).runtime == "installed"


IMPORTS = """
import sys
from hf_trainpipe.serve import app, run, engine
from hf_trainpipe.serve.settings import Settings
heavy = ("accelerate", "datasets", "evaluate", "neptune", "torch", "transformers", "spacy")
print([name for name in heavy if name in sys.modules])
loaded = engine.load(sys.argv[1])
app.make_app(loaded, Settings(), batch_tokens=64)
loaded.predictor.predict(["ada"])
# transformers itself looks for accelerate once a model is loaded, where it is installed
print([name for name in ("datasets", "evaluate", "neptune", "spacy") if name in sys.modules])
ours = [m for n, m in sys.modules.items() if n.startswith("hf_trainpipe")]
print([m.__name__ for m in ours if any(getattr(x, "__name__", "") == "accelerate" for x in vars(m).values())])
allowed = ("cli", "errors", "package", "runtime", "serve", "tracking", "utils")
parts = {n.split(".")[1] for n in sys.modules if n.startswith("hf_trainpipe.")}
print(sorted(parts - set(allowed)))
"""


def test_a_server_imports_no_training_library(package: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(package)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]"] * 4


WITHOUT = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "uvicorn":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "uvicorn" else found(name, *rest)
from hf_trainpipe.cli import run
sys.exit(run(["serve", "nowhere"]))
"""


def test_without_the_extra_it_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == MissingExtra.exit_code == 2
    assert "serve needs uvicorn, which is not installed." in done.stderr
    assert "pip install 'hf-trainpipe[serve]'" in done.stderr
