"""Files as programs export them: Excel, other encodings, wrong suffixes, lone surrogates."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from hf_trainpipe.data.sources import Files, Frame
from hf_trainpipe.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

ROWS = [{"text": "good film", "label": "pos"}, {"text": "bad day", "label": "neg"}]
CSV = "text,label\ngood film,pos\nbad day,neg\n"


def load(folder: Path, name: str, content: str | bytes, **options: Any) -> Dataset:
    (folder / name).write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return Files(train=name, root=str(folder), **options).splits()["train"]


def refused(folder: Path, name: str, content: str | bytes, **options: Any) -> str:
    """The message and the fix."""
    with pytest.raises(DataError) as caught:
        load(folder, name, content, **options)
    said = str(caught.value)
    assert said.startswith(name)
    assert len(said.splitlines()) <= 4
    sentences = [part for part in said.replace("\n", " ").split(". ") if part]
    assert len(sentences) == len(set(sentences))
    return said


def plain(dataset: Dataset) -> list[dict[str, Any]]:
    return dataset.remove_columns(["__file__", "__line__"]).to_list()


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("sep=;\r\ntext;label\r\ngood film;pos\r\nbad day;neg\r\n", [3, 4]),
        ('"sep=\t"\ntext\tlabel\ngood film\tpos\nbad day\tneg\n', [3, 4]),
        ("text,label,,\ngood film,pos,,\nbad day,neg,,\n", [2, 3]),
        ("text,label\ngood film,pos,,\nbad day,neg,,\n", [2, 3]),
        (CSV + ",\n,\n , \n", [2, 3]),
        ("\ufeff\ufeff" + CSV, [2, 3]),
        (CSV.replace("bad", "\ufeffbad"), [2, 3]),
        (CSV.encode("utf-16"), [2, 3]),
        (b"\xfe\xff" + CSV.encode("utf-16-be"), [2, 3]),
        (CSV.encode("utf-32"), [2, 3]),
        (CSV.replace("\n", "\r"), [2, 3]),
        (gzip.compress(CSV.encode(), mtime=0), [2, 3]),
    ],
)
def test_what_excel_writes_is_read_as_it_is_meant(tmp_path: Path, content: str | bytes, lines: list[int]) -> None:
    dataset = load(tmp_path, "a.csv", content)
    assert plain(dataset) == ROWS
    assert dataset["__line__"][:] == lines


def test_a_mark_beats_the_setting_and_the_setting_reads_the_rest(tmp_path: Path) -> None:
    assert plain(load(tmp_path, "a.csv", "\ufefftext\né\n", encoding="cp1252")) == [{"text": "é"}]
    assert plain(load(tmp_path, "a.csv", CSV.encode("utf-16-le"), encoding="utf-16-le")) == ROWS
    assert load(tmp_path, "a.csv", ",text\n0,x\n1,y\n").column_names[:2] == ["", "text"]  # pandas' index
    assert plain(load(tmp_path, "a.csv", "text\nx\0y\n")) == [{"text": "x\0y"}]


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.csv", "text;label\ngood;pos\n", ["line 1", "it has 2: text, label", "data.delimiter=';'"]),
        ("a.csv", "text;label\ngood, yes;pos\nbad;neg\n", ["line 1", "data.delimiter=';'"]),
        ("a.csv", "text\tlabel\ngood\tpos\n", ["data.delimiter='\\t'"]),
        ("a.tsv", CSV, ["data.delimiter=','"]),
        ("a.csv", CSV.encode("utf-16-le"), ["utf-16-le", "data.encoding='utf-16-le'"]),
        ("a.csv", "text,label\nхорошо,pos\n".encode("utf-16-be"), ["utf-16-be", "data.encoding"]),
        ("a.csv", "text,label\nn\xf6,pos\n".encode("cp1252"), ["line 2", "0xf6", "'nö,pos'", "'cp1252'"]),
        ("a.csv", "text,label\nbad \ud83d,neg\n", ["line 2", "half of an emoji"]),
        ("a.csv", "a,text,,\n1,x,2,3\n", ["line 1", "columns 3 and 4", "no name", "data.header"]),
        ("a.csv", CSV + CSV, ["line 4", "repeats the header"]),
        ("a.csv", "text,label\nx\ry,pos\nz,neg\n", ["line 2", "carriage return"]),
        ("a.csv", CSV + "\0\0\0\0", ["line 4", "4 NUL bytes"]),
        ("a.csv", "sep=;\na;b\n", ["only the header"]),
        ("a.csv", "<!DOCTYPE html>\n<html>", ["a page of HTML", "link"]),
        ("a.jsonl", "\n <html><body>", ["a page of HTML"]),
        ("a.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", ["Git LFS", "git lfs pull"]),
        ("a.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", ["git lfs pull"]),
        ("a.jsonl", bz2.compress(b"{}"), ["bzip2", "Unpack"]),
        ("a.csv", pickle.dumps([1]), ["pickle"]),
        ("a.csv", b"PAR1xxxxPAR1", ["a parquet file", "data.format='parquet'"]),
        ("a.csv.gz", gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), ["compressed twice"]),
        ("a.csv.gz", CSV, ["do not decompress", "rename it"]),
        ("a.csv.gz", gzip.compress(b"", mtime=0), ["an empty file"]),
        ("a.xlsx", "x", ["expected a workbook", "CSV UTF-8"]),
        ("a.xls", "x", ["a workbook", "pandas.read_excel"]),
        ("a.zip", "x", ["an archive", "Unpack"]),
        ("a.jsonl", '{"a": 1}\n{"a": 1, "a": 2}\n', ["line 2", "'a' is repeated"]),
        ("a.jsonl", '[{"a": 1}]\n', ["line 1", "found list", "data.format='json'"]),
        ("a.jsonl", '{"a": ' + "[" * 100_000 + "\n", ["line 1", "nested too deeply"]),
        ("a.jsonl", '{"a": ' + "9" * 5000 + "}\n", ["line 1", "broken JSON"]),
        ("a.jsonl", '{"text": "a"}\n{"text": "b \\ud83d"}\n', ["line 2", "column 'text'", "half of an emoji"]),
        ("a.jsonl", '{"w": ["a"]}\n{"w": ["b", "\\udc00"]}\n', ["line 2", "column 'w'"]),
        ("a.jsonl", '{"text": "a"}\n{"x\\ud83d": "b"}\n', ["line 2", "the name of column"]),
        ("a.jsonl", '{"t": "a"}\n{"t": "\\ud83d"}\n{"t": 1}\n', ["line 2", "half of an emoji"]),
        ("a.jsonl", '{"id": 1}\n{"id": 99999999999999999999}\n', ["line 2", "column 'id'", "67 bits"]),
        ("a.json", '{"text": ["a", "b"], "label": [1]}', ["columns of one length"]),
        ("a.json", '{"text": ["a"], "label": [1]}\n{"text": ["b"]}', ["and more after it", "data.format='jsonl'"]),
        ("a.json", '{"examples": [{"text": "a"}]}', ["found an object with 'examples'"]),
        ("a.json", '[{"a": 1}] [{"a": 2}]', ["line 1", "Extra data"]),
    ],
)
def test_what_needs_a_choice_names_what_was_found_and_the_setting(
    tmp_path: Path, name: str, content: str | bytes, parts: list[str]
) -> None:
    said = refused(tmp_path, name, content)
    for part in parts:
        assert part in said


def test_a_workbook_a_zip_and_a_folder(tmp_path: Path) -> None:
    for member, part in (("xl/workbook.xml", "an Excel workbook"), ("train.csv", "a zip archive of train.csv")):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr(member, "x")
        assert part in refused(tmp_path, "a.csv", content.getvalue())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text(CSV)
    for options in ({}, {"format": "csv"}):
        with pytest.raises(DataError, match=r"data/\*\.csv"):
            Files(train="data", root=str(tmp_path), **options).splits()


def test_a_delimiter_in_the_recipe_is_used(tmp_path: Path) -> None:
    one = load(tmp_path, "a.csv", "a;b\n1;2\n", delimiter=",")
    assert plain(one) == [{"a;b": "1;2"}]
    assert "data.delimiter=','" in refused(tmp_path, "a.csv", "sep=;\na;b\n1;2\n", delimiter=",")
    assert "Leave data.header out" in refused(tmp_path, "a.csv", CSV, header=("text", "label"))


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"text": ["good film", "bad day"], "label": ["pos", "neg"]}),
        pd.DataFrame(ROWS).to_json(),
        pd.DataFrame(ROWS).to_json(orient="split"),
        pd.DataFrame(ROWS).to_json(orient="table"),
    ],
)
def test_json_of_columns(tmp_path: Path, content: str) -> None:
    dataset = load(tmp_path, "a.json", content)
    columns = [name for name in ("text", "label") if name in dataset.column_names]
    assert dataset.select_columns(columns).to_list() == ROWS


def test_lines_of_columns_are_known_and_limited(tmp_path: Path) -> None:
    dataset = load(tmp_path, "a.json", '{"text": ["a",\n\n"b"]}')
    assert dataset["__line__"][:] == [1, 3]
    assert "line 3" in refused(tmp_path, "a.json", '{"text": ["a",\n\n"' + "b" * 100 + '"]}', max_row_bytes=50)


def test_marks_inside_files_put_together(tmp_path: Path) -> None:
    assert plain(load(tmp_path, "a.jsonl", '\ufeff{"a": 1}\n\ufeff{"a": 2}\n')) == [{"a": 1}, {"a": 2}]
    assert plain(load(tmp_path, "a.txt", "\ufeffx\n\ufeffy\n")) == [{"text": "x"}, {"text": "y"}]
    conll = load(tmp_path, "a.conll", "\ufeffAnn\tO\n\n\ufeffruns\tO\n")
    assert [row["words"] for row in plain(conll)] == [["Ann"], ["runs"]]


def test_columns_of_places_are_not_taken_from_the_file(tmp_path: Path) -> None:
    dataset = load(tmp_path, "a.csv", "text,__file__,__line__\nx,old.csv,9\n")
    assert dataset.to_list() == [{"text": "x", "__file__": "a.csv", "__line__": 2}]


def test_arrow_types_that_nothing_reads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import pyarrow as pa

    table = pa.table(
        {
            "text": pa.array(["a", "b"], pa.string_view()),
            "words": pa.array([["a"], ["b"]], pa.list_view(pa.string())),
            "pairs": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
        }
    )
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    dataset = Files(train="a.arrow", root=str(tmp_path)).splits()["train"]
    assert plain(dataset) == [{"text": "a", "words": ["a"]}, {"text": "b", "words": ["b"]}]
    assert "'pairs' is dropped" in caplog.text


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pd.Categorical(["a", "b", None]), ["a", "b", None]),
        (pd.array([1, 2, None], dtype="Int64"), [1, 2, None]),
        (pd.array([True, False, None], dtype="boolean"), [True, False, None]),
        (pd.array(["a", "nan", None], dtype="string"), ["a", "nan", None]),
        (pd.period_range("2020-01-01", periods=3), ["2020-01-01", "2020-01-02", "2020-01-03"]),
        (pd.Series(["a", float("nan"), "nan"], dtype=object), ["a", None, "nan"]),
        (pd.Series([["a"], [], None]), [["a"], [], None]),
    ],
)
def test_frames_of_all_types(values: Any, expected: list[Any]) -> None:
    frame = pd.DataFrame({"text": ["x", "y", "z"], "label": values})
    frame.index = pd.Index(["p", "q", "r"])
    assert Frame(train=frame).splits()["train"]["label"][:] == expected
    by_arrow = frame.convert_dtypes(dtype_backend="pyarrow") if not isinstance(values, pd.PeriodIndex) else frame
    assert Frame(train=by_arrow).splits()["train"]["label"][:] == expected


def test_other_tables_are_frames_too() -> None:
    import pyarrow as pa

    table = pa.table({"text": ["x", "y"], "label": [1, None]})

    class Polars:
        columns = ("text", "label")

        def to_arrow(self) -> pa.Table:
            return table

    for given in (table, Polars()):
        data = Frame(train=given)  # type: ignore[arg-type]
        assert data.splits()["train"].to_dict() == {"text": ["x", "y"], "label": [1, None]}
        assert data.describe() == "frames: train=2 rows"


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pd.DataFrame([["x", "y"]], columns=["text", "text"]), "'text' twice"),
        (pd.DataFrame([["x", "y"]], columns=pd.MultiIndex.from_tuples([("a", "t"), ("a", "l")])), "2 levels"),
        (pd.DataFrame({"text": pd.Series(["x", "\ud83d"], dtype=object)}), "row 1 of split 'train'.*half of an emoji"),
        (pd.DataFrame([["x"]], columns=pd.Index(["t\ud83d"], dtype=object)), "the name of column"),
        (pd.DataFrame({"text": ["x"], "label": [1j]}), "row 0 of split 'train': column 'label' holds complex"),
        (pd.DataFrame({"label": pd.Series(["a", pd.NA, 1], dtype=object)}), "row 2 of split 'train'.*mixes types"),
    ],
)
def test_frames_that_are_refused(frame: pd.DataFrame, said: str) -> None:
    from hf_trainpipe import Pretrained, Recipe, TextClassification
    from hf_trainpipe.codec import to_json

    data = Frame(train=frame)
    with pytest.raises(DataError, match=said):
        data.splits()
    recipe = Recipe(name="x", model=Pretrained("m"), data=data, task=TextClassification())
    assert json.dumps(to_json(recipe), allow_nan=False)


def test_articles_of_squad_are_a_row_a_question(tmp_path: Path) -> None:
    asked = [
        {
            "id": "1",
            "question": "who?",
            "answers": [{"text": "Anna", "answer_start": 0}, {"text": "Ann", "answer_start": 0}],
        },
        {"id": "2", "question": "where?", "answers": [], "is_impossible": True},
    ]
    articles = [
        {"title": "One", "paragraphs": [{"context": "Anna sang.", "qas": asked}]},
        {"title": "Two", "paragraphs": [{"context": "Nobody.", "qas": []}, {"context": "Rain.", "qas": asked[1:]}]},
    ]
    (tmp_path / "train.json").write_text(json.dumps({"version": "v2.0", "data": articles}))
    rows = Files(train="train.json", root=str(tmp_path)).splits()["train"].to_list()
    assert [(row["id"], row["title"], row["context"], row["question"]) for row in rows] == [
        ("1", "One", "Anna sang.", "who?"), ("2", "One", "Anna sang.", "where?"), ("2", "Two", "Rain.", "where?"),
    ]  # fmt: skip
    assert [row["answers"] for row in rows] == [
        {"text": ["Anna", "Ann"], "answer_start": [0, 0]}, *[{"text": [], "answer_start": []}] * 2,
    ]  # fmt: skip
