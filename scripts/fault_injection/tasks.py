"""Every form of every task: a training that is killed after three random steps, beside one that is left alone.

The forms, their models and data are those of tests/tasks/contract.py. Each part of a run is a process of its own, forked from this
one, which has imported what a training needs and has one thread; it dies by SIGKILL. Runs end behind their last checkpoint, where
packaging begins.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .lab import ROOT
from .process import expect

STEPS, SAVE_EVERY, KILLS = 12, 4, 3
MODELS = (f"transformers.models.{kind}.modeling_{kind}" for kind in ("bart", "llama", "marian", "t5"))
LATER = ("peft", "rouge_score.rouge_scorer", "sacrebleu", *MODELS)
"""What trainings import when they need it, here before they are forked."""
COMPARED = ("model.safetensors", "optimizer.safetensors")


@dataclass(frozen=True)
class Form:
    """What became of one form of a task."""

    name: str
    trained: str
    """``all weights`` or ``adapters``."""
    kills: list[int]
    """The steps that were the last ones of processes."""
    resumed: list[int]
    """The steps behind which the next ones went on; 0: from the start."""
    differing: list[str]
    """What differs from the run that was left alone; or the error."""


@dataclass
class Forms:
    """All of them."""

    seed: int
    forms: list[Form] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def identical(self) -> int:
        return sum(not form.differing for form in self.forms)

    @property
    def line(self) -> str:
        """A summary."""
        kills = sum(len(form.kills) for form in self.forms)
        return f"{self.identical} of {len(self.forms)} forms bit-identical after {kills} kills"

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "line": self.line}

    @classmethod
    def of_json(cls, said: dict[str, Any]) -> Forms:
        """From :meth:`to_json`."""
        return cls(said["seed"], [Form(**form) for form in said["forms"]], said["seconds"])


def all_forms(folder: Path, result: Forms, *, finished: Callable[[Forms], None]) -> None:
    """Train, kill and resume every form, with all weights trained and with adapters alone.

    Args:
        result: Forms that it holds are not run again.
        finished: Called with it after each form.
    """
    sys.path.insert(0, str(ROOT))
    import torch

    from tests import warm
    from tests.tasks import contract

    warm.import_libraries()
    warm.import_training()
    for module in LATER:
        importlib.import_module(module)
    os.environ.update(HF_TRAINPIPE_CACHE=str(folder / "cache"), HF_TRAINPIPE_THREADS="1")
    inputs, foreign = folder / "inputs", ROOT / "tests/tasks/foreign.py"
    inputs.mkdir(parents=True)
    torch.set_num_threads(1)  # others would not live on in a forked process
    contract.write_inputs(inputs)
    before, started, chance = result.seconds, time.monotonic(), random.Random(result.seed)
    for name in (*contract.TASKS, *contract.MORE):
        for trained in ("all weights", "adapters"):
            kills = sorted(chance.sample(range(1, STEPS), KILLS))
            if any((form.name, form.trained) == (name, trained) for form in result.forms):
                continue
            place = folder / f"{name}-{trained.split()[0]}"

            def train(run: str, kill: int | None, name: str = name, trained: str = trained, place: Path = place) -> str:
                part = lambda: train_part(contract, name, trained, inputs, foreign, place / run, kill)  # noqa: E731
                return forked(part, place / f"{run}.log", expected=0 if kill is None else -signal.SIGKILL)

            try:
                train("whole", None)
                said = [train("killed", kill) for kill in (*kills, None)][-1]
                resumed = [int(step) for step in re.findall(r"continuing after step (\d+)", said)]
                differing = differences(place / "killed", place / "whole")
            except (AssertionError, OSError, ValueError) as error:
                resumed, differing = [], [f"{type(error).__name__}: {error}"]
            result.forms.append(Form(name, trained, kills, [0] * (KILLS - len(resumed)) + resumed, differing))
            result.seconds = before + time.monotonic() - started
            finished(result)


def line(form: Form) -> str:
    """A form as one line."""
    told = ", ".join(form.differing) or "bit-identical"
    return f"{form.name}, {form.trained}: killed after {_numbers(form.kills)}, went on from {_numbers(form.resumed)}: {told}"


def _numbers(found: list[int]) -> str:
    return ", ".join(map(str, found))


def train_part(
    contract: Any, name: str, trained: str, inputs: Path, foreign: Path, run: Path, kill: int | None
) -> None:
    """Train until the end, or until this process dies after a step."""
    from hf_trainpipe import Lora, RunOptions, execute, replace
    from hf_trainpipe.training import execute as stages
    from hf_trainpipe.training.signals import PlannedStop

    recipe, source = contract.recipe_of(name, inputs, foreign)
    budget = replace(
        recipe.budget, epochs=100, max_steps=STEPS, save_every=SAVE_EVERY, evaluate_every=STEPS // 2, log_every=1
    )
    lora = Lora(rank=4) if trained == "adapters" else None
    recipe = replace(recipe, budget=budget, model=replace(recipe.model, lora=lora))
    stages.export = lambda *_, **__: os._exit(0)  # the weights are final
    execute(recipe, run_dir=run, options=RunOptions(source=source, planned_stop=PlannedStop(kill_after=kill)))


def forked(work: Callable[[], None], log: Path, *, expected: int) -> str:
    """Do something in a process forked from this one, which writes to ``log``; all that is written there.

    Raises:
        Unexpected: it ended with another code than the expected one; a negative one is that of a signal.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if (pid := os.fork()) == 0:
        code = 1
        with contextlib.suppress(BaseException):
            written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(written, 1)
            os.dup2(written, 2)
            try:
                work()
                code = 0
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(pid, 0)
    found, said = os.waitstatus_to_exitcode(status), log.read_text(errors="replace")
    expect(found == expected, f"ended with {found}: {(said.strip().splitlines() or [''])[-1]}")
    return said


def differences(run: Path, reference: Path) -> list[str]:
    """Files of the last checkpoint whose bytes differ, and ``losses``."""
    last = f"checkpoints/step-{STEPS:08d}"
    found = [name for name in COMPARED if (run / last / name).read_bytes() != (reference / last / name).read_bytes()]
    return found + ["losses"] * (losses(run) != losses(reference))


def losses(run: Path) -> dict[tuple[str, int], float]:
    """The ledger's numbers, without speeds."""
    points = [json.loads(row) for row in (run / "ledger.jsonl").read_text().splitlines()]
    return {(one["name"], one["step"]): one["value"] for one in points if "per_second" not in one["name"]}
