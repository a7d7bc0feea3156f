"""The server compared with plain FastAPI around transformers.pipeline, and under load and abuse (B10).

    python scripts/bench/serve.py closed open load [--data-dir D] [--package P] [--out docs/results]

Server on core 0, client on core 1, MiniLM with a head of eight labels, one text a request, of mixed lengths: messages
written by this project (one, two or five of them a text), or with --data-dir the sentences of SST-2's dev split.

closed   1 to 32 clients that send the next request after each answer: requests a second and latencies
open     Poisson arrivals at rates up to each side's capacity; requests a second at equal p95 is the figure
load     this server alone: 50, 80 and 120 % of its capacity, memory over 10,000 requests, abuse, SIGTERM under load

Each part writes its figures into serve.json; serve.md is written from all parts. Run parts one by one on a shared
machine: each takes two to three minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from processes import only_on  # noqa: E402
from public_data import BENCHMARKS, model_folder  # noqa: E402
from results import environment, markdown_table, typed_command  # noqa: E402
from serve_client import Connection, Load, abuse, closed, get, poisson, post  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

BACKENDS = {"ours": "torch", "ours-onnx": "onnx", "ours-int8": "onnx-int8"}
"""Of ``hf-trainpipe serve``; those on ONNX Runtime only where the package holds them (``package RUN --onnx --int8``)."""
SIDES = (*BACKENDS, "peer", "peer-tuned")
CLIENTS = (1, 2, 4, 8, 16, 32)
FRACTIONS = (0.4, 0.6, 0.75, 0.85, 0.95)
SECONDS = {"closed": 4.0, "open": 6.0, "load": 12.0}
"""Of one measurement, in each part."""
TARGETS_MS = (30, 50, 100, 200)


def make_package(folder: Path) -> Path:
    """MiniLM with an untrained head: speed does not depend on what the head says."""
    import torch
    import transformers

    from hf_trainpipe.package.write import write
    from hf_trainpipe.tasks import TextClassification

    torch.manual_seed(0)
    labels = [f"label {number}" for number in range(8)]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(model_folder(), num_labels=len(labels))
    return write(
        folder / "package",
        model=model,
        tokenizer=transformers.AutoTokenizer.from_pretrained(model_folder()),
        task=TextClassification("text", names=tuple(labels)),
        preprocessing_json=[{"kind": "NormalizeSpace"}],
        tokens={"max_length": 128, "overflow": "truncate", "stride": 0},
        name="bench",
    )


def texts(data_dir: Path | None) -> list[str]:
    """Mixed lengths, the same for every side."""
    if data_dir is not None:
        return [row["sentence"] for row in BENCHMARKS["sst2"].read(data_dir)[1]]
    from hf_trainpipe.quickstart import SupportMessages

    generator = random.Random(17)
    messages = [text for text, _ in SupportMessages().messages()["test"]]
    sizes = generator.choices((1, 2, 5), weights=(6, 3, 1), k=512)
    return [" ".join(generator.sample(messages, size)) for size in sizes]


CORES = sorted(os.sched_getaffinity(0))
"""Those of this process before it keeps to the second one."""


@contextmanager
def running(side: str, package: Path) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A server of one side on the first core; yields its port and process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "hf_trainpipe", "serve", str(package), "--port", str(port)]
    if side in BACKENDS:
        command += ["--backend", BACKENDS[side]]
    else:
        kind = "tuned" if side == "peer-tuned" else "plain"
        command = [sys.executable, str(Path(__file__).with_name("serve_peer.py")), str(package), str(port), kind]
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryFile("w+") as log:
        with only_on([CORES[0]]):
            process = subprocess.Popen(command, cwd=ROOT, env=settings, stderr=log, text=True)
        try:
            while asyncio.run(_health(port)) != 200:
                if process.poll() is not None:
                    log.seek(0)
                    raise RuntimeError(f"{side} ended with {process.returncode}:\n{log.read()}")
                time.sleep(0.1)
            yield port, process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()


async def _health(port: int) -> int:
    connection = Connection(port)
    try:
        status, _ = await connection.ask(get("/health"))
    except (ConnectionError, asyncio.IncompleteReadError):
        return 0
    await connection.close()
    return status


def _cpu_seconds(process: subprocess.Popen[str]) -> float:
    """Processor time that a server has used: unlike its wall-clock time, of use on a machine that is not quiet."""
    import psutil

    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


async def _rss(port: int) -> float:
    """Megabytes that the server holds, as its metrics say."""
    connection = Connection(port)
    _, body = await connection.ask(get("/metrics"))
    await connection.close()
    found = re.search(rb"^process_resident_memory_bytes (\S+)", body, flags=re.MULTILINE)
    assert found is not None
    return float(found[1]) / 1e6


def sides_of(package: Path) -> list[str]:
    """The sides that a package can be compared on."""
    manifest = json.loads((package / "trainpipe.json").read_text(encoding="utf-8"))
    held = {"torch", *manifest.get("backends", {})}
    return [side for side in SIDES if BACKENDS.get(side, "torch") in held]


def run_sides(package: Path, requests: Sequence[bytes], seconds: Mapping[str, float], *, few: bool) -> dict[str, Any]:
    """The parts ``closed`` and ``open``, over one server a side.

    Args:
        seconds: Of a measurement, for each part that is asked for.
        few: Two loads a part are enough.

    Returns:
        Part -> side -> figures.
    """
    figures: dict[str, Any] = {part: {} for part in ("closed", "open") if part in seconds}
    for side in sides_of(package):
        with running(side, package) as (port, process):
            asyncio.run(closed(port, requests, clients=4, seconds=min(1.0, *seconds.values())))
            if "closed" in figures:
                figures["closed"][side] = _closed_loads(side, port, process, requests, seconds["closed"], few=few)
            if "open" in figures:
                figures["open"][side] = _open_loads(side, port, requests, seconds["open"], few=few)
    return figures


def _closed_loads(
    side: str, port: int, process: subprocess.Popen[str], requests: Sequence[bytes], seconds: float, *, few: bool
) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for clients in (1, 8) if few else CLIENTS:
        used = _cpu_seconds(process)
        load = asyncio.run(closed(port, requests, clients=clients, seconds=seconds))
        used = _cpu_seconds(process) - used
        shown = {**load.to_json(), "cpu_ms": round(1e3 * used / max(1, sum(load.statuses.values())), 2)}
        figures[str(clients)] = shown
        print(f"closed  {side:<11} {clients:>3} clients  {shown}", flush=True)
    return figures


def _open_loads(side: str, port: int, requests: Sequence[bytes], seconds: float, *, few: bool) -> dict[str, Any]:
    capacity = asyncio.run(closed(port, requests, clients=16, seconds=seconds / 2)).rate
    figures: dict[str, Any] = {"capacity": round(capacity, 1), "rates": []}
    for fraction in (0.6, 0.95) if few else FRACTIONS:
        load = asyncio.run(poisson(port, requests, rate=fraction * capacity, seconds=seconds))
        figures["rates"].append({"offered": round(fraction * capacity, 1), **load.to_json()})
        print(f"open    {side:<11} {fraction * capacity:6.1f}/s  {load.to_json()}", flush=True)
    return figures


def rate_at(points: Sequence[tuple[float, float]], target_ms: float) -> float | None:
    """The highest rate whose p95 keeps ``target_ms``, between measured points; None: not even the lightest load does.

    Args:
        points: (requests a second, p95), in the order of the load.
    """
    best = None
    for place, (rate, p95) in enumerate(points):
        found = rate
        if p95 > target_ms:
            before_rate, before = points[place - 1] if place else (0.0, float("inf"))
            if before > target_ms:
                continue
            found = before_rate + (rate - before_rate) * (target_ms - before) / (p95 - before)
        best = found if best is None else max(best, found)
    return best


def run_load(package: Path, requests: Sequence[bytes], seconds: float, count: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    with running("ours", package) as (port, process):
        asyncio.run(closed(port, requests, clients=32, seconds=min(2.0, seconds)))
        capacity = asyncio.run(closed(port, requests, clients=32, seconds=seconds / 2)).rate
        figures["capacity"] = round(capacity, 1)
        for percent in (50, 80, 120):
            load = asyncio.run(poisson(port, requests, rate=capacity * percent / 100, seconds=seconds))
            figures[f"{percent} %"] = {"offered": round(capacity * percent / 100, 1), **load.to_json()}
            print(f"load    {percent} %  {load.to_json()}", flush=True)
        figures["memory"] = asyncio.run(_memory(port, requests, count))
        print(f"load    memory  {figures['memory']}", flush=True)
        figures["abuse"] = asyncio.run(abuse(port, requests, seconds=seconds))
        figures["abuse"]["rss_mb_after"] = round(asyncio.run(_rss(port)), 1)
        print(f"load    abuse  {figures['abuse']}", flush=True)
        figures["sigterm"] = asyncio.run(_sigterm(port, process, requests))
        print(f"load    sigterm  {figures['sigterm']}", flush=True)
    return figures


async def _memory(port: int, requests: Sequence[bytes], count: int) -> dict[str, Any]:
    """Resident memory after each tenth of ``count`` requests by 16 clients."""
    shown = [round(await _rss(port), 1)]
    left = count
    statuses: Counter[int] = Counter()
    generator = random.Random(1)

    async def client(until: int) -> None:
        nonlocal left
        connection = Connection(port)
        while left > until:
            left -= 1
            status, _ = await connection.ask(generator.choice(requests))
            statuses[status] += 1
        await connection.close()

    for tenth in range(1, 11):
        await asyncio.gather(*(client(count - count * tenth // 10) for _ in range(16)))
        shown.append(round(await _rss(port), 1))
    return {"requests": count, "rss_mb": shown, "statuses": {str(status): n for status, n in statuses.items()}}


async def _sigterm(port: int, process: subprocess.Popen[str], requests: Sequence[bytes]) -> dict[str, Any]:
    """16 clients ask until nothing listens any more; SIGTERM comes meanwhile.

    Lost is a request that was sent before the signal and not answered. One sent after it may be too late: where its
    connection breaks, it was refused.
    """
    load = Load()
    refused = 0
    signalled = False

    async def client(number: int) -> None:
        nonlocal refused
        connection = Connection(port)
        while True:
            try:
                await connection.open()
            except ConnectionError:
                refused += 1
                return
            late = signalled
            try:
                status, _ = await connection.ask(requests[number])
                load.statuses[status] += 1
            except (ConnectionError, asyncio.IncompleteReadError):
                refused += late
                load.lost += not late
                return
            number = (number + 16) % len(requests)

    clients = [asyncio.ensure_future(client(number)) for number in range(16)]
    await asyncio.sleep(1.0)
    answered = sum(load.statuses.values())
    signalled = True
    process.send_signal(signal.SIGTERM)
    begin = time.perf_counter()
    await asyncio.gather(*clients)
    code = await asyncio.to_thread(process.wait, 60)
    return {
        "answered_before": answered,
        "answered_after": sum(load.statuses.values()) - answered,
        "statuses": {str(status): number for status, number in load.statuses.items()},
        "lost": load.lost,
        "clients_refused_at_the_end": refused,
        "exit_code": code,
        "seconds": round(time.perf_counter() - begin, 2),
    }


def ratios(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Requests a second at equal p95, for each target that both sides can be read at."""
    found = []
    for part, points_of in (("closed", _closed_points), ("open", _open_points)):
        if part not in figures:
            continue
        for target in TARGETS_MS:
            rates = {side: rate_at(points_of(found_side), target) for side, found_side in figures[part].items()}
            row: dict[str, Any] = {"part": part, "p95_ms": target}
            row.update({side: None if rate is None else round(rate, 1) for side, rate in rates.items()})
            for side, peer in _pairs(rates):
                mine, its = rates[side], rates[peer]
                row[f"{side} / {peer}"] = round(mine / its, 2) if mine and its else None
            found.append(row)
    return found


def _pairs(sides: Iterable[str]) -> list[tuple[str, str]]:
    """Each of our sides with each peer."""
    names = list(sides)
    return [(one, peer) for one in names if one.startswith("ours") for peer in names if peer.startswith("peer")]


def _closed_points(side: dict[str, Any]) -> list[tuple[float, float]]:
    return [(load["requests_per_s"], load["p95_ms"]) for load in side.values()]


def _open_points(side: dict[str, Any]) -> list[tuple[float, float]]:
    return [(load["requests_per_s"], load["p95_ms"]) for load in side["rates"]]


def report(figures: dict[str, Any]) -> str:
    """serve.md."""
    lines = ["# The server beside a bare FastAPI around transformers.pipeline", ""]
    commands = ", ".join(f"`{command}`" for command in dict.fromkeys(figures["commands"].values()))
    own = " (a package with `--onnx --int8`)" if "PACKAGE" in commands else ""
    lines += [f"{commands}{own}, {figures['texts']}.", ""]
    shown = ", ".join(f"{name} {value}" for name, value in figures["environment"].items())
    lines += [
        "Server on one core, client on the other. `peer` is FastAPI's own pool of threads around the pipeline, "
        "`peer-tuned` one thread; `ours` is `hf-trainpipe serve` on torch, `ours-onnx` and `ours-int8` the same with "
        "`--backend onnx` and `--backend onnx-int8`. MiniLM; fp32 but for `ours-int8`.",
        "",
        f"{shown}.",
        "",
    ]
    if found := ratios(figures):
        lines += ["## Requests a second at equal p95", ""]
        shown_sides = [side for side in SIDES if any(side in row for row in found)]
        compared = [f"{one} / {peer}" for one, peer in _pairs(shown_sides)]
        names = ["arrivals", "p95", *shown_sides, *compared]
        rows = [
            [
                row["part"],
                f"{row['p95_ms']} ms",
                *(_shown(row.get(name)) for name in (*shown_sides, *compared)),
            ]
            for row in found
        ]
        lines += [
            markdown_table(names, rows),
            "",
            "A dash: not even the lowest rate that was tried keeps that p95.",
            "",
        ]
    if "closed" in figures:
        lines += ["## Closed loop", ""]
        rows = [
            [side, clients, *(str(load[key]) for key in ("requests_per_s", "p50_ms", "p95_ms", "p99_ms", "cpu_ms"))]
            for side, loads in figures["closed"].items()
            for clients, load in loads.items()
        ]
        lines += [
            markdown_table(["side", "clients", "requests/s", "p50 ms", "p95 ms", "p99 ms", "CPU ms a request"], rows),
            "",
        ]
    if "open" in figures:
        lines += ["## Poisson arrivals", ""]
        rows = [
            [side, str(load["offered"]), *(str(load[key]) for key in ("requests_per_s", "p50_ms", "p95_ms", "p99_ms"))]
            for side, loads in figures["open"].items()
            for load in loads["rates"]
        ]
        lines += [markdown_table(["side", "offered/s", "answered/s", "p50 ms", "p95 ms", "p99 ms"], rows), ""]
    if "load" in figures:
        lines += _load_lines(figures["load"])
    return "\n".join(lines).rstrip() + "\n"


def _load_lines(load: dict[str, Any]) -> list[str]:
    rows = [
        [
            name,
            *(str(load[name][key]) for key in ("offered", "requests_per_s", "p50_ms", "p95_ms", "p99_ms", "lost")),
            ", ".join(f"{count} x {status}" for status, count in load[name]["statuses"].items()),
        ]
        for name in ("50 %", "80 %", "120 %")
    ]
    abused, ended = load["abuse"], load["sigterm"]
    abusers = "; ".join(
        f"{name}: " + ", ".join(f"{count} x {status}" for status, count in counts.items())
        for name, counts in abused["abusers"].items()
    )
    return [
        "## Load, abuse, end",
        "",
        f"Capacity with 32 clients: {load['capacity']} requests/s. Arrivals at a share of it:",
        "",
        markdown_table(["share", "offered/s", "answered/s", "p50 ms", "p95 ms", "p99 ms", "lost", "statuses"], rows),
        "",
        f"Resident memory over {load['memory']['requests']} requests, after each tenth, in MB: "
        f"{', '.join(map(str, load['memory']['rss_mb']))}.",
        "",
        f"Abuse (50 slow clients, 100 MB bodies declared and streamed, 10,000 inputs, broken JSON) while four clients "
        f"ask: /health p50 {abused['health']['p50_ms']} ms, p99 {abused['health']['p99_ms']} ms, at most "
        f"{abused['health']['max_ms']} ms over {sum(abused['health']['statuses'].values())} requests; the four got "
        f"{abused['others']['statuses']} at p95 {abused['others']['p95_ms']} ms; memory after it "
        f"{abused['rss_mb_after']} MB. The abusers got {abusers}.",
        "",
        f"SIGTERM with 16 clients asking: {ended['answered_before']} answered before it, {ended['answered_after']} after "
        f"it, {ended['lost']} lost, exit code {ended['exit_code']} after {ended['seconds']} s; statuses "
        f"{ended['statuses']}.",
    ]


def _shown(value: float | None) -> str:
    return "-" if value is None else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=("closed", "open", "load"))
    parser.add_argument("--data-dir", type=Path, help="a folder that holds sst2/")
    parser.add_argument("--package", type=Path, help="a text classification package; MiniLM by default")
    parser.add_argument("--seconds", type=float, help="of a measurement; 4, 6 and 12 in the three parts by default")
    parser.add_argument("--requests", type=int, default=10_000, help="over which memory is watched")
    parser.add_argument("--few", action="store_true", help="two loads in place of five or six, to see that all works")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {CORES[-1]})
    requests = [post({"inputs": text}) for text in texts(arguments.data_dir)]
    path = arguments.out / "serve.json"
    figures: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    what = "sentences of SST-2's dev split" if arguments.data_dir else "messages written by this project"
    figures.update(environment=environment(), texts=f"{len(requests)} {what}")
    with tempfile.TemporaryDirectory() as folder:
        package = arguments.package or make_package(Path(folder))
        seconds = {part: arguments.seconds or usual for part, usual in SECONDS.items() if part in arguments.parts}
        if "closed" in seconds or "open" in seconds:
            figures |= run_sides(package, requests, seconds, few=arguments.few)
        if "load" in seconds:
            figures["load"] = run_load(package, requests, seconds["load"], arguments.requests)
    figures["commands"] = {**figures.get("commands", {}), **dict.fromkeys(arguments.parts, typed_command())}
    figures["ratios"] = ratios(figures)
    for row in figures["ratios"]:
        print(json.dumps(row))
    arguments.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(report(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
