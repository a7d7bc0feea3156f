"""Options, interleaved repeats, ratios, JSON files and Markdown pages of benchmarks."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from processes import SMOKE

RESULTS = Path(__file__).resolve().parents[2] / "docs/results"

Row = dict[str, Any]
Runs = dict[str, dict[str, list[Row]]]
"""Case -> side -> what each repeat measured."""


def make_parser(doc: str | None, *, out: str, repeats: int = 5, data: bool = True) -> argparse.ArgumentParser:
    """Common options of speed benchmarks."""
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
        os.environ[SMOKE] = "1"
    return options


def names_of(spelled: str, known: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    chosen = spelled.split(",")
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"expected names among {', '.join(known)}, found {', '.join(unknown)}")
    return chosen


@dataclass(frozen=True)
class Together:
    """Cases that are measured in one call."""

    groups: Callable[[Sequence[str]], list[list[str]]]
    measure: Callable[[Sequence[tuple[str, str]]], Sequence[Row | None]]
    """Pairs of a case and a side -> what was measured of each; None: it failed, and was told."""


def interleave(
    cases: Sequence[str],
    sides: Callable[[str], Sequence[str]],
    options: argparse.Namespace,
    measure: Callable[[str, str], Row],
    finished: Callable[[Runs], None],
    until: float = float("inf"),
    together: Together | None = None,
) -> Runs:
    """Run every side of every case once, then all again, so that drift of the machine affects all sides.

    Args:
        finished: Called with all results after each repeat, so that an interruption loses nothing.
        until: By :func:`time.monotonic`; no case begins that would likely end later. Where it is set, ``finished`` is called
            after each group too, when others have no results yet.
        together: Of sides that are measured in one call, instead of one after the other by ``measure``.
    """
    runs: Runs = {case: {side: [] for side in sides(case)} for case in cases}
    if options.add and options.out.exists():
        for case, found in json.loads(options.out.read_text(encoding="utf-8"))["runs"].items():
            for side, rows in found.items():
                runs.setdefault(case, {}).setdefault(side, []).extend(rows)
    took: dict[str, float] = {}
    groups = [[case] for case in cases] if together is None else together.groups(cases)
    for repeat in range(options.repeats):
        of_all = f"repeat {repeat + 1} of {options.repeats}"
        for group in groups:
            began, name = time.monotonic(), ", ".join(group)
            if began + took.get(name, max(took.values(), default=0.0)) > until:
                print(f"{of_all}: no time is left for {name}", file=sys.stderr, flush=True)
                continue
            pairs = [(case, side) for case in group for side in sides(case)]
            rows: Iterable[Row | None] = (
                map(measure, *zip(*pairs, strict=True)) if together is None else together.measure(pairs)
            )
            started = began
            for (case, side), row in zip(pairs, rows, strict=True):
                if row is not None:
                    runs[case][side].append(row)
                now = time.monotonic()
                if together is None:
                    print(f"{of_all}: {case} {side} in {now - started:.0f} s", file=sys.stderr, flush=True)
                started = now
            took[name] = time.monotonic() - began
            if together is not None:
                print(f"{of_all}: all sides of {name} in {took[name]:.0f} s", file=sys.stderr, flush=True)
            if until < float("inf"):
                finished(runs)
        finished(runs)
    return runs


def compare(
    options: argparse.Namespace,
    cases: Sequence[str],
    sides: Callable[[str], Sequence[str]],
    measure: Callable[[str, str], Row],
    summary: Callable[[Runs], tuple[dict[str, Spread | None], list[Table]]],
    *,
    benchmark: str,
    title: str,
    doc: str | None,
    settings: Row,
    notes: Sequence[str] = (),
    until: float = float("inf"),
    together: Together | None = None,
) -> None:
    """Measure every side of every case, keep the result, and print its page: the end of each benchmark's ``main``.

    Args:
        sides: Case -> its sides.
        measure: Case and side -> what one repeat measured.
        summary: What was measured -> ratios and tables.
        until, together: As of :func:`interleave`.
    """

    def finished(runs: Runs) -> None:
        nonlocal page
        ratios, tables = summary(runs)
        page = write_result(
            options, benchmark=benchmark, title=title, doc=doc, settings=settings, runs=runs, ratios=ratios,
            tables=tables, notes=notes,
        )  # fmt: skip

    page = ""
    interleave(cases, sides, options, measure, finished, until, together)
    print(page.removeprefix("#"))  # a page of its own, where `as_markdown` makes a section


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


@dataclass(frozen=True)
class Table:
    """One of a benchmark's tables; its cells are texts."""

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
        "command": "\n".join(dict.fromkeys([*_earlier_commands(options), typed_command()])),
        "environment": {**environment(), "cpu": "of no matter" if options.smoke else cpu_facts()},
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


def typed_command() -> str:
    """The command of this process, as others would type it."""
    return shlex.join(["python", f"scripts/bench/{Path(sys.argv[0]).name}", *_without_paths(sys.argv[1:])])


def _earlier_commands(options: argparse.Namespace) -> list[str]:
    """Those that made the repeats to which this one adds."""
    if not options.add or not options.out.exists():
        return []
    said: str = json.loads(options.out.read_text(encoding="utf-8"))["command"]
    return said.splitlines()


def _without_paths(arguments: Sequence[str]) -> list[str]:
    """Data in ../shared/data, results where they go by themselves, a package of one's own."""
    kept: list[str] = []
    skip = False
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if skip:
            skip = False
        elif argument == "--out":
            skip = True
        else:
            kept.append({"--data-dir": "../shared/data", "--package": "PACKAGE"}.get(before, argument))
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


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines.extend("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join(lines)


def environment() -> dict[str, str]:
    """Versions and kind of machine, for a page of figures."""
    packages = ("torch", "transformers", "datasets", "accelerate", "tokenizers")
    return {
        **{name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def cpu_facts() -> str:
    """CPU features that affect the speed of matrix products."""
    import torch

    flags: set[str] = set()
    info = Path("/proc/cpuinfo")
    if info.exists():
        flags = set(next((line for line in info.read_text().splitlines() if line.startswith("flags")), "").split())
    names = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return f"{torch.backends.cpu.get_cpu_capability()}, {' '.join(names) or 'no known extensions'}"


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
