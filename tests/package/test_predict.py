from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from hf_trainpipe.errors import DataError, PackageError
from hf_trainpipe.package.predict import predict_file, read_inputs

if TYPE_CHECKING:
    from pathlib import Path


def read(content: bytes, format: str) -> list[tuple[int, Any]]:
    return list(read_inputs(io.BytesIO(content), format=format, name="f"))


def test_txt_keeps_empty_lines() -> None:
    assert read(b"\xef\xbb\xbfone\r\n\ntwo", "txt") == [(1, "one"), (2, ""), (3, "two")]


def test_jsonl_forms() -> None:
    content = b"""{"text": "a"}

{"text": "a", "text_pair": "b", "id": 3}
{"words": ["a", "b"]}
{"inputs": {"text": "x"}}
"bare"
"""
    assert read(content, "jsonl") == [
        (1, "a"),
        (3, {"text": "a", "text_pair": "b"}),
        (4, {"words": ["a", "b"]}),
        (5, {"text": "x"}),
        (6, "bare"),
    ]


def test_csv_and_tsv() -> None:
    assert read(b'id,text\n1,"two\nlines"\n2,NA\n', "csv") == [(2, "two\nlines"), (4, "NA")]
    assert read(b"sentence\tlabel\na b\t1\n", "tsv") == [(2, "a b")]
    assert read(b"text\ttext_pair\na\tb\n", "tsv") == [(2, {"text": "a", "text_pair": "b"})]


@pytest.mark.parametrize(
    ("content", "format", "message"),
    [
        (b"ok\nb\xffd\n", "txt", "f, line 2: byte 2 is not UTF-8 (0xff)"),
        (b'{"text": "a"}\n{"text" "b"}\n', "jsonl", "f, line 2: not JSON"),
        (b'{"txt": "a"}\n', "jsonl", "Did you mean 'text'?"),
        (b"[1]\n", "jsonl", "f, line 1: expected an object or a string"),
        (b"a,b\n1,2\n3\n", "csv", "f, line 3: expected 2 columns (a, b), found 1"),
        (b'a\n"open\n', "csv", "f, line 2: unexpected end of data"),
        (b"x" * (17 << 20), "txt", "f, line 1: the line is longer"),
    ],
)
def test_faults_name_file_and_line(content: bytes, format: str, message: str) -> None:
    with pytest.raises(DataError) as raised:
        read(content, format)
    assert message in raised.value.message


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt"):
        predict_file(tmp_path, tmp_path / "none.txt", "-")
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(DataError, match=r"expected jsonl, csv, tsv or txt, found '\.docx'"):
        predict_file(tmp_path, tmp_path / "a.docx", "-")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(PackageError, match="is no package") as raised:
        predict_file(tmp_path, tmp_path / "a.txt", "-")
    assert raised.value.exit_code == 2
