"""The first rows are enough to refuse what training refuses, without reading or downloading anything large."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hf_trainpipe import Evaluation, Files, Frame, HubData, Pretrained, Recipe, TextClassification, TrainpipeError
from hf_trainpipe.data import preview as module
from hf_trainpipe.data.preview import check
from hf_trainpipe.data.sources_hub import cached_commit

COUNT = 600


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are large from 4 kB on."""
    monkeypatch.setattr(module, "WHOLE_BYTES", 4000)
    monkeypatch.setattr(module, "HEAD_BYTES", 2000)
    monkeypatch.setattr(module, "HEAD_ROWS", 100)


def recipe(data: Any, **options: Any) -> Recipe:
    evaluation = Evaluation(select=options.pop("select", None))
    return Recipe(
        name="x", model=Pretrained("m"), data=data, task=TextClassification("text", **options), evaluation=evaluation
    )


def rows() -> list[dict[str, str]]:
    return [{"text": f"some words {number:04d}", "label": "pos" if number % 2 else "neg"} for number in range(COUNT)]


def write(folder: Path, name: str) -> Files:
    path = folder / name
    frame = pd.DataFrame(rows())
    if name == "folder":
        for number, row in enumerate(rows()[:20]):
            (path / row["label"]).mkdir(parents=True, exist_ok=True)
            (path / row["label"] / f"{number}.txt").write_text(row["text"])
    elif ".csv" in name:
        content = frame.to_csv(index=False).encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    elif name.endswith(".jsonl"):
        frame.to_json(path, orient="records", lines=True)
    elif name.endswith(".json"):
        frame.to_json(path, orient="records" if name == "list.json" else "columns")
    elif name.endswith(".parquet"):
        frame.to_parquet(path, compression=None)
    return Files(train=name, validation=0.1, root=str(folder))


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "list.json", "columns.json", "a.parquet", "folder"])
def test_only_the_first_rows_of_large_files_are_read(tmp_path: Path, small: None, name: str) -> None:
    data = write(tmp_path, name)
    found = data.preview()
    assert not found.whole
    assert set(found.rows) == {"train"}
    assert len(found.rows["train"]) <= 100
    assert set(found.sizes) == {"train", "validation"}
    count = 20 if name == "folder" else COUNT
    # Of a compressed file the packed bytes are no measure, only an order of magnitude.
    tolerance = 1.0 if name.endswith(".gz") else 0.25
    assert found.sizes["train"].rows == pytest.approx(0.9 * count, rel=tolerance)
    assert check(recipe(data), found).warnings == []
    for options in ({"label": "lable"}, {"names": ("good", "bad")}):
        with pytest.raises(TrainpipeError):
            check(recipe(data, **options), found)


def test_a_fault_after_the_first_rows_is_training_s_to_find(tmp_path: Path, small: None) -> None:
    data = write(tmp_path, "a.csv")
    with (tmp_path / "a.csv").open("a") as stream:
        stream.write('"unclosed\n')
    assert check(recipe(data), data.preview()).warnings == []
    (tmp_path / "a.csv").write_text("text,label\n" + "x,pos\n" * 3 * COUNT)  # sorted: the first rows know one label
    assert check(recipe(data), data.preview()).warnings == []


def test_small_data_is_checked_as_training_checks_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nx,pos\ny,neg\nx,pos\n")
    (tmp_path / "b.csv").write_text("text,label\nz,other\n")
    data = Files(train="a.csv", validation="b.csv", root=str(tmp_path))
    assert data.preview().whole
    with pytest.raises(
        TrainpipeError, match=r"b\.csv, line 2: column 'label': the label 'other' is not in the training data"
    ):
        check(recipe(data), data.preview())
    alone = Files(train="a.csv", root=str(tmp_path))
    assert "repeat the input" in check(recipe(alone), alone.preview()).warnings[0]
    with pytest.raises(TrainpipeError, match="needs a validation split"):
        check(recipe(alone, select="accuracy"), alone.preview())
    with pytest.raises(TrainpipeError, match="Expected the column 'who' to split by"):
        Files(train="a.csv", validation=0.5, group="who", root=str(tmp_path)).preview()


def test_frames(small: None) -> None:
    frame = pd.DataFrame(rows() * 4)
    found = Frame(train=frame, validation=0.25).preview()
    assert (found.whole, len(found.rows["train"])) == (False, 100)
    assert (found.sizes["train"].rows, str(found.sizes["validation"])) == (1800, "600 rows")
    assert Frame(train=frame.head(50)).preview().whole


def test_a_data_set_that_is_not_here_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "own"))
    data = HubData("someone/films")
    assert cached_commit("someone/films", config=None, revision=None) is None
    found = data.preview()
    assert (found.rows, found.sizes) == ({}, {})
    assert "someone/films is not in this machine's cache" in found.unchecked[0]
    assert check(recipe(data), found).warnings == []
    with pytest.raises(TrainpipeError, match="unknown metric 'acuracy'"):
        check(recipe(data, select="acuracy"), found)
    streamed = HubData("someone/films", streaming=True).preview()
    assert streamed.streamed
    assert "is streamed" in streamed.unchecked[0]


def test_a_data_set_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Dataset, config

    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "someone___films" / "default" / "0.0.0" / commit
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    monkeypatch.setattr(module, "HEAD_ROWS", 50)
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "own"))
    assert cached_commit("someone/films", config=None, revision=None) == commit
    dataset = Dataset.from_list(rows())
    monkeypatch.setattr("hf_trainpipe.data.sources_hub.load_hub", lambda *_, **__: {"train": dataset})
    found = HubData("someone/films", validation=0.1).preview()
    assert (len(found.rows["train"]), found.sizes["train"].rows) == (50, 540)
