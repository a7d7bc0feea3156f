"""No test asserts a time: examples of hypothesis have no deadline, on a busy machine either.

Processes whose start is not what is tested are forked from one that has imported torch (:mod:`tests.warm`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import warm

settings.register_profile("project", deadline=None)
settings.load_profile("project")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # several files are tested at a time; more threads would only fight


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        warm.join()
    elif not Path("/dev/nvidiactl").exists():  # CUDA does not live on in a forked process
        folder = Path(tempfile.mkdtemp(prefix="warm-"))
        process = warm.start(folder)
        warm.join()

        def end() -> None:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
            shutil.rmtree(folder)

        config.add_cleanup(end)


@pytest.fixture
def real_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In this test every process begins as a person's does."""
    with monkeypatch.context() as patch:
        patch.setattr(warm, "_places", {})
        yield
