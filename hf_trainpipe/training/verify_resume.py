"""``--verify-resume``: kill a copy of the run, resume it, and compare what it ends with, bit for bit.

The copy begins at a checkpoint of the run and ends at its last one. It is the same command in processes of its
own, is killed with SIGKILL after a random step, and saves and evaluates where the run does.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.checkpoint.atomic import read_object, write_json
from hf_trainpipe.checkpoint.manifest import MANIFEST
from hf_trainpipe.errors import EXIT_FILE, CheckpointError, Interrupted
from hf_trainpipe.training.run_directory import read_identity

if TYPE_CHECKING:
    from hf_trainpipe.training.run import Run

__all__ = ["PROOF", "check_can_verify_resume", "prove_resume", "read_proof", "start_of_copy"]

PROOF = "resume-proof.json"
"""In the run's directory: what the last rehearsal found; the package and its card repeat it."""
WORTHWHILE_STEPS = 8
"""A copy of fewer steps says little; one of a run shorter than CHEAP_STEPS begins at the start instead."""
CHEAP_STEPS = 200
POLL_SECONDS = 0.2
OF_A_RANK = re.compile(
    r"(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)|TORCHELASTIC_.*|TORCH_NCCL.*"
)
"""Environment variables of a process under torchrun; the copy has a launcher of its own."""


def check_can_verify_resume() -> None:
    """Refuse what cannot be copied on this machine, before anything is trained.

    Raises:
        CheckpointError: the ranks of this run are on several machines.
    """
    if os.environ.get("WORLD_SIZE", "1") != os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1")):
        raise CheckpointError(
            "--verify-resume needs all ranks on one machine; this run has several.",
            fix="Verify a run of the same recipe on one machine, and leave the option out here.",
            exit_code=2,
        )


def start_of_copy(saved: Sequence[int], last: int, *, since: int = 0) -> int:
    """The step at which the copy begins: cheap, and far enough from ``last`` to say something.

    Args:
        saved: Steps of the checkpoints that are there.
        last: The run's last step.
        since: Where the settings in force began; an earlier start would train by others.

    >>> start_of_copy([500, 1000], 1000), start_of_copy([1000, 1001], 1001), start_of_copy([40, 41], 41)
    (500, 1000, 0)
    >>> start_of_copy([10, 30, 40], 40, since=20)
    30
    """
    starts = [step for step in saved if since <= step < last]
    if not since and (last <= CHEAP_STEPS or not starts):
        starts.append(0)
    worthwhile = [step for step in starts if last - step >= WORTHWHILE_STEPS]
    return max(worthwhile) if worthwhile else min(starts)


def prove_resume(run: Run, arguments: Sequence[str]) -> None:
    """Rehearse on rank 0 while the others wait, and leave ``resume-proof.json``; a difference is warned of.

    Args:
        run: Trained to its end and saved.
        arguments: What ``hf-trainpipe train`` takes to train this recipe, less the run's directory.

    Raises:
        Interrupted: a signal asked this run to stop.
    """
    place = run.folder.path / PROOF
    if run.ranks.is_main:
        place.unlink(missing_ok=True)
    run.accelerator.wait_for_everyone()
    if run.ranks.is_main:
        copy = run.folder.path / "rehearsal"
        shutil.rmtree(copy, ignore_errors=True)
        try:
            with run.console.working("verifying that the run resumes"):
                proof = _verify(run, arguments, copy)
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        write_json(place, proof)
        run.console.say(describe(proof))
    while not place.exists():  # longer than any collective may take
        _stop_if_asked(run)
        time.sleep(POLL_SECONDS)


def describe(proof: Mapping[str, Any]) -> str:
    """One sentence for the console."""
    if error := proof.get("error"):
        return f"warning: resuming could not be verified: {error}"
    what = f"a copy killed after step {proof['killed_after']:,} and resumed"
    if proof["identical"]:
        return f"resume verified: {what} is bit-identical at step {proof['compared_at']:,}"
    return f"warning: {what} differs at step {proof['compared_at']:,} in {', '.join(proof['differing'])}"


def _verify(run: Run, arguments: Sequence[str], copy: Path) -> dict[str, Any]:
    checkpoints = run.folder.path / "checkpoints"
    saved = sorted(int(folder.name.removeprefix("step-")) for folder in checkpoints.glob("step-*"))
    last = saved[-1]
    since = changed_at(run.folder.path)
    if since and not [step for step in saved if since <= step < last]:
        return {
            "identical": False,
            "from_step": since,
            "error": f"settings changed at step {since:,}, and no checkpoint from there on but the last is kept",
        }
    start = start_of_copy(saved, last, since=since)
    kill_after = random.SystemRandom().randint(min(start + 1, last - 1), last - 1)
    proof: dict[str, Any] = {
        "identical": False,
        "from_step": start,
        "killed_after": kill_after,
        "compared_at": last,
        "ranks": run.ranks.size,
        "device": run.accelerator.device.type,
        "files": sorted(file.name for file in (checkpoints / f"step-{last:08d}").iterdir() if file.name != MANIFEST),
    }
    run.console.say(f"verifying: a copy of the run, steps {start:,} to {last:,}, killed after step {kill_after:,}")
    _make_copy(run.folder.path, copy, start)
    command = _command(run, arguments, copy)
    name = f"step-{last:08d}"
    _, said = _run_copy(run, [*command, "--rehearse", f"kill:{kill_after}"], copy)
    if (copy / "checkpoints" / name).exists() or f"rehearsal: SIGKILL after step {kill_after}\n" not in said:
        return {**proof, "error": f"the copy was not killed: {_last_line(said)}"}
    code, said = _run_copy(run, [*command, "--rehearse", f"stop:{last}"], copy)
    if code != Interrupted.exit_code or not (copy / "checkpoints" / name).exists():
        return {**proof, "error": f"the killed copy did not continue: {_last_line(said)}"}
    differing = [
        file
        for file in proof["files"]
        if (copy / "checkpoints" / name / file).read_bytes() != (checkpoints / name / file).read_bytes()
    ]
    return {**proof, "identical": not differing, "differing": differing}


def _make_copy(run_dir: Path, copy: Path, start: int) -> None:
    """The run as it was at step ``start``: its identity, that checkpoint, the ledger (a resume cuts it)."""
    (copy / "checkpoints").mkdir(parents=True)
    shutil.copy(run_dir / "run.json", copy)
    shutil.copy(run_dir / "ledger.jsonl", copy)
    if start:
        name = f"step-{start:08d}"
        shutil.copytree(run_dir / "checkpoints" / name, copy / "checkpoints" / name)


def _command(run: Run, arguments: Sequence[str], copy: Path) -> list[str]:
    train = ["-m", "hf_trainpipe", "train", *arguments, "--run-dir", str(copy)]
    if run.ranks.size == 1:
        return [sys.executable, *train]
    shape = ["--multi_gpu", "--num_processes", str(run.ranks.size), "--num_machines", "1", "--main_process_port", "0"]
    plain = ["--mixed_precision", "no", "--dynamo_backend", "no"]  # the recipe says which precision
    return [sys.executable, "-m", "hf_trainpipe", "launch", *shape, *plain, *train]


def _run_copy(run: Run, command: Sequence[str], copy: Path) -> tuple[int, str]:
    import torch

    environment = {
        name: value for name, value in os.environ.items() if not OF_A_RANK.fullmatch(name) and name != EXIT_FILE
    }
    environment["HF_TRAINPIPE_THREADS"] = str(torch.get_num_threads())  # sums depend on their number
    if run.ranks.size > 1 and run.accelerator.device.type == "cpu":
        environment["ACCELERATE_USE_CPU"] = "true"
    said = copy / "said"
    with said.open("wb") as stream:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=stream)
    try:
        while process.poll() is None:
            _stop_if_asked(run)
            time.sleep(POLL_SECONDS)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    return process.returncode, said.read_text(errors="replace")


def _stop_if_asked(run: Run) -> None:
    if run.signals is not None and run.signals.requested:
        raise Interrupted(
            f"Stopped by {run.signals.name} while resuming was being verified; the trained run is saved.",
            fix="The same command verifies, packages and ends the run.",
            step=run.state.step,
        )


def _last_line(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "error:" in line), lines[-1] if lines else "it said nothing")


def read_proof(run_dir: Path) -> dict[str, Any] | None:
    """What the rehearsal of a run found, if there was one."""
    place = run_dir / PROOF
    if not place.exists():
        return None
    try:
        return read_object(place, needs={"identical": bool}, fix="")
    except CheckpointError:  # no number depends on it: the card says nothing of resuming then
        return None


def changed_at(run_dir: Path) -> int:
    """The step after which the settings in force began; 0 where they never changed."""
    history = read_identity(run_dir).get("history") or [{"from_step": 0}]
    return int(history[-1]["from_step"])
