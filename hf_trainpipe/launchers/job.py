"""A run of several ranks on a cluster: started, stopped, judged, and continued on fewer where workers are lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from hf_trainpipe.errors import Interrupted, MissingExtra, TrainpipeError
from hf_trainpipe.launchers import rank
from hf_trainpipe.utils.ranks import left_code
from hf_trainpipe.utils.secrets import is_secret
from hf_trainpipe.utils.signals import SAVE_AND_STOP, handled

LOST = None
"""In place of the exit code of a rank that left none: its worker is gone."""
Codes = Sequence[int | None]
GRACE_SECONDS = 15.0
"""What the others get to end by themselves once a rank is lost or has failed."""
_PASSED_ON = ("HF_", "TRANSFORMERS_", "OMP_", "MKL_", "NEPTUNE_", "WANDB_", "MLFLOW_", "NCCL_", "GLOO_")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is started."""

    command: tuple[str, ...]
    """What follows the interpreter: ``-m hf_trainpipe train RECIPE``, or ``RECIPE.py``."""
    ranks: int
    at_least: int
    """Ranks with which it goes on by itself after workers were lost; as many as ``ranks``: it ends with 75."""
    address: str | None = None
    """The cluster's; None: one on this machine."""
    gpu: bool = False
    """Whether each rank has a GPU; else they compute on the CPU."""
    folder: Path = field(default_factory=Path.cwd)
    """Where the ranks run, a folder that all workers see."""

    def environment(self) -> dict[str, str]:
        """What each rank gets of this process: settings of the libraries, none of the machine, and no credentials, which
        would cross a cluster's network as they are."""
        named = {
            name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON) or name == "PYTHONPATH"
        }
        kept = {name: value for name, value in named.items() if not is_secret(name, value)}
        return kept if self.gpu else {**kept, "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}


class Cluster(ABC):
    """Workers of a cluster; a context, so that one that was started here ends.

    >>> class Here(Cluster):
    ...     def run(self, ranks, desk):
    ...         for number in range(ranks):  # one after the other, which real ranks would not bear
    ...             rank.run(self.job.command, {"RANK": str(number)}, str(self.job.folder), str(desk))
    ...     def available(self):
    ...         return 2
    >>> job = Job(command=("-S", "-c", "raise SystemExit(3)"), ranks=2, at_least=2, folder=Path(tempfile.gettempdir()))
    >>> carry_out(Here(job))
    3
    """

    def __init__(self, job: Job) -> None:
        self.job = job

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    @abstractmethod
    def run(self, ranks: int, desk: Path) -> None:
        """Run the job's command by :func:`.rank.run` on this many ranks, until all have ended or are gone."""

    def given(self, environment: dict[str, str], desk: Path) -> tuple[list[str], dict[str, str], str, str]:
        """What :func:`.rank.run` gets, in types that every cluster carries."""
        return list(self.job.command), environment, str(self.job.folder), str(desk)

    @abstractmethod
    def available(self) -> int:
        """How many ranks can be started now."""


@contextlib.contextmanager
def extra(name: str, *, needs: str) -> Iterator[None]:
    """While open, a library that is not installed is an error that names the extra of a cluster.

    Raises:
        MissingExtra: an import failed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtra(
            f"launch --on {name} needs {needs}: {error}.", fix=f"python -m pip install -c constraints.txt '.[{name}]'"
        ) from error


def rank_environment(
    job: Job, *, number: int, ranks: int, local: tuple[int, int], meet: tuple[str, int]
) -> dict[str, str]:
    """What makes a process a rank (``env://`` of torch.distributed).

    Args:
        number: Of the rank.
        local: Its number on its machine, and how many there are.
        meet: Address and port of rank 0.
    """
    if job.gpu:  # Ray and dask-cuda show a worker its own GPU first
        local = (0, 1)
    return {
        **job.environment(),
        "RANK": str(number),
        "WORLD_SIZE": str(ranks),
        "LOCAL_RANK": str(local[0]),
        "LOCAL_WORLD_SIZE": str(local[1]),
        "MASTER_ADDR": meet[0],
        "MASTER_PORT": str(meet[1]),
    }


def local_ranks(hosts: Sequence[str]) -> list[tuple[int, int]]:
    """Number on its machine, and how many there are, of the rank on each of these hosts.

    >>> local_ranks(["a", "b", "a"])
    [(0, 2), (0, 1), (1, 2)]
    """
    return [(hosts[:place].count(host), hosts.count(host)) for place, host in enumerate(hosts)]


def lost_ranks(codes: Codes) -> list[int]:
    """Ranks whose worker is gone, or whose process was killed.

    >>> lost_ranks([1, -9, LOST])
    [1, 2]
    """
    return [number for number, code in enumerate(codes) if code is LOST or code < 0]


def carry_out(cluster: Cluster) -> int:
    """Run a cluster's job to its end; after lost workers on those that are left, down to the job's ``at_least``.

    Returns:
        Rank 0's exit code, or the first that is not 0.

    Raises:
        Interrupted: workers were lost and it does not go on by itself; the run can be resumed.
        TrainpipeError: the cluster has too few workers to begin with.
    """
    job, ranks = cluster.job, cluster.job.ranks
    with cluster:
        if (there := cluster.available()) < ranks:
            raise TrainpipeError(
                f"launch: {ranks} ranks were asked for; the cluster has workers for {there}.",
                fix="Ask for fewer with --ranks, or add workers.",
            )
        while True:
            with _desk(job) as desk, _forwarded(desk) as asked, _watched(desk, ranks) as ended_here:
                cluster.run(ranks, desk)
                codes, stopped = _codes(desk, ranks), bool(asked)
            failed = next((code for code in codes if code and code > 0), 0)
            ended = failed or Interrupted.exit_code  # of those that only waited for the one that failed
            codes = [ended if number in ended_here else code for number, code in enumerate(codes)]
            lost = lost_ranks(codes)
            if not lost:
                return next((code for code in codes if code), 0)
            left = min(ranks - len(lost), cluster.available())
            said = f"lost: rank {', '.join(map(str, lost))} of {ranks}, with its worker or its process"
            if stopped or left < job.at_least:
                raise Interrupted(
                    f"{said}. The last checkpoint is valid.",
                    fix="Run the same command again; --ranks may be another number. --at-least N continues by itself on those "
                    "that are left.",
                )
            print(f"{said}; continuing on {left}", file=sys.stderr, flush=True)
            ranks = left


@contextlib.contextmanager
def _desk(job: Job) -> Iterator[Path]:
    """The folder through which launcher and ranks speak (:mod:`.rank`), in the folder that all see."""
    try:
        desk = Path(tempfile.mkdtemp(prefix=".hf-trainpipe-launch-", dir=job.folder))
    except OSError as error:
        raise TrainpipeError(
            f"launch: {job.folder} cannot be written to: {error.strerror}.",
            fix="Start it in a folder that this machine and all workers see.",
        ) from error
    try:
        yield desk
    finally:
        shutil.rmtree(desk, ignore_errors=True)


def _codes(desk: Path, ranks: int) -> list[int | None]:
    return [left_code(desk / f"rank-{number}") for number in range(ranks)]


@contextlib.contextmanager
def _forwarded(desk: Path) -> Iterator[list[int]]:
    """While open, signals go to the ranks, which save and stop; yields those that came. A second Ctrl-C kills them."""
    came: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        came.append(number)
        _ask(desk, signal.SIGKILL if came.count(signal.SIGINT) > 1 else number)

    with handled(SAVE_AND_STOP, forward):
        yield came


def _ask(desk: Path, number: int) -> None:
    with contextlib.suppress(OSError), (desk / rank.SIGNALS).open("a") as stream:
        stream.write(f"{number}\n")


@contextlib.contextmanager
def _watched(desk: Path, ranks: int) -> Iterator[list[int]]:
    """While open, show what rank 0 prints to the desk, and end the ranks that outlive one that failed; yields those."""
    over = threading.Event()
    ended_here: list[int] = []

    def watch() -> None:
        seen, failed_at = 0, None
        while not over.is_set():
            over.wait(rank.POLL_SECONDS)
            seen = _show(desk, seen)
            codes = _codes(desk, ranks)
            if failed_at is None and any(codes):
                failed_at = time.monotonic()
            if failed_at is not None and time.monotonic() - failed_at > GRACE_SECONDS:
                ended_here.extend(number for number, code in enumerate(codes) if code is LOST)
                _ask(desk, signal.SIGKILL)
                failed_at = float("inf")

    thread = threading.Thread(target=watch, name="launch", daemon=True)
    thread.start()
    try:
        yield ended_here
    finally:
        over.set()
        thread.join()


def _show(desk: Path, seen: int) -> int:
    with contextlib.suppress(FileNotFoundError), (desk / "rank-0.out").open("rb") as stream:
        stream.seek(seen)
        new = stream.read()
        sys.stderr.write(new.decode(errors="replace"))
        sys.stderr.flush()
        return seen + len(new)
    return seen
