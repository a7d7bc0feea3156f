from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.package.conftest import write_package

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def classifier_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("classifier") / "run"
    write_package(run)
    return run
