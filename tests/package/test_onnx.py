from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification

from hf_trainpipe import Calibration, Evaluation, Frame, Pretrained, Recipe, TextClassification, replace
from hf_trainpipe.api.package import load
from hf_trainpipe.errors import PackageError
from hf_trainpipe.package import layout, onnx, onnx_export, probe
from hf_trainpipe.package.saved_model import add as saved_model
from hf_trainpipe.runtime.errors import InputError, SchemaError
from hf_trainpipe.runtime.handler.endpoint import EndpointHandler
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.runtime.model.onnx_model import FILES, OnnxModel, OnnxTokenizer
from hf_trainpipe.runtime.model.pooling import APART, AUTO, Pooling
from hf_trainpipe.runtime.tasks import Regression
from hf_trainpipe.runtime.tasks.older import task_of_decoder
from tests.nightly import at_night
from tests.package.conftest import SENTENCES, TEXTS, write_package

SIZES = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 64, "max_position_embeddings": 66, "pad_token_id": 0, "initializer_range": 0.3}  # fmt: skip
ALIKE = ("roberta", "xlm-roberta", "electra", "mpnet", "distilbert", "bert-mean", "modernbert")
"""Tested at night: architectures that are exported as others below are, and the second that is not."""
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": SIZES,
    "roberta": {**SIZES, "type_vocab_size": 1},
    "xlm-roberta": {**SIZES, "type_vocab_size": 1},
    "distilbert": {"vocab_size": 100, "dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64,
                   "max_position_embeddings": 64, "pad_token_id": 0, "initializer_range": 0.3},
    "electra": {**SIZES, "embedding_size": 16},
    "mpnet": SIZES,
    "modernbert": {**SIZES, "num_hidden_layers": 2, "local_attention": 16, "global_attn_every_n_layers": 2, "bos_token_id": 2,
                   "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3},
    "deberta-v2": {**SIZES, "num_hidden_layers": 2, "relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"],
                   "share_att_key": True, "type_vocab_size": 0, "pooler_hidden_size": 32},
}  # fmt: skip
TYPED = ("bert", "electra", "bert-mean")
POOLED: dict[str, tuple[str, Pooling]] = {"bert-mean": ("bert", "mean")}


def recipe(labels: list[str]) -> Recipe:
    import pandas as pd

    frame = pd.DataFrame({"text": [*TEXTS[:3]] * 4, "label": labels})
    return Recipe(
        name="tiny",
        model=Pretrained("unused"),
        data=Frame(train=frame, validation=frame),
        task=TextClassification("text", label="label", names=("calm", "angry", "sad")),
        evaluation=Evaluation(select="accuracy"),
    )


@pytest.mark.parametrize(
    "kind", [*at_night(*ALIKE), *(kind for kind in (*ARCHITECTURES, *POOLED) if kind not in ALIKE)]
)
def test_each_architecture_answers_alike_at_any_shape(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tagging = kind in ("roberta", "electra")
    auto = AutoModelForTokenClassification if tagging else AutoModelForSequenceClassification
    name, pooling = POOLED.get(kind, (kind, None))
    model_class: Any = auto if pooling is None else AUTO[pooling]
    model = model_class.from_config(AutoConfig.for_model(name, **ARCHITECTURES[name], num_labels=3)).eval()
    onnx_export.export(model, tmp_path / "model.onnx", takes_types=kind in TYPED, num_tokens=100)
    session = OnnxModel(tmp_path / "model.onnx", threads=1)
    generator = np.random.default_rng(0)
    for num, length in ((1, 2), (1, 33), (5, 60), (7, 3)):
        batch = {"input_ids": generator.integers(5, 100, (num, length)), "attention_mask": np.ones((num, length), int)}
        batch["attention_mask"][num // 2, length // 2 + 1 :] = 0
        if kind in TYPED:
            batch["token_type_ids"] = generator.integers(0, 2, (num, length))
        with torch.inference_mode():
            expected = model(**{name: torch.from_numpy(array) for name, array in batch.items()}).logits.numpy()
        found = session(batch)
        if tagging:
            is_token = batch["attention_mask"].astype(bool)
            expected, found = expected[is_token], found[is_token]
        assert np.abs(expected).max() > 0.05
        np.testing.assert_allclose(found, expected, atol=1e-4)


def on_onnx(package: Path, folder: Path) -> Predictor:
    torch_side = Predictor.load(package, device="cpu")
    (folder / "onnx").mkdir(parents=True)
    OnnxTokenizer.save(torch_side.tokenizer, folder)
    onnx.export_network(torch_side, folder / FILES["onnx"])
    return onnx._on_onnx(torch_side, folder, "onnx")


def test_tags_and_windows_answer_alike(tagger_run: Path, tmp_path: Path) -> None:
    predictor = on_onnx(tagger_run / "package", tmp_path)
    for aggregation in ("simple", "none"):
        found = predictor.predict(SENTENCES, aggregation=aggregation)
        expected = Predictor.load(tagger_run / "package").predict(SENTENCES, aggregation=aggregation)
        assert [[(e["label"], e["start"], e["end"]) for e in row] for row in found] == [
            [(e["label"], e["start"], e["end"]) for e in row] for row in expected
        ]
    assert len(predictor.outputs([])) == 0


@pytest.mark.nightly
def test_pairs_and_regression_answer_alike(tmp_path: Path) -> None:
    from tests.package.conftest import tiny_model

    pairs = [{"text": "Ada wrote programs.", "text_pair": "She lived in London!"}, ("the parcel", "on time . " * 30)]
    package = write_package(
        tmp_path / "run",
        inputs=[pairs[0]],
        model=tiny_model(()),
        task=task_of_decoder({"decoder": {"kind": "regression", "labels": []}, "inputs": "pair"}),
    )
    found = on_onnx(package, tmp_path / "stage").predict(pairs)
    expected = Predictor.load(package).predict(pairs)
    assert [row["score"] for row in found] == pytest.approx([row["score"] for row in expected], abs=1e-4)


def test_sides_that_are_read_apart_answer_alike(tmp_path: Path) -> None:
    from tests.package.conftest import tiny_model

    pairs = [{"text": "Ada wrote programs.", "text_pair": "She lived in London!"}, ("the parcel", "on time . " * 30)]
    package = write_package(
        tmp_path / "run",
        inputs=[pairs[0]],
        model=APART["mean"].from_config(tiny_model(()).config).eval(),
        task=Regression(text_pair="text_pair", pooling="mean", pairs="apart"),
        tokens={"max_length": 16, "overflow": "truncate", "stride": 0},
    )
    found = on_onnx(package, tmp_path / "stage").predict(pairs)
    expected = Predictor.load(package).predict(pairs)
    assert [row["score"] for row in found] == pytest.approx([row["score"] for row in expected], abs=1e-4)
    with pytest.raises(PackageError, match=r"task\.pairs: a SavedModel reads one text"):
        saved_model.add(package)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose package has both ONNX models. Labels of this seed lead by a logit and more, twice of what int8 changes."""
    run = tmp_path_factory.mktemp("both") / "run"
    write_package(run, seed=4)
    labels = [answer[0]["label"] for answer in Predictor.load(run / "package").predict(TEXTS[:3])]
    result = onnx.add(run, int8=True, recipe=recipe(labels * 4))
    assert result["backends"]["onnx-int8"]["metric"] == "accuracy"
    assert result["backends"]["onnx-int8"]["reference"] == 1.0
    return run


def test_the_server_runs_the_backend_it_is_told(both: Path, tmp_path: Path, real_processes: None) -> None:
    from tests.serve.conftest import start

    expected = Predictor.load(both / "package", backend="onnx").predict(TEXTS)
    with start(both / "package", tmp_path / "log", "--backend", "onnx") as server:
        loaded = Path(f"/proc/{server.process.pid}/maps").read_text()
        answers = server.predict(TEXTS)
    assert "onnxruntime" in loaded
    assert "libtorch" not in loaded
    for found, known in zip(answers, expected, strict=True):
        assert [row["label"] for row in found] == [row["label"] for row in known]
        assert [row["score"] for row in found] == pytest.approx([row["score"] for row in known], abs=1e-5)


def test_the_package_has_both_models_and_the_figures_of_their_gates(both: Path) -> None:
    package = both / "package"
    manifest = layout.read_manifest(package)
    layout.refuse_changed(package, manifest)
    assert {*FILES.values(), "onnx/requirements.txt"} <= set(manifest["files"])
    assert set(manifest["backends"]) == set(manifest["verified"]["backends"]) == {"onnx", "onnx-int8"}
    assert all(item["passed"] for item in manifest["verified"]["backends"].values())
    assert manifest["backends"]["onnx"]["max_abs_diff"] <= manifest["backends"]["onnx"]["tolerance"]
    assert manifest["backends"]["onnx-int8"]["max_abs_diff"] < 0.8, "1.5 where sums of products overflow"
    assert manifest["backend"] == "torch"
    card = (package / "README.md").read_text()
    assert card.count("## ONNX\n") == card.count("## Verified\n") == 1
    assert "| onnx-int8 |" in card
    assert "onnxruntime==" in (package / "requirements.txt").read_text()
    assert "torch" not in (package / "onnx/requirements.txt").read_text()
    assert not [text for text in TEXTS[1:] if text.strip() in card + json.dumps(manifest)]
    assert sorted(path.name for path in both.iterdir()) == ["package", "recorded.jsonl"]


def test_onnx_answers_by_the_same_handler_without_torch(both: Path) -> None:
    code = (
        "import json, sys; sys.path.insert(0, '.'); from handler import EndpointHandler\n"
        f"answers = EndpointHandler()({{'inputs': {TEXTS!r}}})\n"
        "print(json.dumps([answers, sorted({'torch', 'transformers'} & set(sys.modules))]))"
    )
    expected = Predictor.load(both / "package").predict(TEXTS)
    for backend, gap in (("onnx", 1e-4), ("onnx-int8", 0.2)):
        done = subprocess.run(
            [sys.executable, "-B", "-c", code], cwd=both / "package", capture_output=True, text=True, check=False,
            env={**os.environ, "HF_TRAINPIPE_BACKEND": backend},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        answers, heavy = json.loads(done.stdout)
        assert heavy == []
        for found, known in zip(answers, expected, strict=True):
            scores = {row["label"]: row["score"] for row in known}
            assert {row["label"]: row["score"] for row in found} == pytest.approx(scores, abs=gap)


def test_a_backend_is_scored_as_asked(both: Path) -> None:
    labels = [answer[0]["label"] for answer in Predictor.load(both / "package").predict(TEXTS[:3])]
    assert load(both, backend="onnx").evaluate(recipe=recipe(labels * 4))["scores"]["accuracy"]["value"] == 1.0


def test_a_backend_that_is_not_there_is_refused(classifier_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SchemaError, match="--onnx --int8"):
        Predictor.load(classifier_run / "package", backend="onnx-int8")
    monkeypatch.setenv("HF_TRAINPIPE_BACKEND", "tensorrt")
    with pytest.raises(InputError, match="tensorrt"):
        Predictor.load(classifier_run / "package")


def test_the_gate_of_fp32_refuses_and_keeps_nothing(classifier_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(classifier_run, run)
    lines = [json.loads(line) for line in (run / "recorded.jsonl").read_text().splitlines()]
    lines[0]["output"][0] += 0.5
    (run / "recorded.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    before = layout.hash_files(run / "package")
    with pytest.raises(PackageError, match=r"differ by 0\.0.*found 0\.5"):
        onnx.add(run)
    assert layout.hash_files(run / "package") == before
    assert sorted(path.name for path in run.iterdir()) == ["package", "recorded.jsonl"]


def test_the_gate_of_int8_refuses_with_the_figures(both: Path, tmp_path: Path) -> None:
    other = Predictor.load(write_package(tmp_path / "other", seed=3), device="cpu")  # int8 of another network
    labels = [answer[0]["label"] for answer in other.predict(TEXTS[:3])]
    assert labels != [a[0]["label"] for a in onnx._on_onnx(other, both / "package", "onnx-int8").predict(TEXTS[:3])]
    with pytest.raises(
        PackageError, match=r"accuracy on the 12 examples.*0\.5 points.* 1\.0000 in fp32: \d+\.\d\d points"
    ):
        onnx._gate_int8(other, both / "package", [], recipe(labels * 4))


def test_adding_again_replaces_and_keeps_the_default(both: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(both, run)
    onnx.add(run / "package", default="onnx")
    manifest = layout.read_manifest(run / "package")
    assert (manifest["backend"], set(manifest["backends"])) == ("onnx", {"onnx"})
    assert not (run / "package" / FILES["onnx-int8"]).exists()
    assert isinstance(Predictor.load(run / "package").model, OnnxModel)
    text = (run / "package/requirements.txt").read_text()
    assert text.count("onnxruntime==") == 1
    assert (run / "package/README.md").read_text().count("## ONNX\n") == 1


def test_probe_measures() -> None:
    assert probe.largest([[0.5, -2.0], None, []]) == 2.0


def test_a_calibrated_package_answers_the_same_by_every_backend(both: Path, tmp_path: Path) -> None:
    from hf_trainpipe.runtime.tasks.about import about

    package = shutil.copytree(both / "package", tmp_path / "package")
    plain = Predictor.load(package)
    found = Calibration(temperature=2.5, promise=0.9, least=0.55, costs={"calm": {"angry": 3.0}})
    task = replace(plain.task, calibration=found)
    manifest = json.loads((package / "trainpipe.json").read_text())
    assert "calibration" not in manifest["task"]
    layout.write_json(package / "trainpipe.json", {**manifest, "task": task.to_json(), "about": about(task)})
    torch_side, onnx_side = (Predictor.load(package, backend=backend) for backend in ("torch", "onnx"))
    assert torch_side.task == task
    texts = [*TEXTS, "a b c", "the phone is angry", "she wrote"]
    raw = plain.outputs(texts)["logits"]
    assert np.array_equal(torch_side.outputs(texts)["logits"], raw)  # what the gate compares are the network's logits
    answers = torch_side.predict(texts)
    assert {one[0]["label"] is None for one in answers} == {True, False}
    for row, one, other in zip(raw.astype(float), answers, onnx_side.predict(texts), strict=True):
        assert [entry["label"] for entry in one] == [entry["label"] for entry in other]
        assert [entry["score"] for entry in one] == pytest.approx([entry["score"] for entry in other], abs=1e-4)
        chances = np.exp(row / 2.5) / np.exp(row / 2.5).sum()
        scores = {entry["label"]: entry["score"] for entry in one if entry["label"]}
        assert [scores[name] for name in task.label_names] == pytest.approx(list(chances))
    [handled] = EndpointHandler(str(package))({"inputs": texts[:1], "parameters": {"top_k": 1}})
    kept = [entry["label"] for entry in answers[0]][: len(handled)]
    assert [entry["label"] for entry in handled] == kept
    assert len([label for label in kept if label]) == 1
