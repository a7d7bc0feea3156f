"""Cross-validations killed at random instants (SIGKILL of the verb) end as one that was never disturbed.

    scripts/crossval_kills --kills 8

A tiny model, three folds. Each call of the verb is killed after a random time until so many kills have happened, then runs to its
end. Compared are the bytes of out_of_fold.npz, all scores, and the weights of every fold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_TRAINPIPE_THREADS", "1")

from hf_trainpipe.testing import tiny_model, tiny_rows, write_rows

RECIPE = """
from hf_trainpipe import Budget, Evaluation, Files, Optim, Pretrained, Recipe, TextClassification, Tokens

def recipe():
    return Recipe(
        name="tiny",
        model=Pretrained("model"),
        data=Files(train="train.csv", validation=0.2),
        task=TextClassification("text", label="label"),
        tokens=Tokens(max_length=32),
        optim=Optim(peak_lr=5e-3, precision="fp32"),
        budget=Budget(epochs=3, examples_per_step=16, save_every=3),
        evaluation=Evaluation(resamples=100),
    )
"""


def outcome(study: Path) -> dict[str, object]:
    """What must be the same."""
    found = json.loads((study / "crossval.json").read_text())
    weights = {file.parent.parent.name: file.read_bytes() for file in study.glob("folds/*/package/model.safetensors")}
    return {"scores": found["scores"], "store": (study / "out_of_fold.npz").read_bytes(), "weights": weights}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tiny_model(folder / "model")
        (folder / "recipe.py").write_text(RECIPE)
        write_rows(folder / "train.csv", tiny_rows(240, seed=1))
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_TRAINPIPE_CACHE": str(folder / "cache")}
        command = [sys.executable, "-m", "hf_trainpipe", "crossval", "recipe.py", "--folds", "3", "--study-dir"]

        def start(study: str) -> subprocess.Popen[bytes]:
            quiet = subprocess.DEVNULL
            return subprocess.Popen([*command, study], cwd=folder, env=environment, stdout=quiet, stderr=quiet)

        begun = time.monotonic()
        if start("whole").wait() != 0:
            raise SystemExit("the undisturbed one failed")
        usual = time.monotonic() - begun
        done, calls = 0, 0
        while True:
            process, calls = start("killed"), calls + 1
            try:
                code = process.wait(draw.uniform(0, usual / 2) if done < arguments.kills else None)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                done += 1
                continue
            if code != 0:
                raise SystemExit(f"call {calls} ended with {code}")
            break
        same = outcome(folder / "whole") == outcome(folder / "killed")
        print(f"{done} kills in {calls} calls: {'the same store, scores and weights' if same else 'NOT the same'}")
        return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
