"""No test asserts a time: examples of hypothesis have no deadline, on a busy machine either.

Processes whose start is not what is tested are forked from one that has imported torch (:mod:`tests.warm`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests import warm

if TYPE_CHECKING:
    from tests.hub.hub_server import Hub

ROOT = Path(__file__).parent
LONG = (
    "training/test_choices.py", "training/test_recipes.py", "package/test_onnx.py", "tasks/test_contract.py",
    "hub/test_repository.py", "training/test_lora.py", "pipelines/test_engine.py", "training/test_guards.py",
    "training/test_canaries.py", "training/test_finished.py", "training/test_check.py", "studies/test_learn_curve.py",
    "training/test_distillation.py", "training/test_reports.py", "training/test_sharded.py", "training/test_hub_runs.py",
    "training/test_runs.py", "data/test_sources_hub.py", "engine/test_compiling.py", "training/test_resume.py",
    "checkpoint/test_kills.py", "serve/test_engine.py", "studies/test_auto.py", "training/test_stream.py",
    "serve/test_page.py", "tasks/test_heads.py", "studies/test_tune.py", "tracking/test_neptune.py",
    "training/test_launch.py", "tasks/test_text_to_text.py", "tracking/test_adapters.py", "hub/test_upload.py",
    "training/test_trial.py", "studies/test_runs.py", "training/test_contrastive.py", "model/test_lora_heads.py",
    "studies/test_crossval.py", "training/test_verify_resume.py", "tasks/test_one_place.py",
)  # fmt: skip
"""Files of tests that take longest, the longest first."""

settings.register_profile("project", deadline=None)
settings.load_profile("project")
for name in ("OMP_NUM_THREADS", "HF_TRAINPIPE_THREADS"):
    os.environ.setdefault(name, "1")  # several files are tested at a time: more threads would only fight


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long begin first, so that no core sits idle at the end beside one that has just begun them."""
    order = {name: position for position, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(os.path.relpath(item.path, ROOT), len(order)))


def pytest_collection_finish() -> None:
    """A suite whose processes begin cold takes twice as long."""
    if names := warm.differs():
        raise pytest.UsageError(f"the tests' own imports set {', '.join(names)}: put it back where that is imported")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU: scripts/gpu")


@pytest.fixture
def real_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In this test every process begins as a person's does."""
    with monkeypatch.context() as patch:
        patch.setattr(warm, "_waiting", [])
        yield


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A stand-in for the Hub on a local port."""
    from tests.hub.hub_server import serve

    with serve() as running:
        yield running
