"""SQuAD with MiniLM: this project beside run_qa's way (the Trainer, contexts padded to 384 tokens), on one thread.

    python scripts/bench/qa.py prepare --data-dir ../shared/data --folder FOLDER
    python scripts/bench/qa.py ours --folder FOLDER --precision fp32 --epochs 1.5
    python scripts/bench/qa.py answered --folder FOLDER --precision fp32 --epochs 1.5
    python scripts/bench/qa.py trainer --folder FOLDER --precision fp32 --epochs 1.5
    python scripts/bench/qa.py page --folder FOLDER --precision fp32 --epochs 1.5

Both begin with the same weights, head included, and take as many steps of as many questions (run_qa: windows of questions), with
the same rate, schedule, decay and dropout; the last weights answer 1,000 questions of dev. run_qa's way is that of transformers'
examples: windows of 384 tokens with a stride of 128, all padded to 384, random batches, and its own search for the best of 20
starts and ends. Speed is questions a second of the process's own CPU time in the middle step, so that a busy machine does
not count. Each side may be stopped and started again: it goes on from its last checkpoint. With ``--steps`` a side takes the first
steps alone, for its speed, and answers nothing. ``answered`` lets run_qa's way answer with the weights of ours.

``--scored tune`` answers 500 other questions of dev, by which the rate was chosen: of ``ours`` alone, as ``--name`` each.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from public_data import Row, model_folder
from workloads import read_rows

RESULTS = Path(__file__).resolve().parents[2] / "docs/results"
TRAIN, DEV = "train-v1.1.first11articles.json.gz", "dev-v1.1.json.gz"
LENGTH, STRIDE, TOKENS_OF_ANSWER, N_BEST = 384, 128, 30, 20
QUESTIONS, WARMUP, DECAY, SEED = 16, 0.06, 0.01, 17
SCORED = {"test": 1000, "tune": 500}
INPUTS = ("input_ids", "token_type_ids", "attention_mask")
FIRST = 2
"""Steps of a process that are not counted."""


def rows_of(folder: Path, split: str) -> list[Row]:
    return read_rows(folder / f"{split}.jsonl")


def prepare(data: Path, folder: Path) -> None:
    """Questions as JSON, and the model with the head that both sides begin with."""
    import torch
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    dev = questions(data / "squad_v1" / DEV)
    random.Random(SEED).shuffle(dev)
    splits = {
        "train": questions(data / "squad_v1" / TRAIN),
        "test": dev[: SCORED["test"]],
        "tune": dev[-SCORED["tune"] :],
    }
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    torch.manual_seed(SEED)
    AutoModelForQuestionAnswering.from_pretrained(model_folder()).save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(model_folder()).save_pretrained(folder / "model")


def questions(path: Path) -> list[Row]:
    """The rows of a file of SQuAD, as the Hub has them."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        articles = json.load(stream)["data"]
    return [
        {
            "id": one["id"],
            "question": one["question"],
            "context": paragraph["context"],
            "answers": {
                "text": [answer["text"] for answer in one["answers"]],
                "answer_start": [answer["answer_start"] for answer in one["answers"]],
            },
        }
        for article in articles
        for paragraph in article["paragraphs"]
        for one in paragraph["qas"]
    ]


class Notes:
    """Seconds of CPU of each step and of scoring, kept beside a run."""

    def __init__(self, run: Path) -> None:
        run.mkdir(parents=True, exist_ok=True)
        self.file, self.since, self.taken = run / "notes.jsonl", 0.0, 0

    def begin(self) -> None:
        self.since = time.process_time()

    def step(self, step: int) -> None:
        self.taken += 1
        if self.taken > FIRST:
            self.write(step=step, cpu=time.process_time() - self.since)
        self.begin()

    def write(self, **told: Any) -> None:
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(told) + "\n")


def total_steps(options: argparse.Namespace) -> int:
    return int(options.epochs * (len(rows_of(options.folder, "train")) // QUESTIONS))


def ours(options: argparse.Namespace, run: Path) -> None:
    from hf_trainpipe import Budget, Files, Optim, Pretrained, QuestionAnswering, Recipe, Tokens
    from hf_trainpipe import execute as run_recipe
    from hf_trainpipe.errors import Interrupted
    from hf_trainpipe.training import execute, export
    from hf_trainpipe.training.loop import train

    notes, scoring = Notes(run), export.outputs_in_fp32

    def watched(*args: Any) -> Iterator[Any]:
        notes.begin()
        for report in train(*args):
            notes.step(report.step)
            if report.step == options.steps:
                sys.exit(0)
            yield report
            notes.begin()

    def scored(*args: Any, **more: Any) -> Any:
        since = time.process_time()
        found = scoring(*args, **more)
        notes.write(scored=SCORED[options.scored], cpu=time.process_time() - since)
        return found

    execute.train, export.outputs_in_fp32 = watched, scored
    recipe = Recipe(
        name=run.name,
        model=Pretrained(str(options.folder / "model")),
        data=Files(train="train.jsonl", test=f"{options.scored}.jsonl", root=str(options.folder)),
        task=QuestionAnswering(most_tokens=TOKENS_OF_ANSWER),
        tokens=Tokens(max_length=LENGTH, overflow="window", stride=STRIDE),
        optim=Optim(peak_lr=options.rate, warmup=WARMUP, weight_decay=DECAY, precision=options.precision),
        budget=Budget(
            epochs=1000, max_steps=total_steps(options), examples_per_step=QUESTIONS, save_every=30, log_every=30
        ),
        seed=SEED,
    )
    try:
        result = run_recipe(recipe, run_dir=run / "run")
    except Interrupted as stopped:
        sys.exit(str(stopped))
    (run / "scores.json").write_text(json.dumps(result.scores["test"]), encoding="utf-8")


def windows(rows: list[Row], tokenizer: Any) -> Any:
    """Windows of contexts, all as long, as run_qa makes them of questions."""
    return tokenizer(
        [row["question"].lstrip() for row in rows], [row["context"] for row in rows], truncation="only_second",
        max_length=LENGTH, stride=STRIDE, return_overflowing_tokens=True, return_offsets_mapping=True, padding="max_length",
    )  # fmt: skip


def to_learn(rows: list[Row], tokenizer: Any) -> Any:
    """run_qa's ``prepare_train_features``."""
    from datasets import Dataset

    made = windows(rows, tokenizer)
    starts, ends = [], []
    for feature, (offsets, row) in enumerate(
        zip(made["offset_mapping"], made["overflow_to_sample_mapping"], strict=True)
    ):
        none = made["input_ids"][feature].index(tokenizer.cls_token_id)
        answers, parts = rows[row]["answers"], made.sequence_ids(feature)
        begin = answers["answer_start"][0]
        end = begin + len(answers["text"][0])
        inside = [place for place, part in enumerate(parts) if part == 1]
        first, last = inside[0], inside[-1]
        if not (offsets[first][0] <= begin and offsets[last][1] >= end):
            starts.append(none)
            ends.append(none)
            continue
        while first < len(offsets) and offsets[first][0] <= begin:
            first += 1
        starts.append(first - 1)
        while offsets[last][1] >= end:
            last -= 1
        ends.append(last + 1)
    kept = {name: made[name] for name in INPUTS}
    return Dataset.from_dict({**kept, "start_positions": starts, "end_positions": ends})


def best_answers(rows: list[Row], made: Any, start_FL: Any, end_FL: Any) -> list[str]:
    """run_qa's ``postprocess_qa_predictions``: of each question the best span of its windows."""
    import numpy as np

    features = defaultdict(list)
    for feature, row in enumerate(made["overflow_to_sample_mapping"]):
        features[row].append(feature)
    said = []
    for row in range(len(rows)):
        found = [(float("-inf"), 0, 0)]
        for feature in features[row]:
            start_L, end_L, parts = start_FL[feature], end_FL[feature], made.sequence_ids(feature)
            offsets = [
                place if part == 1 else None for place, part in zip(made["offset_mapping"][feature], parts, strict=True)
            ]
            for first in np.argsort(start_L)[-1 : -N_BEST - 1 : -1].tolist():
                for last in np.argsort(end_L)[-1 : -N_BEST - 1 : -1].tolist():
                    begin, end = offsets[first], offsets[last]
                    if begin is None or end is None or last < first or last - first + 1 > TOKENS_OF_ANSWER:
                        continue
                    found.append((float(start_L[first] + end_L[last]), begin[0], end[1]))
        _, begin, end = max(found, key=lambda one: one[0])
        said.append(rows[row]["context"][begin:end])
    return said


def of_transformers(model: str | Path, options: argparse.Namespace, run: Path, notes: Notes, **more: Any) -> Any:
    """run_qa's Trainer of a model, on one thread; ``more`` goes to it."""
    import torch
    import transformers

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not notes.since:
                notes.begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            notes.step(state.global_step)
            control.should_training_stop |= state.global_step == options.steps

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            notes.begin()

    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("medium" if options.precision == "medium" else "highest")
    transformers.set_seed(SEED)
    transformers.logging.set_verbosity_error()
    steps = total_steps(options)
    arguments = transformers.TrainingArguments(
        output_dir=str(run / "run"), max_steps=steps, per_device_train_batch_size=QUESTIONS, learning_rate=options.rate,
        warmup_steps=int(WARMUP * steps), weight_decay=DECAY, save_steps=30, save_total_limit=1, logging_steps=30,
        seed=SEED, report_to=[], use_cpu=True, per_device_eval_batch_size=8, disable_tqdm=True,
    )  # fmt: skip
    return transformers.Trainer(
        transformers.AutoModelForQuestionAnswering.from_pretrained(model), arguments,
        data_collator=transformers.default_data_collator, callbacks=[Watch()], **more,
    )  # fmt: skip


def trainer(options: argparse.Namespace, run: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer, notes = AutoTokenizer.from_pretrained(options.folder / "model"), Notes(run)
    learnt = to_learn(rows_of(options.folder, "train"), tokenizer)
    one = of_transformers(options.folder / "model", options, run, notes, train_dataset=learnt)
    one.train(resume_from_checkpoint=any((run / "run").glob("checkpoint-*")))
    if not options.steps:
        answer(one, tokenizer, options, run, notes)


def answered(options: argparse.Namespace, run: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer, notes = AutoTokenizer.from_pretrained(options.folder / "model"), Notes(run)
    package = options.folder / f"ours-{options.precision}/run/package"
    answer(of_transformers(package, options, run, notes), tokenizer, options, run, notes)


def answer(one: Any, tokenizer: Any, options: argparse.Namespace, run: Path, notes: Notes) -> None:
    """Answer in run_qa's way, in fp32 as ours does, and keep the scores."""
    import numpy as np
    import torch
    from datasets import Dataset

    from hf_trainpipe.runtime.tasks.squad import squad_scores  # equal to the official script's, by tests

    torch.set_float32_matmul_precision("highest")
    rows = rows_of(options.folder, options.scored)
    since = time.process_time()
    made = windows(rows, tokenizer)
    asked = Dataset.from_dict({name: made[name] for name in INPUTS})
    said = best_answers(rows, made, *one.predict(asked).predictions)
    notes.write(scored=len(rows), cpu=time.process_time() - since)
    each = np.array([squad_scores(text, row["answers"]["text"]) for text, row in zip(said, rows, strict=True)])
    values = zip(("exact_match", "f1"), each.mean(axis=0).tolist(), strict=True)
    (run / "scores.json").write_text(json.dumps({name: {"value": value} for name, value in values}), encoding="utf-8")


def speed(run: Path) -> tuple[float, int, str]:
    """Questions a second of CPU in the middle step, steps, and nine tenths of the steps; one taken twice counts once."""
    lines = [json.loads(line) for line in (run / "notes.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = {line["step"]: QUESTIONS / line["cpu"] for line in lines if "step" in line}
    twentieths = statistics.quantiles(steps.values(), n=20, method="inclusive")
    return statistics.median(steps.values()), len(steps), f"{twentieths[0]:.2f} to {twentieths[-1]:.2f}"


def scoring_speed(run: Path) -> float:
    lines = [json.loads(line) for line in (run / "notes.jsonl").read_text(encoding="utf-8").splitlines()]
    return next(line["scored"] / line["cpu"] for line in reversed(lines) if "scored" in line)


PRODUCTS = {"medium": "bf16 (torch's `medium`)", "fp32": "fp32"}
SIDES = {"trainer": "run_qa's way", "ours": "hf_trainpipe"}
ANSWERED = {**SIDES, "answered": "hf_trainpipe's weights, answering in run_qa's way"}


def page(options: argparse.Namespace) -> str:
    """The page, of what the sides left in the folder."""
    from results import environment, markdown_table

    folder, rows = options.folder, []
    for side, name in ANSWERED.items():
        run = folder / f"{side}-{options.precision}"
        if not (run / "scores.json").exists():
            rows.append((name, "not measured yet", "", ""))
            continue
        scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
        said = [f"{100 * scores[metric]['value']:.2f}" for metric in ("f1", "exact_match")]
        if "low" in scores["f1"]:
            said[0] += f" ({100 * scores['f1']['low']:.1f} to {100 * scores['f1']['high']:.1f})"
        rows.append((name, *said, f"{scoring_speed(run):.1f}"))
    speeds, ratios, learning = [], [], []
    for precision in PRODUCTS:
        runs = {side: folder / f"{side}-{precision}" for side in SIDES}
        if not all((run / "notes.jsonl").exists() for run in runs.values()):
            continue
        found = {side: speed(run) for side, run in runs.items()}
        ratios.append(f"{found['ours'][0] / found['trainer'][0]:.2f} ({precision})")
        hours = [total_steps(options) * QUESTIONS / found[side][0] / 3600 for side in ("ours", "trainer")]
        learning.append(f"{hours[0]:.2f} and {hours[1]:.2f} ({precision})")
        speeds += [
            (precision, SIDES[side], str(steps), f"{middle:.2f}", most) for side, (middle, steps, most) in found.items()
        ]
    told = (__doc__ or "").split("\n\n")
    header = ("", "F1 (95 % interval)", "exact match", "questions answered / CPU-s, fp32")
    facts = ", ".join(f"{name} {value}" for name, value in environment().items())
    return f"""# SQuAD with MiniLM, beside run_qa

```
{told[1].replace("    python", "python")}
```

{told[2]}

3,807 questions, {QUESTIONS} a step, epochs: {options.epochs:g}, peak rate {options.rate:g}, {total_steps(options):,} steps, matrix products in {PRODUCTS[options.precision]}:

{markdown_table(header, rows)}

Training:

{markdown_table(("matrix products", "", "steps", "questions / CPU-s", "nine tenths of the steps"), speeds)}

Ours / run_qa's way: {", ".join(ratios)}. At these speeds all steps take ours and run_qa's way so many hours of one core: {", ".join(learning)}.

{facts}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("prepare", *ANSWERED, "page"))
    parser.add_argument("--folder", type=Path, required=True, help="what is made, and the runs of both sides")
    parser.add_argument("--data-dir", type=Path, help="folder of the public data sets, for prepare")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--precision", choices=tuple(PRODUCTS), default="medium")
    parser.add_argument("--steps", type=int, default=0, help="take so many steps alone, and answer nothing")
    parser.add_argument("--scored", choices=tuple(SCORED), default="test")
    parser.add_argument("--name", help="of the run in FOLDER; by itself the side and the precision")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    if options.what == "prepare":
        if options.data_dir is None:
            parser.error("expected --data-dir")
        prepare(options.data_dir, options.folder)
    elif options.what == "page":
        (RESULTS / "question-answering.md").write_text(page(options), encoding="utf-8")
    else:
        run = options.folder / (options.name or f"{options.what}-{options.precision}")
        {"ours": ours, "trainer": trainer, "answered": answered}[options.what](options, run)


if __name__ == "__main__":
    main()
