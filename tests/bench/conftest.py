"""The benchmarks of speed as commands, on one tiny model for all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hf_trainpipe.testing import tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable

BENCH = Path(__file__).resolve().parents[2] / "scripts/bench"


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run a script of scripts/bench with arguments; its standard output."""
    model = tiny_model(tmp_path_factory.mktemp("bench") / "model")
    environment = {**os.environ, "BENCH_TINY_MODEL": str(model)}

    def run(script: str, *arguments: str) -> str:
        command = [sys.executable, str(BENCH / script), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run
