"""Real runs in real processes with a tiny model, started like a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hf_trainpipe import Budget, Evaluation, Files, Pretrained, Recipe, TextClassification, Tokens
from hf_trainpipe.testing import tiny_model, tiny_rows, tiny_tagged, write_rows
from tests import warm
from tests.training.ranks import run_ranks

REPOSITORY = Path(__file__).resolve().parents[2]

RECIPES = '''
import os
import signal
import time
from dataclasses import dataclass

import torch

from hf_trainpipe import (
    Budget, Evaluation, Files, Neptune, NormalizeSpace, Optim, Pretrained, Recipe, TextClassification,
    TokenClassification, Tokens, main, replace,
)


@dataclass(frozen=True)
class Mortal(TextClassification):
    """A task that kills its process in the micro-batch of training that KILL_AT numbers, on rank KILL_RANK.

    In the one that WAIT_AT numbers it waits until the file WAIT_FOR is there.
    """

    def loss_sum(self, model, batch):
        count = int(os.environ.get("COUNTED", "0")) + torch.is_grad_enabled()
        os.environ["COUNTED"] = str(count)
        rank = os.environ.get("RANK", "0")
        while str(count) == os.environ.get("WAIT_AT") and not os.path.exists(os.environ["WAIT_FOR"]):
            time.sleep(0.05)
        if str(count) == os.environ.get("KILL_AT") and rank == os.environ.get("KILL_RANK", "0"):
            os.kill(os.getpid(), getattr(signal, os.environ.get("KILL_WITH", "SIGKILL")))
        return super().loss_sum(model, batch)


def recipe():
    return Recipe(
        name="tiny",
        model=Pretrained("model"),
        data=Files(train="train.csv", validation="dev.csv"),
        preprocessing=(NormalizeSpace(),),
        task=Mortal("text", label="label"),
        tokens=Tokens(max_length=32),
        optim=Optim(peak_lr=1e-2, precision="fp32"),
        budget=Budget(epochs=2, examples_per_step=16, log_every=4, save_every=5, patience=9),
        evaluation=Evaluation(select="accuracy", resamples=50),
    )


def exact():
    """No dropout, twelve steps, every loss logged."""
    return replace(
        recipe(),
        name="exact",
        model=Pretrained("model", dropout=0.0),
        task=TextClassification("text", label="label"),
        optim=Optim(peak_lr=1e-3, precision="fp32"),
        budget=Budget(max_steps=12, examples_per_step=16, log_every=1),
    )


def tagging():
    return replace(
        recipe(),
        name="tagging",
        data=Files(train="train.jsonl", validation="dev.jsonl"),
        preprocessing=(),
        task=TokenClassification("tokens", tags="tags"),
        tokens=Tokens(max_length=16, overflow="window", stride=4),
        evaluation=Evaluation(select="entity_f1", resamples=50),
    )


def tracked():
    return replace(recipe(), name="tracked", trackers=(Neptune(project="team/tiny"),))


if __name__ == "__main__":
    main(recipe)
'''


@dataclass(frozen=True)
class Done:
    """A finished process."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """The JSON line that ``train --json`` prints last."""
        parsed: dict[str, Any] = json.loads(self.out.strip().splitlines()[-1])
        return parsed


class Workshop:
    """A folder with a tiny model, data and recipes, and the commands that a person types there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tiny_model(folder / "model")
        for name, count, seed in (("train", 200, 1), ("dev", 61, 2)):
            write_rows(folder / f"{name}.csv", tiny_rows(count, seed=seed))
            rows = tiny_tagged(count, seed=seed)
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "recipes.py").write_text(RECIPES)

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("NEPTUNE_")}
        return {
            **inherited,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])),
            "HF_HUB_OFFLINE": "1",
            "HF_TRAINPIPE_CACHE": str(self.folder / "cache"),
            "HF_TRAINPIPE_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            **extra,
        }

    def run(self, *command: str, timeout: float = 240, **environment: str) -> Done:
        """Run a command to its end."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(environment),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """``train`` of a recipe, to be looked at or killed while it runs."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def train(self, *arguments: str, ranks: int = 1, **environment: str) -> Done:
        """``train`` of a recipe, plainly on one rank, on several as ``accelerate launch`` begins them.

        The launcher itself is there where a test asks for ``real_processes``.
        """
        if ranks > 1 and warm.waits():
            surroundings = self.environment({**self.ranks(ranks), **environment})
            return Done(*run_ranks(self.command(*arguments), ranks, cwd=self.folder, env=surroundings, timeout=240))
        return self.run(*self.command(*arguments, ranks=ranks), **self.ranks(ranks), **environment)

    def command(self, *arguments: str, ranks: int = 1) -> list[str]:
        train = ["hf_trainpipe", "train", *arguments, "--json"]
        if ranks == 1:
            return [sys.executable, "-m", *train]
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(ranks)]
        return [*launch, "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
                "--main_process_port", "0", "-m", *train]  # fmt: skip

    @staticmethod
    def ranks(ranks: int) -> dict[str, str]:
        return {"ACCELERATE_USE_CPU": "true"} if ranks > 1 else {}

    def ledger(self, run: str) -> dict[tuple[str, int], float]:
        """(name, step) to value; fails on a point that is there twice."""
        points: dict[tuple[str, int], float] = {}
        for line in (self.folder / run / "ledger.jsonl").read_text().splitlines():
            point = json.loads(line)
            key = (point["name"], point["step"])
            assert key not in points, f"{key} is in the ledger twice"
            points[key] = point["value"]
        return points

    def weights(self, run: str) -> bytes:
        """The packaged weights, byte for byte."""
        return (self.folder / run / "package" / "model.safetensors").read_bytes()

    def last_checkpoint(self, run: str) -> Path:
        return max((self.folder / run / "checkpoints").glob("step-*"))


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="session")
def whole(workshop: Workshop) -> Done:
    """One run of ``recipe`` from start to end, shared by the tests that compare with it."""
    done = workshop.train("recipes.py", "--run-dir", "whole")
    assert done.code == 0, done.err
    return done


@pytest.fixture
def recipe(workshop, tmp_path, monkeypatch) -> Recipe:
    """The tiny model over the workshop's texts, for four steps."""
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    return Recipe(
        name="choices",
        model=Pretrained(str(workshop.folder / "model")),
        data=Files(train="train.csv", validation="dev.csv", root=str(workshop.folder)),
        task=TextClassification("text", label="label"),
        tokens=Tokens(max_length=32),
        budget=Budget(max_steps=4, examples_per_step=16, log_every=1),
        evaluation=Evaluation(resamples=20),
    )
