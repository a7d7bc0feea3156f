"""Every format is read with the line of each row, and errors name file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hf_trainpipe.data.place import place
from hf_trainpipe.data.sources import Files
from hf_trainpipe.errors import DataError, RecipeError

if TYPE_CHECKING:
    from datasets import Dataset


def load(folder: Path, name: str, content: str | bytes, **options: Any) -> Dataset:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return Files(train=name, root=str(folder), **options).splits()["train"]


def refuse(folder: Path, name: str, content: str | bytes, **options: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        load(folder, name, content, **options)
    error = caught.value
    assert error.message.startswith(name)
    assert error.data["file"] == name
    assert error.fix
    return error


def plain(dataset: Dataset) -> list[dict[str, Any]]:
    return dataset.remove_columns(["__file__", "__line__"]).to_list()


def test_csv_keeps_text_as_it_is(tmp_path: Path) -> None:
    content = 'text,label\r\nNA,null\r\n"two\nlines, ""quoted""",None\r\n\r\n007,1.0\r\n'
    dataset = load(tmp_path, "train.csv", content)
    assert plain(dataset) == [
        {"text": "NA", "label": "null"},
        {"text": 'two\nlines, "quoted"', "label": "None"},
        {"text": "007", "label": "1.0"},
    ]
    assert dataset["__line__"][:] == [2, 3, 6]
    assert place(dataset, "train", 1) == "train.csv, line 3"
    assert (place(dataset, "train", 2).file, place(dataset, "train", 2).line) == ("train.csv", 6)


def test_tsv_with_quotes_as_text(tmp_path: Path) -> None:
    dataset = load(tmp_path, "a.tsv", 'text\tlabel\n"open\t1\nx\x85y\u2028z\t0\n', quoting="none")
    assert plain(dataset) == [{"text": '"open', "label": "1"}, {"text": "x\x85y\u2028z", "label": "0"}]
    assert dataset["__line__"][:] == [2, 3]


def test_header_names_and_extra_fields(tmp_path: Path) -> None:
    dataset = load(tmp_path, "a.csv", "1,x,more\n2,y\n", header=("id", "text"), extra="ignore")
    assert plain(dataset) == [{"id": "1", "text": "x"}, {"id": "2", "text": "y"}]
    assert load(tmp_path, "b.csv", "1,x\n", header=False).column_names[:2] == ["column0", "column1"]
    assert load(tmp_path, "c.csv", "a;b\n1;2\n", delimiter=";").column_names[:2] == ["a", "b"]
    assert load(tmp_path, "d.csv", b"\xef\xbb\xbftext\nx\n").column_names[0] == "text"
    assert plain(load(tmp_path, "e.csv", b"text\ncaf\xe9\n", encoding="latin-1")) == [{"text": "café"}]


def test_json_forms(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
    lines = load(tmp_path, "a.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b", "label": 0}\n')
    assert plain(lines) == rows
    assert lines["__line__"][:] == [1, 3]
    assert plain(load(tmp_path, "b.json", json.dumps(rows))) == rows
    nested = load(tmp_path, "c.json", json.dumps({"version": [1], "data": rows, "more": 2}, indent=1))
    assert plain(nested) == rows
    assert nested["__line__"][:] == [6, 10]
    missing = load(tmp_path, "d.jsonl", '{"text": "a"}\n{"text": "b", "x": 1}\n')
    assert plain(missing)[0] == {"text": "a", "x": None}


def test_parquet_and_arrow(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    dataset = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    dataset.to_parquet(str(tmp_path / "a.parquet"))
    dataset.save_to_disk(str(tmp_path / "saved"))
    for name in ("a.parquet", "saved/data-00000-of-00001.arrow"):
        read = Files(train=name, root=str(tmp_path)).splits()["train"]
        assert plain(read) == [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
        assert read.features["label"].names == ["no", "yes"]
        assert place(read, "train", 1) == f"{name}, row 2"


def test_conll(tmp_path: Path) -> None:
    content = "-DOCSTART-\tO\n\n#\tO\nAnn Lee\tB-PER\n\n\nruns\tO\r\n"
    dataset = load(tmp_path, "a.conll", content)
    assert plain(dataset) == [{"words": ["#", "Ann Lee"], "tags": ["O", "B-PER"]}, {"words": ["runs"], "tags": ["O"]}]
    assert dataset["__line__"][:] == [3, 7]
    columns = load(tmp_path, "b.txt", "1 Ann NNP B-PER\n", format="conll", words_column=1, tags_column=2)
    assert plain(columns) == [{"words": ["Ann"], "tags": ["NNP"]}]


def test_conllu_without_ranges_and_empty_nodes(tmp_path: Path) -> None:
    def line(number: str, form: str, upos: str) -> str:
        return "\t".join([number, form, form.lower(), upos, "X", "_", "0", "_", "_", "_"])

    parts = ["# text = Don't go", line("1-2", "Don't", "_"), line("1", "Do", "AUX"), line("2", "n't", "PART")]
    parts += [line("2.1", "you", "PRON"), line("3", "Go", "VERB"), "", line("1", "Yes", "INTJ"), ""]
    dataset = load(tmp_path, "a.conllu", "\n".join(parts))
    assert dataset["words"][:] == [["Do", "n't", "Go"], ["Yes"]]
    assert dataset["upos"][:] == [["AUX", "PART", "VERB"], ["INTJ"]]
    assert dataset["lemmas"][:][0] == ["do", "n't", "go"]
    assert dataset["__line__"][:] == [3, 8]


def test_spacy_docbin(tmp_path: Path) -> None:
    import spacy
    from spacy.tokens import DocBin

    doc = spacy.blank("en")("Ann lives in Rome.")
    doc.ents = [doc.char_span(0, 3, label="PER"), doc.char_span(13, 17, label="LOC")]
    doc.cats = {"news": 0.9, "sport": 0.1}
    DocBin(docs=[doc]).to_disk(tmp_path / "a.spacy")
    (row,) = plain(Files(train="a.spacy", root=str(tmp_path)).splits()["train"])
    assert row["text"] == "Ann lives in Rome."
    assert row["words"] == ["Ann", "lives", "in", "Rome", "."]
    assert row["spans"] == [{"start": 0, "end": 3, "label": "PER"}, {"start": 13, "end": 17, "label": "LOC"}]
    assert (row["cats"], row["label"]) == (["news"], "news")
    assert "DocBin" in refuse(tmp_path, "b.spacy", b"nonsense").message


def test_folders_lines_and_labelled_lines(tmp_path: Path) -> None:
    for label, name, text in (("pos", "1.txt", "good\n"), ("neg", "2.txt", "bad")):
        (tmp_path / "films" / label).mkdir(parents=True)
        (tmp_path / "films" / label / name).write_text(text)
    dataset = Files(train="films", root=str(tmp_path)).splits()["train"]
    assert plain(dataset) == [{"text": "bad", "label": "neg"}, {"text": "good", "label": "pos"}]
    assert place(dataset, "train", 0) == "films/neg/2.txt, line 1"
    assert plain(load(tmp_path, "a.txt", "one\n\ntwo\n")) == [{"text": "one"}, {"text": "two"}]
    labelled = load(tmp_path, "b.txt", "1 it 's fine\n0 not\n", format="labelled-lines")
    assert plain(labelled) == [{"label": "1", "text": "it 's fine"}, {"label": "0", "text": "not"}]
    assert "line 2" in refuse(tmp_path, "c.txt", "1 fine\n0\n", format="labelled-lines").message


def test_compressed(tmp_path: Path) -> None:
    import zstandard

    content = b"text\nx\n"
    assert plain(load(tmp_path, "a.csv.gz", gzip.compress(content))) == [{"text": "x"}]
    assert plain(load(tmp_path, "a.csv.zst", zstandard.compress(content))) == [{"text": "x"}]
    assert "do not decompress" in refuse(tmp_path, "b.csv.gz", gzip.compress(content)[:-9]).message
    assert "do not decompress" in refuse(tmp_path, "b.csv.zst", b"text").message


def test_several_files_and_globs(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"part-{name}.csv").write_text(f"text\n{name}\n")
    for train in ("part-*.csv", ("part-a.csv", "part-b.csv"), str(tmp_path / "part-?.csv")):
        dataset = Files(train=train, root=str(tmp_path)).splits()["train"]
        assert dataset["text"][:] == ["a", "b"]
    with pytest.raises(DataError, match="matches"):
        Files(train="other-*.csv", root=str(tmp_path)).splits()


def test_fault_40_invalid_utf8(tmp_path: Path) -> None:
    error = refuse(tmp_path, "a.csv", b"text\nfine\ncaf\xe9 here\n")
    assert error.message.startswith("a.csv, line 3: invalid utf-8: byte 0xe9 at offset 13")
    assert error.data["line"] == 3
    assert "encoding" in error.fix


@pytest.mark.parametrize(
    ("name", "content", "line", "options", "said"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": 1\n', 2, {}, "broken JSON"),
        ("a.jsonl", '{"a": 1}\n\n[1]\n', 3, {}, "expected an object, found list"),
        ("a.jsonl", '[\n{"a": 1}]\n', 1, {}, "broken JSON"),
        ("a.json", '[{"a": 1},\n{"a": }]', 2, {}, "broken JSON"),
        ("a.json", '[{"a": 1},\n7]', 2, {}, "expected an object, found int"),
        ("a.json", '[{"a": 1},\n{"a": 2}', 2, {}, "broken JSON"),
        ("a.json", '{"rows": []}', 1, {}, "under 'data'"),
        ("a.csv", "a,b\n1,2\n3,4,5\n", 3, {}, "expected 2 fields (a, b), found 3"),
        ("a.csv", "a,b\n1,2\n3\n", 3, {"extra": "ignore"}, "expected 2 fields (a, b), found 1"),
        ("a.csv", 'a,b\n1,2\n"3,4\n5,6\n', 3, {}, "does not parse"),
        ("a.csv", "a,a\n1,2\n", 1, {}, "repeats 'a'"),
        ("a.tsv", "a\tb\n1\t2\n3\n", 3, {"quoting": "none"}, "expected 2 fields (a, b), found 1"),
        ("a.conll", "Ann\tB-PER\n\nruns\n", 3, {}, "expected 2 columns, found 1"),
        ("a.conll", "Ann\tB-PER\n", 1, {"tags_column": 2}, "data.tags_column"),
        ("a.conllu", "1\tAnn\n", 1, {}, "expected 10 columns"),
    ],
)
def test_fault_41_broken_rows(
    tmp_path: Path, name: str, content: str, line: int, options: dict[str, Any], said: str
) -> None:
    error = refuse(tmp_path, name, content, **options)
    assert error.message.startswith(f"{name}, line {line}: ")
    assert error.data["line"] == line
    assert said in error.message


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.conll", "a.txt"])
def test_fault_42_row_over_the_size_limit(tmp_path: Path, name: str) -> None:
    big = "x" * 10_000_000
    content = {
        "a.csv": f"text\nsmall\n{big}\n",
        "a.jsonl": f'{{"text": "a"}}\n\n{{"text": "{big}"}}\n',
        "a.json": f'[{{"text": "a"}},\n\n{{"text": "{big}"}}]',
        "a.conll": f"a\tO\n\n{big}\tO\n",
        "a.txt": f"a\n\n{big}",
    }[name]
    error = refuse(tmp_path, name, content)
    assert error.message.startswith(f"{name}, line 3: expected a row of at most 1,000,000 bytes")
    assert "max_row_bytes" in error.fix
    assert len(load(tmp_path, name, content, max_row_bytes=20_000_000)) == 2


def test_a_quoted_row_over_many_lines_has_the_size_limit_too(tmp_path: Path) -> None:
    content = 'text\n"' + "x\n" * 2000 + '"\n'
    assert "line 2" in refuse(tmp_path, "a.csv", content, max_row_bytes=1000).message


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.conll", "a.conllu", "a.txt", "a.parquet"])
def test_fault_43_empty_file(tmp_path: Path, name: str) -> None:
    assert "expected rows, found an empty file" in refuse(tmp_path, name, "").message


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", "text\n"), ("a.jsonl", "\n\n"), ("a.json", "[]"), ("a.conll", "\n")]
)
def test_fault_43_no_rows(tmp_path: Path, name: str, content: str) -> None:
    assert "expected rows, found" in refuse(tmp_path, name, content).message


def test_fault_36_values_of_mixed_type(tmp_path: Path) -> None:
    content = '{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n{"text": "c", "label": "no"}\n'
    error = refuse(tmp_path, "a.jsonl", content)
    assert error.message.startswith("a.jsonl, line 3: column 'label' mixes types: expected int as 1")
    assert error.data["line"] == 3


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text\nx\n")
    with pytest.raises(DataError) as caught:
        Files(train="trian.csv", root=str(tmp_path)).splits()
    assert "trian.csv: no such file" in caught.value.message
    assert "Did you mean 'train.csv'?" in caught.value.fix
    with pytest.raises(DataError, match="no folder"):
        Files(train="nowhere/train.csv", root=str(tmp_path)).splits()
    with pytest.raises(RecipeError, match="found nothing there"):
        Files(train="train.csv", root=str(tmp_path / "nowhere")).splits()


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    assert "is of no known format" in refuse(tmp_path, "a.data", "x").message


def test_paragraphs_are_texts_with_blank_lines_between_them(tmp_path: Path) -> None:
    dataset = load(tmp_path, "a.txt", "\n\nA:\r\nOne.\n \n\nB:\nTwo.", format="paragraphs")
    assert plain(dataset) == [{"text": "A:\nOne."}, {"text": "B:\nTwo."}]
    assert dataset["__line__"][:] == [3, 7]


def test_a_fraction_may_be_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"{line}\n" for line in range(10)))
    splits = Files(train="a.txt", validation=0.2, test=0.1, root=str(tmp_path), cut="end").splits()
    assert {name: rows["text"][:] for name, rows in splits.items()} == {
        "train": [str(line) for line in range(7)], "validation": ["7", "8"], "test": ["9"],
    }  # fmt: skip
    with pytest.raises(RecipeError, match=r"data\.cut: expected 'random'"):
        Files(train="a.txt", validation=0.2, cut="end", group="text")
