from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

import hf_trainpipe.runtime
from hf_trainpipe.runtime.errors import InputError, SchemaError
from hf_trainpipe.runtime.handler.endpoint import EndpointHandler
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.runtime.safety import schema
from tests.runtime.conftest import seal

RUNTIME = Path(str(hf_trainpipe.runtime.__file__)).parent
MakePackage = Callable[..., Path]
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def test_answers_come_in_the_order_of_the_inputs(make_package: MakePackage, tokenizer: Any) -> None:
    folder = make_package(preprocessing=[{"kind": "NormalizeSpace"}])
    predictor = Predictor.load(folder)
    texts = ["the  cat sat", "good", "bad dog , " * 20, "a", "anna left rome ."]
    answers = predictor.predict(texts, batch_tokens=40)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    for text, answer in zip(texts, answers, strict=True):
        with torch.no_grad():
            batch = tokenizer(" ".join(text.split()), truncation=True, max_length=32, return_tensors="pt")
            expected = model(**batch).logits.softmax(-1)[0]
        assert {item["label"]: item["score"] for item in answer} == pytest.approx(
            {"negative": float(expected[0]), "positive": float(expected[1])}, abs=1e-5
        )
        assert answer[0]["score"] >= answer[1]["score"]
    assert predictor.predict([]) == []
    assert [len(answer) for answer in predictor.predict(texts, top_k=1)] == [1] * 5
    assert predictor.outputs([*texts, ""])["logits"].shape == (6, 2)
    assert json.loads(json.dumps(answers)) == answers


def test_pairs(make_package: MakePackage) -> None:
    predictor = Predictor.load(make_package(kind="regression", labels=(), inputs="pair"))
    a, b = "the cat", "the dog sat"
    first, second, other = predictor.predict([(a, b), {"text": a, "text_pair": b}, [b, a]])
    assert first["score"] == pytest.approx(second["score"], abs=1e-5)
    assert first["score"] != pytest.approx(other["score"], abs=1e-3)
    assert set(first) == {"score"}
    for wrong in ("the cat", ("a",), {"text": "a"}, ("a", 1), ("a", ""), {"text": "a", "text_pair": "b", "c": 1}):
        with pytest.raises(InputError, match=r"inputs\[1\]: expected a pair of texts") as caught:
            predictor.predict([(a, b), wrong])
        assert caught.value.data["position"] == 1


def test_windows_and_dropped_lengths(make_package: MakePackage) -> None:
    texts = ["the cat sat good bad dog left rome anna " * 6, "good"]
    windows = Predictor.load(
        make_package(kind="multi_label", name="w", tokens={"max_length": 12, "overflow": "window", "stride": 3})
    )
    assert windows.outputs(texts)["logits"].shape == (2, 2)
    assert len(windows.predict(texts, threshold=0.0)[0]) == 2
    dropping = Predictor.load(make_package(name="d", tokens={"max_length": 12, "overflow": "drop", "stride": 0}))
    assert dropping.outputs(texts).items.tolist() == [1]
    with pytest.raises(InputError, match="Example 0 has 54 tokens"):
        dropping.predict(texts)


@pytest.fixture
def tagger(make_package: MakePackage) -> Path:
    return make_package(
        kind="tags",
        labels=TAGS,
        options={"scheme": "BIO"},
        inputs="words",
        splitter="regex",
        preprocessing=[{"kind": "StripHtml"}, {"kind": "NormalizeSpace"}, {"kind": "Lowercase"}],
        tokens={"max_length": 12, "overflow": "window", "stride": 3},
    )


def test_places_are_in_the_text_as_it_was_given(tagger: Path) -> None:
    predictor = Predictor.load(tagger)
    text = "<p>Anna   left <b>Rome</b> &amp; Bob sat. The cat sat, good dog!</p>"
    plain = ["anna", "left", "rome", "&", "bob", "sat", ".", "the", "cat", "sat", ",", "good", "dog", "!"]
    each, by_word = predictor.predict([text, {"words": plain}], aggregation="none")
    given = [item["text"] for item in each]
    assert given == ["Anna", "left", "Rome", "&amp;", "Bob", "sat", ".", "The", "cat", "sat", ",", "good", "dog", "!"]
    assert all(text[item["start"] : item["end"]] == item["text"] for item in each)
    assert [item["label"] for item in each] == [item["label"] for item in by_word]
    assert [(item["start"], item["end"]) for item in by_word] == [(i, i + 1) for i in range(14)]
    entities = predictor.predict([text])[0]
    assert entities
    assert all(text[item["start"] : item["end"]] == item["text"] for item in entities)
    assert all(item["label"] in ("PER", "LOC") and 0 < item["score"] <= 1 for item in entities)
    assert predictor.outputs([{"words": []}, {"words": ["a"]}]).starts["logits"].tolist() == [0, 0, 1]


def test_a_tagged_text_without_words(make_package: MakePackage) -> None:
    folder = make_package(
        kind="tags", labels=TAGS, options={"scheme": "BIO"}, inputs="words", preprocessing=[{"kind": "StripHtml"}]
    )
    assert Predictor.load(folder).predict(["<p></p>"]) == [[]]


@pytest.mark.parametrize(
    "wrong", [{"words": []}, {"words": ["a", 1]}, {"words": "abc"}, {"tokens": []}, 3, None, ["a"]]
)
def test_wrong_words_are_refused(tagger: Path, wrong: object) -> None:
    with pytest.raises(InputError, match=r"inputs\[0\]: expected a text, \{'text': \.\.\.\} or \{'words'") as caught:
        Predictor.load(tagger).predict([wrong])
    assert "Anna" in caught.value.fix


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("a text", r"inputs: expected a list, .* found str 'a text'"),
        ({"text": "a"}, r"inputs: expected a list"),
        (["a", ""], r"inputs\[1\]: .*found an empty text"),
        (["  "], "found an empty text"),
        ([3], r"inputs\[0\]: expected a text.*found int 3"),
        ([b"a"], "found bytes"),
        (["a\ud800"], "lone surrogate"),
        ([("a", "b")], "found tuple"),
        ([{"words": ["a"]}], "found dict"),
        (["x" * 10, ["y" * 1000]], r"found list .{70,80}\.\.\."),
    ],
)
def test_wrong_texts_are_refused(make_package: MakePackage, inputs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Predictor.load(make_package()).predict(inputs)


def test_incomplete_packages_are_refused(make_package: MakePackage, tmp_path: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json", "config.json", "trainpipe.json"):
        folder = make_package(name="without-" + name)
        (folder / name).unlink()
        with pytest.raises(SchemaError, match=f"found no {name}"):
            Predictor.load(folder)
    with pytest.raises(SchemaError, match="expected a package"):
        Predictor.load(tmp_path / "nowhere")


def test_pickled_weights_are_not_read(make_package: MakePackage) -> None:
    folder = make_package()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SchemaError, match=r"found no model\.safetensors"):
        Predictor.load(folder)


# The handler, as Inference Endpoints and the package itself use it.


def test_handler_shapes(make_package: MakePackage) -> None:
    handler = EndpointHandler(str(make_package()))
    one = handler({"inputs": "the cat"})
    assert [set(item) for item in one] == [{"label", "score"}] * 2
    assert len(handler({"inputs": "the cat", "parameters": {"top_k": 1}})) == 1
    assert handler({"inputs": "the cat", "parameters": None}) == one
    assert handler({"inputs": []}) == []
    for wrong, message in (
        ({}, "expected an object with 'inputs', found the keys"),
        ({"text": "a"}, r"found the keys \['text'\]"),
        ("a", "found str"),
        ({"inputs": "a", "parameters": [1]}, "parameters: expected an object"),
        ({"inputs": "a", "parameters": {"topk": 1}}, "found 'topk'"),
        ({"inputs": [], "parameters": {"topk": 1}}, "found 'topk'"),
        ({"inputs": "a", "options": {}}, "found 'options'"),
        ({"inputs": None}, "found NoneType"),
    ):
        with pytest.raises(InputError, match=message):
            handler(wrong)


STEP = """
from __future__ import annotations
from dataclasses import dataclass
from hf_trainpipe import Recipe, TextClassification
from hf_trainpipe.runtime.edits import Edit
from hf_trainpipe.runtime.preprocessing import Preprocessor, NormalizeSpace

@dataclass(frozen=True)
class MyTask(TextClassification):
    more: int = 1

@dataclass(frozen=True)
class Shorten(Preprocessor):
    keep: int = 3
    def edits(self, texts):
        for text in texts:
            yield [Edit(self.keep, len(text), "")] if len(text) > self.keep else []
"""

ALONE = """
import json, os, sys
sys.path[:] = [p for p in sys.path if p not in ("", {root!r})]
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hf_trainpipe":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
import importlib.util
def load(folder, name):
    spec = importlib.util.spec_from_file_location(name, folder + "/handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EndpointHandler
answers = []
for number, folder in enumerate({folders!r}):
    handler = load(folder, f"handler{{number}}")(*[folder][: 1 - number])  # the second finds its folder itself
    answers.append(handler({{"inputs": ["the cat sat", "good"]}}))
# transformers itself imports accelerate where it is installed, once a model is loaded.
bad = [m for m in ("datasets", "neptune", "evaluate", "spacy", "hf_trainpipe") if m in sys.modules]
print(json.dumps([answers, bad]))
"""


def test_packages_work_alone_and_beside_each_other(make_package: MakePackage, tmp_path: Path) -> None:
    code = {"file": "steps.py", "sha256": hashlib.sha256(STEP.encode()).hexdigest()}
    first = make_package(name="first")
    second = make_package(name="second", code=code, preprocessing=[{"kind": "Shorten", "keep": 2}])
    (second / "steps.py").write_text(STEP)
    seal(second)
    folders = [str(first), str(second)]
    script = ALONE.format(root=str(RUNTIME.parent.parent), folders=folders)
    done = subprocess.run(
        [sys.executable, "-X", "warm", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "TRAINPIPE_ALLOW_CODE": "1", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers, bad = json.loads(done.stdout.splitlines()[-1])
    assert bad == []
    for folder, found in zip(folders, answers, strict=True):
        here = Predictor.load(folder, allow_code=True).predict(["the cat sat", "good"])
        for mine, theirs in zip(here, found, strict=True):
            assert [x["label"] for x in mine] == [x["label"] for x in theirs]
            assert [x["score"] for x in mine] == pytest.approx([x["score"] for x in theirs], abs=1e-6)


def test_code_runs_only_with_consent(make_package: MakePackage, monkeypatch: pytest.MonkeyPatch) -> None:
    source = STEP.replace("from hf_trainpipe import Recipe, TextClassification\n", "TextClassification = object\n")
    code = {"file": "steps.py", "sha256": hashlib.sha256(source.encode()).hexdigest()}
    folder = make_package(code=code, preprocessing=[{"kind": "Shorten", "keep": 3}])
    monkeypatch.delenv("TRAINPIPE_ALLOW_CODE", raising=False)
    with pytest.raises(SchemaError, match=r"the code 'steps\.py' is not among its files"):
        Predictor.load(folder, allow_code=True)
    (folder / "steps.py").write_text(source)
    seal(folder)
    with pytest.raises(SchemaError, match="carries code") as caught:
        Predictor.load(folder)
    assert "TRAINPIPE_ALLOW_CODE=1" in caught.value.fix
    (folder / "steps.py").write_text(source.replace("3", "4"))
    with pytest.raises(SchemaError, match=r"steps\.py has sha256"):
        Predictor.load(folder, allow_code=True)
    (folder / "steps.py").write_text(source)
    predictor = Predictor.load(folder, allow_code=True)
    np.testing.assert_array_equal(predictor.outputs(["the cat"])["logits"], predictor.outputs(["the dog"])["logits"])
    monkeypatch.setenv("TRAINPIPE_ALLOW_CODE", "1")
    assert Predictor.load(folder).predict(["the cat"])


def test_the_root_handler_forgets_a_failed_load(make_package: MakePackage) -> None:
    folder = make_package()
    init = folder / "trainpipe_runtime" / "__init__.py"
    text = init.read_text()
    init.write_text("raise RuntimeError('broken')")
    spec = importlib.util.spec_from_file_location("root_handler_once", folder / "handler.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    before = set(sys.modules)
    with pytest.raises(RuntimeError, match="broken"):
        module.EndpointHandler()
    assert {name for name in set(sys.modules) - before if name.startswith("trainpipe_runtime")} == set()
    init.write_text(text + "\n")
    os.utime(init, (2_000_000_000, 2_000_000_000))
    seal(folder)
    assert module.EndpointHandler()({"inputs": "the cat"})


# trainpipe.json


def test_schema_round_trip(make_package: MakePackage) -> None:
    folder = make_package(scores={"test": {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}}})
    info = schema.read(folder)
    assert info.to_json()["schema"] == 2
    assert schema.validate(info.to_json()) == info


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 3}, "expected schema 2, found 3"),
        ({"schema": None}, "expected schema 2, found None"),
        ({"extra": 1}, "'extra' is not a field"),
        ({"name": ""}, "name: expected a name"),
        ({"task": {"text": "review"}}, "task: expected an object with a kind"),
        ({"about": {"reads": "text"}}, "about: expected an object with reads"),
        ({"tokens": {"max_length": 0, "overflow": "truncate", "stride": 0}}, "tokens: expected"),
        ({"preprocessing": [{"form": "NFC"}]}, "preprocessing: expected"),
        ({"files": {"../a": {"size": 1, "sha256": "0" * 64}}}, "files: expected"),
        ({"code": {"file": "/a.py", "sha256": "0" * 64}}, "code: expected"),
        ({"code": {"file": "a.py", "sha256": "0"}}, "code: expected"),
        ({"scores": {"test": {"accuracy": 0.9}}}, "scores: expected"),
    ],
)
def test_wrong_schemas_are_refused(make_package: MakePackage, change: dict[str, Any], message: str) -> None:
    value = {**schema.read(make_package()).to_json(), **change}
    with pytest.raises(SchemaError, match=message):
        schema.validate(value)


def test_missing_and_broken_schemas(make_package: MakePackage) -> None:
    folder = make_package()
    value = schema.read(folder).to_json()
    for name in value.keys() - schema._OPTIONAL:  # packages of before they were there are read
        with pytest.raises(SchemaError, match=name):
            schema.validate({key: item for key, item in value.items() if key != name})
    (folder / "trainpipe.json").write_text("{")
    with pytest.raises(SchemaError, match="not valid JSON"):
        schema.read(folder)
    with pytest.raises(SchemaError, match="expected an object"):
        schema.validate([])


# What the runtime may import: a server some of it, whoever scores texts the rest.

ALLOWED = {"flash_attn", "nltk", "numpy", "onnxruntime", "safetensors", "torch", "transformers", "tokenizers", "spacy"}
ALLOWED |= {"rouge_score", "sacrebleu"}


@pytest.mark.parametrize(
    "path", sorted(RUNTIME.rglob("*.py")), ids=lambda path: path.relative_to(RUNTIME).with_suffix("").as_posix()
)
def test_the_runtime_imports_nothing_of_the_project(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            place = path.parents[node.level - 1]
            assert place.is_relative_to(RUNTIME), "a relative import never leaves the runtime"
            place = place.joinpath(*(node.module or "").split("."))
            assert place.is_dir() or place.with_suffix(".py").is_file()
            continue
        roots = []
        if isinstance(node, ast.Import):
            roots = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            roots = [str(node.module).split(".")[0]]
        for root in roots:
            assert root in sys.stdlib_module_names | ALLOWED | {"__future__"}, f"{path.name} imports {root}"


def test_loading_the_handler_loads_no_training_library() -> None:
    code = (
        "import sys, hf_trainpipe.runtime.handler.predictor, hf_trainpipe.runtime.handler.endpoint\n"
        "bad = [m for m in ('accelerate', 'datasets', 'neptune', 'evaluate', 'spacy') if m in sys.modules]\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
