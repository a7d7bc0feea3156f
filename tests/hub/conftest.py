from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hub import hub_server
from tests.package.conftest import write_package

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def classifier_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("classifier") / "run"
    write_package(run)
    return run


@pytest.fixture
def hub() -> Iterator[hub_server.Hub]:
    with hub_server.serve() as running:
        yield running
