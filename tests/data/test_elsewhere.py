"""Files that lie elsewhere, databases, workbooks and frames of other libraries."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import sleep
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import pandas as pd
import pytest
from filelock import FileLock

from hf_trainpipe import Files, Frame, ParallelFiles, RecipeError, Sql
from hf_trainpipe.cli import run
from hf_trainpipe.codec import to_json
from hf_trainpipe.data.credentials import refuse_secrets
from hf_trainpipe.errors import DataError
from hf_trainpipe.package.inputs import read_records, read_whole
from hf_trainpipe.utils.secrets import scan_text

CSV = 'text,label\ngood film,1\n"bad,\nfilm",0\nNA,1\n'
ROWS = {"text": ["good film", "bad,\nfilm", "NA"], "label": ["1", "0", "1"]}


class Handler(SimpleHTTPRequestHandler):
    """Files over HTTP; ``/bucket`` as S3 answers: listings (version 2) and objects."""

    asked: ClassVar[list[str]] = []
    looked: ClassVar[threading.Event] = threading.Event()
    """Set when a file is asked what it is."""
    heads: ClassVar[list[str]] = []

    def log_message(self, *said: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(self.path)
        query = parse_qs(urlsplit(self.path).query)
        if "secret" in self.path and query.get("sig") != ["of the environment"]:
            self.send_error(403, "no")
        elif "list-type" in query:
            self._list(query)
        else:
            super().do_GET()

    def translate_path(self, path: str) -> str:
        """``?part=NAME`` asks for another file."""
        part = parse_qs(urlsplit(path).query).get("part", [""])[0]
        return super().translate_path(f"/{part}" if part else path)

    def do_HEAD(self) -> None:
        self.looked.set()
        self.heads.append(self.path)
        if urlsplit(self.path).path.rstrip("/") == "/bucket":
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            super().do_HEAD()

    def _list(self, query: dict[str, list[str]]) -> None:
        prefix = query.get("prefix", [""])[0]
        folder = Path(self.directory) / "bucket"
        keys = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>x</ETag>"
            f"<Size>{(folder / key).stat().st_size}</Size></Contents>"
            for key in keys
            if key.startswith(prefix)
        )
        body = f'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "served"
    (folder / "bucket" / "data").mkdir(parents=True)
    running = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    Handler.asked.clear()
    Handler.heads.clear()
    Handler.looked.clear()
    yield f"http://127.0.0.1:{running.server_port}", folder
    running.shutdown()
    running.server_close()


def cells(data: Any, split: str = "train") -> dict[str, list[Any]]:
    return {name: list(column) for name, column in data.splits()[split].to_dict().items()}


def test_http_is_fetched_once_by_its_content_and_keeps_its_address(
    server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    (folder / "train.csv").write_text(CSV)
    data = Files(train="train.csv", root=address)
    assert cells(data) == {**ROWS, "__file__": [f"{address}/train.csv"] * 3, "__line__": [2, 3, 5]}
    before = len(Handler.asked)
    cells(data)
    assert len(Handler.asked) == before, "the copy in the cache is read, after HEAD"
    (folder / "train.csv").write_text(CSV + "more\n")
    with pytest.raises(DataError, match=r"train\.csv, line 6: expected 2 fields") as caught:
        data.splits()
    assert caught.value.data["file"] == f"{address}/train.csv"
    with pytest.raises(DataError, match="there is no such file"):
        Files(train=f"{address}/other.csv").splits()
    shown = data.preview()
    assert not shown.rows
    assert "not on this machine" in shown.unchecked[0]


def test_addresses_that_differ_in_their_query_are_files_of_their_own(server: tuple[str, Path]) -> None:
    address, folder = server
    for name in ("a", "b"):
        (folder / f"{name}.csv").write_text(f"text,label\n{name},1\n")
    data = Files(train=(f"{address}/get?part=a.csv", f"{address}/get?part=b.csv"), format="csv")
    assert cells(data)["text"] == ["a", "b"]
    assert cells(data)["__file__"] == [f"{address}/get"] * 2


def test_a_file_that_two_processes_fetch_at_once(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    (folder / "train.csv").write_text(CSV)
    data = Files(train=f"{address}/train.csv")
    cells(data)
    [lock] = (tmp_path / "cache" / "remote").glob("*/lock")
    (folder / "train.csv").write_text(CSV + "new,1\n")
    Handler.looked.clear()
    with ThreadPoolExecutor(1) as pool, FileLock(lock):  # given back before the pool ends
        found = pool.submit(cells, data)
        assert Handler.looked.wait(10)
        sleep(0.1)  # until it waits for the lock
        for other in lock.parent.iterdir():  # what a process does that fetched another version
            if other.is_dir():
                shutil.rmtree(other)
    assert found.result()["text"][-1] == "new"


def test_secrets_stay_in_the_environment(server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    address, folder = server
    (folder / "secret.csv").write_text(CSV)
    data = Files(train=f"{address}/secret.csv?sig=${{SIGNATURE}}")
    with pytest.raises(DataError, match="no variable SIGNATURE"):
        data.splits()
    monkeypatch.setenv("SIGNATURE", "wrong value")
    with pytest.raises(DataError, match="may not be read") as caught:
        data.splits()
    assert "wrong" not in str(caught.value)
    monkeypatch.setenv("SIGNATURE", "of the environment")
    found = data.splits()["train"]
    assert found["text"][:] == ROWS["text"]
    assert "sig" not in data.describe() + found["__file__"][0]
    for held in ("https://host/a.csv?sig=abcdef", "https://me:pw@host/a.csv", "s3://AKIAABCDEFGHIJKLMNOP@bucket/a.csv"):
        with pytest.raises(RecipeError, match=r"\$\{DB_PASSWORD\}") as refused:
            Files(train=held)
        assert "abcdef" not in str(refused.value)
        assert "AKIA" not in str(refused.value)
    secret = f"{address}/a.csv?sig=abcdef"
    for holds in (
        lambda: Files(train=["a.csv", secret]),  # type: ignore[arg-type]
        lambda: Files(train="a.csv?sig=abcdef", root=address),
        lambda: Files(train="a.csv", root="https://me:pw@host/data"),
        lambda: ParallelFiles(names=("en", "de"), train=("a.en", secret)),
    ):
        with pytest.raises(RecipeError, match=r"\$\{DB_PASSWORD\}"):
            holds()
    refuse_secrets("data.url", "postgresql://reader:${DB_PASSWORD}@host/name")
    assert not scan_text('"postgresql://reader:${DB_PASSWORD}@host/name"', file="run.json", environment={})


def test_verbs_that_read_a_file_read_an_address(server: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    address, folder = server
    (folder / "rows.csv").write_text(CSV)
    there = f"{address}/rows.csv"
    assert [record.fields for record in read_records(there)] == [
        {"text": text, "label": label} for text, label in zip(*ROWS.values(), strict=True)
    ]
    assert read_whole(there)["__file__"].to_pylist() == [there] * 3
    (folder / "rows.json").write_text(json.dumps(rows := [{"text": "late", "label": "1"}]))
    assert [record.fields for record in read_records(f"{address}/rows.json")] == rows
    assert Handler.heads == ["/rows.csv", "/rows.csv", "/rows.json"], "each call asks once what a file is"
    assert run(["audit", there, "--no-model", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"]["train"] == 3
    with pytest.raises(RecipeError, match="holds a user's password"):
        read_whole("https://me:pw@host/rows.csv")


def test_files_side_by_side_are_fetched_below_an_address_and_show_fetches_nothing(server: tuple[str, Path]) -> None:
    address, folder = server
    (folder / "a.en").write_text("one\ntwo\n")
    (folder / "a.de").write_text("eins\nzwei\n")
    data = ParallelFiles(names=("en", "de"), train=("a.en", "a.de"), root=address)
    shown = data.preview()
    assert not Handler.asked
    assert not shown.rows
    assert f"{address}/a.en, {address}/a.de: not on this machine" in shown.unchecked[0]
    found = cells(data)
    assert (found["en"], found["de"], found["__file__"][0]) == (["one", "two"], ["eins", "zwei"], f"{address}/a.en")
    assert [path.read_text() for path in data.paths()] == ["one\ntwo\n", "eins\nzwei\n"]
    assert [path.name for path in Files(train=["a.en"], root=address, format="txt").paths()] == ["a.en"]  # type: ignore[arg-type]


def test_s3_patterns_by_its_own_client(server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    address, folder = server
    for name in ("b.csv", "a.csv", "c.txt"):
        (folder / "bucket" / "data" / name).write_text(f"text,label\n{name},1\n")
    for name, value in {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y",
                        "AWS_EC2_METADATA_DISABLED": "true"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    found = cells(Files(train="s3://bucket/data/*.csv"))
    assert found["text"] == ["a.csv", "b.csv"]
    assert found["__file__"] == ["s3://bucket/data/a.csv", "s3://bucket/data/b.csv"]


def test_any_file_system_of_fsspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.pipe({"/elsewhere/a.jsonl": b'{"text": "a"}\n', "/elsewhere/b.jsonl": b'{"text": "b"}\n'})
    assert cells(Files(train="memory://elsewhere/*.jsonl"))["text"] == ["a", "b"]
    with pytest.raises(DataError, match="no file matches"):
        Files(train="memory://elsewhere/*.csv").splits()
    (tmp_path / "here.csv").write_text(CSV)
    assert cells(Files(train=f"file://{tmp_path}/h*.csv"))["text"] == ROWS["text"]


@pytest.fixture
def database(tmp_path: Path) -> str:
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("create table messages (id integer primary key, text text, label integer)")
        connection.executemany("insert into messages values (?, ?, ?)", [(3, "c", None), (1, "a", 1), (2, "b", 0)])
        connection.execute("create table loose (text text)")
    connection.close()
    return f"sqlite:///{tmp_path}/rows.db"


def test_a_database_gives_rows_in_an_order(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cells(Sql(database, train="messages")) == {"id": [1, 2, 3], "text": ["a", "b", "c"], "label": [1, 0, None]}
    query = "select text from messages where label is not null order by id desc"
    assert cells(Sql(database, train=query, test="messages")) == {"text": ["b", "a"]}
    with pytest.raises(RecipeError, match="ORDER BY"):
        Sql(database, train="select * from messages")
    with pytest.raises(DataError, match="no primary key"):
        Sql(database, train="loose").splits()
    with pytest.raises(DataError, match="Did you mean 'messages'"):
        Sql(database, train="mesages").splits()
    with pytest.raises(DataError, match="the database answers: no such column"):
        Sql(database, train="select absent from messages order by id").splits()
    monkeypatch.setenv("DB_FILE", database.removeprefix("sqlite:///"))
    data = Sql("sqlite:///${DB_FILE}", train="messages")
    assert len(data.splits()["train"]) == 3
    assert "${DB_FILE}" in data.describe()
    with pytest.raises(RecipeError, match="password") as caught:
        Sql("postgresql://me:hunter2@host/db", train="messages")
    assert "hunter2" not in str(caught.value)


def test_a_workbook(tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["text", "label", None], ["good", 1, None], [None, None, None], [2024, 0, None], ["x", 1.0, None]):
        sheet.append(row)
    other = book.create_sheet("later")
    other.append(["text", "label"])
    other.append(["#N/A", 1])
    book.save(tmp_path / "a.xlsx")
    found = cells(Files(train="a.xlsx", root=str(tmp_path)))
    assert found == {
        "text": ["good", "2024", "x"],
        "label": [1, 0, 1],
        "__file__": ["a.xlsx"] * 3,
        "__line__": [2, 4, 5],
    }
    with pytest.raises(DataError, match=r"a\.xlsx, row 2: column 'text': a formula failed"):
        Files(train="a.xlsx", root=str(tmp_path), sheet="later").splits()
    with pytest.raises(DataError, match=r"no sheet 'latr'(.|\n)*Did you mean 'later'"):
        Files(train="a.xlsx", root=str(tmp_path), sheet="latr").splits()


def test_frames_of_polars_and_dask() -> None:
    import polars as pl

    rows = {"text": ["a", "b", "c"], "label": [1, None, 0]}
    for given in (pl.DataFrame(rows), pl.DataFrame(rows).lazy()):
        assert cells(Frame(train=given)) == rows
    dd = pytest.importorskip("dask.dataframe")
    frame = dd.from_pandas(pd.DataFrame({"text": list("abcdef"), "label": [1, 0] * 3}), npartitions=3)
    data = Frame(train=frame, validation=frame)
    assert cells(data, "validation")["text"] == list("abcdef")


def test_a_recipe_without_the_new_fields_is_written_as_before() -> None:
    assert "sheet" not in to_json(Files(train="a.csv"))  # type: ignore[arg-type]
