"""An ordinary run in a process of its own: started, followed, ended, and its end read.

    started = start(source, Path("study/trials/003"), fields=["--optim.peak-lr", "3e-5"])
    ending = started.wait(until=lambda run: "time limit" if time.monotonic() > end else None)

It is ``train RECIPE --FIELD VALUE ... --run-dir D``, under ``launch`` where it has several ranks. Whoever began it may die in any
way: the run then saves and ends by itself (:func:`~hf_trainpipe.utils.processes.end_with_parent`). What it says is in
``output.log`` of its folder. :func:`run` reads a run that is finished already, and continues one that was interrupted.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hf_trainpipe.checkpoint.lock import RunLock
from hf_trainpipe.errors import EXIT_CODES, INTERRUPTED, PUSH_FAILED, CheckpointError, RunLocked, TrainpipeError
from hf_trainpipe.tracking import ledger
from hf_trainpipe.training.run_files import read_result
from hf_trainpipe.utils.atomic import read_json_object, write_json
from hf_trainpipe.utils.processes import BEGUN_BY, GRACE_SECONDS, REAP_SECONDS, children, kill, reap
from hf_trainpipe.utils.ranks import without_rank

if TYPE_CHECKING:
    import psutil

    from hf_trainpipe.recipe.source import RecipeSource

OUTPUT = "output.log"
"""In a run's folder: what its processes said, one attempt after the other."""
BEGINNER = "begun-by.json"
"""In a run's folder: the process that began it here, so that the next one knows whether it lives."""
POLL_SECONDS = 0.1
FAMILY_SECONDS = 1.0
"""Between two looks at which processes a run has."""
Outcome = Literal["complete", "refused", "out of memory", "diverged", "interrupted", "killed", "failed"]
_BY_CODE: dict[int, Outcome] = {
    0: "complete",
    PUSH_FAILED: "complete",
    2: "refused",
    4: "diverged",
    INTERRUPTED: "interrupted",
}
_ERROR = re.compile(r"^error: (?P<message>.*?)(?:\n\n(?P<fix>(?:  .*\n?)+)|\n\n|\Z)", re.MULTILINE | re.DOTALL)
_MEMORY = re.compile(r"out of memory|OutOfMemoryError|^MemoryError", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Where the ranks of a run compute."""

    ranks: int = 1
    options: tuple[str, ...] = ()
    """Further ones of ``accelerate launch``: ``("--config_file", "scripts/accelerate/fsdp2.yaml")``."""
    devices: str | None = None
    """CUDA_VISIBLE_DEVICES of the run; None: as this process has it."""

    def command(self, train: Sequence[str]) -> list[str]:
        """The command of ``train`` and what follows."""
        module = [sys.executable, "-m", "hf_trainpipe"]
        if self.ranks == 1 and not self.options:
            return [*module, "train", *train]
        shape = ["--num_processes", str(self.ranks), "--num_machines", "1", "--main_process_port", "0"]
        kind = ["--multi_gpu"] if self.ranks > 1 and not self.options else []
        plain = ["--mixed_precision", "no", "--dynamo_backend", "no"]  # the recipe says which precision
        return [*module, "launch", *kind, *shape, *plain, *self.options, "-m", "hf_trainpipe", "train", *train]

    def environment(self) -> dict[str, str]:
        """This process's, without what makes it a rank itself."""
        kept = without_rank()
        if self.ranks > 1 and not _has_gpu():
            kept["ACCELERATE_USE_CPU"] = "true"
        if self.devices is not None:
            kept["CUDA_VISIBLE_DEVICES"] = self.devices
        return {**kept, BEGUN_BY: str(os.getpid())}


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended, or one attempt at it."""

    run_dir: Path
    outcome: Outcome
    code: int
    """The exit code (ARCHITECTURE.md, "Exit codes"); below 0 the number of the signal that killed it."""
    message: str = ""
    """What the run's one screen said of an error; the reason where it was stopped from here."""
    fix: str = ""
    stopped_for: str | None = None
    """Why it was ended from here; None: it ended by itself."""
    result: dict[str, Any] | None = None
    """result.json of a complete run."""
    seconds: float = 0.0
    """Of this attempt; 0 of a run that was only read."""

    def error(self) -> TrainpipeError:
        """The run's own error, to be shown as if it were of the verb that began it."""
        told = self.message or f"it ended with exit code {self.code}"
        error = TrainpipeError(f"{self.run_dir}: {told}", fix=self.fix or f"What it said: {self.run_dir / OUTPUT}")
        error.exit_code = self.code if self.code in EXIT_CODES and self.code != 0 else 1  # type: ignore[misc]
        return error


class Started:
    """A run that goes on in a process of its own."""

    def __init__(self, run_dir: Path, process: subprocess.Popen[bytes], *, said_before: int) -> None:
        self.run_dir = run_dir
        self._process = process
        self._said_before = said_before
        self._since = time.monotonic()
        self._family: dict[int, psutil.Process] = {}
        self._looked = -FAMILY_SECONDS

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._since

    def points(self, name: str) -> list[ledger.Point]:
        """What its ledger has of a number so far, such as ``validation/accuracy``."""
        return points(self.run_dir, name)

    def poll(self) -> Ending | None:
        """How it ended; None while it goes on. Never waits while it does."""
        if self._process.poll() is None:
            self._look_at_family()
            return None
        self._reap()
        return self._ending(stopped_for=None)

    def wait(self, *, until: Callable[[Started], str | None] = lambda _: None) -> Ending:
        """Wait for its end, and end it where ``until`` gives a reason; an error here ends it too."""
        try:
            while (ending := self.poll()) is None:
                if (reason := until(self)) is not None:
                    return self.stop(reason)
                time.sleep(POLL_SECONDS)
        except BaseException:
            self.stop("an error")
            raise
        return ending

    def ask_to_stop(self) -> None:
        """SIGTERM: all ranks save at the same step and end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def stop(self, reason: str, *, grace: float = GRACE_SECONDS) -> Ending:
        """End all its ranks: they are asked to save, and killed after ``grace`` seconds."""
        self._look_at_family(now=True)
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        if self._process.poll() is None:
            self._look_at_family(now=True)
            kill(self._family.values())
            self._process.kill()
            self._process.wait()
        self._reap()
        return self._ending(stopped_for=reason)

    def _reap(self) -> None:
        """End ranks that outlived their launcher."""
        reap(self._family.values())
        with contextlib.suppress(RunLocked):  # somebody else's by now
            end_survivor(self.run_dir, grace=REAP_SECONDS)

    def _look_at_family(self, *, now: bool = False) -> None:
        if now or time.monotonic() - self._looked >= FAMILY_SECONDS:
            import psutil

            self._looked = time.monotonic()
            with contextlib.suppress(psutil.Error):
                below = children(psutil.Process(self._process.pid), recursive=True)
                self._family |= {process.pid: process for process in below}

    def _ending(self, *, stopped_for: str | None) -> Ending:
        code = self._process.returncode
        code = 128 - code if code > 128 else code  # of a launcher or a shell: 137 is -9
        with (self.run_dir / OUTPUT).open("rb") as file:
            file.seek(self._said_before)
            said = file.read().decode(errors="replace")
        message, fix = told_error(said)
        outcome = outcome_of(code, said)
        result = finished(self.run_dir) if outcome == "complete" else None
        return Ending(run_dir=self.run_dir, outcome=outcome, code=code, message=message, fix=fix, stopped_for=stopped_for,
                      result=result, seconds=self.seconds)  # fmt: skip


def start(
    source: RecipeSource,
    run_dir: Path,
    *,
    fields: Sequence[str] = (),
    options: Sequence[str] = (),
    launch: Launch | None = None,
) -> Started:
    """Start a run, or continue the one that is there.

    Args:
        source: The recipe's file and function, with the fields that were typed.
        run_dir: The run's folder; made where it is missing.
        fields: Further options of fields, which count before those typed: ``["--seed", "3"]``.
        options: Of ``train`` itself.
        launch: Where its ranks compute; None: in one process.

    Raises:
        RunLocked: a run that nobody here began is at work in the folder.
    """
    launch = launch or Launch()
    train = [*source.arguments, *fields, "--run-dir", str(run_dir), "--log", "plain", *options]
    return _begin(run_dir, launch.command(train), launch)


def _begin(run_dir: Path, command: Sequence[str], launch: Launch) -> Started:
    """Start a command that works in a run's folder, as whose beginner this process is recorded there."""
    import psutil

    run_dir.mkdir(parents=True, exist_ok=True)
    end_survivor(run_dir)
    since = psutil.Process().create_time()
    write_json(run_dir / BEGINNER, {"pid": os.getpid(), "since": since}, durable=False)
    with (run_dir / OUTPUT).open("ab") as stream:
        said_before = stream.tell()
        process = subprocess.Popen(
            command,
            env=launch.environment(),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,  # Ctrl-C in the terminal is for the verb, which ends its runs
        )
    return Started(run_dir, process, said_before=said_before)


def run(
    source: RecipeSource,
    run_dir: Path,
    *,
    fields: Sequence[str] = (),
    options: Sequence[str] = (),
    launch: Launch | None = None,
    until: Callable[[Started], str | None] = lambda _: None,
) -> Ending:
    """The end of a run: read where it is finished, else awaited; one that was interrupted continues. As :func:`start`."""
    return read_end(run_dir) or start(source, run_dir, fields=fields, options=options, launch=launch).wait(until=until)


def package(run_dir: Path) -> Ending:
    """Package the best step of a run as far as it came; one that has not ended goes on when it is started again."""
    return _begin(run_dir, [sys.executable, "-m", "hf_trainpipe", "package", str(run_dir)], Launch()).wait()


def read_end(run_dir: Path) -> Ending | None:
    """The end of a run that is finished already; None: it is not, or its result is damaged."""
    result = finished(run_dir)
    return None if result is None else Ending(run_dir=run_dir, outcome="complete", code=0, result=result)


def finished(run_dir: Path) -> dict[str, Any] | None:
    """result.json of a finished run; None of any other, and of one whose result is damaged: it ends once more."""
    try:
        return read_result(run_dir)
    except CheckpointError:
        return None


def points(run_dir: Path, name: str) -> list[ledger.Point]:
    """What a run's ledger has of a number, by step; the whole lines of one that is being written."""
    return [point for point in ledger.read(run_dir / "ledger.jsonl") if point.name == name]


def end_survivor(run_dir: Path, *, grace: float = GRACE_SECONDS) -> None:
    """Wait for a run whose beginner died, and kill it where it does not end.

    Raises:
        RunLocked: the run at work in the folder is none that was begun by :func:`start`, or its beginner lives elsewhere.
    """
    import psutil

    asked, end = False, time.monotonic() + grace
    while True:
        try:
            with RunLock(run_dir / "run.lock"):
                return
        except RunLocked as locked:
            if not _is_left_alone(run_dir):
                raise
            with contextlib.suppress(psutil.Error, TypeError):
                owner = psutil.Process(locked.data["pid"])
                if not asked:
                    owner.terminate()
                elif time.monotonic() > end:
                    kill([*children(owner, recursive=True), owner])
            if time.monotonic() > end + grace:
                raise
            asked = True
            time.sleep(POLL_SECONDS)


def _is_left_alone(run_dir: Path) -> bool:
    """Whether who began the run in a folder is this process, or is gone."""
    import psutil

    try:
        begun = read_json_object(run_dir / BEGINNER, needs={"pid": int, "since": float}, fix="")
        beginner = psutil.Process(begun["pid"])
        return bool(beginner.pid == os.getpid() or abs(beginner.create_time() - begun["since"]) > 1.0)
    except CheckpointError:
        return False
    except psutil.Error:
        return True


def told_error(said: str) -> tuple[str, str]:
    """Message and fix of the last error on a run's screen; of a traceback, its last line; nothing where there was none.

    >>> told_error("step 4\\nerror: no rows.\\n\\n  Add some.\\n")
    ('no rows.', 'Add some.')
    """
    errors = list(_ERROR.finditer(said))
    if errors:
        fix = "\n".join(line.removeprefix("  ") for line in (errors[-1]["fix"] or "").splitlines())
        return errors[-1]["message"].strip(), fix
    if "Traceback (most recent call last)" in said:
        lines = [line for line in said.rpartition("Traceback (most recent call last)")[2].splitlines() if line.strip()]
        raised = [line for line in lines if line[:1].isalpha() and not line.startswith("This is a bug")]
        return (raised[0] if raised else "an error without a message"), ""
    return "", ""


def outcome_of(code: int, said: str) -> Outcome:
    """An exit code in a word; what the run said tells whether memory ran out.

    >>> outcome_of(4, ""), outcome_of(-9, ""), outcome_of(2, "error: Step 3: out of memory with a single example")
    ('diverged', 'killed', 'out of memory')
    """
    if code not in (0, PUSH_FAILED) and _MEMORY.search(told_error(said)[0]):
        return "out of memory"
    return "killed" if code < 0 else _BY_CODE.get(code, "failed")


def _has_gpu() -> bool:
    import torch

    return torch.accelerator.is_available() and not os.environ.get("ACCELERATE_USE_CPU")
