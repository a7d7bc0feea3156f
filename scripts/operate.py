"""Run the proofs of operating one after the other, whatever fails, and write what came into docs/results/operate.md.

    scripts/operate --folder WORK --data-dir DIR
    scripts/operate --folder WORK --only launchers etl

Each part is a script of its own, called here with the folder WORK/PART, where what is done already is not done again. A row of the page
has what it said and how it ended; it is replaced when its part ends, so that an interrupted night keeps what came before. Parts that need public
data are left out without ``--data-dir``. Exit 1: a part failed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from result_page import put_between

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/results/operate.md"
ROWS = PAGE.with_suffix(".json")
BEGIN, END = "<!-- scripts/operate writes from here -->", "<!-- to here -->"

Said = Callable[[str, Path], str]
"""What a part printed and the folder that it had -> the figure."""


@dataclass(frozen=True)
class Part:
    """A proof."""

    asked: str
    commands: tuple[str, ...]
    """One after the other until one fails. FOLDER and DATA stand for the part's own folder and the public data."""
    figure: Said


def objects(text: str) -> list[dict[str, Any]]:
    """The JSON objects that begin a line of what was printed, over one line or several."""
    found, decoder = [], json.JSONDecoder()
    for begin in re.finditer(r"^\{", text, re.MULTILINE):
        try:
            one, _ = decoder.raw_decode(text, begin.start())
        except ValueError:
            continue
        found.append(one)
    return found


def rows_of(text: str) -> list[list[str]]:
    """The cells of Markdown's tables in what was printed."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]


def last_line(text: str, _: Path) -> str:
    return text.strip().splitlines()[-1]


def engines(_: str, folder: Path) -> str:
    """Of the proofs under Airflow and Kubeflow: the last row of each of their parts."""
    found = {row["part"]: row for row in map(json.loads, (folder / "results.jsonl").read_text().splitlines())}
    return "; ".join(
        f"{name}: {'the same weights' if row['same_weights'] else 'OTHER WEIGHTS'}"
        + (f", {row['most_trainers']} trainer at a time" if row.get("most_trainers") else "")
        for name, row in found.items()
    )


def limited(text: str, _: Path) -> str:
    found = objects(text)[-1]
    whole, killed = found["whole"], found["killed"]
    return (
        f"{found['raw_bytes'] / 1e9:.1f} GB, {found['raw_rows']:,} rows, killed after {' and '.join(map(str, killed['killed_after']))} s: "
        f"{whole['fingerprint'][:16]} and {killed['fingerprint'][:16]}; left alone {whole['seconds']:.0f} s"
    )


def beside(text: str, _: Path) -> str:
    found = objects(text)[-1]
    ours, theirs = found["ours"], found["datasets"]
    return (
        f"{found['rows']:,} rows: {ours['seconds']:.0f} s, datasets {theirs['seconds']:.0f} s: {found['times_as_fast']:.1f} times as fast "
        f"(processor time {found['times_by_processor_time']:.1f})"
    )


def drift(text: str, _: Path) -> str:
    alarms = next(line for line in text.splitlines() if "ever alarm" in line)
    tenth = [
        int(cell.split(" of ")[0])
        for cell in re.findall(r"^\S+ +\d+ .*$", text, re.MULTILINE)
        for cell in re.findall(r"\d+ of \d+", cell)[2:3]
    ]
    evidently = re.findall(r"^  (\w+): null (\d+)", text, re.MULTILINE)
    peers = ", ".join(f"{name} {count}" for name, count in evidently)
    return f"{alarms}; a tenth found in {sum(tenth)} of {20 * len(tenth)}; Evidently, false alarms in three windows: {peers or 'not run'}"


def loop(text: str, _: Path) -> str:
    told = []
    for found in objects(text):
        if "gate" in found:
            told.append(f"drift seen after {found['drift seen after windows']} windows, promoted: {found['gate']}")
        if "ends" in found:
            told.append("two loops at once: " + ", ".join(one["kind"] for one in found["ends"].values()))
        if "poisoned" in found:
            told.append(f"poisoned labels: exit {found['poisoned']['exit']}")
        if "requests answered" in found:
            told[-1] += f" ({found['requests answered']:,} requests, {len(found['requests lost'])} lost)"
    return "; ".join(told)


def gates(text: str, _: Path) -> str:
    found = objects(text)[-1]
    return "; ".join(
        f"{kind}: promoted {one.get('promoted', 0)} of {one['gates']}"
        for kind, one in found.items()
        if "gain in truth" in one
    )


def saved_models(text: str, _: Path) -> str:
    rows = [row for row in rows_of(text) if len(row) == 7 and row[0] != "architecture"]
    most = max(float(row[4]) for row in rows)
    lite = [float(row[6]) for row in rows if row[5] != "refused"]
    shapes = sum(int(row[3].replace(",", "")) for row in rows)
    return f"{len(rows)} models at {shapes:,} shapes: {most:.1e} at most; LiteRT of {len(lite)}: {max(lite, default=0):.1e}"


def launched(text: str, _: Path) -> str:
    rows = [row for row in rows_of(text) if row[0] in ("equal", "stopped", "killed", "lost")]
    wrong = [row for row in rows if row[2].startswith(("NOT", "skipped"))]
    return f"{len(rows) - len(wrong)} of {len(rows)} as torchrun" + "".join(
        f"; {row[0]}, {row[1]}: {row[2][:120]}" for row in wrong
    )


PARTS = {
    "pipeline": Part(
        "1: the same weights, also killed in each stage and continued on another engine",
        ("scripts/pipeline_proof --folder FOLDER --epochs 12",),
        last_line,
    ),
    "airflow": Part(
        "1: the same weights under `dag.test()` and a real scheduler", ("scripts/airflow --folder FOLDER",), engines
    ),
    "kubeflow": Part("1: the same weights under KFP's runner", ("scripts/kubeflow --folder FOLDER",), engines),
    "etl": Part(
        "2: 4 GB under 1 GB, killed twice: the same fingerprint",
        ("scripts/etl --folder FOLDER --gigabytes 4 --limit 1G --kills 2",),
        limited,
    ),
    "etl-beside": Part(
        "2: at least twice as fast as `datasets`", ("scripts/etl --beside --folder FOLDER --rows 20000000",), beside
    ),
    "drift": Part(
        "3: at most 1 of 20 references alarms in a year; a tenth is found in 90 %",
        ("scripts/drift --data-dir DATA --folder FOLDER --evidently",),
        drift,
    ),
    "loop": Part(
        "4: unattended, no request lost; two loops give one promotion", ("scripts/loop --folder FOLDER",), loop
    ),
    "loop-minilm": Part(
        "4: the same with MiniLM and texts of people",
        (
            "scripts/loop --folder FOLDER --only loop --minilm --data-dir DATA",
            "scripts/loop --folder FOLDER --only racing --minilm --data-dir DATA",
        ),
        loop,
    ),
    "gates": Part(
        "4: poisoned labels: the champion stays in 95 of 100",
        ("scripts/loop --folder FOLDER --only gates --data-dir DATA",),
        gates,
    ),
    "tensorflow": Part(
        "5: within 1e-4 at batch 1 to 8 x length 1 to 512",
        ("scripts/tensorflow setup", "scripts/tensorflow architectures", "scripts/tensorflow unknown"),
        saved_models,
    ),
    "launchers": Part("6: Spark, Dask, Ray: the weights of torchrun", ("scripts/launchers",), launched),
}


def measure(name: str, folder: Path, data: Path | None) -> dict[str, Any]:
    """Run a part; its row."""
    part, place = PARTS[name], folder / name
    place.mkdir(parents=True, exist_ok=True)
    code, printed, began = 0, "", time.monotonic()
    for command in part.commands:
        words = [{"FOLDER": str(place), "DATA": str(data)}.get(word, word) for word in command.split()]
        print(f"{name}: {command}", file=sys.stderr, flush=True)
        done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        code, printed = done.returncode, printed + done.stdout
        if code:
            break
    (place / "printed.txt").write_text(printed)
    try:
        figure = part.figure(printed, place)
    except (LookupError, OSError, StopIteration, ValueError) as error:
        code, figure = code or 1, f"nothing to read: {error!r}"
    return {
        "asked": part.asked,
        "commands": [command.replace("FOLDER", "WORK") for command in part.commands],
        "figure": figure,
        "exit": code,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "day": time.strftime("%Y-%m-%d"),
    }


def write(rows: dict[str, Any]) -> None:
    """The rows as JSON, and as the table of the page."""
    ROWS.write_text(
        json.dumps({name: rows[name] for name in PARTS if name in rows}, indent=1, ensure_ascii=False) + "\n"
    )
    lines = ["| asked | command | what came | minutes | day |", "|---|---|---|---|---|"]
    for name in PARTS:
        if name in rows:
            row = rows[name]
            figure = row["figure"] if row["exit"] == 0 else f"**failed** (exit {row['exit']}): {row['figure']}"
            cells = (
                row["asked"],
                "; ".join(f"`{one}`" for one in row["commands"]),
                figure,
                str(row["minutes"]),
                row["day"],
            )
            lines.append(f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in cells)} |")
    put_between(PAGE, "\n\n" + "\n".join(lines) + "\n\n", begin=BEGIN, end=END)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument(
        "--data-dir", type=Path, help="public data; without it drift, gates and MiniLM's loop are left out"
    )
    parser.add_argument(
        "--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), metavar="PART", help=", ".join(PARTS)
    )
    options = parser.parse_args()
    data = options.data_dir and options.data_dir.resolve()
    failed = 0
    for name in options.only:
        if data is None and any("DATA" in command for command in PARTS[name].commands):
            print(f"{name}: left out, it needs --data-dir", file=sys.stderr, flush=True)
            continue
        row = measure(name, options.folder.resolve(), data)
        rows = json.loads(ROWS.read_bytes()) if ROWS.is_file() else {}
        write({**rows, name: row})
        print(f"{name}: exit {row['exit']}: {row['figure']}", flush=True)
        failed += row["exit"] != 0
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
