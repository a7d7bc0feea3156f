"""Workloads: folders that both sides of a speed benchmark read.

Each holds ``train.jsonl`` and ``validation.jsonl``, a ``recipe.py`` for this project, and ``workload.json``, which
names the model. It is made from public data in ``--data-dir``, or, with ``--smoke``, from synthetic texts and a tiny
model, so that a benchmark can be tested in seconds; its figures then mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from public_data import WORKLOADS, Row, model_folder

ROOT = Path(__file__).resolve().parents[2]
MAX_LENGTH = 128
EXAMPLES_PER_STEP = 32
SMOKE_MAX_LENGTH = 32
SMOKE_EXAMPLES_PER_STEP = 8
TAGGED = ("wnut17",)

TINY_MODEL = "BENCH_TINY_MODEL"
"""In the environment: a folder with the tiny model, so that it need not be made again."""

RECIPE = '''"""Written by a benchmark: see scripts/bench/workloads.py."""
from hf_trainpipe import Budget, Evaluation, Files, Optim, Pretrained, Recipe, TextClassification, TokenClassification, Tokens


def recipe():
    return Recipe(
        name="bench",
        model=Pretrained({model!r}),
        data=Files(train="train.jsonl", validation="validation.jsonl"),
        task={task},
        tokens=Tokens(max_length={max_length}, overflow="truncate"),
        optim=Optim(peak_lr=5e-5, warmup=0.06, weight_decay=0.01),
        budget=Budget(epochs=1000, examples_per_step={examples_per_step}),
        evaluation=Evaluation(resamples=50),
    )
'''


@dataclass(frozen=True)
class Workload:
    """A folder that both sides read."""

    name: str
    folder: Path
    model: str
    tagged: bool
    examples_per_step: int
    max_length: int

    @property
    def train(self) -> list[Row]:
        return read_rows(self.folder / "train.jsonl")


def read_rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_workload(
    name: str,
    options: argparse.Namespace,
    folder: Path,
    *,
    model: str | None = None,
    train_rows: int | None = None,
    score_rows: int | None = None,
    steps_larger: int = 1,
) -> Workload:
    """Write a workload of public data, or of a smoke run.

    Args:
        model: A folder; None: MiniLM, or the tiny model of a smoke run.
        train_rows, score_rows: At most so many, from a fixed shuffle; None: all. More than there are: repeated.
        steps_larger: How many times as many examples a step as in the other benchmarks.
    """
    if options.smoke:
        from hf_trainpipe.testing import tiny_rows, tiny_tagged

        make: Any = tiny_tagged if name in TAGGED else tiny_rows
        train, scored = make(200, seed=1), make(60, seed=2)
        model = model or smoke_model(folder / "model")
    else:
        train, scored = WORKLOADS[name](options.data_dir)
        model = model or str(model_folder())
    rows = {}
    for split, found, wanted in (("train", train, train_rows), ("validation", scored, score_rows)):
        if wanted is not None:
            random.Random(17).shuffle(found)
            found = (found * -(-wanted // len(found)))[:wanted]
        rows[split] = found
    return write_workload(name, folder, model=model, smoke=options.smoke, steps_larger=steps_larger, **rows)


def write_workload(
    name: str,
    folder: Path,
    *,
    model: str,
    train: Sequence[Row],
    validation: Sequence[Row],
    smoke: bool,
    steps_larger: int = 1,
    max_length: int = MAX_LENGTH,
) -> Workload:
    """Write a workload of these rows. ``smoke``: of short texts, few a step."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "train.jsonl", train)
    write_rows(folder / "validation.jsonl", validation)
    about: dict[str, Any] = {
        "name": name,
        "model": model,
        "tagged": name in TAGGED,
        "examples_per_step": steps_larger * (SMOKE_EXAMPLES_PER_STEP if smoke else EXAMPLES_PER_STEP),
        "max_length": SMOKE_MAX_LENGTH if smoke else max_length,
    }
    classes = 'TokenClassification("tokens", tags="tags")', 'TextClassification("text", label="label")'
    task = classes[0] if about["tagged"] else classes[1]
    (folder / "recipe.py").write_text(RECIPE.format(task=task, **about), encoding="utf-8")
    (folder / "workload.json").write_text(json.dumps(about), encoding="utf-8")
    return Workload(folder=folder, **about)


def open_workload(folder: Path) -> Workload:
    return Workload(folder=folder, **json.loads((folder / "workload.json").read_text(encoding="utf-8")))


def smoke_model(folder: Path) -> str:
    """The tiny model: the one that the environment names, or made in ``folder``."""
    if TINY_MODEL in os.environ:
        return os.environ[TINY_MODEL]
    from hf_trainpipe.testing import tiny_model

    return str(tiny_model(folder))


def random_model(kind: str, folder: Path, tokenizer: str, *, longest: int | None = None, **fields: Any) -> str:
    """Write a model of an architecture with random weights, beside a tokenizer of BERT's kind.

    Args:
        longest: Tokens of a text at most; None: as the tokenizer has it.
        fields: Of the configuration.
    """
    import torch
    import transformers

    words = transformers.AutoTokenizer.from_pretrained(tokenizer)
    words.model_max_length = longest or words.model_max_length
    rows = max(words.get_vocab().values()) + 1  # ids may have gaps
    special = {"pad": words.pad_token_id, "cls": words.cls_token_id, "sep": words.sep_token_id}
    ids = {f"{name}_token_id": number for name, number in special.items()}
    if kind == "modernbert":
        ids |= {"bos_token_id": words.cls_token_id, "eos_token_id": words.sep_token_id}
    config = transformers.AutoConfig.for_model(kind, **{"vocab_size": rows, **ids, **fields})
    torch.manual_seed(7)
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


def text_lengths(workload: Workload) -> list[int]:
    """Tokens of each training text, by the tokenizer itself."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(workload.model) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(workload.max_length)
    encoded = tokenizer.encode_batch_fast([row["text"] for row in workload.train])
    return [len(one.ids) for one in encoded]


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the disk of the repository, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=ROOT, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
