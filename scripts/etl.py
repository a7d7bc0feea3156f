"""An ingest of more data than memory, killed; and beside ``datasets``, doing the same. See scripts/etl.

    scripts/etl --gigabytes 4 --limit 1G --kills 2     # raw csv files under a limit of memory, killed at random: the same fingerprint
    scripts/etl --beside --rows 20000000               # ingest and datasets.map + filter on the same short rows, one after the other

The limit is a memory cgroup (version 1 or 2), which root may make; where none can be made the script says so and stops. The raw files are
made by code, the same each time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
WORDS = 30_000
LONG_ROWS, SHORT_ROWS = 190_000, 1_000_000
"""Rows of a file: about 125 MB of long ones."""


def make_rows(folder: Path, *, short: bool, files: int, rows_of_a_file: int) -> int:
    """csv files of ``text,label,person``: words in their usual proportions, a fifth of the texts repeated, a fifth with white space to
    clean, some empty; short rows have 3 to 12 words, others 20 to 200, and of these one in twenty is in quotes, over two lines.

    Two files are drawn; the others are these with their letters moved on by 1, 2, ...: other texts of the same lengths. Returns
    the number of rows. Files that are there are kept.
    """
    told = folder / "made.json"
    asked = {"short": short, "files": files, "rows_of_a_file": rows_of_a_file}
    if told.is_file() and json.loads(told.read_bytes()) == asked:
        return files * rows_of_a_file
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz\u00e9"))
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(WORDS)], dtype=object)
    chance = 1.0 / np.arange(1, WORDS + 1)
    drawn = [_lines(rng, words, chance / chance.sum(), short, rows_of_a_file) for _ in range(min(2, files))]
    alphabet = b"abcdefghijklmnopqrstuvwxyz"
    for number in range(files):
        moved = number // 2
        table = bytes.maketrans(alphabet, alphabet[moved:] + alphabet[:moved])
        (folder / f"part-{number:04d}.csv").write_bytes(b"text,label,person\n" + drawn[number % 2].translate(table))
    told.write_text(json.dumps(asked))
    return files * rows_of_a_file


def _lines(rng: np.random.Generator, words: Any, chance: Any, short: bool, rows: int) -> bytes:
    lines: list[str] = []
    old: list[str] = []
    while len(lines) < rows:
        count = min(20_000 if short else 2_000, rows - len(lines))
        lengths = rng.integers(*((3, 13) if short else (20, 201)), count)
        drawn = words[rng.choice(len(words), int(lengths.sum()), p=chance)]
        ends = np.cumsum(lengths)
        texts = [" ".join(drawn[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
        kinds, picked, people = (
            rng.random(count),
            rng.integers(0, max(1, len(old)), count),
            rng.integers(0, 100_000, count),
        )
        labels = rng.choice(5, count, p=[0.4, 0.3, 0.15, 0.1, 0.05])
        for text, kind, at, label, person in zip(texts, kinds, picked, labels, people, strict=True):
            if kind < 0.2 and old:
                text = old[at]
            elif kind < 0.21:
                text = "  "
            elif kind < 0.4:
                text = f"  {text.replace(' ', '  ', 3)} "
            elif kind < 0.45 and not short:
                text = '"' + text.replace(" ", ", ", 4) + ' ""quoted""\nnext line"'
            lines.append(f"{text},{label},{person}\n")
        old = (old + texts)[-200_000:]
    return "".join(lines).encode()


@contextmanager
def limited(size: int) -> Iterator[tuple[str, Callable[[], None], Callable[[], int | None]]]:
    """How memory is limited: a name, what a child calls before it starts, and the most that was used, in bytes.

    Raises:
        SystemExit: this machine has no way to do it.
    """
    name = f"hf-trainpipe-etl-{os.getpid()}"
    for kind, base in (("cgroup v2", Path("/sys/fs/cgroup")), ("cgroup v1", Path("/sys/fs/cgroup/memory"))):
        group = base / name
        limit = group / ("memory.max" if kind == "cgroup v2" else "memory.limit_in_bytes")
        peak = group / ("memory.peak" if kind == "cgroup v2" else "memory.max_usage_in_bytes")
        if kind == "cgroup v2" and not (base / "cgroup.controllers").is_file():
            continue
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            limit.write_text(str(size))
            yield (
                f"{kind}, {limit.name}",
                lambda group=group: (group / "cgroup.procs").write_text(str(os.getpid())) and None,  # type: ignore[misc]
                lambda peak=peak: int(peak.read_text()) if peak.is_file() else None,  # type: ignore[misc]
            )
        finally:
            for _ in range(50):
                try:
                    group.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)
        return
    raise SystemExit("no memory cgroup can be made here: run as root, or with --beside, which needs none")


def command(raw: Path, out: Path, memory: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "hf_trainpipe", "ingest", str(raw / "*.csv"), "--to", str(out), "--validation", "0.02", "--test",
            "0.02", "--stratify", "label", "--max-chars", "2000", "--memory", memory, "--json", *more]  # fmt: skip


def cpu_seconds() -> float:
    """Of all processes that this one began and that ended: on a busy machine they tell more than a clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(
    raw: Path, out: Path, memory: str, join: Callable[[], None], *, kills: list[float], more: list[str]
) -> dict[str, Any]:
    """An ingest that is killed (its whole group, SIGKILL) after so many seconds, again and again, and then ends."""
    started, before, at = time.monotonic(), cpu_seconds(), []
    for after in [*kills, None]:
        process = subprocess.Popen(
            command(raw, out, memory, *more), preexec_fn=join, start_new_session=True, stdout=subprocess.PIPE, cwd=ROOT
        )
        begun = time.monotonic()
        signal.signal(signal.SIGTERM, lambda *_, pid=process.pid: (os.killpg(pid, signal.SIGKILL), sys.exit(143)))
        try:
            told, _ = process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            at.append(round(time.monotonic() - begun, 1))
            continue
        if process.returncode:
            raise SystemExit(f"ingest ended with {process.returncode}")
        if after is not None:
            print(
                f"it was done after {time.monotonic() - begun:.0f} s, before the kill at {after:.0f} s", file=sys.stderr
            )
            break
    found = json.loads(told)
    return {"fingerprint": found["fingerprint"], "rows": found["read"], "splits": found["splits"], "dropped": found["dropped"]["rows"],
            "seconds": round(time.monotonic() - started, 1), "cpu_seconds": round(cpu_seconds() - before, 1), "killed_after": at}  # fmt: skip


def under_limit(options: argparse.Namespace) -> dict[str, Any]:
    """One ingest that is left alone, and one that is killed; both under the limit."""
    raw = options.folder / "raw"
    rows = make_rows(raw, short=False, files=max(1, round(options.gigabytes * 8)), rows_of_a_file=LONG_ROWS)
    size = int(float(options.limit[:-1]) * {"M": 1 << 20, "G": 1 << 30}[options.limit[-1]])
    more = ["--engine", options.engine] + (["--processes", str(options.processes)] if options.processes else [])
    kept = options.folder / "figures.json"  # of an earlier call, which this one continues
    found = json.loads(kept.read_bytes()) if kept.is_file() else {}
    rng = random.Random(options.seed)
    for name, kills in (("whole", 0), ("killed", options.kills)):
        if name in found:
            continue
        with limited(size) as (how, join, peak):
            shutil.rmtree(options.folder / name, ignore_errors=True)
            usual = found.get("whole", {}).get("seconds", 0.0)
            after = [max(3.0, rng.uniform(0.1, 0.6) * usual) for _ in range(kills)]
            found[name] = run(raw, options.folder / name, options.limit, join, kills=after, more=more)
            found[name]["peak_bytes"] = peak()
        found["limit"] = how
        kept.write_text(json.dumps(found))
    raw_bytes = sum(path.stat().st_size for path in raw.glob("*.csv"))
    same = found["whole"]["fingerprint"] == found["killed"]["fingerprint"]
    return {"limit_bytes": size, "raw_bytes": raw_bytes, "raw_rows": rows, **found, "same": same}


THEIRS = """
import hashlib, json, sys, time
from datasets import load_dataset
raw, out, processes = sys.argv[1], sys.argv[2], int(sys.argv[3])
start = time.monotonic()
rows = load_dataset("csv", data_files=raw + "/*.csv", split="train", keep_default_na=False, cache_dir=out + "/cache")
loaded = time.monotonic()
rows = rows.map(lambda batch: {"text": [" ".join(text.split()) for text in batch["text"]]}, batched=True, num_proc=processes)
mapped = time.monotonic()
rows = rows.filter(lambda batch: [0 < len(text) <= 2000 for text in batch["text"]], batched=True, num_proc=processes)
seen = set()
def first(batch):
    kept = []
    for text in batch["text"]:
        kept.append(text not in seen)
        seen.add(text)
    return kept
rows = rows.filter(first, batched=True)
filtered = time.monotonic()
def place(text):
    return int.from_bytes(hashlib.md5(text.encode()).digest()[8:], "little") / 2**64
rows = rows.map(lambda batch: {"place": [place(text) for text in batch["text"]]}, batched=True, num_proc=processes)
for name, low, high in (("test", 0.0, 0.02), ("validation", 0.02, 0.04), ("train", 0.04, 1.0)):
    split = rows.filter(lambda batch: [low <= place < high for place in batch["place"]], batched=True, num_proc=processes)
    split.remove_columns(["place"]).to_parquet(f"{out}/{name}.parquet")
end = time.monotonic()
print(json.dumps({"rows": len(rows), "load": round(loaded - start, 1), "map": round(mapped - loaded, 1),
       "filter": round(filtered - mapped, 1), "cut_and_write": round(end - filtered, 1)}))
"""


def beside(options: argparse.Namespace) -> dict[str, Any]:
    """Ours and theirs on the same rows, one after the other, each from nothing; theirs in batches, on as many processes, cut by hash.

    Labels in proportion, the list of what was dropped and hashes of rows are ours alone; so is a bound of memory: theirs keeps all texts.
    """
    raw, out = options.folder / "short", options.folder / "beside"
    files = max(1, round(options.rows / SHORT_ROWS))
    rows = make_rows(raw, short=True, files=files, rows_of_a_file=options.rows // files)
    processes = options.processes or len(os.sched_getaffinity(0))
    shutil.rmtree(out, ignore_errors=True)
    (out / "theirs").mkdir(parents=True)
    ours = run(raw, out / "ours", options.memory, lambda: None, kills=[], more=["--processes", str(processes)])
    shutil.rmtree(out / "ours")
    started, before = time.monotonic(), cpu_seconds()
    told = subprocess.run(
        [sys.executable, "-c", THEIRS, str(raw), str(out / "theirs"), str(processes)], capture_output=True, text=True, check=True,
        env={**os.environ, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "1"},
    ).stdout.splitlines()[-1]  # fmt: skip
    wall, cpu = time.monotonic() - started, cpu_seconds() - before
    theirs = {**json.loads(told), "seconds": round(wall, 1), "cpu_seconds": round(cpu, 1)}
    shutil.rmtree(out)
    kept = sum(ours["splits"].values())
    return {"rows": rows, "processes": processes, "ours": ours, "datasets": theirs, "same_number_kept": kept == theirs["rows"],
            "times_as_fast": round(theirs["seconds"] / ours["seconds"], 2),
            "times_by_processor_time": round(theirs["cpu_seconds"] / ours["cpu_seconds"], 2)}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, default=Path("etl"), help="raw rows and shards; about four times the raw rows"
    )
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--limit", default="1G")
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", default="duckdb")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--beside", action="store_true")
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--memory", default="2G", help="of --beside")
    parser.add_argument("--out", type=Path, help="figures as JSON")
    options = parser.parse_args()
    options.folder = options.folder.absolute()
    found = beside(options) if options.beside else under_limit(options)
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if found.get("same", found.get("same_number_kept")) else 1


if __name__ == "__main__":
    raise SystemExit(main())
