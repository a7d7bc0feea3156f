"""Benchmark processes run on their given cores and are stopped after their time limit."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from types import ModuleType

BENCH = Path(__file__).resolve().parents[2] / "scripts/bench"
HANGS = """
import os, subprocess, sys, time
name = sys.argv[1]
if name == "outer":
    subprocess.Popen([sys.executable, __file__, "inner"], start_new_session=True)
print(name, os.getpid(), flush=True)
open(name, "w").close()
time.sleep(600)
"""


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCH)
    import processes

    return processes


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_it_runs_on_its_cores_only_and_the_caller_stays_on_all(processes: Any, tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    asked = python("import json, os; print('first'); print(json.dumps(sorted(os.sched_getaffinity(0))))")
    assert processes.last_json(processes.run_process(asked, folder=tmp_path, cores=[core])) == [core]
    assert processes.last_json(processes.run_process(asked, folder=tmp_path)) == sorted(before)
    assert os.sched_getaffinity(0) == before


def test_its_environment_is_clean(processes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("RANK", "3")
    asked = python("import json, os; print(json.dumps(dict(os.environ)))")
    found = json.loads(processes.run_process(asked, folder=tmp_path, EXTRA="yes"))
    assert "RANK" not in found
    assert found.get("OMP_NUM_THREADS") != "7"
    assert found["EXTRA"] == "yes"
    assert found["HF_TRAINPIPE_CACHE"] == str(tmp_path / "cache")


def test_another_exit_code_than_the_expected_one_is_an_error(processes: Any, tmp_path: Path) -> None:
    fails = python("import sys; print('so far'); sys.exit('the reason')")
    with pytest.raises(RuntimeError, match=r"exit 1: .*(?s:so far.*the reason)"):
        processes.run_process(fails, folder=tmp_path)
    assert processes.run_process(fails, folder=tmp_path, exit_code=1) == "so far\n"


def test_a_command_that_hangs_is_killed_with_all_that_it_started(processes: Any, tmp_path: Path) -> None:
    script = tmp_path / "hangs.py"
    script.write_text(HANGS)

    def both_have_started(_: int) -> None:
        while not ((tmp_path / "outer").exists() and (tmp_path / "inner").exists()):
            time.sleep(0.02)

    command = [sys.executable, str(script), "outer"]
    with pytest.raises(RuntimeError, match=r"hung, killed after 0.3 s: .*hangs.py outer") as caught:
        processes.run_process(command, folder=tmp_path, timeout_s=0.3, watch=both_have_started)
    said = dict(line.split() for line in str(caught.value).splitlines()[1:] if line)
    assert said.keys() == {"outer", "inner"}
    until = time.monotonic() + 30
    while any(is_running(int(pid)) for pid in said.values()) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(is_running(int(pid)) for pid in said.values())


def is_running(pid: int) -> bool:
    """Whether a process still runs; one that ended and waits for its parent does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
