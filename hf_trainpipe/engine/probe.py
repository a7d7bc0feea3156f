"""Measure the fastest number of threads and precision for matrix products on this CPU, once a machine (about a second).

``accelerate launch`` exports OMP_NUM_THREADS=1, two threads of one core share its units, and only some CPUs have units
for bf16, so a few candidates are timed on the products of a small encoder.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hf_trainpipe.engine.device import cores, cpu_facts, num_threads
from hf_trainpipe.utils.atomic import write_json
from hf_trainpipe.utils.cache import cache_root

VERSION = 1
SHAPES = ((768, 384, 1536), (768, 1536, 384))
"""(tokens, in, out) of the products that are timed: the feed-forward layers of MiniLM."""
SECONDS = 0.1
"""Per candidate."""
WORTH = 1.5
"""How many times faster bf16 has to be to replace fp32."""


@dataclass(frozen=True)
class ProbeResult:
    """The fastest candidate."""

    threads: int
    precision: Literal["fp32", "medium"]
    gflops: dict[str, float]
    """Of each candidate, by name."""


def probe() -> ProbeResult:
    """The fastest candidate on this CPU, from the cache if it was measured before."""
    place = cache_root() / "probe" / f"{_key()}.json"
    try:
        return ProbeResult(**json.loads(place.read_text()))
    except (OSError, ValueError, TypeError):
        pass
    found = _measure()
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, asdict(found), durable=False)
    return found


def _key() -> str:
    """Cache key of the machine, the libraries and the number of cores."""
    import torch

    facts: list[Any] = [
        VERSION,
        platform.machine(),
        cpu_facts("model name", "flags"),
        torch.__version__,
        num_threads(),
        cores(),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _measure() -> ProbeResult:
    import torch

    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    speeds: dict[str, float] = {}
    try:
        candidates = sorted({num_threads(), max(1, num_threads() // 2)}, reverse=True)
        for threads in candidates:
            speeds[f"fp32 {threads}"] = _gflops(threads, "highest")
        threads = max(candidates, key=lambda one: speeds[f"fp32 {one}"] * (1.05 if one == num_threads() else 1.0))
        speeds[f"medium {threads}"] = _gflops(threads, "medium")
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])
    faster = speeds[f"medium {threads}"] > WORTH * speeds[f"fp32 {threads}"]
    return ProbeResult(
        threads, "medium" if faster else "fp32", {name: round(speed, 1) for name, speed in speeds.items()}
    )


def _gflops(threads: int, precision: str) -> float:
    import torch

    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    pairs = [(torch.ones(rows, inner), torch.ones(outer, inner)) for rows, inner, outer in SHAPES]
    work = sum(2 * rows * inner * outer for rows, inner, outer in SHAPES)
    best, end = float("inf"), time.perf_counter() + SECONDS
    with torch.inference_mode():
        while time.perf_counter() < end:
            started = time.perf_counter()
            for one, other in pairs:
                torch.nn.functional.linear(one, other)
            best = min(best, time.perf_counter() - started)
    return work / best / 1e9
