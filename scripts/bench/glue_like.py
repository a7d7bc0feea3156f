"""A typical Trainer script, modelled on transformers' run_glue.py, over files of a workload.

    python scripts/bench/glue_like.py FOLDER
    accelerate launch scripts/bench/glue_like.py FOLDER

The same imports, ``load_dataset`` over JSON files, ``datasets.map`` with all texts padded to 128 tokens, the Trainer
with a model and ``compute_metrics``; one step. It prints the time at which that step ended, in seconds since the epoch.
"""

import json
import sys
import time
from pathlib import Path

sys.path.pop(0)  # this folder: its evaluate.py is not the library that run_glue.py imports

import datasets
import evaluate  # noqa: F401
import numpy as np
import transformers
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    EvalPrediction,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
    set_seed,
)


class FirstStep(TrainerCallback):
    def on_step_end(self, *_, **__):
        print(json.dumps({"first_step": time.time()}), flush=True)


def main():
    folder = Path(sys.argv[1])
    about = json.loads((folder / "workload.json").read_text())
    transformers.utils.logging.set_verbosity_error()
    datasets.utils.logging.set_verbosity_error()
    set_seed(17)
    raw = datasets.load_dataset("json", data_files={s: str(folder / f"{s}.jsonl") for s in ("train", "validation")})
    labels = sorted(raw["train"].unique("label"))
    ids = {label: position for position, label in enumerate(labels)}
    config = AutoConfig.from_pretrained(about["model"], num_labels=len(labels))
    tokenizer = AutoTokenizer.from_pretrained(about["model"])
    model = AutoModelForSequenceClassification.from_pretrained(about["model"], config=config)

    def preprocess(examples):
        result = tokenizer(examples["text"], padding="max_length", max_length=about["max_length"], truncation=True)
        result["label"] = [ids[label] for label in examples["label"]]
        return result

    encoded = raw.map(preprocess, batched=True)

    def compute_metrics(answer: EvalPrediction):
        return {"accuracy": float(np.mean(answer.predictions.argmax(-1) == answer.label_ids))}

    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder / "glue-like"),
            per_device_train_batch_size=about["examples_per_step"],
            max_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
        ),
        train_dataset=encoded["train"],
        eval_dataset=encoded["validation"],
        compute_metrics=compute_metrics,
        data_collator=default_data_collator,
        processing_class=tokenizer,
        callbacks=[FirstStep()],
    )
    trainer.train()


if __name__ == "__main__":
    main()
