"""Folders of runs as the project writes them, without a training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hf_trainpipe import Budget, Evaluation, Files, Optim, Pretrained, Recipe, TextClassification
from hf_trainpipe.codec import to_json
from hf_trainpipe.tracking.ledger import Ledger

if TYPE_CHECKING:
    from pathlib import Path

BEGUN = 1_790_000_000.0


def make_run(
    place: Path, *, seed: int = 0, rate: float = 5e-5, steps: int = 200, score: float | None = 0.9, ended: bool = True
) -> Path:
    """A run's folder: complete with a ``score``, else killed."""
    recipe = Recipe(
        name=place.name,
        model=Pretrained("model"),
        data=Files(train="train.csv", validation="dev.csv"),
        task=TextClassification("text", label="label"),
        optim=Optim(peak_lr=rate),
        budget=Budget(epochs=3, examples_per_step=32),
        evaluation=Evaluation(select="f1_macro"),
        seed=seed,
    )
    (place / "attempts").mkdir(parents=True)
    (place / "checkpoints" / f"step-{steps:08d}").mkdir(parents=True)
    _write(place / "run.json", {"name": place.name, "uid": "u", "recipe": to_json(recipe), "fingerprints": {}})
    attempt: dict[str, Any] = {"started": BEGUN + seed, "exit": "complete" if ended else None}
    _write(place / "attempts" / "0001.json", attempt | ({"ended": BEGUN + seed + 125.0} if ended else {}))
    ledger = Ledger(place / "ledger.jsonl", attempt=1)
    for step in range(10, steps + 1, 10):
        ledger.log({"train/loss": 1 / step + rate, "train/lr": rate}, step=step, epoch=step / 100)
        if step % 50 == 0:
            at = {"validation/f1_macro": 1 - 10 / step, "validation/loss": 0.3 + 5 / step}
            ledger.log(at, step=step, epoch=step / 100)
    ledger.close()
    if score is not None:
        found = {"value": score, "low": score - 0.02, "high": score + 0.02, "confidence": 0.95, "n": 500}
        scores = {"validation": {"f1_macro": found}}
        result = {"select": "f1_macro", "scores": scores, "steps": steps, "best_step": steps, "seconds": 120.0}
        _write(place / "result.json", result)
    return place


def _write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content))
