"""Out of memory, bad losses, slow and hung ranks: the run continues or ends with a clear message."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.nightly import at_night

RECIPES = '''
import math
import os
import signal
import time
from dataclasses import dataclass

import torch

from hf_trainpipe import Budget, Evaluation, Files, Optim, Pretrained, Recipe, TextClassification, Tokens
from hf_trainpipe.training.run import Run

RANK = os.environ.get("RANK", "0")
if "LATE" in os.environ:  # as with a device that it costs time to look at
    Run.device_is_host = property(lambda run: False)


@dataclass(frozen=True)
class Fragile(TextClassification):
    """Batches above FITS elements do not fit; from micro-batch FROM up to TO it does what DOES says, on rank ON."""

    def loss_sum(self, model, batch):
        elements = batch["input_ids"].numel() if "input_ids" in batch else 0  # merged logits are scored, too
        if elements > int(os.environ.get("FITS", "1000000")) and RANK in os.environ.get("ON", RANK):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        loss = super().loss_sum(model, batch)
        seen = int(os.environ.get("SEEN", "0")) + 1
        os.environ["SEEN"] = str(seen)
        if str(seen) == os.environ.get("DIES"):
            while not os.path.exists(os.environ["AFTER"]):
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        first, last = int(os.environ.get("FROM", "0")), int(os.environ.get("TO", "0"))
        if first <= seen <= last and RANK in os.environ.get("ON", RANK):
            match os.environ["DOES"]:
                case "nan":
                    loss = loss * math.nan
                case "spike":
                    loss = loss * 100
                case "sleep":
                    time.sleep(0.2)
        return loss


def recipe():
    return Recipe(
        name="guards",
        model=Pretrained("model"),
        data=Files(train="train.csv", validation="dev.csv"),
        task=Fragile("text", label="label"),
        tokens=Tokens(max_length=32),
        optim=Optim(peak_lr=1e-3),
        budget=Budget(max_steps=12, examples_per_step=16, log_every=1, save_every=4, micro_batch_tokens=256),
        evaluation=Evaluation(select="accuracy", resamples=50),
    )
'''


@pytest.fixture(scope="module")
def guards(workshop):
    (workshop.folder / "guards.py").write_text(RECIPES)
    return workshop


def state(workshop, run: str) -> dict:
    return json.loads((workshop.last_checkpoint(run) / "state.json").read_text())["run"]


def losses(workshop, run: str) -> list[float]:
    return [value for (name, _), value in sorted(workshop.ledger(run).items()) if name == "train/loss"]


def test_too_little_memory_halves_the_micro_batch_and_nothing_else(guards) -> None:
    done = guards.train("guards.py", "--run-dir", "oom", FITS="100")
    assert done.code == 0, done.err
    assert re.search(r"step 1: out of memory.*128 tokens", done.err)
    assert re.search(r"step 1: out of memory.*64 tokens, the step the same 16 examples", done.err)
    assert state(guards, "oom")["micro_batch_tokens"] == 64
    assert state(guards, "oom")["updates"] == 12
    small = guards.train("guards.py", "--run-dir", "small", "--budget.micro-batch-tokens", "64")
    assert small.code == 0, small.err
    assert guards.weights("oom") == guards.weights("small")
    assert guards.ledger("oom").keys() == guards.ledger("small").keys()


def test_out_of_memory_for_a_single_example_is_reported(guards) -> None:
    done = guards.train("guards.py", "--run-dir", "hopeless", FITS="1")
    assert done.code == 2, done.err
    assert "out of memory" in done.err
    assert "Traceback" not in done.err


@pytest.mark.nightly
def test_one_rank_of_two_with_too_little_memory(guards) -> None:
    done = guards.train("guards.py", "--run-dir", "oom-pair", ranks=2, FITS="40", ON="1", HF_TRAINPIPE_TRACE="1")
    assert done.code == 0, done.err
    assert "out of memory" in done.err
    assert state(guards, "oom-pair")["updates"] == 12
    alone = guards.train("guards.py", "--run-dir", "oom-alone", HF_TRAINPIPE_TRACE="1")
    assert alone.code == 0, alone.err
    assert traced(guards, "oom-pair") == traced(guards, "oom-alone")


def traced(workshop, run: str) -> dict[int, list[int]]:
    """The examples of each step over all ranks; a step that was repeated had the same."""
    steps: dict[int, dict[int, list[int]]] = {}
    for file in (workshop.folder / run).glob("trace-rank*.jsonl"):
        for line in map(json.loads, file.read_text().splitlines()):
            before = steps.setdefault(line["step"], {}).setdefault(line["rank"], line["examples"])
            assert before == line["examples"]
    return {step: sorted(one for part in parts.values() for one in part) for step, parts in steps.items()}


def test_a_loss_that_is_not_finite_once_is_skipped_and_always_stops(guards) -> None:
    done = guards.train("guards.py", "--run-dir", "nan", "--budget.micro-batch-tokens", "4096",
                        FROM="3", TO="3", DOES="nan")  # fmt: skip
    assert done.code == 0, done.err
    assert "step 3: the gradient is not finite; no rank updated" in done.err
    assert (state(guards, "nan")["step"], state(guards, "nan")["updates"]) == (12, 11)
    done = guards.train("guards.py", "--run-dir", "nans", "--budget.micro-batch-tokens", "4096",
                        FROM="6", TO="99", DOES="nan")  # fmt: skip
    assert done.code == 4, done.err
    assert "for 5 steps in a row" in done.err
    assert not (guards.folder / "nans/package").exists()
    assert state(guards, "nans")["step"] <= 8


def test_one_rank_whose_loss_is_not_finite_stops_the_update_on_both(guards) -> None:
    done = guards.train("guards.py", "--run-dir", "nan-pair", "--budget.micro-batch-tokens", "4096", ranks=2,
                        FROM="3", TO="3", DOES="nan", ON="1")  # fmt: skip
    assert done.code == 0, done.err
    assert "step 3: the gradient is not finite; no rank updated" in done.err
    assert state(guards, "nan-pair")["updates"] == 11


def test_reading_losses_later_changes_nothing(guards) -> None:
    options = ("--budget.log-every", "6", "--budget.micro-batch-tokens", "4096")
    nan = {"FROM": "3", "TO": "3", "DOES": "nan"}
    soon = guards.train("guards.py", "--run-dir", "soon", *options, **nan)
    assert soon.code == 0, soon.err
    late = guards.train("guards.py", "--run-dir", "late", *options, **nan, LATE="1", DIES="6",
                        AFTER="late/checkpoints/step-00000004")  # fmt: skip
    assert late.code == -signal.SIGKILL, late.err
    assert "not finite; no rank updated" in late.err, "a save in the middle of an interval looks at its steps"
    assert (state(guards, "late")["step"], state(guards, "late")["updates"]) == (4, 4)
    assert state(guards, "late")["window"]["skipped"] == 1, "the schedule learns of it when the interval ends"
    late = guards.train("guards.py", "--run-dir", "late", *options, LATE="1")
    assert late.code == 0, late.err
    assert guards.weights("late") == guards.weights("soon")
    assert state(guards, "late") == state(guards, "soon")
    assert state(guards, "late")["updates"] == 11
    said = [guards.ledger(run) for run in ("soon", "late")]
    assert said[0].keys() == said[1].keys()
    assert all(value == said[1][key] for key, value in said[0].items() if key[0] != "train/tokens_per_second")


def test_two_ranks_that_look_late_repeat_a_step_that_did_not_fit(guards) -> None:
    done = guards.train("guards.py", "--run-dir", "late-pair", "--budget.log-every", "6", ranks=2,
                        FITS="40", ON="1", LATE="1")  # fmt: skip
    assert done.code == 0, done.err
    assert "out of memory" in done.err
    assert state(guards, "late-pair")["updates"] == 12


@pytest.mark.nightly
def test_a_spike_is_warned_of_and_a_slow_rank_too(guards) -> None:
    done = guards.train("guards.py", "--run-dir", "spike", "--budget.micro-batch-tokens", "4096",
                        FROM="9", TO="9", DOES="spike")  # fmt: skip
    assert done.code == 0, done.err
    assert re.search(r"warning: step 9: the loss is (9|10)\d times the usual", done.err), done.err
    assert done.err.count("times the usual") == 1
    done = guards.train("guards.py", "--run-dir", "slow", ranks=2, FROM="1", TO="99", DOES="sleep", ON="1")
    assert done.code == 0, done.err
    assert "warning: rank 1 is slow" in done.err


@pytest.mark.parametrize("victim", [*at_night(0), 1])
def test_a_stopped_rank_ends_the_run_by_name(guards, victim) -> None:
    run = guards.folder / f"stopped-{victim}"
    train = ["-m", "hf_trainpipe", "train", "guards.py", "--run-dir", run.name, "--budget.max-steps", "5000", "--budget.epochs", "999",
             "--budget.save-every", "10", "--budget.evaluate-every", "5000"]  # fmt: skip
    launch = ["launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
              "--dynamo_backend", "no", "--main_process_port", "0"]  # fmt: skip
    with (guards.folder / f"stopped-{victim}.err").open("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "hf_trainpipe", *launch, *train],
            cwd=guards.folder,
            env=guards.environment({"ACCELERATE_USE_CPU": "true", "HF_TRAINPIPE_TIMEOUT": "10"}),
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        try:
            end = time.monotonic() + 120
            while not list((run / "checkpoints").glob("step-*/MANIFEST.json")):
                assert time.monotonic() < end, "it never saved"
                time.sleep(0.2)
            hung = json.loads((run / "heartbeat" / f"rank-{victim}.json").read_text())["pid"]
            os.kill(hung, signal.SIGSTOP)
            code = process.wait(timeout=120)
            said.seek(0)
            assert code == 75, said.read()
            said.seek(0)
            assert f"error: rank {victim} is stopped or dead (process {hung}" in said.read()
            end = time.monotonic() + 60
            while psutil.pid_exists(hung) and psutil.Process(hung).status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < end, "the stopped rank was left behind"
                time.sleep(0.2)
        finally:
            process.kill()
            process.wait()
