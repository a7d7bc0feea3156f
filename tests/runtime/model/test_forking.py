"""A package that is loaded, and asked, before its process forks answers in the children too."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.runtime.conftest import MakePackage

SCRIPT = """
import os, signal, sys, torch
from hf_trainpipe.runtime.model.forking import apart
from hf_trainpipe.runtime.handler.endpoint import EndpointHandler

work = lambda: torch.ones(1 << 20).exp().sum().item()  # enough for two threads
body = {"inputs": ["the cat sat"] * 64}

def child_answers():
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        work()
        os._exit(0 if handler(body) else 1)
    return os.waitpid(child, 0)[1] == 0

handler = EndpointHandler(sys.argv[1])
assert apart(work) > 0
assert child_answers(), "loaded"
assert work() > 0 and handler(body)
assert child_answers(), "loaded and asked"
assert handler(body)
os._exit(0)
"""


def test_children_answer(make_package: MakePackage) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", SCRIPT, str(make_package())]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
