"""Small pipelines for proofs: a tiny model is trained, packaged and held against a shorter training, which decides what comes next.

sample.py FOLDER        # the model, its data, reviews.py and pipeline.py
sample.py FOLDER weights    # sha256 of the weights of each package there, as JSON
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

RECIPE = """\
from hf_trainpipe import Budget, Evaluation, Files, Optim, Pretrained, Recipe, TextClassification, Tokens


def recipe():
    return Recipe(
        name="reviews",
        model=Pretrained("model"),
        data=Files(train="train.csv", validation="dev.csv", test="test.csv"),
        task=TextClassification("text", label="label"),
        tokens=Tokens(max_length=32),
        optim=Optim(peak_lr=1e-3, precision="fp32"),
        budget=Budget(epochs=EPOCHS, examples_per_step=16, log_every=5, save_every=40, evaluate_every=400),
        evaluation=Evaluation(select="accuracy", resamples=20),
    )
"""
PIPELINE = """\
from hf_trainpipe.pipelines import Audit, Evaluate, Pipeline, Train, Verb, Verify


def pipeline() -> Pipeline:
    return Pipeline(
        "reviews",
        stages=(
            Audit("reviews.py", no_model=True, fail_on="never"),
            Train("reviews.py", after=("audit",)),
            Evaluate("train", split="test"),
            Verify("train"),
            Train("reviews.py", name="challenger", fields=("--budget.epochs", "1"), after=("audit",)),
            Verb("compare", command=("compare", "{train}", "{challenger}", "--margin", "0.001")),
            Verb("promote", command=("verify", "{challenger}/package"), runs_if={"compare": (0,)}),
            Verb("explain", command=("report", "{challenger}"), runs_if={"compare": (11,)}),
        ),
    )
"""
SHORT = """\
from hf_trainpipe.pipelines import Pipeline, Train, Verb

CHALLENGER = ("train", "reviews.py", "--run-dir", "{self}", "--validation-only", "--budget.epochs", "1")


def pipeline() -> Pipeline:
    return Pipeline(
        "reviews",
        stages=(
            Train("reviews.py"),
            Verb("challenger", command=CHALLENGER, after=("train",)),
            Verb("compare", command=("compare", "{train}", "{challenger}", "--margin", "0.001")),
            Verb("promote", command=("verify", "{train}/package"), runs_if={"compare": (0,)}),
            Verb("explain", command=("report", "{challenger}"), runs_if={"compare": (11,)}),
        ),
    )


def two_ranks() -> Pipeline:
    return Pipeline("two-ranks", stages=(Train("reviews.py", ranks=2, fields=("--budget.epochs", "5")),))


def two_machines() -> Pipeline:
    return Pipeline("two-machines", stages=(Train("reviews.py", fields=("--budget.epochs", "5")),))
"""


def make(folder: Path, *, epochs: int, pipeline: str = PIPELINE) -> None:
    """Write a pipeline and all that it reads."""
    from hf_trainpipe.testing import tiny_model, tiny_rows, write_rows

    folder.mkdir(parents=True, exist_ok=True)
    tiny_model(folder / "model")
    for name, count, seed in (("train", 300, 1), ("dev", 97, 2), ("test", 97, 3)):
        write_rows(folder / f"{name}.csv", tiny_rows(count, seed=seed))
    (folder / "reviews.py").write_text(RECIPE.replace("EPOCHS", str(epochs)))
    (folder / "pipeline.py").write_text(pipeline)


def weights(folder: Path) -> dict[str, str]:
    """The sha256 of each package's weights, by pipeline and stage."""
    found = sorted(folder.glob("runs/*/*/package/model.safetensors"))
    return {"/".join(path.parts[-4:-2]): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if sys.argv[2:] == ["weights"]:
        print(json.dumps(weights(place)))
    else:
        make(place, epochs=int(sys.argv[2]) if sys.argv[2:] else 40)
