"""The peer: the HF Trainer over a workload of :mod:`workloads`, in its own process, without hf_trainpipe.

    python scripts/bench/peer.py train --folder FOLDER --way tuned --steps 50 --warmup 4
    python scripts/bench/peer.py evaluate --folder FOLDER --way tuned

Prints one line of JSON, the last on its standard output. The ways:

- ``trainer``: defaults: random batches, padded to their longest text; evaluation in batches of 8.
- ``tuned``: ``train_sampling_strategy="group_by_length"``, one thread per core; evaluation in batches of 32.
- ``trainer-bf16``, ``tuned-bf16``: those with ``bf16=True``; ``tuned-bf16-compiled``: with ``torch_compile=True`` too.
- ``run_glue``: like run_glue.py: all texts padded to the maximum length.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import SMOKE
from public_data import Row
from turns import end_turn, wait_for_turn
from workloads import Workload, open_workload, read_rows

WAYS = ("trainer", "trainer-bf16", "tuned", "tuned-bf16", "tuned-bf16-compiled", "run_glue")


def encode(workload: Workload, tokenizer: Any, rows: list[Row], names: list[str], *, pad: bool) -> Any:
    """A ``datasets.Dataset`` with the model's inputs and ``labels``; tags are on the first sub-word of a word."""
    from datasets import Dataset

    options = {"truncation": True, "max_length": workload.max_length, "padding": "max_length" if pad else False}
    ids = {name: position for position, name in enumerate(names)}
    if not workload.tagged:
        columns = dict(tokenizer([row["text"] for row in rows], **options))
        return Dataset.from_dict({**columns, "labels": [ids[row["label"]] for row in rows]})
    encoded = tokenizer([row["tokens"] for row in rows], is_split_into_words=True, **options)
    labels = []
    for position, row in enumerate(rows):
        words = encoded.word_ids(position)
        first = [w is not None and w != before for w, before in zip(words, [None, *words], strict=False)]
        labels.append([ids[row["tags"][w]] if starts else -100 for w, starts in zip(words, first, strict=True)])
    return Dataset.from_dict({**encoded, "labels": labels})


def label_names(workload: Workload, rows: list[Row]) -> list[str]:
    if workload.tagged:
        return sorted({tag for row in rows for tag in row["tags"]})
    return sorted({row["label"] for row in rows})


def scores(workload: Workload, names: list[str]) -> Any:
    """What users give the Trainer as ``compute_metrics``: accuracy and macro F1, or seqeval's F1."""
    import numpy as np

    def compute(answer: Any) -> dict[str, float]:
        predicted, targets = answer.predictions.argmax(-1), answer.label_ids
        if workload.tagged:
            from seqeval.metrics import f1_score

            kept = [row != -100 for row in targets]
            gold = [[names[i] for i in row[keep]] for row, keep in zip(targets, kept, strict=True)]
            found = [[names[i] for i in row[keep]] for row, keep in zip(predicted, kept, strict=True)]
            return {"entity_f1": float(f1_score(gold, found))}
        from sklearn.metrics import f1_score

        return {
            "accuracy": float(np.mean(predicted == targets)),
            "f1_macro": float(f1_score(targets, predicted, average="macro")),
        }

    return compute


def trainer_of(workload: Workload, way: str, output: str, **arguments: Any) -> Any:
    """A Trainer that counts what its steps compute, and its data sets."""
    import torch
    import transformers
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if way.startswith("tuned") and world == 1 and SMOKE not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    transformers.set_seed(17)
    train_rows, scored_rows = (read_rows(workload.folder / f"{name}.jsonl") for name in ("train", "validation"))
    names = label_names(workload, [*train_rows, *scored_rows])
    tokenizer = transformers.AutoTokenizer.from_pretrained(workload.model)
    kind = "Token" if workload.tagged else "Sequence"
    auto = getattr(transformers, f"AutoModelFor{kind}Classification")
    pad = way == "run_glue"
    collator: Any = transformers.default_data_collator if pad else transformers.DataCollatorWithPadding(tokenizer)
    if workload.tagged:
        collator = transformers.DataCollatorForTokenClassification(tokenizer)
    if way.startswith("tuned"):
        arguments |= {"train_sampling_strategy": "group_by_length", "per_device_eval_batch_size": 32}
    options = way.split("-")[1:]
    arguments |= {"bf16": "bf16" in options, "torch_compile": "compiled" in options}

    class Counting(transformers.Trainer):  # type: ignore[misc]
        seen: list[torch.Tensor] = []  # noqa: RUF012  of this one class, made for one process
        """Lengths of each micro-batch, still on the device: reading them would make the step wait."""
        computed = 0

        def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
            mask = inputs["attention_mask"]
            self.seen.append(mask.sum(1))
            self.computed += mask.numel()
            return super().training_step(model, inputs, *rest, **more)

    return Counting(
        model=auto.from_pretrained(workload.model, num_labels=len(names)),
        args=transformers.TrainingArguments(
            output_dir=output,
            per_device_train_batch_size=workload.examples_per_step // world,
            learning_rate=5e-5,
            weight_decay=0.01,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **{"use_cpu": True, **arguments},
        ),
        train_dataset=encode(workload, tokenizer, train_rows, names, pad=pad),
        eval_dataset=encode(workload, tokenizer, scored_rows, names, pad=pad),
        data_collator=collator,
        processing_class=tokenizer,
        compute_metrics=scores(workload, names),
    )


def train(workload: Workload, way: str, *, steps: int, warmup: int, **arguments: Any) -> Row:
    """Seconds of ``steps`` optimizer steps, from the start of their loop to the end of the last one.

    The warm-up is a training of its own on the same Trainer, so that what follows starts at the first step of a
    round of length grouping (50 steps, the longest texts first) and, with 50 steps, is a whole one.
    """
    import torch
    import transformers

    times: list[float] = []

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            times[:] = [time.perf_counter()]

        def on_step_end(self, arguments: Any, state: Any, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available() and state.global_step == arguments.max_steps:
                torch.cuda.synchronize()
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as output:
        trainer = trainer_of(workload, way, output, max_steps=warmup, **arguments)
        trainer.add_callback(Clock())
        if warmup:
            trainer.train()
        trainer.seen.clear()
        trainer.computed = 0
        trainer.args.max_steps = steps
        wait_for_turn()
        trainer.train()
        end_turn()
    assert len(times) == steps + 1, (len(times), steps)
    lengths, computed = [n for seen in trainer.seen for n in seen.tolist()], trainer.computed
    if trainer.args.world_size > 1:
        parts: list[Any] = [None] * trainer.args.world_size
        torch.distributed.all_gather_object(parts, (lengths, computed))
        lengths, computed = [n for part, _ in parts for n in part], sum(count for _, count in parts)
        # DDP's reducer has to go before the last reference to the group: it would wait for the group's thread while it
        # holds Python's lock, and that thread may wait for the lock.
        group = torch.distributed.group.WORLD
        del trainer
        gc.collect()
        torch.distributed.destroy_process_group()
        del group
    return {
        "seconds": times[-1] - times[0],
        "steps": steps,
        "examples": len(lengths),
        "tokens": sum(lengths),
        "computed": computed,
        "lengths": lengths,
        "threads": torch.get_num_threads(),
    }


def evaluate(workload: Workload, way: str, *, times: int) -> Row:
    """Start and end of each of several calls of ``Trainer.evaluate``, in seconds since the epoch."""
    spans = []
    with tempfile.TemporaryDirectory() as output:
        trainer = trainer_of(workload, way, output)
        for _ in range(times):
            started = time.time()
            found = trainer.evaluate()
            spans.append((started, time.time()))
    return {"spans": spans, "examples": len(trainer.eval_dataset), "scores": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("train", "evaluate"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--way", choices=WAYS, default="trainer")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--warmup", type=int, default=4)
    parser.add_argument("--device", choices=("cpu", "auto"), default="cpu", help="auto: a GPU, where there is one")
    parser.add_argument("--times", type=int, default=3, help="how often to evaluate")
    options = parser.parse_args()
    workload = open_workload(options.folder)
    if options.verb == "train":
        use_cpu = options.device == "cpu"
        found = train(workload, options.way, steps=options.steps, warmup=options.warmup, use_cpu=use_cpu)
    else:
        found = evaluate(workload, options.way, times=options.times)
    if int(os.environ.get("RANK", "0")) == 0:
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
