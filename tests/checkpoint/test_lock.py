"""One process per run directory, with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hf_trainpipe.checkpoint.lock import RunLock, is_locked
from hf_trainpipe.errors import RunLocked, TrainpipeError

ROOT = Path(__file__).parents[2]

HOLDER = """
import sys, pathlib
from hf_trainpipe.checkpoint.lock import RunLock
lock = RunLock(pathlib.Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
{then}
sys.stdin.read()
"""


def start(path: Path, then: str = "") -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(then=then), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()


def test_a_second_process_sees_the_lock_owner_and_a_kill_frees_the_lock(tmp_path):
    path = tmp_path / "run.lock"
    holder = start(path)
    try:
        with pytest.raises(RunLocked) as caught:
            RunLock(path).acquire()
        error = caught.value
        assert error.pid == holder.pid
        assert error.host == os.uname().nodename
        assert str(holder.pid) in error.message
        assert error.since in error.message
        assert error.boot_id
        assert f"kill {holder.pid}" in error.fix
        assert error.exit_code == 2
    finally:
        end(holder)
    with RunLock(path):
        assert is_locked(path)
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_an_orphan_is_an_owner_too(tmp_path):
    """The launcher is dead, its worker still trains."""
    path = tmp_path / "run.lock"
    launcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, os\n"
            "child = subprocess.Popen([sys.executable, '-c', sys.argv[2], sys.argv[1]], stdout=subprocess.PIPE,"
            " stdin=subprocess.PIPE)\n"
            "child.stdout.readline()\n"
            "print(child.pid, flush=True)\n"
            "sys.stdin.read()\n",
            str(path),
            HOLDER.format(then="import time; time.sleep(60)"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    orphan = int(launcher.stdout.readline())
    try:
        end(launcher)
        with pytest.raises(RunLocked) as caught:
            RunLock(path).acquire()
        assert caught.value.pid == orphan
    finally:
        os.kill(orphan, signal.SIGKILL)
    RunLock(path).acquire(timeout=10)


@pytest.mark.parametrize(
    "spawn",
    [
        "import subprocess; print(subprocess.Popen(['sleep', '60'], close_fds=False).pid, flush=True)",
        "import os, time\npid = os.fork()\nif pid == 0: time.sleep(60); os._exit(0)\nprint(pid, flush=True)",
    ],
    ids=["exec", "fork"],
)
def test_children_do_not_hold_the_lock_after_their_parent(tmp_path, spawn):
    path = tmp_path / "run.lock"
    holder = start(path, then=spawn)
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(RunLocked):
            RunLock(path).acquire()
        holder.kill()
        holder.wait()
        lock = RunLock(path)
        lock.acquire(timeout=10)  # a child just forked may not have closed its descriptor yet
        os.kill(child, 0)  # it lives on
        lock.release()
    finally:
        os.kill(child, signal.SIGKILL)
        end(holder)


def test_waiting_for_an_owner_that_is_about_to_end(tmp_path):
    path = tmp_path / "run.lock"
    holder = start(path, then="import time; time.sleep(0.5); raise SystemExit")
    lock = RunLock(path)
    lock.acquire(timeout=60)
    lock.release()
    lock.release()
    end(holder)


def test_two_locks_of_one_process_exclude_each_other(tmp_path):
    first, second = RunLock(tmp_path / "run.lock"), RunLock(tmp_path / "run.lock")
    with first, pytest.raises(RunLocked):
        second.acquire()
    with second, pytest.raises(RunLocked):
        first.acquire()


def test_an_owner_without_a_name_and_a_missing_folder(tmp_path):
    path = tmp_path / "run.lock"
    with RunLock(path):
        path.write_text("")
        with pytest.raises(RunLocked, match="unknown"):
            RunLock(path).acquire()
    with pytest.raises(TrainpipeError, match="cannot be written"):
        RunLock(tmp_path / "missing" / "run.lock").acquire()
