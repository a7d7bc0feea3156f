"""A server that watches: what it is asked is measured behind the answers, and told by its metrics."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from hf_trainpipe.errors import PackageError
from hf_trainpipe.serve import engine as engines
from hf_trainpipe.serve.batcher import Batcher
from hf_trainpipe.serve.metrics import Metrics
from hf_trainpipe.serve.settings import Limits, Watching
from hf_trainpipe.serve.watching import MOVED, Watcher, profile_of
from hf_trainpipe.watch.state import locked
from tests.package.conftest import write_package
from tests.watch.conftest import foreign, texts
from tests.watch.conftest import package as package
from tests.watch.conftest import profiled as profiled


def answered(package: Path, asked: list[str], settings: Watching) -> dict[str, float]:
    """The metrics of a server of its own, after these texts."""
    engine, metrics = engines.load(package), Metrics()
    return told_after(asked, Watcher(settings, engine, metrics), engine, metrics)


def told_after(asked: list[str], watcher: Watcher, engine: engines.Engine, metrics: Metrics) -> dict[str, float]:
    """The metrics after a package has answered these texts."""
    batcher = Batcher(engine, limits=Limits(), batch_tokens=512, metrics=metrics, watcher=watcher)
    batcher.start()

    async def ask() -> None:
        for start in range(0, len(asked), 100):
            assert len(await batcher.ask(asked[start : start + 100], {})) == len(asked[start : start + 100])

    asyncio.run(ask())
    batcher.close()
    lines = re.findall(r"^(trainpipe_watch\S*) (\S+)$", metrics.text().decode(), re.MULTILINE)
    return {name: float(value) for name, value in lines}


def test_texts_are_sampled_tested_and_told_and_a_server_that_starts_again_goes_on(
    package: Path, tmp_path: Path
) -> None:
    every = Watching(folder=tmp_path / "state", share=1.0, keeps_texts=True)
    plain = texts(250, seed=5)
    told = answered(package, plain, every)
    assert told["trainpipe_watch_texts_total"] == 250
    assert told["trainpipe_watch_windows"] == 1
    assert told["trainpipe_watch_drifted"] == 0
    assert told["trainpipe_watch_evidence_needed"] == 120
    assert not (tmp_path / "state" / MOVED).exists()
    assert not [row for path in every.folder.iterdir() for row in plain if row.encode() in path.read_bytes()]
    strange = foreign(350, seed=6)
    told = answered(package, strange, every)
    assert told["trainpipe_watch_windows"] == 3
    assert told["trainpipe_watch_drifted"] == 1
    assert told['trainpipe_watch_evidence{signal="vocabulary"}'] > 120
    kept = [json.loads(line) for line in (tmp_path / "state" / MOVED).read_text().splitlines()]
    assert {one["input"]["text"] for one in kept if one["input"]} <= {*plain, *strange}


def test_a_package_without_a_profile_is_refused_at_the_start_and_said_where_it_takes_over(
    package: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare = write_package(tmp_path / "bare")
    with pytest.raises(PackageError, match="no profile"):
        profile_of(engines.load(bare))
    with pytest.raises(PackageError, match="measured by torch, and onnx-int8 answers"):
        profile_of(replace(engines.load(package), backend="onnx-int8"))
    told = answered(bare, texts(3, seed=7), Watching(folder=tmp_path / "state", share=1.0))
    assert (told["trainpipe_watch_on"], told["trainpipe_watch_texts_total"]) == (0, 0)
    assert [line for line in caplog.messages if "nothing is watched" in line and "no profile" in line]


def test_a_server_beside_one_that_watches_says_that_it_waits(
    package: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watching = Watching(folder=tmp_path / "state", share=1.0)
    with locked(watching.folder):
        assert answered(package, texts(101, seed=8), watching)["trainpipe_watch_on"] == 0
    assert len([line for line in caplog.messages if "another watch is at work" in line]) == 1
    assert answered(package, texts(3, seed=8), watching)["trainpipe_watch_on"] == 1


def test_a_watch_that_breaks_behind_a_swap_leaves_that_of_the_package_that_took_over(
    package: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    engine, metrics = engines.load(package), Metrics()
    old, new = (
        Watcher(Watching(folder=tmp_path / place, share=1.0), engine, metrics) for place in ("file/state", "state")
    )
    assert told_after(texts(3, seed=9), old, engine, metrics)["trainpipe_watch_on"] == 1
    assert [line for line in caplog.messages if "nothing is watched: NotADirectoryError" in line]
    told = told_after(texts(3, seed=9), new, engine, metrics)
    assert (told["trainpipe_watch_on"], told["trainpipe_watch_texts_total"]) == (1, 3)
