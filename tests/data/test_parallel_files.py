"""Two text files side by side are rows, or are refused where they are not parallel."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from hf_trainpipe import DataError, ParallelFiles, RecipeError
from hf_trainpipe.data.place import place


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return folder


def test_line_n_of_each_belongs_together(tmp_path: Path) -> None:
    written(tmp_path, a_en="one\n\ntwo\r\n", dev_en="x\n", dev_de="y")
    with gzip.open(tmp_path / "a.de.gz", "wt", encoding="utf-8") as stream:
        stream.write("eins\n \nzwei sch\u00f6n\n")
    data = ParallelFiles(
        names=("en", "de"), train=("a.en", "a.de.gz"), validation=("dev.en", "dev.de"), root=str(tmp_path)
    )
    splits = data.splits()
    assert splits["train"].select_columns(["en", "de"]).to_list() == [
        {"en": "one", "de": "eins"},
        {"en": "two", "de": "zwei sch\u00f6n"},
    ]
    assert splits["validation"][0]["de"] == "y"
    assert place(splits["train"], "train", 1).line == 3


@pytest.mark.parametrize(("german", "line"), [("eins\n", 2), ("eins\n\ndrei\n", 2), ("eins\nzwei\ndrei\nvier\n", 4)])
def test_what_is_not_parallel_is_refused_with_its_line(tmp_path: Path, german: str, line: int) -> None:
    written(tmp_path, a_en="one\ntwo\nthree\n", a_de=german)
    with pytest.raises(DataError, match="are not parallel") as refused:
        ParallelFiles(names=("en", "de"), train=("a.en", "a.de"), root=str(tmp_path)).splits()
    assert f"a.de, line {line}" in str(refused.value)


def test_a_split_has_a_file_for_each_name() -> None:
    with pytest.raises(RecipeError, match=r"data\.validation: expected a file for each of en, de"):
        ParallelFiles(names=("en", "de"), train=("a", "b"), validation=("c",))
    with pytest.raises(RecipeError, match=r"data\.names"):
        ParallelFiles(names=("en", "en"), train=("a", "b"))
