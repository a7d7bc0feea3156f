from __future__ import annotations

import csv
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from hf_trainpipe.data.readers_base import ReadOptions
from hf_trainpipe.errors import DataError, PackageError
from hf_trainpipe.package import inputs as module
from hf_trainpipe.package.columns import Chooser, Known, known_columns, parse_asked
from hf_trainpipe.package.inputs import read_records
from hf_trainpipe.package.predict import predict_file
from hf_trainpipe.runtime.safety.older import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    Read = Callable[..., list[tuple[int, Any]]]

FORMS = {"text": (("text",),), "pair": (("text", "text_pair"),), "words": (("text",), ("words",))}
ROLES = {"text": ("text",), "pair": ("text", "text_pair"), "words": ("words",)}


def known(kind: str, *inputs: str, **more: Any) -> Known:
    return Known(forms=FORMS[kind], columns=dict(zip(ROLES[kind], inputs, strict=False)), **more)


REVIEW = known("text", "review", target="label")


@pytest.fixture(params=[5, 1 << 20])
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Read:
    """The rows of a file, read in pieces of a few bytes or at once."""
    monkeypatch.setattr(module, "_PIECE", request.param)

    def rows(content: bytes, kind: Any, **how: Any) -> list[tuple[int, Any]]:
        (tmp_path / "f").write_bytes(content)
        records = read_records(tmp_path / "f", ReadOptions(format=kind, **how))
        return [(record.line, record.value if record.fields is None else record.fields) for record in records]

    return rows


def ask(rows: Sequence[Mapping[str, Any]], columns: Known = REVIEW, *asked: str) -> list[Any]:
    chooser = Chooser(columns, parse_asked(asked, columns), name="f.csv")
    return [chooser.input_of(row) for row in rows]


def test_txt_keeps_empty_lines(read: Read) -> None:
    assert read(b"\xef\xbb\xbfone\r\n\ntwo", "txt") == [(1, "one"), (2, ""), (3, "two")]
    assert read("\ufeffone\r\ntwo".encode("utf-16-le"), "txt") == [(1, "one"), (2, "two")]
    assert read(b"caf\xe9", "txt", encoding="cp1252") == [(1, "café")]


def test_a_nul_in_a_short_first_line_is_no_other_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\0a\n" + b"on time\n" * 9)
    assert [record.value for record in read_records(tmp_path / "a.txt")] == ["\0a", *["on time"] * 9]


def test_jsonl_and_delimited_rows(read: Read) -> None:
    content = b'{"text": "a"}\n\n{"words": ["a", "b"], "id": 3}\n"bare"\n'
    assert read(content, "jsonl") == [(1, {"text": "a"}), (3, {"words": ["a", "b"], "id": 3}), (4, "bare")]
    assert read(b'id,text\n1,"two\nlines"\n2,NA\n', "csv") == [
        (2, {"id": "1", "text": "two\nlines"}),
        (4, {"id": "2", "text": "NA"}),
    ]
    assert read(b"a\tb\nx\ty\n", "tsv") == [(2, {"a": "x", "b": "y"})]
    assert read(b'sep=;\r\na;b\r\n"x;y";z\r\n', "csv") == [(3, {"a": "x;y", "b": "z"})]
    assert read(b'a;b\n"x;z\n', "csv", delimiter=";", quoting="none") == [(2, {"a": '"x', "b": "z"})]
    assert read(b"a,b,,\nx,y,,\n,,,\nz,,,\n,,,\n", "csv") == [
        (2, {"a": "x", "b": "y"}),
        (3, {"a": "", "b": ""}),
        (4, {"a": "z", "b": ""}),
    ]
    assert read(b"a,b\nx,y,,\n", "csv") == [(2, {"a": "x", "b": "y"})]
    assert read(b"a,b\rx,y\rz,w\r", "csv") == [(2, {"a": "x", "b": "y"}), (3, {"a": "z", "b": "w"})]
    assert read(b"a,b\n" + b"x" * 200_000 + b",y\n", "csv")[0][1]["b"] == "y"


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"ok\nb\xffd\n", "txt", "f, line 2: invalid utf-8: byte 0xff at offset 4"),
        ("ok\nx".encode("utf-16")[:-1], "txt", "f, line 2: invalid utf-16-le: byte 0x78 at offset 8"),
        (b'{"text": "a"}\n{"text" "b"}\n', "jsonl", "f, line 2: broken JSON"),
        (b'{"text": "a"}\n{"id": ' + b"9" * 5000 + b"}\n", "jsonl", "f, line 2: broken JSON"),
        (b"[1]\n", "jsonl", "f, line 1: expected an object, found list"),
        (b"a,b\n1,2\n3\n", "csv", "f, line 3: expected 2 fields (a, b), found 1"),
        (b"a,b\n1,2,,\n3,4\n", "csv", "f, line 3: expected 4 fields (a, b and 2 without a name), found 2"),
        (b"id;review\n1;good, or not\n", "csv", "found one field; separated by ';', it has 2: id, review"),
        (b"a,a\n1,2\n", "csv", "the header repeats 'a'"),
        (b'a\n"open\n', "csv", "f, line 2: a row that does not parse: unexpected end of data"),
        (b"a,b\nx,y\n\0\0", "csv", "f, line 3: the file ends with 2 NUL bytes"),
    ],
)
def test_faults_name_file_and_line(read: Read, content: bytes, kind: str, message: str) -> None:
    with pytest.raises(DataError) as raised:
        read(content, kind)
    assert message in raised.value.message


def test_a_long_line_is_refused_before_it_ends(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"ok\n" + b"x" * (18 << 20))
    with pytest.raises(DataError, match="line 2: expected a row of at most 16,777,216 bytes, found 16,7"):
        list(read_records(tmp_path / "a.txt"))


def test_other_formats_are_those_of_training(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"id": [1, 2], "review": ["one", None]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "a.json").write_text(json.dumps(table.to_pylist()))
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    (tmp_path / "a.conll").write_text("Anna B-PER\nleft O\n\nRome B-LOC\n")
    for name in ("a.parquet", "a.arrow", "a.json", "a.parquet.gz"):
        assert [record.fields for record in read_records(tmp_path / name)] == table.to_pylist(), name
    assert [record.fields["words"] for record in read_records(tmp_path / "a.conll") if record.fields] == [
        ["Anna", "left"],
        ["Rome"],
    ]
    (tmp_path / "page.csv").write_text("<!DOCTYPE html><html></html>")
    with pytest.raises(DataError, match="found a page of HTML"):
        list(read_records(tmp_path / "page.csv"))
    (tmp_path / "table.csv").write_bytes((tmp_path / "a.parquet").read_bytes())
    with pytest.raises(DataError, match="found a parquet file"):
        list(read_records(tmp_path / "table.csv"))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"review\nx\n")[:-6])
    with pytest.raises(DataError, match="do not decompress"):
        list(read_records(tmp_path / "a.csv.gz"))


def test_the_recipe_s_columns_are_answered_wherever_they_stand() -> None:
    assert ask([{"id": "101", "review": "good"}, {"review": "bad"}, {"id": "3"}]) == ["good", "bad", None]
    assert ask([{"text": "handler's name", "x": "1"}]) == ["handler's name"]
    assert ask([{"text": "t", "review": "r"}]) == ["r"]
    assert ask([{"inputs": "as a request"}]) == ["as a request"]
    assert ask([{"": "0", "Text": "t"}], REVIEW, "Text") == ["t"]
    assert ask([{"a": "1", "b": "2"}], REVIEW, "text=b") == ["2"]
    shaped = known("text", "text", rename={"Body": "body"}, join={"text": ("title", "body")})
    assert ask([{"title": "A", "Body": "b", "id": "1"}], shaped) == ["A b"]


def test_pairs_and_words() -> None:
    pair = known("pair", "premise", "claim")
    row = {"id": "1", "premise": "p", "claim": "c"}
    assert ask([row], pair) == [{"text": "p", "text_pair": "c"}]
    assert ask([row], known("pair"), "claim", "premise") == [{"text": "c", "text_pair": "p"}]
    assert ask([row], known("pair"), "text_pair=premise", "claim") == [{"text": "c", "text_pair": "p"}]
    assert ask([{"text": "t", "text_pair": "u"}], pair) == [{"text": "t", "text_pair": "u"}]
    tokens = known("words", "tokens")
    assert ask([{"tokens": ["a", "b"]}, {"tokens": "['a', 'b']"}], tokens) == [{"words": ["a", "b"]}] * 2
    assert ask([{"words": ["a"]}, {"text": "a b"}], tokens) == [{"words": ["a"]}, "a b"]
    assert ask([{"text": "a b"}], tokens) == ["a b"]


@pytest.mark.parametrize(
    ("row", "columns", "asked", "message"),
    [
        ({"id": "1", "reveiw": "x"}, REVIEW, (), "learned from 'review', found the columns 'id', 'reveiw'."),
        ({"": "0", "score": "x"}, REVIEW, (), "found the columns '', 'score'"),
        ({"sentence": "x"}, REVIEW, (), "found the columns 'sentence'"),
        ({"id": "1", "x": "2"}, known("text"), (), "expected 'text', found the columns 'id', 'x'"),
        ({"a": "1", "b": "2"}, known("pair"), (), "expected 'text' and 'text_pair'"),
        (
            {"a": "1", "review": "2"},
            REVIEW,
            ("reviw",),
            "expected 'reviw', found the columns 'a', 'review'. Did",
        ),
        ({"a": "1"}, REVIEW, ("a", "b"), "answers text and takes one column"),
        ({"a": "1"}, known("pair"), ("a",), "takes a pair of columns"),
        ({"a": "1"}, REVIEW, ("text_pair=a",), "takes one column"),
    ],
)
def test_what_is_ambiguous_is_refused(row: Any, columns: Known, asked: Any, message: str) -> None:
    with pytest.raises(DataError) as raised:
        ask([row], columns, *asked)
    assert message in raised.value.message
    assert "--column" in raised.value.message + raised.value.fix


def older(**fields: Any) -> Known:
    decoder = {"kind": "tags" if fields.pop("tags", False) else "single_label", "labels": ["a", "b"], "options": {}}
    inputs = "words" if decoder["kind"] == "tags" else "text"
    return known_columns(translated({"schema": 1, "decoder": decoder, "inputs": inputs, **fields}, where="x"))


def test_an_older_package_tells_its_columns_by_its_recipe() -> None:
    task = {"kind": "TextClassification", "text": "review"}
    said = older(recipe={"task": task, "data": {"rename": {"a": "review"}}})
    assert (said.inputs, said.target, said.rename) == (("review",), "label", {"a": "review"})
    assert older(recipe={"task": {"kind": "TokenClassification"}}, tags=True).inputs == ("tokens",)
    unknown = older(recipe={"task": {"kind": "custom:Mine"}})
    assert (unknown.inputs, unknown.target) == ((), None)
    assert ask([{"whatever": "x"}], unknown) == ["x"]  # the file's only column


def answers_in(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_blank_line_ends_nothing(classifier_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("on time\n\nnobody answers\n   \n")
    done = predict_file(classifier_run, tmp_path / "in.txt", tmp_path / "out.jsonl")
    rows = answers_in(tmp_path / "out.jsonl")
    assert (done.rows, dict(done.unanswered)) == (4, {"an empty text": 2})
    assert done.places == [f"{tmp_path / 'in.txt'}, line 2", f"{tmp_path / 'in.txt'}, line 4"]
    assert [(row["row"], row["label"] is None, row.get("error")) for row in rows] == [
        (1, False, None),
        (2, True, "an empty text"),
        (3, False, None),
        (4, True, "an empty text"),
    ]
    predict_file(classifier_run, tmp_path / "in.txt", tmp_path / "plain.jsonl", form="answers")
    assert [answer is None for answer in answers_in(tmp_path / "plain.jsonl")] == [False, True, False, True]
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(DataError, match="none of its 2 rows can be answered"):
        predict_file(classifier_run, tmp_path / "blank.txt", tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()


def test_answers_are_written_with_their_rows(classifier_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b'id,text,label\n7,"on, time",x\n8,,y\n'))
    for name in ("out.csv", "out.csv.gz", "out.tsv", "out.parquet"):
        predict_file(classifier_run, tmp_path / "in.csv.gz", tmp_path / name)
    with (tmp_path / "out.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["id", "text", "label", "predicted_label", "predicted_score", "error"]
    assert [(row["id"], row["text"], row["label"]) for row in rows] == [("7", "on, time", "x"), ("8", "", "y")]
    assert rows[0]["predicted_label"] in ("calm", "angry", "sad")
    assert (rows[1]["predicted_label"], rows[1]["error"]) == ("", "an empty text")
    assert gzip.decompress((tmp_path / "out.csv.gz").read_bytes()) == (tmp_path / "out.csv").read_bytes()
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["id"] for row in table] == ["7", "8"]
    assert table[0]["predicted_score"] == pytest.approx(float(rows[0]["predicted_score"]))
    with pytest.raises(DataError, match="is of no known format"):
        predict_file(classifier_run, tmp_path / "in.csv.gz", tmp_path / "out.xlsx")


def test_a_table_for_people_fits_and_has_no_colours(classifier_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("on time\n" + "nobody answers the phone " * 20 + "\n")
    predict_file(classifier_run, tmp_path / "in.txt", tmp_path / "out.txt", form="table")
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert lines[0].split() == ["row", "text", "label", "score"]
    assert len(lines) == 3
    assert all(len(line) <= 120 and "\x1b" not in line for line in lines)


def test_entities_of_tokens_are_json(tagger_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"words": ["Ada", "wrote"]}\n{"text": "She lived in London."}\n{"words": []}\n')
    predict_file(tagger_run, tmp_path / "in.jsonl", tmp_path / "out.jsonl", aggregation="none")
    first, second, third = answers_in(tmp_path / "out.jsonl")
    assert [item["text"] for item in first["tags"]] == ["Ada", "wrote"]
    assert [item["text"] for item in second["tags"]] == ["She", "lived", "in", "London", "."]
    assert (third["tags"], third["error"]) == (None, "no words")


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt"):
        predict_file(tmp_path, tmp_path / "none.txt", "-")
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(DataError, match=r"'\.docx' is of no known format") as unknown:
        predict_file(tmp_path, tmp_path / "a.docx", "-")
    assert "--format" in unknown.value.fix
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(PackageError, match="is not a package") as raised:
        predict_file(tmp_path, tmp_path / "a.txt", "-")
    assert raised.value.exit_code == 2
