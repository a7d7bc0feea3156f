"""The package is tried before the first step: failures come then, not after training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hf_trainpipe import Files, Pretrained, Recipe, RunOptions, TextClassification, Tokens, execute
from hf_trainpipe.errors import PackageError
from hf_trainpipe.package import imports
from hf_trainpipe.package.layout import hash_files
from hf_trainpipe.recipe_file import load
from hf_trainpipe.runtime.errors import SchemaError
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.runtime.handler.user_code import wanted_by_star
from hf_trainpipe.testing import tiny_model

CONFIGURATION = """
from transformers import PretrainedConfig


class OwnConfig(PretrainedConfig):
    model_type = "own"

    def __init__(self, vocab_size=120, hidden_size=16, **more):
        super().__init__(**more)
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
"""
MODELING = """
import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from .configuration_own import OwnConfig


class OwnForSequenceClassification(PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.table = torch.nn.Embedding(config.vocab_size, config.hidden_size)
        self.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def get_input_embeddings(self):
        return self.table

    def forward(self, input_ids=None, attention_mask=None, **more):
        sums = (self.table(input_ids) * attention_mask[..., None]).sum(1)
        return SequenceClassifierOutput(logits=self.classifier(sums / attention_mask.sum(1, keepdim=True)))
"""
STEPS = """
from hf_trainpipe import *
from dataclasses import dataclass
import re

from hf_trainpipe.runtime.preprocessing import Edit

LIMITS = Tokens(max_length=16)


def places(text):
    return re.finditer("very ", text)


@dataclass(frozen=True)
class NoVery(Preprocessor):
    def edits(self, texts):
        for text in texts:
            yield [Edit(found.start(), found.end(), "") for found in places(text)]


def recipe():
    return Recipe(
        name="own",
        model=Pretrained("own", trust_remote_code=True),
        data=Files(train="train.csv"),
        preprocessing=(NoVery(), NormalizeSpace()),
        task=TextClassification("text", label="label"),
        tokens=LIMITS,
        budget=Budget(max_steps=1, examples_per_step=16),
    )
"""


@pytest.fixture
def folder(workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(workshop.folder / "train.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    return tmp_path


def own_model(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tiny = tiny_model(folder / "tiny")
    target = folder / "own"
    target.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny / name, target)
    (target / "configuration_own.py").write_text(CONFIGURATION)
    (target / "modeling_own.py").write_text(MODELING)
    table = load_file(tiny / "model.safetensors")["embeddings.word_embeddings.weight"]
    classes = {"AutoConfig": "configuration_own.OwnConfig",
               "AutoModelForSequenceClassification": "modeling_own.OwnForSequenceClassification"}  # fmt: skip
    sizes = {"vocab_size": len(table), "hidden_size": table.shape[1]}
    (target / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": classes, **sizes}))
    save_file({"table.weight": table}, target / "model.safetensors", metadata={"format": "pt"})


def test_a_star_import_and_a_model_with_code_of_its_own_travel(folder: Path) -> None:
    own_model(folder)
    (folder / "steps.py").write_text(STEPS)
    recipe, source = load("steps.py")
    result = execute(recipe, run_dir=folder / "run", options=RunOptions(source=source))
    assert result.verified["passed"]
    assert not (folder / "run" / "trial").exists()
    assert len(list((folder / "cache" / "trials").iterdir())) == 1
    manifest = json.loads((result.package / "trainpipe.json").read_text())
    assert manifest["model_code"] == ["configuration_own.py", "modeling_own.py"]
    assert {"steps.py", *manifest["model_code"]} <= set(manifest["files"])
    with pytest.raises(SchemaError, match="needs code of its own"):
        Predictor.load(result.package)
    config = json.loads((result.package / "config.json").read_text())
    config["auto_map"]["AutoModelForSequenceClassification"] = "user/name--modeling_own.OwnForSequenceClassification"
    (result.package / "config.json").write_text(json.dumps(config))
    (result.package / "trainpipe.json").write_text(json.dumps({**manifest, "files": hash_files(result.package)}))
    with pytest.raises(SchemaError, match="auto_map names code outside of the package"):
        Predictor.load(result.package, allow_code=True)


def test_what_would_not_travel_is_refused_before_the_first_step(folder: Path) -> None:
    tiny_model(folder / "own")
    (folder / "helper_beside.py").write_text("def places(text):\n    return []\n")
    text = STEPS.replace("import re\n", "import re\nimport helper_beside\n").replace(", trust_remote_code=True", "")
    (folder / "steps.py").write_text(text)
    recipe, source = load("steps.py")
    with pytest.raises(PackageError, match=r"training does not begin\.\nsteps\.py imports 'helper_beside'") as caught:
        execute(recipe, run_dir=folder / "run", options=RunOptions(source=source))
    assert caught.value.exit_code == 6
    assert not (folder / "run" / "trial").exists()
    assert not (folder / "run" / "checkpoints").exists()


def test_a_tokenizer_that_comes_back_otherwise_is_refused_before_the_first_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package has no foreign code, so it is loaded in this process."""
    model = tiny_model(folder / "model")
    data, task = Files(train="train.csv"), TextClassification("text", label="label")
    recipe = Recipe(name="tiny", model=Pretrained(str(model)), data=data, task=task, tokens=Tokens(max_length=32))
    from transformers import BertTokenizer

    saved = BertTokenizer.save_pretrained

    def broken(self: BertTokenizer, where: str, **more: object) -> object:
        found = saved(self, where, **more)
        path = Path(where) / "tokenizer.json"
        path.write_text(path.read_text().replace('"good"', '"gooood"'))
        return found

    monkeypatch.setattr(BertTokenizer, "save_pretrained", broken)
    with pytest.raises(PackageError, match="does not answer as the model in training does"):
        execute(recipe, run_dir=folder / "run")
    assert not (folder / "run" / "checkpoints").exists()
    assert not (folder / "cache" / "trials").exists()


def test_a_star_brings_the_names_that_a_file_uses_and_does_not_make() -> None:
    source = b"import re as r\nfrom hf_trainpipe import *\nx = 1\ndef f(a):\n    return Tokens(len(a), x, r)\n"
    assert wanted_by_star(source) == ("Tokens",)


def test_pins_of_what_a_recipe_imports(tmp_path: Path) -> None:
    code = tmp_path / "recipe.py"
    code.write_text(
        "import json\nimport sklearn.metrics\nfrom hf_trainpipe import *\ntry:\n    import nowhere\nexcept ImportError:\n"
        "    pass\nclass Step:\n    def edits(self):\n        import yaml\ndef recipe():\n    import pandas, beside\n"
    )
    (tmp_path / "beside.py").write_text("")
    names = [pin.partition("==")[0].lower() for pin in imports.requirements_of(code)]
    assert names == ["scikit-learn", "pyyaml"]
    code.write_text("from beside import thing\n")
    with pytest.raises(PackageError, match="'beside', a local file"):
        imports.requirements_of(code)
