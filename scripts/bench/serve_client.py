"""A small HTTP client for load: closed loops, Poisson arrivals, abusive requests. Standard library only.

One connection has one request at a time. A latency runs from the scheduled time of a request to its complete answer: in
an open loop a late start counts against the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class Connection:
    """A connection to a server, opened when it is needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Connect, unless it is."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a whole request; returns status and body."""
        await self.open()
        assert self._reader is not None
        assert self._writer is not None
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        body = await self._reader.readexactly(int(length or 0))
        if b"connection: close" in head:
            await self.close()
        return int(head[9:12]), body

    async def close(self) -> None:
        """Close it; the next request opens another."""
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def post(body: Any, *, path: str = "/predict") -> bytes:
    """A request with ``body`` as JSON, or as it is where it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    )
    return head.encode() + b"\r\n\r\n" + content


@dataclass
class Load:
    """What a load saw."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """Seconds of the requests with an answer."""
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    """Requests whose connection broke."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def at(self, fraction: float) -> float:
        """A quantile of the latencies, in milliseconds."""
        ordered = sorted(self.latencies)
        return 1e3 * ordered[min(len(ordered) - 1, int(fraction * len(ordered)))] if ordered else float("nan")

    def to_json(self) -> dict[str, Any]:
        return {
            "requests_per_s": round(self.rate, 1),
            **{f"p{round(100 * q)}_ms": round(self.at(q), 1) for q in (0.5, 0.95, 0.99)},
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "lost": self.lost,
        }


async def _one(connection: Connection, request: bytes, load: Load, due: float) -> None:
    try:
        status, _ = await connection.ask(request)
    except (ConnectionError, asyncio.IncompleteReadError):
        load.lost += 1
        await connection.close()
        return
    load.statuses[status] += 1
    if status == 200:
        load.latencies.append(time.perf_counter() - due)


async def closed(port: int, requests: Sequence[bytes], *, clients: int, seconds: float, seed: int = 0) -> Load:
    """``clients`` that each ask again as soon as they are answered."""
    load = Load()
    generator = random.Random(seed)
    begin = time.perf_counter()

    async def client() -> None:
        connection = Connection(port)
        while (due := time.perf_counter()) < begin + seconds:
            await _one(connection, generator.choice(requests), load, due)
        await connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    load.seconds = time.perf_counter() - begin
    return load


async def poisson(port: int, requests: Sequence[bytes], *, rate: float, seconds: float, seed: int = 0) -> Load:
    """Requests that arrive at random, ``rate`` a second on the average, whether or not others are answered."""
    load = Load()
    generator = random.Random(seed)
    free: list[Connection] = []
    running: set[asyncio.Task[None]] = set()

    async def arrival(request: bytes, due: float) -> None:
        connection = free.pop() if free else Connection(port)
        await _one(connection, request, load, due)
        free.append(connection)

    begin = due = time.perf_counter()
    while True:
        due += generator.expovariate(rate)
        if due > begin + seconds:
            break
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.ensure_future(arrival(generator.choice(requests), due))
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        await asyncio.wait(running)
    load.seconds = time.perf_counter() - begin
    for connection in free:
        await connection.close()
    return load


async def abuse(port: int, requests: Sequence[bytes], *, seconds: float, slow_clients: int = 50) -> dict[str, Any]:
    """Slow clients, bodies of 100 MB, lists of 10,000 inputs and broken JSON, while others ask and /health is timed."""
    until = time.perf_counter() + seconds
    statuses: dict[str, Counter[str]] = {name: Counter() for name in ("large", "streamed", "many", "broken")}
    health = Load()
    many = post({"inputs": ["a"] * 10_000})
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"

    async def slow() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for byte in head * 99:
            if time.perf_counter() > until or reader.at_eof():
                break
            try:
                writer.write(bytes([byte]))
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.sleep(0.2)
        writer.close()

    async def rude(name: str, request: bytes) -> None:
        while time.perf_counter() < until:
            connection = Connection(port)
            try:
                status, _ = await connection.ask(request)
                statuses[name][str(status)] += 1
            except (ConnectionError, asyncio.IncompleteReadError):
                statuses[name]["closed"] += 1
            await connection.close()
            await asyncio.sleep(0.01)

    async def large(name: str, announcement: bytes, chunk: bytes, count: int) -> None:
        while time.perf_counter() < until:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            status = "closed"
            try:
                writer.write(head + announcement + b"\r\n\r\n")
                for _ in range(count):
                    if reader.at_eof() or time.perf_counter() > until + 5:
                        break
                    writer.write(chunk)
                    await writer.drain()
                status = (await reader.readuntil(b"\r\n"))[9:12].decode()
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            statuses[name][status] += 1
            writer.close()
            await asyncio.sleep(0.05)

    async def watch() -> None:
        begin = time.perf_counter()
        connection = Connection(port)
        while (due := time.perf_counter()) < until:
            await _one(connection, get("/health"), health, due)
            await asyncio.sleep(0.02)
        health.seconds = time.perf_counter() - begin
        await connection.close()

    megabyte = b" " * (1 << 20)
    others, *_ = await asyncio.gather(
        closed(port, requests, clients=4, seconds=seconds),
        watch(),
        rude("many", many),
        rude("broken", post(b'{"inputs": [')),
        large("large", b"Content-Length: 104857600", megabyte, 100),
        large("streamed", b"Transfer-Encoding: chunked", b"100000\r\n" + megabyte + b"\r\n", 100),
        *(slow() for _ in range(slow_clients)),
    )
    return {
        "health": {**health.to_json(), "max_ms": round(health.at(1.0), 1)},
        "others": others.to_json(),
        "abusers": {name: dict(counts) for name, counts in statuses.items()},
    }
