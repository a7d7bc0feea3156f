"""Settings of a recipe, each in a real run with the tiny model."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from hf_trainpipe import (
    Budget,
    Evaluation,
    Files,
    NormalizeUnicode,
    Optim,
    Pretrained,
    TextClassification,
    TokenClassification,
    Tokens,
    execute,
    replace,
)
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.runtime.model.exact import Switches
from hf_trainpipe.tracking.ledger import series
from tests.nightly import at_night


def test_patience_ends_the_run_and_the_best_step_is_packaged(recipe, tmp_path) -> None:
    """A learning rate so small that no prediction changes: the first evaluation stays the best."""
    still = replace(
        recipe,
        optim=Optim(peak_lr=1e-12, warmup=0.0),
        budget=Budget(max_steps=40, examples_per_step=16, evaluate_every=2, patience=3, log_every=2),
        evaluation=Evaluation(select="accuracy", resamples=20),
    )
    result = execute(still, run_dir=tmp_path / "run")
    assert (result.best_step, result.steps) == (2, 8)
    assert [step for step, _ in series(tmp_path / "run/ledger.jsonl", "validation/accuracy")] == [2, 4, 6, 8]
    assert series(tmp_path / "run/ledger.jsonl", "final/validation/accuracy")[0][0] == 8


def test_every_option_of_the_optimizer_and_the_loss_together(recipe, tmp_path) -> None:
    chosen = replace(
        recipe,
        task=TextClassification("text", label="label", class_weights="balanced", label_smoothing=0.1, focal_gamma=1.0),
        optim=Optim(
            schedule="cosine",
            layer_decay=0.8,
            freeze_embeddings=True,
            freeze_layers=1,
            max_grad_norm=None,
            precision="bf16",
        ),
        evaluation=Evaluation(select="loss", metrics=("roc_auc", "f1_weighted"), resamples=20),
    )
    result = execute(chosen, run_dir=tmp_path / "run")
    assert {"roc_auc", "f1_weighted", "accuracy"} <= set(result.scores["validation"])
    assert result.verified["passed"]
    assert reproduces(result)


def reproduces(result) -> bool:
    """Whether the package gives the recorded logits in fp32, in a process that has set everything else."""
    lines = [json.loads(line) for line in (result.run_dir / "recorded.jsonl").read_text().splitlines()]
    predictor = Predictor.load(result.package)
    kind, before = torch.device(predictor.device).type, Switches()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast(kind, dtype=torch.bfloat16):
            again = Predictor.load(result.package)
            found = [one.outputs([line["input"] for line in lines])["logits"] for one in (predictor, again)]
            assert torch.is_autocast_enabled(kind)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        before.restore()
    expected = np.asarray([line["output"] for line in lines])
    return all(np.allclose(logits, expected, atol=1e-5, rtol=0) for logits in found)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32", "bf16-pure"])
def test_a_run_on_a_gpu_is_scored_and_packaged_in_fp32(recipe, tmp_path, precision) -> None:
    result = execute(replace(recipe, optim=Optim(precision=precision, peak_lr=1e-3)), run_dir=tmp_path / "run")
    assert json.loads((tmp_path / "run/run.json").read_text())["compute"]["precision"] == precision
    assert result.verified["passed"]
    assert reproduces(result)


@pytest.mark.parametrize("overflow", ["window", *at_night("drop")])
def test_long_texts_by_policy(recipe, tmp_path, overflow) -> None:
    short = replace(recipe, tokens=Tokens(max_length=12, overflow=overflow, stride=3))
    result = execute(short, run_dir=tmp_path / "run")
    package = json.loads((result.package / "trainpipe.json").read_text())
    counts = package["data"]["overflow"]["validation"]
    assert counts["examples"] == 61
    assert counts["over_length"] > 0
    scored = result.scores["validation"]["accuracy"]["n"]
    assert scored == (61 if overflow == "window" else 61 - counts["dropped"])
    assert (counts["dropped"] > 0) == (overflow == "drop")


def test_character_spans_come_back_as_characters(recipe, workshop, tmp_path, capfd) -> None:
    for name in ("train", "dev"):
        rows = []
        for line in (workshop.folder / f"{name}.jsonl").read_text().splitlines():
            row = json.loads(line)
            text, spans = "", []
            for token, tag in zip(row["tokens"], row["tags"], strict=True):
                if tag.startswith("B-"):
                    spans.append({"start": len(text), "end": len(text) + len(token), "label": tag[2:]})
                elif tag.startswith("I-"):
                    spans[-1]["end"] = len(text) + len(token)
                text += token + " "
            rows.append({"text": text, "entities": spans})
        rows[0]["entities"][0]["end"] -= 1  # inside a word: widened, counted, said
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spans = replace(
        recipe,
        data=Files(train="train.jsonl", validation="dev.jsonl", root=str(tmp_path)),
        preprocessing=(NormalizeUnicode(),),
        task=TokenClassification(text="text", spans="entities"),
        optim=Optim(peak_lr=1e-2),
        budget=Budget(max_steps=30, examples_per_step=16),
    )
    result = execute(spans, run_dir=tmp_path / "run")
    assert "1 of " in capfd.readouterr().err
    assert result.scores["validation"]["tag_accuracy"]["value"] > 0.5
    text = "this is the day of anna in osaka"
    for answer in Predictor.load(result.package).predict([text])[0]:
        assert text[answer["start"] : answer["end"]] == answer["text"]


def test_a_head_for_other_labels_is_newly_initialized_and_other_weights_must_fit(
    recipe, workshop, tmp_path, capfd
) -> None:
    folder = tmp_path / "five"
    config = AutoConfig.from_pretrained(workshop.folder / "model", num_labels=5)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(workshop.folder / "model").save_pretrained(folder)
    five = replace(recipe, model=Pretrained(str(folder)))
    result = execute(five, run_dir=tmp_path / "run")
    assert "classifier.weight is newly initialized" in capfd.readouterr().err
    assert result.verified["passed"]
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, "intermediate_size": said["intermediate_size"] + 4}))
    with pytest.raises(RecipeError, match=r"do not fit its config\.json: bert\.encoder\.layer\.0"):
        execute(five, run_dir=tmp_path / "other")


@pytest.mark.nightly
def test_compiled_layers_in_a_run_that_is_killed_and_resumed(workshop) -> None:
    """With a C++ compiler the run is compiled, without one it warns; in both cases the resumed run ends the same."""
    options = ("--optim.compile", "true")
    done = workshop.train("recipes.py", "--run-dir", "compiled", *options)
    assert done.code == 0, done.err
    assert "compiled    each layer" in done.err
    assert ("the layers are not compiled" in done.err) == (shutil.which("c++") is None)
    assert workshop.train("recipes.py", "--run-dir", "compiled-killed", *options, KILL_AT="15").code != 0
    done = workshop.train("recipes.py", "--run-dir", "compiled-killed", *options)
    assert done.code == 0, done.err
    assert workshop.weights("compiled-killed") == workshop.weights("compiled")


def test_a_resumed_run_keeps_its_threads_and_precision(workshop) -> None:
    cache = workshop.folder / "probed"
    options = ("--optim.precision", "auto")
    shown = workshop.run(sys.executable, "-m", "hf_trainpipe", "show", "recipes.py", *options,
                         HF_TRAINPIPE_CACHE=str(cache))  # fmt: skip
    assert shown.code == 0, shown.err
    (file,) = (cache / "probe").glob("*.json")

    def now(precision: str) -> None:
        file.write_text(json.dumps({**json.loads(file.read_text()), "precision": precision}))

    def train(run: str, **environment: str):
        return workshop.train("recipes.py", "--run-dir", run, *options, HF_TRAINPIPE_CACHE=str(cache), **environment)

    now("medium")
    done = train("medium")
    assert done.code == 0, done.err
    assert "M parameters, medium" in done.err
    assert train("medium-killed", KILL_AT="15").code != 0
    now("fp32")
    done = train("medium-killed")
    assert done.code == 0, done.err
    assert json.loads((workshop.folder / "medium-killed/run.json").read_text())["compute"]["precision"] == "medium"
    assert workshop.weights("medium-killed") == workshop.weights("medium")
