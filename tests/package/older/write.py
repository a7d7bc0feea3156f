"""Write what tests/package/test_older_versions.py opens: packages and an interrupted run of the code of this commit.

    python tests/package/older/write.py tests/package/older/COMMIT.tar.xz

Run it in a checkout of that commit, with its environment. Models, tokenizer and texts are made by code
(:mod:`hf_trainpipe.testing`); an archive, of about 200 kB, is kept as it is from then on:

    data/                   recipes.py, the tiny model, the rows of ``begun``
    NAME/package/           a package for each recipe, NAME/recorded.jsonl beside it
    begun/                  a run of ``begun`` that SIGTERM stopped in the middle
    facts.json              the commit, the machine, inputs and answers of each package, and the weights that ``begun``
                            reached when the same code continued it; reached.safetensors holds them
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

RECIPES = '''
from hf_trainpipe import (
    Budget, CleanUrls, Evaluation, Files, MultiLabelClassification, NormalizeSpace, Optim, Pretrained, Recipe,
    Regression, TextClassification, TokenClassification, Tokens, replace,
)


def _recipe(name, task, select, preprocessing=()):
    return Recipe(
        name=name,
        model=Pretrained("model"),
        data=Files(train=f"{name}-train.jsonl", validation=f"{name}-dev.jsonl"),
        preprocessing=preprocessing,
        task=task,
        tokens=Tokens(max_length=16, overflow="window", stride=4),
        optim=Optim(peak_lr=1e-2, precision="fp32"),
        budget=Budget(max_steps=30, epochs=20, examples_per_step=16, log_every=1, evaluate_every=30),
        evaluation=Evaluation(select=select, resamples=20),
    )


def single():
    return _recipe("single", TextClassification("text", label="label"), "accuracy", (NormalizeSpace(), CleanUrls()))


def tags():
    return _recipe("tags", TokenClassification("tokens", tags="tags"), "entity_f1")


def spans():
    return _recipe("spans", TokenClassification(text="text", spans="spans"), "entity_f1", (CleanUrls(),))


def multi():
    task = MultiLabelClassification("text", labels="labels", names=("good", "bad", "long"), tune_threshold=True)
    return _recipe("multi", task, "f1_macro")


def regression():
    return _recipe("regression", Regression("text", text_pair="other", score="score", low=0.0, high=5.0), "pearson")


def begun():
    """Dropout, and several saves before and after the stop."""
    budget = Budget(max_steps=60, epochs=20, examples_per_step=16, log_every=1, evaluate_every=20, save_every=20)
    return replace(single(), name="single", budget=budget)
'''
RECORDED = 6
"""Recorded predictions that are kept of each package."""
TEXT = [
    "a fine film",
    "the story was dull and cold",
    "see https://example.org/a?b=c for a lovely day",
    "this very  good   story of people was warm and kind, and the day was bright and the film was lovely",
    "?",
]
INPUTS: dict[str, list[Any]] = {
    "single": TEXT,
    "tags": ["anna was in lima", {"words": ["boris", "and", "anna", "of", "osaka"]}, {"words": ["carla"] * 20}, "it"],
    "spans": ["anna a was with boris dmitri", "see https://lima.org/anna, carla of lagos", "the day", "anna " * 20],
    "multi": TEXT,
    "regression": [
        {"text": "a fine film", "text_pair": "a film"},
        {"text": "it was bad", "text_pair": "the day was cold and dull and poor"},
        {"text": "this", "text_pair": "?"},
    ],
}


def rows(name: str, count: int, seed: int) -> list[dict[str, Any]]:
    from hf_trainpipe.testing import BAD, GOOD, tiny_rows, tiny_tagged

    made = tiny_rows(count, seed=seed)
    generator = random.Random(seed)
    if name == "single":
        return [dict(row) for row in made]
    if name == "tags":
        return [dict(row) for row in tiny_tagged(count, seed=seed)]
    if name == "spans":
        found = []
        for row in tiny_tagged(count, seed=seed):
            text, spans = "https://example.org/" + generator.choice(("anna", "lima", "day")), []
            for word, tag in zip(row["tokens"], row["tags"], strict=True):
                text += f" {word}"
                if tag[0] == "B":
                    spans.append({"start": len(text) - len(word), "end": len(text), "label": tag[2:]})
                elif tag[0] == "I":
                    spans[-1]["end"] = len(text)
            found.append({"text": text, "spans": spans})
        return found
    if name == "multi":
        kinds = (("good", lambda words: bool(words & {*GOOD})), ("bad", lambda words: bool(words & {*BAD})))
        return [
            {
                "text": row["text"],
                "labels": [kind for kind, holds in kinds if holds({*row["text"].rstrip(".").split()})]
                + (["long"] if len(row["text"]) > 60 else []),
            }
            for row in made
        ]
    return [
        {"text": row["text"], "other": other["text"], "score": 4.5 if row["label"] == other["label"] else 0.5}
        for row, other in zip(made, tiny_rows(count, seed=seed + 50), strict=True)
    ]


def small_model(folder: Path) -> None:
    """The tiny model at half its width and depth: what is random does not compress."""
    import torch
    from transformers import AutoConfig, AutoModel

    from hf_trainpipe.testing import tiny_model

    tiny_model(folder, layers=1)
    config = AutoConfig.from_pretrained(folder)
    config.hidden_size, config.intermediate_size, config.max_position_embeddings = 16, 32, 34
    torch.manual_seed(7)
    AutoModel.from_config(config).save_pretrained(folder)


def environment() -> dict[str, str]:
    """What the last bits of a sum depend on."""
    try:
        found = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return {"cpu": found[1] if found else platform.processor(), "torch": metadata.version("torch")}


def train(function: str, run: str) -> list[str]:
    return [sys.executable, "-m", "hf_trainpipe", "train", f"data/recipes.py:{function}", "--run-dir", run]


def interrupt(run: Path) -> None:
    """Train ``begun`` until it has taken a few steps beyond its first checkpoint, and ask it to stop."""
    process = subprocess.Popen(train("begun", run.name), stderr=subprocess.DEVNULL)
    while not (run / "ledger.jsonl").is_file() or '"step": 23,' not in (run / "ledger.jsonl").read_text():
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    if process.wait() != 75:
        raise SystemExit(f"begun: expected exit 75, found {process.returncode}")
    shutil.copytree(run, "continued")
    subprocess.run(train("begun", "continued"), check=True)
    # As a mirrored run: without places and names of this machine.
    (run / "run.lock").unlink()
    for file, away in (
        ("run.json", {"source": None, "places": {}}),
        ("attempts/0001.json", {"host": "host", "pid": 1}),
    ):
        (run / file).write_text(json.dumps({**json.loads((run / file).read_text()), **away}, indent=1))


def main(archive: Path) -> None:
    from hf_trainpipe import load

    data = Path("data")
    data.mkdir()
    (data / "recipes.py").write_text(RECIPES)
    small_model(data / "model")
    cases = {}
    for name, inputs in INPUTS.items():
        for split, count, seed in (("train", 160, 1), ("dev", 24, 2)):
            lines = [json.dumps(row) + "\n" for row in rows(name, count, seed)]
            (data / f"{name}-{split}.jsonl").write_text("".join(lines))
        subprocess.run(train(name, f"runs/{name}"), check=True)
        Path(name).mkdir()
        shutil.copytree(f"runs/{name}/package", f"{name}/package")
        recorded = Path(f"runs/{name}/recorded.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        Path(name, "recorded.jsonl").write_text("".join(recorded[:RECORDED]), encoding="utf-8")
        cases[name] = {"inputs": inputs, "answers": load(name).predict(inputs)}
    interrupt(Path("begun"))
    [reached] = Path("continued/checkpoints").glob("step-00000060/model.safetensors")
    shutil.copy(reached, "reached.safetensors")
    commit = subprocess.run(
        ["git", "-C", str(Path(sys.modules["hf_trainpipe"].__path__[0])), "rev-parse", "HEAD"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    facts = {
        "commit": commit,
        "environment": environment(),
        "weights": hashlib.sha256(reached.read_bytes()).hexdigest(),
        "cases": cases,
    }
    Path("facts.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False))
    with tarfile.open(archive, "w:xz", preset=9) as packed:
        needed = ("recipes.py", "model", "single-train.jsonl", "single-dev.jsonl")
        for part in (*(f"data/{name}" for name in needed), *INPUTS, "begun", "reached.safetensors", "facts.json"):
            packed.add(part, filter=_nameless)


def _nameless(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if "__pycache__" in entry.name:
        return None
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_TRAINPIPE_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="older-") as folder:
        os.chdir(folder)
        os.environ["HF_TRAINPIPE_CACHE"] = str(Path(folder) / "cache")
        main(target)
