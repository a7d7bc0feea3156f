"""Forecasts of runs, kept beside their outcomes, from which later forecasts on the same machine are corrected.

``check`` measures what a run would need and leaves that in the cache, under a hash of the recipe; the run takes it into its folder
(``forecast.json``) and adds what came of it. Outcome by forecast, in logarithms, of earlier runs of the same kind on this
machine gives a correction and its spread:

    <cache>/forecasts/<recipe>.json          a forecast that waits for its run
    <cache>/forecasts/history/<kind>.jsonl   {"plain": ..., "outcome": ...}, a line a run
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.codec import to_json
from hf_trainpipe.engine.device import cores, cpu_facts, peak_memory
from hf_trainpipe.report.forecast import NAME, read
from hf_trainpipe.tracking.ledger import parse_object
from hf_trainpipe.utils.atomic import write_json
from hf_trainpipe.utils.cache import cache_root

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.training.result import Result
    from hf_trainpipe.training.setup import Setup

_Z = 1.645
"""Standard deviations on each side that hold nine tenths of a normal distribution."""
USUAL = {"seconds": 0.08, "memory_bytes": 0.05, "disk_bytes": 0.01}
"""How far, as a share, an outcome is from its forecast before this machine has any past: weighs as much as two runs."""
_USUAL_RUNS = 2
_LATEST = 20
"""Runs of the past that are heeded."""
_FARTHEST = math.log(3.0)
"""Of an outcome from its forecast: more is another reason than the forecast, such as a suspended machine."""
_WAITS_DAYS = 30


@dataclass(frozen=True)
class Guess:
    """A number to come, and an interval that holds it in nine cases of ten."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Guess:
        """The same in another unit."""
        return Guess(self.value * factor, self.low * factor, self.high * factor)


def corrected(plain: float, past: Sequence[tuple[float, float]], *, usual: float, spread: float = 0.0) -> Guess:
    """A forecast corrected by what came of earlier ones.

    Args:
        plain: As it was measured.
        past: Plain forecasts and their outcomes.
        usual: The spread of outcomes that is assumed without a past, as a share.
        spread: That of the measurement itself.

    >>> corrected(100.0, [], usual=0.05).value
    100.0
    >>> round(corrected(100.0, [(10.0, 12.0)] * 9, usual=0.05).value, 1)
    117.8
    """
    ratios = [
        max(-_FARTHEST, min(_FARTHEST, math.log(came / told)))
        for told, came in past[-_LATEST:]
        if told > 0 and came > 0
    ]
    count = len(ratios)
    shift = sum(ratios) / (count + 1)  # one more whose forecast was right
    squares = _USUAL_RUNS * usual**2 + sum((ratio - shift) ** 2 for ratio in ratios)
    variance = squares / (_USUAL_RUNS + count) * (1 + 1 / (count + 1)) + spread**2
    width = _Z * math.sqrt(variance)
    value = plain * math.exp(shift)
    return Guess(value, value * math.exp(-width), value * math.exp(width))


def recipe_key(recipe: Recipe, *, ranks: int) -> str:
    """A hash of what decides how long a run takes: the recipe without its trackers and pushes, and the number of ranks."""
    told = {name: value for name, value in to_json(recipe).items() if name not in ("trackers", "hub")}
    return _digest([told, ranks])


def kind_of_work(setup: Setup) -> str:
    """The machine, and the kind of work that it does: what the past of a forecast is kept under."""
    import torch

    device = setup.accelerator.device
    machine = [
        platform.node(),
        platform.machine(),
        cpu_facts("model name"),
        cores(),
        setup.plan.threads,
        setup.ranks.size,
    ]
    if device.type == "cuda":
        machine.append(torch.cuda.get_device_name(device))
    work = [type(setup.task).__name__, setup.plan.architecture, device.type, setup.plan.precision]
    return f"{'-'.join(work)}-{_digest(machine)[:8]}"


def past_of(kind: str) -> list[Mapping[str, Mapping[str, float]]]:
    """Forecasts and outcomes of earlier runs of a kind, the oldest first; lines that are damaged are left out."""
    found: list[Mapping[str, Mapping[str, float]]] = []
    with contextlib.suppress(OSError):
        for line in _history(kind).read_bytes().splitlines(keepends=True):
            with contextlib.suppress(ValueError, TypeError, KeyError):
                entry = parse_object(line) or {}
                found.append({name: {key: float(v) for key, v in entry[name].items()} for name in ("plain", "outcome")})
    return found


def forecast(plain: Mapping[str, float], *, kind: str, spread: Mapping[str, float]) -> tuple[dict[str, Guess], int]:
    """Corrected forecasts of ``seconds``, ``memory_bytes`` and ``disk_bytes``, and the number of runs they learned from.

    Args:
        plain: As they were measured.
        spread: Of the measurements, as shares.
    """
    past = past_of(kind)
    pairs = {
        name: [
            (one["plain"][name], one["outcome"][name])
            for one in past
            if name in one["plain"] and name in one["outcome"]
        ]
        for name in plain
    }
    found = {
        name: corrected(value, pairs[name], usual=USUAL[name], spread=spread.get(name, 0.0))
        for name, value in plain.items()
    }
    return found, min(len(past), _LATEST)


def wait_for_run(key: str, found: Mapping[str, Any]) -> None:
    """Keep a forecast in the cache until its run begins; those that no run took in a month are removed."""
    folder = cache_root() / "forecasts"
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.json"):
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > _WAITS_DAYS * 86400:
                file.unlink()
    write_json(folder / f"{key}.json", dict(found), durable=False)


def take(setup: Setup, asked: Recipe) -> None:
    """Keep the forecast of a run that begins in its folder, if there is one for this recipe, data and machine; rank 0 only."""
    if not setup.ranks.is_main or setup.folder.attempt != 1:
        return
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        found = json.loads(
            (cache_root() / "forecasts" / f"{recipe_key(asked, ranks=setup.ranks.size)}.json").read_text()
        )
        if found["data"] == setup.data.fingerprints["data"] and found["kind"] == kind_of_work(setup):
            write_json(setup.folder.path / NAME, found, durable=False)


def keep_outcome(setup: Setup, result: Result) -> bool:
    """Add what came of a run to its forecast, and to this machine's past where nothing disturbed it; rank 0 only.

    Returns:
        Whether there was a forecast.
    """
    found = read(setup.folder.path) if setup.ranks.is_main else None
    if found is None or setup.options.package_only or "outcome" in found:
        return False
    whole = setup.folder.attempt == 1 and result.steps == setup.plan.total_steps
    outcome: dict[str, Any] = {"steps": result.steps, "attempts": setup.folder.attempt, "undisturbed": whole}
    outcome |= {"seconds": result.seconds, "disk_bytes": folder_bytes(setup.folder.path)}
    if (memory := peak_memory(setup.accelerator.device)) is not None:
        outcome["memory_bytes"] = memory
    try:
        write_json(setup.folder.path / NAME, {**found, "outcome": outcome}, durable=False)
        if whole:
            entry = {"plain": found["plain"], "outcome": {name: outcome[name] for name in USUAL if name in outcome}}
            file = _history(found["kind"])
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")
    except (OSError, KeyError) as error:  # the run is complete
        setup.console.say(f"warning: the outcome of the forecast is not kept: {error}")
    return True


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def guesses_to_json(found: Mapping[str, Guess]) -> dict[str, dict[str, float]]:
    """For forecast.json."""
    return {name: asdict(guess) for name, guess in found.items()}


def _history(kind: str) -> Path:
    return cache_root() / "forecasts" / "history" / f"{kind}.jsonl"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]
