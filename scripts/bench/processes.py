"""Run the sides of a speed benchmark in their own processes: this project's command line, and ``peer.py``."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from public_data import Row
from turns import TURN
from workloads import ROOT, Workload, read_rows, scratch

BENCH = Path(__file__).resolve().parent
TIMEOUT_S, SMOKE_TIMEOUT_S = 20 * 60.0, 4 * 60.0
INTERRUPTED = 75
"""Exit code of an interrupted training that can be resumed."""

SMOKE = "BENCH_SMOKE"
"""Environment variable of smoke runs: every process uses one thread."""


def clean_environment(folder: Path, **extra: str) -> dict[str, str]:
    """This environment without settings of threads and ranks, and with the benchmark's own token cache."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OMP_", "MKL_", "HF_TRAINPIPE_", "ACCELERATE_", "NEPTUNE_", "TOKENIZERS_"))
        and name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    }
    if SMOKE in os.environ:
        kept |= {"OMP_NUM_THREADS": "1", "HF_TRAINPIPE_THREADS": "1"}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_CACHE": str(folder / "datasets-cache"),
        "HF_TRAINPIPE_CACHE": str(folder / "cache"),
        **extra,
    }


def run_process(
    command: Sequence[str],
    *,
    folder: Path,
    cores: Sequence[int] | None = None,
    exit_code: int = 0,
    timeout_s: float | None = None,
    watch: Callable[[int], None] | None = None,
    turn: int | None = None,
    **extra: str,
) -> str:
    """Run a command to its end; its standard output.

    Args:
        cores: The only cores it may run on; None: all of this thread.
        exit_code: The one that is expected.
        timeout_s: After so long it is killed with every process that it started; None: 20 minutes, 4 in a smoke run.
        watch: Called a hundred times a second with its process id, while it runs.
        turn: The descriptor of its lock, which is closed here (see :mod:`turns`); None: it waits for nobody.

    Raises:
        RuntimeError: it ended with another code, or hung. The message has the command and the end of its output.
    """
    if timeout_s is None:
        timeout_s = SMOKE_TIMEOUT_S if SMOKE in os.environ else TIMEOUT_S
    until = time.monotonic() + timeout_s
    held = () if turn is None else (turn,)
    extra |= {} if turn is None else {TURN: str(turn)}
    try:
        with only_on(cores):
            process = subprocess.Popen(
                list(command), cwd=folder, env=clean_environment(folder, **extra), stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, start_new_session=True, pass_fds=held,
            )  # fmt: skip
    finally:  # whoever holds it keeps the others waiting
        for descriptor in held:
            os.close(descriptor)
    with process:
        try:
            out, err = _outputs(process, until, watch)
        except BaseException as error:
            _kill(process.pid)
            out, err = process.communicate()  # what it had written until then
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise RuntimeError(_told(f"hung, killed after {timeout_s:g} s", command, out, err)) from None
    if process.returncode != exit_code:
        raise RuntimeError(_told(f"exit {process.returncode}", command, out, err))
    return out


@contextmanager
def only_on(cores: Sequence[int] | None) -> Iterator[None]:
    """Pin this thread to some cores in a context; processes started inside stay pinned."""
    before = os.sched_getaffinity(0)
    if cores is not None:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _outputs(process: subprocess.Popen[str], until: float, watch: Callable[[int], None] | None) -> tuple[str, str]:
    while True:
        left = max(0.0, until - time.monotonic())
        try:
            return process.communicate(timeout=left if watch is None else min(0.01, left))
        except subprocess.TimeoutExpired:
            if watch is None or time.monotonic() >= until:
                raise
            watch(process.pid)


def _kill(pid: int) -> None:
    """Kill a process, its group, and what it started: ranks are in sessions of their own."""
    import psutil

    family = []
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()


def _told(what: str, command: Sequence[str], out: str, err: str) -> str:
    return f"{what}: {shlex.join(command)}\n{out[-500:]}\n{err[-3000:]}"


def last_json(output: str) -> Row:
    """The JSON that a process printed as its last line."""
    found: Row = json.loads(output.strip().splitlines()[-1])
    return found


def own_side(command: Sequence[str], side: str, *, threads: int) -> Row:
    """What a benchmark's own process for one of its sides prints last, as JSON.

    Raises:
        SystemExit: with the end of what it said, where it failed.
    """
    count = str(threads)
    environment = {**os.environ, "OMP_NUM_THREADS": count, "HF_TRAINPIPE_THREADS": count, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr[-3000:]}")
    return last_json(done.stdout)


def peer(verb: str, folder: Path, *arguments: str, cores: Sequence[int] | None = None, turn: int | None = None) -> Row:
    """A verb of ``peer.py`` over a workload, in a process of its own."""
    command = [sys.executable, str(BENCH / "peer.py"), verb, "--folder", str(folder), *arguments]
    return last_json(run_process(command, folder=folder, cores=cores, turn=turn))


def train_command(
    workload: Workload, run: Path, *arguments: str, launch: Sequence[str] = (), waits_before: int | None = None
) -> list[str]:
    """This project's command line over a workload.

    Args:
        launch: What stands between ``python -m`` and the module: ``accelerate.commands.launch`` and its options.
        waits_before: The step before which it waits for its turn (:mod:`turns`).
    """
    module = ["-m", *launch, "-m", "hf_trainpipe"] if launch else ["-m", "hf_trainpipe"]
    if waits_before is not None:
        module = [str(BENCH / "turns.py"), str(waits_before)]
    return [
        sys.executable, *module, "train", str(workload.folder / "recipe.py"),
        "--run-dir", str(run), "--data.root", str(workload.folder), *arguments, "--json",
    ]  # fmt: skip


def train_steps(
    workload: Workload,
    run: Path,
    *arguments: str,
    steps: int,
    launch: Sequence[str] = (),
    cores: Sequence[int] | None = None,
    turn: int | None = None,
    waits_before: int | None = None,
    **environ: str,
) -> None:
    """A training of so many steps in a process of its own.

    It is stopped after them, so that no time goes into a package; under a launcher, which makes another exit code of
    that, it ends by itself.
    """
    ending = ["--budget.max-steps", str(steps), "--budget.evaluate-every", str(steps)]
    ending += [] if launch else ["--planned-stop", f"stop:{steps}"]
    command = train_command(workload, run, *ending, *arguments, launch=launch, waits_before=waits_before)
    code = 0 if launch else INTERRUPTED
    run_process(command, folder=workload.folder, cores=cores, exit_code=code, turn=turn, **environ)


WARMUP, WINDOW = 5, 5


def timed_steps(
    workload: Workload,
    lengths: Sequence[int],
    *arguments: str,
    steps: int,
    launch: Sequence[str] = (),
    warmup: int = WARMUP,
    window: int = WINDOW,
    cores: Sequence[int] | None = None,
    turn: int | None = None,
    **environ: str,
) -> Row:
    """A training of ``warmup + steps`` steps; the times are from its ledger, the examples from its trace.

    Args:
        lengths: :func:`workloads.text_lengths`.
        warmup: A multiple of ``window``; the last ``window`` of them come after the wait for ``turn``.
        window: Steps between two lines of the ledger, in each of which the host waits for the device.

    Raises:
        RuntimeError: the ledger's own count of tokens differs from the one made here.
    """
    with scratch() as folder:
        run = folder / "run"
        train_steps(
            workload, run, "--budget.log-every", str(window), *arguments,
            steps=warmup + steps, launch=launch, cores=cores, turn=turn,
            waits_before=None if turn is None else warmup - window + 1, HF_TRAINPIPE_TRACE="1", **environ,
        )  # fmt: skip
        ledger, traced = ledger_of(run), traced_steps(run)
    speeds = [point for point in series(ledger, "train/tokens_per_second") if point["step"] >= warmup]
    kept = [lengths[number] for line in traced if line["step"] > warmup for number in line["examples"]]
    said = sum(point["value"] * (point["time"] - before["time"]) for before, point in itertools.pairwise(speeds))
    if abs(said / sum(kept) - 1) > 0.05:
        raise RuntimeError(f"tokens: expected {sum(kept):,} from the trace, the ledger says {said:,.0f}.")
    padding = [point["value"] for point in series(ledger, "train/padding") if point["step"] > warmup]
    return {
        "seconds": speeds[-1]["time"] - speeds[0]["time"],
        "steps": steps,
        "examples": len(kept),
        "tokens": sum(kept),
        "computed": sum(kept) * statistics.mean(padding) if padding else None,
        "lengths": kept,
    }


def ledger_of(run: Path) -> list[Row]:
    return read_rows(run / "ledger.jsonl")


def traced_steps(run: Path) -> list[Row]:
    """Which examples each rank trained on in each step, of a run with HF_TRAINPIPE_TRACE=1."""
    return [row for file in sorted(run.glob("trace-rank*.jsonl")) for row in read_rows(file)]


def series(ledger: Sequence[Row], name: str) -> list[Row]:
    """The points of one name, by step: ``step``, ``value`` and ``time`` (seconds since the epoch)."""
    return [point for point in ledger if point["name"] == name]


FP32 = ("--optim.precision", "fp32")
PURE, COMPILED = ("--optim.precision", "bf16-pure"), ("--optim.compile", "true")
OURS: dict[str, tuple[str, ...]] = {
    "ours": (),
    "ours-fp32": FP32,
    "ours-tf32": ("--optim.precision", "tf32"),
    "ours-pure": PURE,
    "ours-compiled": COMPILED,
    "ours-pure-compiled": (*PURE, *COMPILED),
}
"""Options of this project's sides."""


def train_side(
    side: str,
    workload: Workload,
    lengths: Sequence[int],
    *,
    steps: int,
    warmup: int = 4,
    warmup_ours: int = WARMUP,
    window: int = WINDOW,
    device: str = "cpu",
    cores: Sequence[int] | None = None,
    turn: int | None = None,
) -> Row:
    """The steps of ``ours``, ``ours-fp32`` or a way of ``peer.py``, with real ``tokens_per_second``.

    Args:
        warmup: Steps of the peer that are not counted.
        warmup_ours: Those of this project's sides.
        window: As of :func:`timed_steps`.
        device: Of the peer.
    """
    if side.startswith("ours"):
        options = {"steps": steps, "warmup": warmup_ours, "window": window}
        found = timed_steps(workload, lengths, *OURS[side], **options, cores=cores, turn=turn)
    else:
        numbers = ["--steps", str(steps), "--warmup", str(warmup)]
        found = peer("train", workload.folder, "--way", side, *numbers, "--device", device, cores=cores, turn=turn)
    return {**found, "tokens_per_second": found["tokens"] / found["seconds"]}
