"""What the benchmarks of speed share: workloads as files, sides in processes of their own, ratios, results.

A workload is a folder that both sides read: ``train.jsonl`` and ``validation.jsonl``, a model, and a ``recipe.py``
for this project. It is made from public data in ``--data-dir``, or, with ``--smoke``, from texts made by code and a
tiny model, so that a benchmark can be tried in seconds; the figures of such a trial mean nothing.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import BENCHMARKS, environment, markdown_table, model_folder, text_of

ROOT = Path(__file__).resolve().parents[2]
BENCH = Path(__file__).resolve().parent
RESULTS = ROOT / "docs/results"
MAX_LENGTH = 128
EXAMPLES_PER_STEP = 32
SMOKE_EXAMPLES_PER_STEP = 8

ONE_THREAD = "BENCH_ONE_THREAD"
"""Set in the environment of a smoke run, which is not to fill a machine: every process computes with one thread."""

Row = dict[str, Any]
Runs = dict[str, dict[str, list[Row]]]
"""Case -> side -> what each repeat measured."""

RECIPE = '''"""Written by a benchmark: see scripts/bench/speed.py."""
from hf_trainpipe import Budget, Evaluation, Files, Optim, Pretrained, Recipe, TextClassification, TokenClassification, Tokens


def recipe():
    return Recipe(
        name="bench",
        model=Pretrained({model!r}),
        data=Files(train="train.jsonl", validation="validation.jsonl"),
        task={task},
        tokens=Tokens(max_length={max_length}, overflow="truncate"),
        optim=Optim(peak_lr=5e-5, warmup=0.06, weight_decay=0.01),
        budget=Budget(epochs=1000, examples_per_step={examples}),
        evaluation=Evaluation(resamples=50),
    )
'''


# -- workloads -------------------------------------------------------------------------------


def _labelled_lines(path: Path) -> list[Row]:
    rows = (line.split(" ", 1) for line in text_of(path))
    return [{"text": text, "label": ("negative", "positive")[int(label)]} for label, text in rows]


def _sentences(data: Path) -> tuple[list[Row], list[Row]]:
    folder = data / "sst2" / "sentences"
    dev, test = _labelled_lines(folder / "stsa.binary.dev"), _labelled_lines(folder / "stsa.binary.test")
    return _labelled_lines(folder / "stsa.binary.train.gz"), dev + test


def _phrases(data: Path) -> tuple[list[Row], list[Row]]:
    def read(name: str) -> list[Row]:
        rows = csv.DictReader(text_of(data / "sst2" / name), delimiter="\t", quoting=csv.QUOTE_NONE)
        return [{"text": row["sentence"], "label": ("negative", "positive")[int(row["label"])]} for row in rows]

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


def _wnut17(data: Path) -> tuple[list[Row], list[Row]]:
    train, test = BENCHMARKS["wnut17"].read(data)
    return tuple([{"tokens": row["tokens"], "tags": row["ner_tags"]} for row in rows] for rows in (train, test))  # type: ignore[return-value]


READERS: dict[str, Callable[[Path], tuple[list[Row], list[Row]]]] = {
    "sst2": _sentences,
    "sst2-phrases": _phrases,
    "ag_news": _ag_news,
    "go_emotions": _go_emotions,
    "wnut17": _wnut17,
}
"""Name -> the data folder -> rows to train on, rows to score on (for ``sst2`` dev and test together)."""

TAGGED = ("wnut17",)


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
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


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
) -> Workload:
    """Write a workload.

    Args:
        model: A folder; None: MiniLM, or the tiny model of a smoke run.
        train_rows, score_rows: At most so many, from a fixed shuffle; None: all. More than there are: repeated.
    """
    tagged = name in TAGGED
    if options.smoke:
        from hf_trainpipe.testing import tiny_model, tiny_rows, tiny_tagged

        make: Any = tiny_tagged if tagged else tiny_rows
        train, scored = make(200, seed=1), make(60, seed=2)
        model = model or str(tiny_model(folder / "model"))
    else:
        train, scored = READERS[name](options.data_dir)
        model = model or str(model_folder())
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows, wanted in (("train", train, train_rows), ("validation", scored, score_rows)):
        if wanted is not None:
            random.Random(17).shuffle(rows)
            rows = (rows * -(-wanted // len(rows)))[:wanted]
        write_rows(folder / f"{split}.jsonl", rows)
    task = 'TokenClassification("tokens", tags="tags")' if tagged else 'TextClassification("text", label="label")'
    examples = SMOKE_EXAMPLES_PER_STEP if options.smoke else EXAMPLES_PER_STEP
    max_length = 32 if options.smoke else MAX_LENGTH
    recipe = RECIPE.format(model=model, task=task, max_length=max_length, examples=examples)
    (folder / "recipe.py").write_text(recipe, encoding="utf-8")
    about = {"name": name, "model": model, "tagged": tagged, "examples_per_step": examples, "max_length": max_length}
    (folder / "workload.json").write_text(json.dumps(about), encoding="utf-8")
    return Workload(folder=folder, **about)


def open_workload(folder: Path) -> Workload:
    return Workload(folder=folder, **json.loads((folder / "workload.json").read_text(encoding="utf-8")))


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the disk of the repository, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=ROOT, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


# -- processes -------------------------------------------------------------------------------


def clean_environment(folder: Path, **extra: str) -> dict[str, str]:
    """This environment without what somebody set for threads, and with a token cache of the benchmark's own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OMP_", "MKL_", "HF_TRAINPIPE_", "ACCELERATE_", "NEPTUNE_", "TOKENIZERS_"))
        and name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    }
    if ONE_THREAD in os.environ:
        kept |= {"OMP_NUM_THREADS": "1", "HF_TRAINPIPE_THREADS": "1"}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(BENCH)]),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_CACHE": str(folder / "datasets-cache"),
        "HF_TRAINPIPE_CACHE": str(folder / "cache"),
        **extra,
    }


def run_process(command: Sequence[str], *, folder: Path, cores: Sequence[int] | None = None, **extra: str) -> str:
    """Run a command to its end; its standard output.

    Args:
        cores: The only cores it may run on; None: all of this process.
    """
    pinned = None if cores is None else (lambda: os.sched_setaffinity(0, cores))
    done = subprocess.run(
        list(command), cwd=folder, env=clean_environment(folder, **extra), capture_output=True, text=True,
        check=False, preexec_fn=pinned,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(
            f"exit {done.returncode}: {shlex.join(command)}\n{done.stdout[-500:]}\n{done.stderr[-3000:]}"
        )
    return done.stdout


def last_json(output: str) -> Row:
    """The JSON that a process printed as its last line."""
    found: Row = json.loads(output.strip().splitlines()[-1])
    return found


def peer(verb: str, folder: Path, *arguments: str, cores: Sequence[int] | None = None) -> Row:
    """A verb of ``peer.py`` over a workload, in a process of its own."""
    command = [sys.executable, str(BENCH / "peer.py"), verb, "--folder", str(folder), *arguments]
    return last_json(run_process(command, folder=folder, cores=cores))


# -- this project's side ---------------------------------------------------------------------


def train_command(workload: Workload, run: Path, *arguments: str, launch: Sequence[str] = ()) -> list[str]:
    """This project's command line over a workload.

    Args:
        launch: What stands between ``python -m`` and the module: ``accelerate.commands.launch`` and its options.
    """
    module = [*launch, "-m", "hf_trainpipe"] if launch else ["hf_trainpipe"]
    return [
        sys.executable, "-m", *module, "train", str(workload.folder / "recipe.py"),
        "--run-dir", str(run), "--data.root", str(workload.folder), *arguments, "--json",
    ]  # fmt: skip


def traced_steps(run: Path) -> list[Row]:
    """Which examples each rank trained on in each step, of a run with HF_TRAINPIPE_TRACE=1."""
    return [row for file in sorted(run.glob("trace-rank*.jsonl")) for row in read_rows(file)]


def text_lengths(workload: Workload) -> list[int]:
    """Tokens of each training text, by the tokenizer itself."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(workload.model)
    texts = [row["text"] for row in workload.train]
    encoded = tokenizer(texts, truncation=True, max_length=workload.max_length)
    return [len(ids) for ids in encoded["input_ids"]]


WARMUP, WINDOW = 5, 5


def timed_steps(
    workload: Workload,
    lengths: Sequence[int],
    *arguments: str,
    steps: int,
    launch: Sequence[str] = (),
    cores: Sequence[int] | None = None,
    **environ: str,
) -> Row:
    """A training of ``WARMUP + steps`` steps; the times are from its ledger, the examples from its trace.

    Args:
        lengths: :func:`text_lengths`.

    Raises:
        RuntimeError: the ledger's own count of tokens differs from the one made here.
    """
    with scratch() as folder:
        run = folder / "run"
        command = train_command(
            workload, run,
            "--budget.max-steps", str(WARMUP + steps), "--budget.evaluate-every", str(WARMUP + steps),
            "--budget.log-every", str(WINDOW), *arguments, launch=launch,
        )  # fmt: skip
        run_process(command, folder=workload.folder, cores=cores, HF_TRAINPIPE_TRACE="1", **environ)
        ledger, traced = ledger_of(run), traced_steps(run)
    speeds = series(ledger, "train/tokens_per_second")
    kept = [lengths[number] for line in traced if line["step"] > WARMUP for number in line["examples"]]
    said = sum(point["value"] * (point["time"] - before["time"]) for before, point in itertools.pairwise(speeds))
    if abs(said / sum(kept) - 1) > 0.05:
        raise RuntimeError(f"tokens: expected {sum(kept):,} from the trace, the ledger says {said:,.0f}.")
    padding = [point["value"] for point in series(ledger, "train/padding") if point["step"] > WARMUP]
    return {
        "seconds": speeds[-1]["time"] - speeds[0]["time"],
        "steps": steps,
        "examples": len(kept),
        "tokens": sum(kept),
        "computed": sum(kept) * statistics.mean(padding) if padding else None,
        "lengths": kept,
    }


def ledger_of(run: Path) -> list[Row]:
    return read_rows(run / "ledger.jsonl")


def series(ledger: Sequence[Row], name: str) -> list[Row]:
    """The points of one name, by step: ``step``, ``value`` and ``time`` (seconds since the epoch)."""
    return [point for point in ledger if point["name"] == name]


# -- repeats, ratios, results ----------------------------------------------------------------


def make_parser(doc: str | None, *, out: str, repeats: int = 5, data: bool = True) -> argparse.ArgumentParser:
    """Options that every benchmark of speed takes."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    if data:
        parser.add_argument("--data-dir", type=Path, help="folder of the public data sets; needed unless --smoke")
    parser.add_argument("--repeats", type=int, default=repeats, help="interleaved: every side once, then all again")
    parser.add_argument("--out", type=Path, default=RESULTS / out, help="the result, as JSON")
    parser.add_argument("--add", action="store_true", help="add repeats to those that --out holds")
    parser.add_argument("--quick", action="store_true", help="one repeat of the first case, to see that all works")
    parser.add_argument(
        "--smoke", action="store_true", help="a tiny model and texts made by code; figures mean nothing"
    )
    return parser


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    options = parser.parse_args(argv)
    if not options.smoke and getattr(options, "data_dir", Path()) is None:
        parser.error("expected --data-dir (or --smoke)")
    if hasattr(options, "data_dir") and options.data_dir is not None:
        options.data_dir = options.data_dir.resolve()
    options.out = options.out.resolve()
    if options.quick or options.smoke:
        options.repeats = 1
    if options.smoke:
        os.environ[ONE_THREAD] = "1"
    return options


def names_of(spelled: str, known: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    chosen = spelled.split(",")
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"expected names among {', '.join(known)}, found {', '.join(unknown)}")
    return chosen


def interleave(
    cases: Sequence[str],
    sides: Callable[[str], Sequence[str]],
    options: argparse.Namespace,
    measure: Callable[[str, str], Row],
    finished: Callable[[Runs], None],
) -> Runs:
    """Every side of every case once, then all of them again: what drifts on a machine drifts for all sides.

    Args:
        finished: Called after each repeat with what there is, so that nothing is lost where it is interrupted.
    """
    runs: Runs = {case: {side: [] for side in sides(case)} for case in cases}
    if options.add and options.out.exists():
        for case, found in json.loads(options.out.read_text(encoding="utf-8"))["runs"].items():
            for side, rows in found.items():
                runs.setdefault(case, {}).setdefault(side, []).extend(rows)
    for repeat in range(options.repeats):
        for case in cases:
            for side in sides(case):
                started = time.monotonic()
                runs[case][side].append(measure(case, side))
                took = time.monotonic() - started
                print(
                    f"repeat {repeat + 1} of {options.repeats}: {case} {side} in {took:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )
        finished(runs)
    return runs


@dataclass(frozen=True)
class Spread:
    """A figure over the repeats."""

    median: float
    least: float
    most: float
    each: list[float]

    def text(self, form: str = ".2f") -> str:
        if len(self.each) == 1:
            return format(self.median, form)
        return f"{self.median:{form}} ({self.least:{form}} to {self.most:{form}})"


def spread(values: Sequence[float]) -> Spread:
    kept = [float(value) for value in values]
    return Spread(statistics.median(kept), min(kept), max(kept), kept)


def ratio(runs: dict[str, list[Row]], over: str, under: str, key: str) -> Spread | None:
    """``over`` / ``under``, repeat by repeat; None where a side was not measured."""
    if not runs.get(over) or not runs.get(under):
        return None
    pairs = zip(runs[over], runs[under], strict=False)
    return spread([mine[key] / theirs[key] for mine, theirs in pairs])


def cpu_facts() -> str:
    """What of this processor the speed of matrix products depends on."""
    import torch

    flags: set[str] = set()
    info = Path("/proc/cpuinfo")
    if info.exists():
        flags = set(next((line for line in info.read_text().splitlines() if line.startswith("flags")), "").split())
    names = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return f"{torch.backends.cpu.get_cpu_capability()}, {' '.join(names) or 'no known extensions'}"


@dataclass(frozen=True)
class Table:
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def write_result(
    options: argparse.Namespace,
    *,
    benchmark: str,
    title: str,
    doc: str | None,
    settings: Row,
    runs: Any,
    ratios: dict[str, Spread | None],
    tables: Sequence[Table],
    notes: Sequence[str] = (),
) -> str:
    """Write the JSON of a benchmark; returns its Markdown."""
    document = {
        "benchmark": benchmark,
        "title": title,
        "smoke": options.smoke,
        "about": "\n\n".join((doc or "").strip().split("\n\n")[2:]),
        "command": shlex.join(["python", f"scripts/bench/{Path(sys.argv[0]).name}", *_without_paths(sys.argv[1:])]),
        "environment": {**environment(), "cpu": cpu_facts()},
        "settings": settings,
        "ratios": {name: vars(found) for name, found in ratios.items() if found is not None},
        "tables": [{"caption": table.caption, "header": table.header, "rows": table.rows} for table in tables],
        "notes": list(notes),
        "runs": runs,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = options.out.with_name(f".{options.out.name}.tmp")
    temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    temporary.replace(options.out)
    return as_markdown(document)


def _without_paths(arguments: Sequence[str]) -> list[str]:
    """The command as others would type it: data in ../shared/data, results where they go by themselves."""
    kept: list[str] = []
    skip = False
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if skip:
            skip = False
        elif argument == "--out":
            skip = True
        else:
            kept.append("../shared/data" if before == "--data-dir" else argument)
    return kept


def as_markdown(document: Row) -> str:
    """A benchmark's section of the page of results."""
    facts = ", ".join(f"{name} {value}" for name, value in document["environment"].items())
    parts = [f"## {document['benchmark']}: {document['title']}", f"```\n{document['command']}\n```"]
    if document["smoke"]:
        parts.append("**A smoke run on a tiny model: the figures mean nothing.**")
    parts += [document["about"]] if document["about"] else []
    for table in document["tables"]:
        parts += [table["caption"]] if table["caption"] else []
        parts.append(markdown_table(table["header"], table["rows"]))
    parts += [*document["notes"], f"{facts}."]
    return "\n\n".join(parts) + "\n"
