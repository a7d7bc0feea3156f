"""A tiny package with a profile, and texts to ask it."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from tests.package.conftest import WORDS, write_package


def texts(count: int, *, seed: int) -> list[str]:
    """Texts of the same kind."""
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS[:12], k=chance.randint(3, 9))) for _ in range(count)]


def foreign(count: int, *, seed: int) -> list[str]:
    """Texts of another kind: other words, no longer."""
    chance = random.Random(seed)
    return [" ".join(chance.choices(("zq", "xkj", "qqz", "jjx"), k=chance.randint(3, 6))) for _ in range(count)]


def write_log(file: Path, rows: list[str]) -> Path:
    file.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with a profile of 300 texts; not to be written to."""
    from hf_trainpipe.watch.packaged import add_profile

    folder = tmp_path_factory.mktemp("watch")
    package = write_package(folder / "run")
    add_profile(package, write_log(folder / "reference.jsonl", texts(300, seed=0)))
    return package


@pytest.fixture
def package(profiled: Path, tmp_path: Path) -> Path:
    """The same, for one test."""
    return Path(shutil.copytree(profiled, tmp_path / "run" / "package"))
