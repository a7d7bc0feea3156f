"""Verify that a run resumes: kill a copy of it, resume the copy, and compare the last checkpoints, bit for bit.

The copy begins at a checkpoint of the run and ends at its last one. It is the same command in processes of its own, is
killed with SIGKILL after a random step, and saves and evaluates where the run does. ``train --verify-resume`` does this
before packaging, ``hf-trainpipe verify-resume RUN`` with a finished run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.checkpoint.contract import check_finished, compare_versions
from hf_trainpipe.checkpoint.manifest import MANIFEST, folder_name
from hf_trainpipe.checkpoint.store import Store
from hf_trainpipe.codec import from_json, to_json
from hf_trainpipe.engine.ranks import num_machines
from hf_trainpipe.errors import CheckpointError, Interrupted, RecipeError
from hf_trainpipe.training.run_directory import RunFolder
from hf_trainpipe.training.run_files import environment, read_identity, read_result
from hf_trainpipe.utils.atomic import read_json_object, write_json
from hf_trainpipe.utils.attempts import newest_attempt
from hf_trainpipe.utils.ranks import without_rank

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe.source import RecipeSource
    from hf_trainpipe.training.run import Run
    from hf_trainpipe.training.signals import StopSignals

PROOF = "resume-proof.json"
"""In the run's directory: what the last verification found; the package and its card repeat it."""
COPY = "verify-resume"
"""In the run's directory, while it lasts: the copy."""
WORTHWHILE_STEPS = 8
"""A copy of fewer steps says little; one of a run shorter than CHEAP_STEPS begins at the start instead."""
CHEAP_STEPS = 200
POLL_SECONDS = 0.2


def check_can_verify(recipe: Recipe, source: RecipeSource | None) -> None:
    """Refuse what cannot be copied on this machine, before anything is trained.

    Raises:
        CheckpointError: the ranks of this run are on several machines.
        RecipeError: the recipe has no file, and no form in JSON either; or its runs take no step.
    """
    if num_machines() > 1:
        raise CheckpointError(
            "--verify-resume needs all ranks on one machine; this run has several.",
            fix="Verify a run of the same recipe on one machine, and leave the option out here.",
            exit_code=2,
        )
    _check_steps(recipe)
    if source is None:
        from_json(to_json(recipe))


def _check_steps(recipe: Recipe) -> None:
    if recipe.budget.max_steps == 0:
        raise RecipeError(
            "verifying that a run resumes: expected a run with steps, found budget.max_steps=0.",
            fix="Leave it out: there is no step to be killed in.",
        )


def start_of_copy(saved: list[int], last: int, *, since: int = 0) -> int:
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


def verify_in_training(run: Run, signals: StopSignals) -> None:
    """Verify on rank 0 while the others wait, and leave ``resume-proof.json``; a difference is a warning.

    Args:
        run: Trained to its end and saved.

    Raises:
        Interrupted: a signal asked this run to stop.
    """
    place = run.folder.path / PROOF
    if run.ranks.is_main:
        place.unlink(missing_ok=True)
    run.accelerator.wait_for_everyone()

    def stop_if_asked() -> None:
        if signals.requested:
            raise Interrupted(
                f"Stopped by {signals.name} while resuming was being verified; the trained run is saved.",
                fix="The same command verifies, packages and ends the run.",
                step=run.state.step,
            )

    if run.ranks.is_main:
        original = _Original(
            run.folder.path,
            source=run.options.source,
            ranks=run.ranks.size,
            device=run.accelerator.device.type,
            say=run.console.say,
            poll=stop_if_asked,
        )
        with run.console.working("verifying that the run resumes"):
            proof = original.verify()
        run.console.say(describe(proof))
    while not place.exists():  # longer than any collective may take
        stop_if_asked()
        time.sleep(POLL_SECONDS)


def verify_finished(
    path: Path, recipe: Recipe, *, source: RecipeSource | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Verify a finished run, and leave ``resume-proof.json`` in its directory; nothing else of it changes.

    Args:
        path: The run's directory.
        recipe: The recipe that it was trained by.
        source: The file and options of the recipe; None: it is the one that the run recorded.

    Returns:
        What was found: ``identical``, and ``differing`` with names of files, or ``error``.

    Raises:
        CheckpointError: the run is not finished, its last checkpoint is gone, or this machine cannot repeat it.
        ResumeMismatch: the recipe is not that of the run.
    """
    _check_steps(recipe)
    if missing := [name for name in ("run.json", "result.json") if not (path / name).is_file()]:
        raise CheckpointError(
            f"{path}: expected a finished run, found no {missing[0]}.",
            fix="Name the folder of a run. One that is not finished is finished by the command that began it; with "
            "--verify-resume it is verified before packaging.",
            exit_code=2,
        )
    with RunFolder(path, is_main=True) as folder:
        identity, result = folder.existing, read_result(path)
        assert identity is not None
        assert result is not None
        check_finished(identity, {**identity, "recipe": to_json(recipe)})
        last = path / "checkpoints" / folder_name(int(result["steps"]))
        if not (last / MANIFEST).is_file():
            raise CheckpointError(
                f"{path}: the last checkpoint (step {result['steps']:,}) is gone; there is nothing to compare with.",
                fix="Verify runs before `runs --clean` removes their checkpoints.",
            )
        attempt = newest_attempt(path)
        for line in compare_versions(attempt, environment(Path.cwd())) if attempt else ():
            say(f"warning: {line}")
        original = _Original(
            path,
            source=source,
            ranks=int((identity.get("compute") or {}).get("ranks", 1)),
            device=str(attempt.get("device") or _device_here()),
            say=say,
        )
        original.check_machine(machines=int(attempt.get("machines") or 1))
        return original.verify()


def describe(proof: Mapping[str, Any]) -> str:
    """One sentence for the console."""
    if error := proof.get("error"):
        return f"warning: resuming could not be verified: {error}"
    what = f"a copy killed after step {proof['killed_after']:,} and resumed"
    if proof["identical"]:
        return f"resume verified: {what} is bit-identical at step {proof['compared_at']:,}"
    return f"warning: {what} differs at step {proof['compared_at']:,} in {', '.join(proof['differing'])}"


def read_proof(run_dir: Path) -> dict[str, Any] | None:
    """What the last verification of a run found, if there was one."""
    try:
        return read_json_object(run_dir / PROOF, needs={"identical": bool}, fix="")
    except CheckpointError:  # no number depends on it: the card says nothing of resuming then
        return None


@dataclass(frozen=True)
class _Original:
    """A trained run, and what it takes to train a copy of it."""

    path: Path
    source: RecipeSource | None
    """The recipe's file; None: the recipe as the run recorded it."""
    ranks: int
    device: str
    say: Callable[[str], None]
    poll: Callable[[], None] = lambda: None
    """Called while a copy trains; what it raises ends the copy."""

    @property
    def copy(self) -> Path:
        return self.path / COPY

    def check_machine(self, *, machines: int) -> None:
        """Refuse a finished run that this machine cannot repeat.

        Raises:
            CheckpointError: it ran on several machines or another kind of device, or its weights were cut over the ranks.
        """
        sharded = any((self.path / "checkpoints").glob("step-*/model-*-of-*.safetensors"))
        if machines > 1 or sharded:
            what = f"ran on {machines} machines" if machines > 1 else "cut its weights over the ranks (FSDP2)"
            raise CheckpointError(
                f"{self.path}: this run {what}; its directory does not say how it was launched.",
                fix="Verify such a run while it trains: train RECIPE --verify-resume, on one machine.",
                exit_code=2,
            )
        if self.device != _device_here() and self.device != "cpu":
            raise CheckpointError(
                f"{self.path}: this run was trained on a {self.device} device; this machine has none, and would give "
                "other numbers.",
                fix="Verify it on a machine like the one that it was trained on.",
                exit_code=2,
            )

    def verify(self) -> dict[str, Any]:
        """Kill a copy, resume it, compare; write the proof and return it."""
        shutil.rmtree(self.copy, ignore_errors=True)
        try:
            proof = self._compared()
        finally:
            shutil.rmtree(self.copy, ignore_errors=True)
        write_json(self.path / PROOF, proof)
        return proof

    def _compared(self) -> dict[str, Any]:
        checkpoints = self.path / "checkpoints"
        saved = Store(self.path, mode="read").steps()
        last = saved[-1]
        history = read_identity(self.path).get("history") or [{"from_step": 0}]
        since = int(history[-1]["from_step"])  # the settings in force began there
        if since and not any(since <= step < last for step in saved):
            return {
                "identical": False,
                "from_step": since,
                "error": f"settings changed at step {since:,}, and the last checkpoint is the only one after that",
            }
        start = start_of_copy(saved, last, since=since)
        kill_after = random.SystemRandom().randint(min(start + 1, last - 1), last - 1)
        ours, theirs = (place / folder_name(last) for place in (checkpoints, self.copy / "checkpoints"))
        proof: dict[str, Any] = {
            "identical": False,
            "from_step": start,
            "killed_after": kill_after,
            "compared_at": last,
            "ranks": self.ranks,
            "device": self.device,
            "files": sorted(file.name for file in ours.iterdir() if file.name != MANIFEST),
        }
        self.say(f"verifying: a copy of the run, steps {start:,} to {last:,}, killed after step {kill_after:,}")
        self._make_copy(start)
        _, said = self._train_copy(f"kill:{kill_after}")
        if theirs.exists() or f"planned stop: SIGKILL after step {kill_after}\n" not in said:
            return {**proof, "error": f"the copy was not killed: {_last_line(said)}"}
        code, said = self._train_copy(f"stop:{last}")
        if code != Interrupted.exit_code or not theirs.exists():
            return {**proof, "error": f"the killed copy did not continue: {_last_line(said)}"}
        differing = [name for name in proof["files"] if (theirs / name).read_bytes() != (ours / name).read_bytes()]
        return {**proof, "identical": not differing, "differing": differing}

    def _make_copy(self, start: int) -> None:
        """The run as it was at step ``start``: its identity, that checkpoint, the ledger (a resume cuts it)."""
        (self.copy / "checkpoints").mkdir(parents=True)
        shutil.copy(self.path / "run.json", self.copy)
        shutil.copy(self.path / "ledger.jsonl", self.copy)
        if start:
            name = folder_name(start)
            shutil.copytree(self.path / "checkpoints" / name, self.copy / "checkpoints" / name)
        if self.source is None:
            (self.copy / "recipe.json").write_text(json.dumps(read_identity(self.path)["recipe"]))

    def _train_copy(self, planned_stop: str) -> tuple[int, str]:
        """Train the copy to its planned stop; the exit code, and what it said."""
        environment = without_rank()
        if self.device == "cpu":
            environment["ACCELERATE_USE_CPU"] = "true"
        log = self.copy / "said"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                self._command(planned_stop), env=environment, stdout=subprocess.DEVNULL, stderr=stream
            )
        try:
            while process.poll() is None:
                self.poll()
                time.sleep(POLL_SECONDS)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        return process.returncode, log.read_text(errors="replace")

    def _command(self, planned_stop: str) -> list[str]:
        recipe = [str(self.copy / "recipe.json")] if self.source is None else self.source.arguments
        train = ["-m", "hf_trainpipe", "train", *recipe, "--run-dir", str(self.copy), "--planned-stop", planned_stop]
        if self.ranks == 1:
            return [sys.executable, *train]
        shape = ["--multi_gpu", "--num_processes", str(self.ranks), "--num_machines", "1", "--main_process_port", "0"]
        plain = ["--mixed_precision", "no", "--dynamo_backend", "no"]  # the recipe says which precision
        return [sys.executable, "-m", "hf_trainpipe", "launch", *shape, *plain, *train]


def _device_here() -> str:
    """The kind of device that a run takes on this machine."""
    import torch

    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found.type if found is not None and not os.environ.get("ACCELERATE_USE_CPU") else "cpu"


def _last_line(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "error:" in line), lines[-1] if lines else "it said nothing")
