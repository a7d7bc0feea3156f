"""Rows of kills and signals: 4 to 6 and 15 to 20."""

from __future__ import annotations

import json
import os
import random
import signal
import time

from hf_trainpipe.checkpoint.store import Store

from .kills import campaign
from .lab import Lab, Start
from .process import Ended, Process, expect, until

SLOW = "60"
"""Milliseconds per step, so that a signal arrives during training."""
TIMEOUT = 10
"""HF_TRAINPIPE_TIMEOUT in seconds, for a stopped rank."""
STEPS = 26


def random_kills(lab: Lab) -> str:
    """Row 4."""
    result = campaign(lab, kills=20, seed=4, ranks=(1,))
    expect(result.count("identical") == len(result.kills) == 20, result.line)
    return result.line


def killed_after_best(lab: Lab) -> str:
    """Row 5: kill after an evaluation and before its save, for the first and the second evaluation."""
    for number in ("1", "2"):
        run = lab.name("after-best")
        done = lab.train(run, DIE_IN=f"hf_trainpipe.training.monitor:Evaluator.evaluate:{number}")
        expect(done.code == -signal.SIGKILL, f"was not killed: {done.code}, {done.last}")
        lab.resume_and_compare(run)
        best = [
            json.loads((lab.folder / name / "result.json").read_text())["best_step"]
            for name in (run, lab.uninterrupted())
        ]
        expect(best[0] == best[1], f"the best step is {best[0]}, of an uninterrupted run {best[1]}")
    return f"killed after each of two evaluations; same bytes, same best (step {best[0]})"


def killed_twice(lab: Lab) -> str:
    """Row 6: kill during training, then twice during the resume: before and after the state is loaded."""
    run = lab.name("twice")
    places = ("hf_trainpipe.training.monitor:TrainingLog.log_step:7", "hf_trainpipe.checkpoint.store:Store.latest:1",
              "hf_trainpipe.training.checkpointing:Checkpointing.restore:1", "hf_trainpipe.training.monitor:TrainingLog.log_step:1")  # fmt: skip
    for place in places:
        done = lab.train(run, DIE_IN=place)
        expect(done.code == -signal.SIGKILL, f"was not killed in {place}: {done.code}, {done.last}")
    lab.resume_and_compare(run)
    return f"{len(places)} kills, two of them while the checkpoint was being loaded; same bytes"


def _signalled(
    lab: Lab, number: signal.Signals, *, start: Start, step: int, ranks: int = 1, to_rank: int | None = None
) -> tuple[str, Ended]:
    """Start a run and signal it after ``step``; it must exit with 75."""
    run = lab.name("signalled")
    process = lab.start(run, start=start, ranks=ranks, PACE=SLOW)
    process.wait_for_output(rf"step +{step}/")
    if to_rank is None:
        process.send(number)
    else:
        os.kill(lab.rank_pid(run, to_rank), number)
    done = process.end(timeout=60)
    expect(done.code == 75, f"exit {done.code} after {number.name}: {done.last}")
    attempt = json.loads((lab.folder / run / "attempts/0001.json").read_text())
    expect(attempt["exit"] == "interrupted", f"the attempt says {attempt['exit']}")
    return run, done


def stopped_by_signal(lab: Lab) -> str:
    """Row 15."""
    seen, chance = [], random.Random(15)
    for start, who in (("plain", "worker"), ("verb", "launcher")):
        step = chance.randint(2, STEPS - 6)
        run, _ = _signalled(lab, signal.SIGTERM, start=start, step=step)  # type: ignore[arg-type]
        seen.append(f"{who} at step {step}: exit 75, saved step {lab.steps(run)[-1]}")
        lab.resume_and_compare(run)
    return f"{'; '.join(seen)}; same bytes"


def one_of_two(lab: Lab) -> str:
    """Row 16."""
    run, _ = _signalled(lab, signal.SIGTERM, start="verb", step=6, ranks=2, to_rank=1)
    saved = lab.steps(run)[-1]
    lab.resume_and_compare(run, ranks=2)
    return f"SIGTERM to rank 1 after step 6: exit 75, both stopped at step {saved}; same bytes"


def user_signal(lab: Lab) -> str:
    """Row 17."""
    run, done = _signalled(lab, signal.SIGUSR1, start="verb", step=5, ranks=2)
    expect("SIGUSR1" in done.stderr or "a signal to another rank" in done.stderr, done.last)
    saved = lab.steps(run)[-1]
    lab.resume_and_compare(run, ranks=2)
    return f"forwarded to the workers: exit 75, saved step {saved}; same bytes"


def _wait_for_a_save(lab: Lab, run: str, process: Process) -> None:
    folder = lab.folder / run / "checkpoints"
    until(lambda: list(folder.glob(".tmp-0*")) or not process.running, every=0.0003)


def signal_in_a_save(lab: Lab) -> str:
    """Row 18."""
    run = lab.name("in-a-save")
    process = lab.start(run, PACE=SLOW)
    _wait_for_a_save(lab, run, process)
    process.send(signal.SIGTERM)
    time.sleep(0.001)
    process.send(signal.SIGTERM)
    done = process.end(timeout=60)
    expect(done.code == 75, f"exit {done.code}: {done.last}")
    store = Store(lab.folder / run, mode="read")
    steps = store.steps()
    expect(steps and all(store.at(step) for step in steps), f"not all of {steps} are valid")
    expect(not list((lab.folder / run / "checkpoints").glob(".tmp-*")), "a half-written save is left")
    lab.resume_and_compare(run)
    return f"two SIGTERM inside the first save: exit 75, valid checkpoints {steps}, nothing half-written; same bytes"


def rank_killed(lab: Lab) -> str:
    """Row 19: under both launchers, either rank."""
    seen = []
    for start, victim in (("plain", 1), ("verb", 0)):
        run = lab.name("rank-killed")
        process = lab.start(run, ranks=2, start=start, PACE=SLOW)  # type: ignore[arg-type]
        process.wait_for_output(r"step +6/")
        os.kill(lab.rank_pid(run, victim), signal.SIGKILL)
        killed = time.monotonic()
        until(lambda process=process: not process.running and not process.leftovers(), seconds=60, every=0.05)  # type: ignore[misc]
        seconds = time.monotonic() - killed
        done = process.end()
        expect(done.code != 0, "exit 0")
        expect(seconds < 10, f"rank {victim} killed: all ended after {seconds:.1f} s")
        seen.append(f"rank {victim} ({start}): all ended after {seconds:.1f} s with {done.code}")
        lab.resume_and_compare(run, ranks=2)
    return f"{'; '.join(seen)}; same bytes"


def rank_stopped(lab: Lab) -> str:
    """Row 20."""
    run, victim = lab.name("rank-stopped"), 1
    process = lab.start(run, ranks=2, start="verb", PACE=SLOW, HF_TRAINPIPE_TIMEOUT=str(TIMEOUT))
    process.wait_for_output(r"step +6/")
    os.kill(lab.rank_pid(run, victim), signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: "error: rank" in process.stderr, seconds=60)
    said_after = time.monotonic() - stopped
    done = process.end(timeout=60)
    ended_after = time.monotonic() - stopped
    expect(done.code not in (0, 1), f"exit {done.code}: {done.last}")
    expect(f"rank {victim} is stopped" in done.stderr, done.last)
    expect(said_after < TIMEOUT + 3, f"said after {said_after:.1f} s")
    lab.resume_and_compare(run, ranks=2)
    return (
        f"timeout {TIMEOUT} s: 'rank {victim} is stopped' after {said_after:.1f} s, all gone after {ended_after:.1f} s "
        f"with {done.code}; same bytes"
    )
