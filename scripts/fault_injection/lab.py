"""A folder for fault runs: a tiny model, data, the faulty recipe, and uninterrupted runs for comparison."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from .process import Ended, Process, expect

ROOT = Path(__file__).resolve().parents[2]
INPUTS = ("train.csv", "dev.csv", "faulty.py")

Start = Literal["plain", "verb"]
"""``plain``: python, or accelerate launch for several ranks; ``verb``: hf-trainpipe launch."""


def load(path: Path, name: str) -> ModuleType:
    """A module from a file of the tests."""
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


class Lab:
    """Starts commands as the tests' workshop does; keeps the results of uninterrupted runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.workshop: Any = load(ROOT / "tests/training/conftest.py", "fault_injection_conftest").Workshop(folder)
        shutil.copy(Path(__file__).with_name("faulty.py"), folder)
        self._uninterrupted: dict[tuple[int, str], Ended] = {}
        self._names: set[str] = set()

    def name(self, wish: str) -> str:
        """An unused name for a run, also where the folder has runs of an earlier call."""
        number = 1
        while f"{wish}-{number}" in self._names or (self.folder / f"{wish}-{number}").exists():
            number += 1
        self._names.add(f"{wish}-{number}")
        return f"{wish}-{number}"

    def start(
        self, run: str, *options: str, ranks: int = 1, start: Start = "plain", folder: Path | None = None, **more: str
    ) -> Process:
        """Start ``train faulty.py --run-dir RUN``."""
        arguments = ("faulty.py", "--run-dir", run, *options)
        command: list[str] = self.workshop.command(*arguments, ranks=ranks)
        environment: dict[str, str] = self.workshop.environment({**self.workshop.ranks(ranks), **more})
        if start == "verb":
            shape = ["--multi_gpu"] if ranks > 1 else ["--cpu"]
            shape += ["--num_processes", str(ranks), "--num_machines", "1", "--mixed_precision", "no"]
            shape += ["--dynamo_backend", "no", "--main_process_port", "0"]
            train = ["-m", "hf_trainpipe", "train", *arguments]
            command = [sys.executable, "-m", "hf_trainpipe", "launch", *shape, *train]
        return Process(command, folder=folder or self.folder, environment=environment)

    def train(self, run: str, *options: str, ranks: int = 1, folder: Path | None = None, **more: str) -> Ended:
        """Run it and wait for its end."""
        return self.start(run, *options, ranks=ranks, folder=folder, **more).end()

    def resume_and_compare(self, run: str, *, ranks: int = 1, reference: str | None = None, **more: str) -> Ended:
        """Run the same command again; its final files must equal those of an uninterrupted run, byte for byte."""
        done = self.train(run, ranks=ranks, **more)
        expect(done.code == 0, f"the resumed run ended with {done.code}: {done.last}")
        differing = self.differing(run, reference or self.uninterrupted(ranks))
        expect(not differing, f"differs from an uninterrupted run: {', '.join(differing)}")
        return done

    def uninterrupted(self, ranks: int = 1, **more: str) -> str:
        """The name of an uninterrupted run, which is made at first use."""
        key = (ranks, json.dumps(more, sort_keys=True))
        run = f"whole-{ranks}" + "".join(f"-{name}{value}" for name, value in sorted(more.items()))
        if key not in self._uninterrupted:
            done = self.train(run, ranks=ranks, HF_TRAINPIPE_TRACE="1", **more)
            expect(done.code == 0, f"the uninterrupted run ended with {done.code}: {done.last}")
            self._uninterrupted[key] = done
        return run

    def duration(self, ranks: int = 1, **more: str) -> float:
        """Seconds that the uninterrupted run took."""
        self.uninterrupted(ranks, **more)
        return self._uninterrupted[ranks, json.dumps(more, sort_keys=True)].seconds

    # Files of a run

    def final_files(self, run: str) -> dict[str, Path]:
        """The files whose bytes are compared."""
        last = self.checkpoint(run)
        files = {name: last / name for name in ("model.safetensors", "optimizer.safetensors")}
        return {"package": self.folder / run / "package/model.safetensors", **files}

    def differing(self, run: str, reference: str) -> list[str]:
        """Names of final files that differ, and ``ledger`` if its numbers differ."""
        ours, theirs = self.final_files(run), self.final_files(reference)
        found = [name for name in ours if ours[name].read_bytes() != theirs[name].read_bytes()]
        if self.numbers(run) != self.numbers(reference):
            found.append("ledger")
        return found

    def numbers(self, run: str) -> dict[tuple[str, int], float]:
        """The ledger without speeds."""
        points: dict[tuple[str, int], float] = self.workshop.ledger(run)
        return {key: value for key, value in points.items() if key[0] != "train/tokens_per_second"}

    def steps(self, run: str) -> list[int]:
        """Steps of the checkpoints."""
        folders = (self.folder / run / "checkpoints").glob("step-*")
        return sorted(int(folder.name.removeprefix("step-")) for folder in folders)

    def checkpoint(self, run: str) -> Path:
        """The newest checkpoint."""
        return self.folder / run / "checkpoints" / f"step-{self.steps(run)[-1]:08d}"

    def state(self, run: str) -> dict[str, Any]:
        """The run's state in the newest checkpoint."""
        found: dict[str, Any] = json.loads((self.checkpoint(run) / "state.json").read_text())["run"]
        return found

    def rank_pid(self, run: str, rank: int) -> int:
        """The process id of a rank, from its heartbeat."""
        return int(json.loads((self.folder / run / "heartbeat" / f"rank-{rank}.json").read_text())["pid"])

    def examples(self, run: str) -> dict[int, list[int]]:
        """Step to the ids of its examples over all ranks; a repeated step must have the same."""
        parts: dict[tuple[int, int], list[int]] = {}
        for file in sorted((self.folder / run).glob("trace-rank*.jsonl")):
            for line in map(json.loads, file.read_text().splitlines()):
                before = parts.setdefault((line["step"], line["rank"]), line["examples"])
                expect(before == line["examples"], f"step {line['step']} had other examples when repeated")
        steps: dict[int, list[int]] = {}
        for (step, _), ids in parts.items():
            steps[step] = sorted([*steps.get(step, []), *ids])
        return steps

    @contextmanager
    def copy_of_inputs(self, wish: str) -> Iterator[Path]:
        """A copy of model, data and recipe, for changes."""
        place = self.folder / self.name(wish)
        place.mkdir()
        (place / "model").symlink_to(self.folder / "model")
        for name in INPUTS:
            shutil.copy(self.folder / name, place)
        yield place
        shutil.rmtree(place)
