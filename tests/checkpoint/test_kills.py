"""Rows 1 to 3 and 6 to 9 of the fault matrix: killed, or refused by the disk, at every call of a save.

Two ways to die. An audit hook leaves the process at its Nth file operation: every N, cheap. strace kills it
at its Nth system call, or makes that call fail. Set ``HF_TRAINPIPE_FAULTS=all`` for every N there as well.
"""

from __future__ import annotations

import collections
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

from hf_trainpipe.checkpoint.store import Store
from tests.nightly import at_night

ROOT = Path(__file__).parents[2]
SAVER = Path(__file__).with_name("saver.py")
ALL = os.environ.get("HF_TRAINPIPE_FAULTS") == "all"
KILLED = -9

specification = importlib.util.spec_from_file_location("checkpoint_saver", SAVER)
saver = importlib.util.module_from_spec(specification)
specification.loader.exec_module(saver)

CALLS = {
    "write": ("write", "pwrite64"),
    "fsync": ("fsync", "fdatasync"),
    "rename": ("rename", "renameat", "renameat2"),
    "mkdir": ("mkdir", "mkdirat"),
    "unlink": ("unlink", "unlinkat", "rmdir"),
}
"""System calls that change a disk, by what they do; which one it is depends on machine and libc."""


def clean(directory: Path) -> None:
    """Two good checkpoints; the third is about to be saved, and the first to be rotated away."""
    store = Store(directory, run_uid=saver.RUN)
    for step in (1, 2):
        store.save(saver.snapshot(step))
    # At step 2 the best was step 1; at step 3 it is step 2, so that step 1 goes.


def battered(directory: Path) -> None:
    """As :func:`clean`, with a damaged third checkpoint and leftovers of killed processes."""
    clean(directory)
    Store(directory, run_uid=saver.RUN, keep=9).save(saver.snapshot(3))
    folder = directory / "checkpoints"
    (folder / "step-00000003" / "model.safetensors").write_bytes(b"")
    shutil.copytree(folder / "step-00000001", folder / ".tmp-00000003-x")
    shutil.copytree(folder / "step-00000001", folder / ".trash-step-00000001-x")
    (directory / ".tmp-latest.json-x").touch()


STARTS = {"clean": clean, "battered": battered}


def assert_resumable(directory: Path, *, start: str) -> None:
    """Step 2 or 3 is there and whole, and the same command goes on to the same end."""
    damaged = 1 if start == "battered" else 0
    told: list[str] = []
    read = Store(directory, run_uid=saver.RUN, mode="read", on_quarantine=lambda place, reason: told.append(reason))
    first = read.latest()
    told.clear()
    assert all(read.at(step) or step == 3 for step in read.steps())
    assert len(told) <= damaged, told  # nothing half written ever had a valid name
    newest = Store(directory, run_uid=saver.RUN, on_quarantine=lambda place, reason: None).latest()
    assert first is not None
    assert newest is not None
    assert first.step == newest.step
    assert newest.step in (2, 3)
    assert bytes(newest.load_model()["weight"].tolist()) == saver.content(newest.step)
    assert bytes(newest.load_optimizer()["exp_avg/weight"].tolist()) == saver.content(newest.step + 100)

    assert saver.run(directory) == saver.SAVED
    names = set(os.listdir(directory / "checkpoints")) - {".quarantine"}
    assert names == {"step-00000002", "step-00000003"}
    assert sorted(os.listdir(directory)) == ["best.json", "checkpoints", "latest.json"]
    quarantine = directory / "checkpoints" / ".quarantine"
    assert len(list(quarantine.glob("step-????????-?"))) == damaged


def fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads; the child uses none of what they hold.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def exits_at(directory: Path, number: int) -> bool:
    """Run the saver in a forked child that leaves at its ``number``-th file operation; False: it had fewer."""
    child = fork()
    if child == 0:
        seen = 0

        def leave(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal seen
            if event in {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.listdir"}:
                seen += 1
                if seen == number:
                    os._exit(99)

        code = 1
        try:
            sys.addaudithook(leave)
            code = saver.run(directory)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (99, saver.SAVED)
    return os.waitstatus_to_exitcode(status) == 99


@pytest.mark.parametrize("start", STARTS)
def test_a_process_that_ends_at_any_file_operation_leaves_a_valid_checkpoint(start, fast_disk):
    template = fast_disk / "template"
    STARTS[start](template)
    counted = 0
    while True:
        shutil.copytree(template, fast_disk / "count")
        ended = exits_at(fast_disk / "count", 2 ** (counted + 3))
        shutil.rmtree(fast_disk / "count")
        if not ended:
            break
        counted += 1
    for number in sample(range(1, 2 ** (counted + 3)), 40):
        directory = fast_disk / str(number)
        shutil.copytree(template, directory)
        exits_at(directory, number)
        assert_resumable(directory, start=start)


@pytest.mark.parametrize("start", [*at_night("clean"), "battered"])
def test_a_process_that_ends_twice_is_resumable_as_well(start, fast_disk):
    template = fast_disk / "template"
    STARTS[start](template)
    for first in range(3, 45, 7):
        for second in range(2, 45, 9):
            directory = fast_disk / f"{first}-{second}"
            shutil.copytree(template, directory)
            exits_at(directory, first)
            exits_at(directory, second)
            assert_resumable(directory, start=start)


# strace


def command(directory: Path) -> list[str]:
    return [sys.executable, "-S", "-B", str(SAVER), str(directory)]


def strace(directory: Path, *options: str) -> int:
    """Run the saver under strace; its exit status, negative for a signal."""
    calls = ",".join(name for names in CALLS.values() for name in names)
    # With --seccomp-bpf, strace 6.1 fails calls as told, but sends no signal.
    fast = [] if any("signal=" in option for option in options) else ["--seccomp-bpf"]
    done = subprocess.run(
        ["strace", "-f", *fast, "-qq", "-o", "/dev/null", "-e", f"trace={calls}", *options, *command(directory)],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


@cache
def no_strace() -> str:
    """Why strace cannot be used here; empty if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(
        ["strace", "-f", "--seccomp-bpf", "-e", "trace=write", "true"], capture_output=True, text=True
    )
    return f"ptrace is not permitted here: {done.stderr.strip()}" if done.returncode else ""


@pytest.fixture
def traced(tmp_path_factory):
    """How often a save makes each system call: kind -> name -> count."""
    if reason := no_strace():
        pytest.skip(reason)

    def count(template: Path) -> dict[str, dict[str, int]]:
        directory = tmp_path_factory.mktemp("count") / "run"
        shutil.copytree(template, directory)
        output = directory.parent / "trace"
        assert strace(directory, "-o", str(output)) == saver.SAVED
        totals = collections.Counter(re.findall(r"^\d+ +(\w+)\(", output.read_text(), flags=re.MULTILINE))
        counts = {kind: {name: totals[name] for name in names if totals[name]} for kind, names in CALLS.items()}
        assert all(counts.values()), counts
        return counts

    return count


def sample(numbers: range, most: int) -> list[int]:
    if ALL or len(numbers) <= most:
        return list(numbers)
    return sorted({numbers[round(i * (len(numbers) - 1) / (most - 1))] for i in range(most)})


def try_all(template: Path, cases: list[tuple[str, ...]], check) -> None:
    def one(case: tuple[int, tuple[str, ...]]) -> None:
        number, options = case
        directory = template.parent / f"case-{number}"
        shutil.copytree(template, directory)
        check(directory, strace(directory, *options), options)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, enumerate(cases)))


@pytest.mark.parametrize("start", STARTS)
def test_a_kill_at_any_system_call_leaves_a_valid_checkpoint(start, fast_disk, traced):
    template = fast_disk / "template"
    STARTS[start](template)
    counts = traced(template)
    cases = [
        ("-e", f"inject={name}:signal=KILL:when={number}")
        for names in counts.values()
        for name, count in names.items()
        for number in sample(range(1, count + 1), 4)
    ]

    def check(directory: Path, status: int, options: tuple[str, ...]) -> None:
        assert status == KILLED, options
        assert_resumable(directory, start=start)

    try_all(template, cases, check)


@pytest.mark.parametrize(
    ("error", "kinds"),
    [("ENOSPC", ("write", "mkdir")), ("EIO", ("write", "fsync", "rename")), ("EROFS", ("mkdir", "rename", "unlink"))],
)
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_a_disk_that_refuses_leaves_a_valid_checkpoint(error, kinds, lasting, fast_disk, traced):
    template = fast_disk / "template"
    clean(template)
    counts = traced(template)
    cases = [
        ("-e", f"inject={name}:error={error}:when={number}{'+' if lasting else ''}")
        for kind in kinds
        for name, count in counts[kind].items()
        for number in sample(range(1, count + 1), 3)
    ]
    seen: set[int] = set()

    def check(directory: Path, status: int, options: tuple[str, ...]) -> None:
        assert status in (saver.SAVED, saver.GIVEN_UP, saver.REFUSED), options
        seen.add(status)
        assert_resumable(directory, start="clean")

    try_all(template, cases, check)
    assert seen & {saver.GIVEN_UP, saver.REFUSED}
