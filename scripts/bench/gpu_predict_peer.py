"""The peers of gpu_predict.py, in a process of their own, without hf_trainpipe: ``Trainer.evaluate`` and ``transformers.pipeline``.

Prints a line of JSON, the last on its standard output; ``--answers`` gets label and score of each text of a pipeline. The ways:

- ``trainer``: as it comes, batches of 8 in fp32; ``pipeline``: as it comes, text by text in fp32.
- ``tuned-fp32``, ``tuned-bf16``: batches of 64; of evaluation grouped by length (and ``bf16_full_eval``), of a pipeline from texts
  sorted by length (and ``dtype=bfloat16``).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from peer import encode, label_names
from public_data import Row
from workloads import Workload, open_workload, read_rows

BATCH = 64
WARMUP = 512


def accuracy(answer: Any) -> Row:
    """What users give the Trainer as ``compute_metrics``."""
    return {"accuracy": float((answer.predictions.argmax(-1) == answer.label_ids).mean())}


def evaluate(workload: Workload, way: str, *, device: str, count: int, times: int) -> Row:
    """Seconds of each of several calls of ``Trainer.evaluate``, after one over some texts."""
    import transformers

    names = label_names(workload, workload.train)
    rows = read_rows(workload.folder / "validation.jsonl")[:count]
    tokenizer = transformers.AutoTokenizer.from_pretrained(workload.model)
    tuned = {"per_device_eval_batch_size": BATCH, "train_sampling_strategy": "group_by_length"}
    arguments: dict[str, Any] = tuned if way.startswith("tuned") else {}
    with tempfile.TemporaryDirectory() as output:
        trainer = transformers.Trainer(
            model=transformers.AutoModelForSequenceClassification.from_pretrained(workload.model),
            args=transformers.TrainingArguments(
                output_dir=output, report_to="none", disable_tqdm=True, use_cpu=device == "cpu",
                bf16_full_eval=way == "tuned-bf16", **arguments,
            ),
            eval_dataset=encode(workload, tokenizer, rows, names, pad=False),
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
            compute_metrics=accuracy,
        )  # fmt: skip
        trainer.evaluate(trainer.eval_dataset.select(range(min(WARMUP, count))))
        seconds = []
        for _ in range(times):
            started = time.perf_counter()
            found = trainer.evaluate()
            seconds.append(time.perf_counter() - started)
    return {"seconds": seconds, "accuracy": found["eval_accuracy"]}


def predict(workload: Workload, way: str, *, device: str, count: int, times: int, answers: Path) -> Row:
    """Seconds of each of several calls of the pipeline, after one over some texts."""
    import torch
    import transformers

    texts = [row["text"] for row in read_rows(workload.folder / "validation.jsonl")][:count]
    dtype = torch.bfloat16 if way == "tuned-bf16" else torch.float32
    pipe = transformers.pipeline("text-classification", model=workload.model, device=device, dtype=dtype)
    cut = {"truncation": True, "max_length": workload.max_length}

    def run(given: list[str]) -> list[Any]:
        if way == "pipeline":
            found: list[Any] = pipe(given, **cut)
            return found
        order = sorted(range(len(given)), key=lambda place: len(given[place]))
        sorted_answers = pipe([given[place] for place in order], batch_size=BATCH, **cut)
        back: list[Any] = [None] * len(given)
        for place, answer in zip(order, sorted_answers, strict=True):
            back[place] = answer
        return back

    run(texts[:WARMUP])
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        found = run(texts)
        seconds.append(time.perf_counter() - started)
    answers.write_text(json.dumps([(one["label"], one["score"]) for one in found]))
    return {"seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=("evaluation", "predict"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--way", choices=("trainer", "pipeline", "tuned-fp32", "tuned-bf16"), required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--times", type=int, required=True)
    parser.add_argument("--answers", type=Path, required=True)
    options = parser.parse_args()
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    workload = open_workload(options.folder)
    chosen = {"device": options.device, "count": options.count, "times": options.times}
    if options.case == "evaluation":
        found = evaluate(workload, options.way, **chosen)
    else:
        found = predict(workload, options.way, **chosen, answers=options.answers)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
