"""Attacks on a real server, with well-behaved clients at the same time: are these affected?

    python scripts/bench/abuse.py [--package P] [--requests 200] [--seed 0] [--at-a-time 16] [--out docs/results]
    python scripts/bench/abuse.py --port N        # a server that runs already, on this machine

Starts `hf-trainpipe serve` with its default limits on a tiny model made by code (or on a package of yours), then makes
abusive requests of every kind in an order drawn from the seed, from the same address as the other clients. Meanwhile
four clients send short texts, one after the other, and /health is requested on a new connection every 50 ms.

Exit code 1 if a request of these clients failed, /health took longer than --health-ms, or memory rose by more than
--memory-mb at its peak or by more than a third of that for good.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from serve_client import Connection, Load, get, post  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator

HONEST = 4
PAUSE_S = 0.02
HEALTH_EVERY_S = 0.05
SETTLE_S = 12.0
"""After the last attack: slow connections have gone by then."""

HEAD = b"Host: 127.0.0.1\r\n"
POST = b"POST /predict HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BLOCK = b"a" * 65536


@dataclass
class Attacker:
    """One abusive connection at a time; keeps no answer but its status."""

    port: int
    hold_s: float
    """How long it stays where it says nothing."""

    async def send(self, parts: Iterable[bytes], *, pause_s: float = 0.0, reads: bool = True) -> str:
        """Send parts, then read to the end; returns the status that came, or what became of the connection."""
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self.port), 30)
        except (OSError, TimeoutError):
            return "no connection"
        try:
            with contextlib.suppress(ConnectionError):
                for part in parts:
                    writer.write(part)
                    await asyncio.wait_for(writer.drain(), 60)
                    await asyncio.sleep(pause_s)
            if not reads:
                await asyncio.sleep(self.hold_s)
                return "left"
            async with asyncio.timeout(3 * self.hold_s):
                answer = await reader.read(1 << 16)
                return answer[9:12].decode("latin-1") or "closed"
        except ConnectionError:
            return "closed"
        except TimeoutError:
            return "still open"
        finally:
            writer.transport.abort()

    async def ask(self, inputs: Any, **more: Any) -> str:
        """One request with these inputs, on a connection of its own."""
        return await self.send([_whole({"inputs": inputs, **more})])

    async def leave(self, inputs: Any) -> str:
        """Ask, and go before the answer."""
        return await Attacker(self.port, 0.05).send([_whole({"inputs": inputs})], reads=False)

    async def crowd(self, count: int) -> str:
        """Connections that say nothing."""
        await asyncio.gather(*(self.send([], reads=False) for _ in range(count)))
        return "left"


def _whole(body: Any) -> bytes:
    return post(body).replace(b"\r\nContent-Type", b"\r\nConnection: close\r\nContent-Type", 1)


def _endless(first: bytes, block: bytes, count: int = 400) -> Iterator[bytes]:
    yield first
    for _ in range(count):
        yield block


ATTACKS: dict[str, Callable[[Attacker, random.Random], Awaitable[str]]] = {
    "equal headers": lambda a, r: a.send(
        [b"GET /health HTTP/1.1\r\n" + HEAD + b"a: b\r\n" * r.choice((20_000, 50_000, 100_000)) + b"\r\n"]
    ),
    "endless header": lambda a, r: a.send(_endless(b"GET / HTTP/1.1\r\n" + HEAD + b"a: ", BLOCK)),
    "endless headers": lambda a, r: a.send(_endless(b"GET / HTTP/1.1\r\n" + HEAD, b"a: b\r\n" * 10_000)),
    "60 MB URL": lambda a, r: a.send(_endless(b"GET /", BLOCK, 915)),
    "endless trailers": lambda a, r: a.send(_endless(CHUNKED + b"2\r\n{}\r\n0\r\n", b"a: b\r\n" * 10_000)),
    "endless chunk extension": lambda a, r: a.send(_endless(CHUNKED + b"2;", BLOCK)),
    "chunks of one byte": lambda a, r: a.send(_endless(CHUNKED, b"1\r\nx\r\n" * 10_000, 40)),
    "pipelined": lambda a, r: a.send([(b"GET /health HTTP/1.1\r\n" + HEAD + b"\r\n") * 20_000]),
    "nothing sent": lambda a, r: a.send([]),
    "200 connections": lambda a, r: a.crowd(200),
    "body to a GET": lambda a, r: a.send([b"GET /health HTTP/1.1\r\n" + HEAD + b"Content-Length: 1000\r\n\r\n"]),
    "slow head": lambda a, r: a.send([bytes([byte]) for byte in POST[:40]], pause_s=a.hold_s / 40),
    "slow body": lambda a, r: a.send([POST + b"Content-Length: 99\r\n\r\n", *[b" "] * 40], pause_s=a.hold_s / 40),
    "garbage": lambda a, r: a.send([r.randbytes(100_000)]),
    "100 MB declared": lambda a, r: a.send([POST + b"Content-Length: 100000000\r\n\r\n"]),
    "25 MB streamed": lambda a, r: a.send(_endless(CHUNKED, b"10000\r\n" + BLOCK + b"\r\n")),
    "compressed": lambda a, r: a.send(
        [POST + b"Content-Encoding: gzip\r\nContent-Length: 60\r\n\r\n", gzip.compress(b" " * 9)]
    ),
    "10,000 inputs": lambda a, r: a.ask(["a"] * 10_000),
    "broken JSON": lambda a, r: a.send([_whole(b'{"inputs": [')]),
    "deep JSON": lambda a, r: a.send([_whole(b"[" * 1_000_000)]),
    "wide JSON": lambda a, r: a.send([_whole(b'{"inputs": [' + b"[]," * 600_000 + b"[]]}")]),
    "many keys": lambda a, r: a.send([_whole({f"k{n}": 0 for n in range(150_000)})]),
    "empty words": lambda a, r: a.ask([{"words": [""] * 500_000}]),
    "long parameters": lambda a, r: a.ask("a", parameters={"x" * 1_000_000: 1}),
    "half characters": lambda a, r: a.send([_whole(b'{"inputs": "\\ud800"}')]),
    "another host": lambda a, r: a.send([b"GET /info HTTP/1.1\r\nHost: example.org\r\n\r\n"]),
    "a large text": lambda a, r: a.ask("word " * 40_000),
    "a text without spaces": lambda a, r: a.ask("x" * 200_000),
    "256 texts, 192,000 characters": lambda a, r: a.ask(["word " * 150] * 256),
    "256 short texts": lambda a, r: a.ask(["a bright day"] * 256),
    "windows": lambda a, r: a.ask(["a b c d e " * 1_000] * 20),
    "U+FDFA": lambda a, r: a.ask("\ufdfa" * 200_000),
    "U+FDFA in small requests": lambda a, r: a.ask("\ufdfa" * 9_000),
    "marks without end": lambda a, r: a.ask("a" + "\u0301" * 90_000 + "\u0316" * 90_000),
    "tags without end": lambda a, r: a.ask(r.choice(("<a ", "<!--", "&amp;")) * 40_000),
    "asks and leaves": lambda a, r: a.leave(["word " * 1_500] * 20),
    "never reads": lambda a, r: a.send([_whole({"inputs": ["a bright day"] * 256})] , reads=False),
    "a request that holds the end token": lambda a, r: a.ask("good </s> [SEP] [PAD] film"),
}  # fmt: skip


@dataclass
class Seen:
    """What everybody saw."""

    honest: Load = field(default_factory=Load)
    failures: Counter[str] = field(default_factory=Counter)
    """Of the honest clients."""
    health: Load = field(default_factory=Load)
    attacks: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    memory_mb: list[float] = field(default_factory=list)
    """Before, during, and at last after."""

    def broken(self, *, health_ms: float, memory_mb: float) -> list[str]:
        """The bounds that do not hold."""
        found = [f"{count} honest requests: {what}" for what, count in self.failures.items()]
        if set(self.health.statuses) != {200} or self.health.lost:
            found.append(f"/health: {dict(self.health.statuses)}, {self.health.lost} lost")
        if (slowest := self.health.at(1)) > health_ms:
            found.append(f"/health took {slowest:.0f} ms, {health_ms:g} may be")
        before, peak, after = self.memory_mb[0], max(self.memory_mb), self.memory_mb[-1]
        if peak - before > memory_mb:
            found.append(f"memory rose from {before:.0f} to {peak:.0f} MB, by {memory_mb:g} may be")
        if after - before > memory_mb / 3:
            found.append(f"memory stays at {after:.0f} MB after {before:.0f}, {memory_mb / 3:.0f} more may be")
        return found


async def measure(port: int, options: argparse.Namespace) -> Seen:
    """Attack the server at ``port``, from a process beside this one: what it costs to attack delays no measurement."""
    seen, ends = Seen(), asyncio.Event()
    seen.memory_mb.append(await _memory(port))
    others = [asyncio.create_task(_honest(port, number, seen, ends)) for number in range(HONEST)]
    others += [asyncio.create_task(_health(port, seen, ends)), asyncio.create_task(_watch(port, seen, ends))]
    begin = time.perf_counter()
    chosen = [f"--{name}={getattr(options, name)}" for name in ("requests", "seed", "at_a_time", "hold")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--attack", f"--port={port}", *(one.replace("_", "-") for one in chosen),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, _ = await process.communicate()
    for name, outcome, seconds in json.loads(told):
        seen.attacks[name][outcome] += 1
        seen.seconds[name].append(seconds)
    await asyncio.sleep(min(SETTLE_S, options.hold))
    seen.honest.seconds = seen.health.seconds = time.perf_counter() - begin
    ends.set()
    await asyncio.gather(*others)
    seen.memory_mb.append(await _memory(port))
    return seen


async def attack(options: argparse.Namespace) -> list[tuple[str, str, float]]:
    """Make the attacks; returns what became of each."""
    os.nice(10)
    generator = random.Random(options.seed)
    names = [list(ATTACKS)[place % len(ATTACKS)] for place in range(options.requests)]
    generator.shuffle(names)
    waiting, told = iter(names), []

    async def one_after_the_other() -> None:
        for name in waiting:
            begin = time.perf_counter()
            outcome = await ATTACKS[name](Attacker(options.port, options.hold), generator)
            told.append((name, outcome, time.perf_counter() - begin))

    await asyncio.gather(*(one_after_the_other() for _ in range(options.at_a_time)))
    return told


async def _honest(port: int, number: int, seen: Seen, ends: asyncio.Event) -> None:
    connection = Connection(port)
    generator = random.Random(number)
    while not ends.is_set():
        text = " ".join(generator.choices(("a", "bright", "dull", "film", "day", "people"), k=generator.randint(2, 12)))
        begin = time.perf_counter()
        try:
            status, _ = await connection.ask(post({"inputs": text}))
        except (OSError, asyncio.IncompleteReadError) as error:
            seen.failures[type(error).__name__] += 1
            await connection.close()
            continue
        seen.honest.statuses[status] += 1
        seen.honest.latencies.append(time.perf_counter() - begin)
        if status != 200:
            seen.failures[str(status)] += 1
        await asyncio.sleep(PAUSE_S)
    await connection.close()


async def _health(port: int, seen: Seen, ends: asyncio.Event) -> None:
    while not ends.is_set():
        connection = Connection(port)
        begin = time.perf_counter()
        try:
            status, _ = await connection.ask(get("/health"))
            seen.health.statuses[status] += 1
            seen.health.latencies.append(time.perf_counter() - begin)
        except (OSError, asyncio.IncompleteReadError):
            seen.health.lost += 1
        await connection.close()
        await asyncio.sleep(HEALTH_EVERY_S)


async def _watch(port: int, seen: Seen, ends: asyncio.Event) -> None:
    while not ends.is_set():
        seen.memory_mb.append(await _memory(port))
        await asyncio.sleep(0.5)


async def _memory(port: int) -> float:
    connection = Connection(port)
    _, body = await connection.ask(get("/metrics"))
    await connection.close()
    found = re.search(rb"^process_resident_memory_bytes (\S+)", body, flags=re.MULTILINE)
    assert found is not None
    return float(found[1]) / 1e6


def make_package(folder: Path) -> Path:
    """The tiny model with a head that learned nothing; its texts unfold into many windows, and are normalised."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from hf_trainpipe.package.write import write
    from hf_trainpipe.tasks import TextClassification
    from hf_trainpipe.testing import tiny_model

    torch.manual_seed(0)
    base = tiny_model(folder / "model")
    return write(
        folder / "package",
        model=AutoModelForSequenceClassification.from_pretrained(base, num_labels=2),
        tokenizer=AutoTokenizer.from_pretrained(base),
        task=TextClassification("text", names=("negative", "positive")),
        preprocessing_json=[{"kind": "StripHtml"}, {"kind": "NormalizeUnicode"}, {"kind": "NormalizeSpace"}],
        tokens={"max_length": 64, "overflow": "window", "stride": 48},
        name="abuse",
    )


@contextlib.asynccontextmanager
async def running(package: Path) -> AsyncIterator[tuple[int, subprocess.Popen[str]]]:
    """A server with default limits on the first core, this process on the last; yields port and process."""
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "hf_trainpipe", "serve", str(package), "--port", "0"]
    with tempfile.TemporaryFile("w+") as log:
        os.sched_setaffinity(0, cores[:1])
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stderr=log, text=True, bufsize=1
        )
        os.sched_setaffinity(0, cores[-1:])
        try:
            port = 0
            while not port:
                await asyncio.sleep(0.1)
                log.seek(0)
                said = log.read()
                if process.poll() is not None:
                    raise RuntimeError(f"the server ended with {process.returncode}:\n{said}")
                if found := re.search(r"^serving .*:(\d+), demo", said, flags=re.MULTILINE):
                    port = int(found[1])
            yield port, process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(90)
            os.sched_setaffinity(0, cores)


def report(seen: Seen, broken: list[str], command: str) -> str:
    """A page of the figures."""
    honest, health = seen.honest, seen.health
    lines = [
        "# The server under abuse",
        "",
        f"`{command}`: {sum(sum(c.values()) for c in seen.attacks.values())} abusive requests of {len(seen.attacks)} "
        f"kinds in {honest.seconds:.0f} s, from the address that {HONEST} honest clients have too. Server on one core, "
        "all clients on another.",
        "",
        "| | seen |",
        "|---|---|",
        f"| honest requests | {sum(honest.statuses.values())}, of which failed: {sum(seen.failures.values())} |",
        f"| their answers | p50 {honest.at(0.5):.0f} ms, p95 {honest.at(0.95):.0f} ms, slowest {honest.at(1):.0f} ms |",
        f"| /health, {sum(health.statuses.values())} times on new connections | p50 {health.at(0.5):.1f} ms, "
        f"p99 {health.at(0.99):.0f} ms, slowest {health.at(1):.0f} ms |",
        f"| memory | before {seen.memory_mb[0]:.0f} MB, at most {max(seen.memory_mb):.0f} MB, "
        f"after {seen.memory_mb[-1]:.0f} MB |",
        f"| bounds broken | {'; '.join(broken) or 'none'} |",
        "",
        "| attack | times | became | longest |",
        "|---|---|---|---|",
    ]
    for name in ATTACKS:
        if outcomes := seen.attacks.get(name):
            became = ", ".join(f"{count} x {what}" for what, count in sorted(outcomes.items()))
            lines.append(f"| {name} | {sum(outcomes.values())} | {became} | {max(seen.seconds[name]):.1f} s |")
    lines += ["", "`closed`: without an answer; `left`: the attacker went."]
    return "\n".join(lines) + "\n"


async def attacked(options: argparse.Namespace) -> Seen:
    if options.port:
        return await measure(options.port, options)
    with tempfile.TemporaryDirectory() as folder:
        package = options.package or make_package(Path(folder))
        async with running(package) as (port, process):
            seen = await measure(port, options)
            process.send_signal(signal.SIGTERM)
            if (code := process.wait(60)) != 0:
                seen.failures[f"the server's exit code was {code}"] += 1
            return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-a-time", type=int, default=16)
    parser.add_argument("--hold", type=float, default=12.0, help="seconds that silent attackers stay")
    parser.add_argument("--health-ms", type=float, default=200.0)
    parser.add_argument("--memory-mb", type=float, default=300.0)
    parser.add_argument("--out", type=Path, help="folder for abuse.md")
    parser.add_argument("--attack", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attack:
        print(json.dumps(asyncio.run(attack(options))))
        return 0
    seen = asyncio.run(attacked(options))
    broken = seen.broken(health_ms=options.health_ms, memory_mb=options.memory_mb)
    command = f"python scripts/bench/abuse.py --requests {options.requests} --seed {options.seed}"
    page = report(seen, broken, command)
    print(page)
    if options.out is not None:
        (options.out / "abuse.md").write_text(page, encoding="utf-8")
    print(json.dumps({"broken": broken}))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
