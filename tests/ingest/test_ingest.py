"""Raw rows to shards: what is kept, where it goes, and that a killed ingest ends as one that was not."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_trainpipe import Files, RecipeError, Shards, Sql
from hf_trainpipe.data.readers import read_split
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.data.unread import UnreadEncoder
from hf_trainpipe.errors import DataError
from hf_trainpipe.ingest import whole
from hf_trainpipe.ingest.settings import Ingest
from hf_trainpipe.ingest.stage import Origin, read
from hf_trainpipe.ingest.whole import ingest


def write(folder: Path, name: str, rows: list[tuple[str, str, int]]) -> None:
    folder.mkdir(exist_ok=True)
    lines = [f"{text},{label},{who}" for text, label, who in rows]
    (folder / name).write_text("\n".join(["text,label,who", *lines]) + "\n", encoding="utf-8")


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files: 1,200 rows of 900 texts, three labels in unequal numbers, people with four rows each."""
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    rows = [(f"text\u00a0 number  {row % 900} ", "aab"[row % 3] if row % 10 else "c", row // 4) for row in range(1200)]
    write(tmp_path / "raw", "b.csv", rows[600:])
    write(
        tmp_path / "raw", "a.csv", [*rows[:600], ("  ", "a", 1), ('"one, with\na quote"', "b", 1), ("x" * 99, "b", 2)]
    )
    return tmp_path / "raw"


def made(raw: Path, **options: Any) -> Ingest:
    own = {name: options.pop(name) for name in list(options) if name in Ingest.__dataclass_fields__}
    return Ingest(source=Files(train="*.csv", root=str(raw), **options), processes=1, **own)


def texts(folder: Path, split: str) -> list[str]:
    found: list[str] = pq.read_table(sorted(folder.glob(f"{split}-*.parquet")), columns=["text"])["text"].to_pylist()
    return found


def test_rows_are_cleaned_each_text_stays_once_and_what_was_dropped_is_listed(raw: Path, tmp_path: Path) -> None:
    found = ingest(made(raw, max_chars=50, rows_per_shard=400), tmp_path / "out")
    assert found["read"] == 1203
    assert found["dropped"]["rows"] == {"no text": 1, "longer than max_chars": 1, "a duplicate of an earlier row": 300}
    assert texts(tmp_path / "out", "train") == [*(f"text number {n}" for n in range(600)), "one, with a quote",
                                                *(f"text number {n}" for n in range(600, 900))]  # fmt: skip
    assert [shard["rows"] for shard in found["shards"]] == [400, 400, 101]
    dropped = pq.read_table(tmp_path / "out" / "dropped.parquet").to_pylist()
    assert dropped[:3] == [
        {"file": "a.csv", "line": 602, "why": "no text"},
        {"file": "a.csv", "line": 605, "why": "longer than max_chars"},
        {"file": "b.csv", "line": 302, "why": "a duplicate of an earlier row"},
    ]
    assert not (tmp_path / "out" / ".work").exists()


def test_fractions_are_cut_by_hash_by_labels_and_by_groups(raw: Path, tmp_path: Path) -> None:
    plain = ingest(made(raw, validation=0.2, test=0.1), tmp_path / "plain")["splits"]
    assert 140 < plain["validation"] < 220
    before = set(texts(tmp_path / "plain", "test"))
    write(raw, "0.csv", [(f"new {n}", "a", 5000 + n) for n in range(100)])
    ingest(made(raw, validation=0.3, test=0.1), tmp_path / "more")
    assert {text for text in texts(tmp_path / "more", "test") if not text.startswith("new")} == before, (
        "rows stay where they were"
    )
    (raw / "0.csv").unlink()
    ingest(made(raw, validation=0.2, test=0.1, stratify="label"), tmp_path / "labels")
    shards = Shards(str(tmp_path / "labels")).splits()
    whole_set = Counter(label for split in shards.values() for label in split["label"])
    for name, share in (("validation", 0.2), ("test", 0.1)):
        for label, count in Counter(shards[name]["label"]).items():
            assert abs(count - share * whole_set[label]) <= 1
    ingest(made(raw, validation=0.2, group="who"), tmp_path / "groups")
    grouped = Shards(str(tmp_path / "groups")).splits()
    assert len(grouped["validation"]) > 90
    assert not set(grouped["train"]["who"]) & set(grouped["validation"]["who"])


def test_files_of_their_own_keep_their_texts_to_themselves(raw: Path, tmp_path: Path) -> None:
    (raw / "held").mkdir()
    write(raw / "held", "test.csv", [("text number 7", "a", 0), ("only here", "b", 0)])
    ingest(made(raw, test="held/*.csv"), tmp_path / "out")
    assert texts(tmp_path / "out", "test") == ["text number 7", "only here"]
    assert "text number 7" not in texts(tmp_path / "out", "train")


@pytest.mark.parametrize("options", [{"stratify": "label"}, {"group": "who", "unique": ()}])
def test_both_engines_give_the_same_rows_in_the_same_order(raw: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    distributed = pytest.importorskip("distributed")
    settings = made(raw, validation=0.2, test=0.1, **options)
    one = ingest(settings, tmp_path / "duckdb")
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
    ) as cluster:
        other = ingest(replace(settings, engine="dask", cluster=cluster.scheduler_address), tmp_path / "dask")
    assert one == other
    for path in (tmp_path / "duckdb").glob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "dask" / path.name).read_bytes()


def test_an_ingest_that_was_stopped_anywhere_ends_as_one_that_was_not(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = made(raw, validation=0.2, rows_per_shard=100)
    expected = ingest(settings, tmp_path / "once")
    done: list[str] = []

    def until(name: str, calls: int) -> Any:
        real = getattr(whole, name)

        def stopped(*given: Any, **named: Any) -> Any:
            if len(done) >= calls:
                raise KeyboardInterrupt
            done.append(name)
            return real(*given, **named)

        return stopped

    folder = tmp_path / "again"
    for name, calls in (("stage", 1), ("_find_kept", 0), ("cut", 0), ("fsync_tree", 0), ("write_json", 1)):
        with monkeypatch.context() as patch:
            done.clear()
            patch.setattr(whole, name, until(name, calls))
            with pytest.raises(KeyboardInterrupt):
                ingest(settings, folder)
        assert not (folder / "manifest.json").exists()
        with pytest.raises(DataError, match="did not finish"):
            Shards(str(folder)).splits()
    with monkeypatch.context() as patch:
        patch.setattr(whole, "stage", until("stage", 0))  # every file is read already
        assert ingest(settings, folder) == expected
    assert ingest(settings, folder) == expected, "what is complete is left alone"
    for other in (
        made(raw, validation=0.2, rows_per_shard=100, encoding="cp1252"),
        made(raw, validation=0.1, rows_per_shard=100),
    ):
        with pytest.raises(DataError, match="other settings"):
            ingest(other, folder)
    (raw / "b.csv").write_text((raw / "b.csv").read_text() + "one more,a,1\n")
    with pytest.raises(DataError, match="--replace"):
        ingest(settings, folder)
    assert ingest(settings, folder, replace=True)["read"] == expected["read"] + 1
    with pytest.raises(DataError, match=r"new folder, found a\.csv"):
        ingest(settings, raw)


def test_shards_are_checked_and_their_rows_keep_file_and_line(raw: Path, tmp_path: Path) -> None:
    write(raw, "c.csv", [("the first text", "", 0)])
    found = ingest(made(raw), tmp_path / "out")
    data = Shards(str(tmp_path / "out"), validation=0.1, fingerprint=found["fingerprint"])
    preview = data.preview()
    assert preview is not None
    assert preview.sizes["train"].rows + preview.sizes["validation"].rows == sum(found["splits"].values())
    splits = data.splits()
    rows = Rows(splits["train"], "train", encoder=UnreadEncoder(), is_training=True)
    row = splits["train"]["text"][:].index("one, with a quote")
    assert rows.place(row) == "a.csv, line 603"
    with pytest.raises(DataError, match=r"data\.fingerprint"):
        Shards(str(tmp_path / "out"), fingerprint="other").splits()
    with pytest.raises(DataError, match="no split 'dev'"):
        Shards(str(tmp_path / "out"), validation="dev").splits()
    shard = tmp_path / "out" / "train-00000.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match="differs from its manifest"):
        data.splits()


@pytest.mark.parametrize(
    "content",
    [
        "text,label\n" + "plain,1\n" * 500,
        "text,label\n" + "plain,1\n" * 300 + 'with "quotes",1\n"a, b\nc",2\n' + "then,1\n" * 300,
        "text,label\n" + "plain,1\n" * 300 + "\n" * 3 + "after blank lines,1\n" + ",\n,\n",
        "text,label\n" + "plain,1\n" * 300 + "no line feed at the end,\u00e9",
        "text\tlabel\r\n" + "windows\t1\r\n" * 300,
        "text,label\n" + "plain,1\n" * 198 + " ,\n" + "a row without cells before,1\n" * 9 + " , \n,\n",
        "text,label\n" + "plain,1\n" * 300 + " ,\n",
        "\ntext\n" + "plain\n" * 300 + '"quoted"\n',
        "a;b\n" + "one column\n" * 199 + "x;y\n" * 9 + '"quoted"\n' * 300,
        ",text\n" + "0,with its index\n" * 300 + '1,"quoted"\n' * 300,
        "text,__file__,__line__\n" + "saved before,a,1\n" * 300 + '"quoted",b,2\n',
        "text,label\n" + "plain,1,\n" * 300 + "narrower,1\n",
        "text,label\n" + "plain,1\n" * 199 + "wider,1,\n",
        'text,label\n"quoted",1\n' + "plain,1\n" * 199 + "wider,1,\n",
    ],
)
def test_rows_by_arrow_are_those_of_the_csv_reader(tmp_path: Path, content: str) -> None:
    path = tmp_path / ("a.tsv" if "\t" in content else "a.csv")
    path.write_bytes(content.encode())
    source = Files(train=path.name, root=str(tmp_path))
    options = source.reading("train", path, path.name)
    origin = Origin(0, "train", path.name, path, options)
    settings = Ingest(source=source, texts=(), unique=())

    def told(tables: Iterable[pa.Table]) -> list[dict[str, Any]] | str:
        try:
            return [row for table in tables for row in table.to_pylist()]
        except DataError as error:
            return str(error)

    def whole() -> Iterator[pa.Table]:
        yield read_split((path.name,), root=tmp_path, options=lambda _path, _shown: options).drop_columns(["__file__"])

    assert told(read(origin, settings)) == told(whole())


def test_what_is_wrong_is_told_with_file_and_line(raw: Path, tmp_path: Path) -> None:
    with (raw / "b.csv").open("a") as file:
        file.write("too,many,1,2\n")
    with pytest.raises(DataError, match=r"b\.csv, line 602: expected 3 fields"):
        ingest(made(raw), tmp_path / "out")
    with pytest.raises(DataError, match="no column 'body'"):
        ingest(made(raw, texts=("body",)), tmp_path / "other")
    with pytest.raises(RecipeError, match=r"data\.drop_missing"):
        made(raw, drop_missing=("text",))


def test_other_formats_and_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.jsonl").write_text('{"body": "a", "n": 1}\n{"body": "a  b", "n": null, "tags": ["x"]}\n')
    (tmp_path / "b.jsonl").write_text(json.dumps({"body": " a", "n": 2.5}) + "\n")
    files = Files(train=("a.jsonl", "b.jsonl"), root=str(tmp_path), rename={"body": "text"})
    found = ingest(Ingest(source=files, processes=1), tmp_path / "out")
    assert {name: kind.partition("<")[0] for name, kind in found["columns"].items()} == {
        "text": "string",
        "n": "double",
        "tags": "list",
    }
    assert texts(tmp_path / "out", "train") == ["a", "a b"]
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("create table messages (id integer primary key, text text)")
        connection.executemany("insert into messages values (?, ?)", [(2, "b"), (1, " a"), (3, "b")])
    connection.close()
    found = ingest(Ingest(source=Sql(f"sqlite:///{tmp_path}/rows.db", train="messages")), tmp_path / "sql")
    assert texts(tmp_path / "sql", "train") == ["a", "b"]
    assert found["splits"] == {"train": 2}
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("insert into messages values (9, 'new')")
    connection.close()
    for replace_it, rows in ((False, 2), (True, 3)):
        settings = Ingest(source=Sql(f"sqlite:///{tmp_path}/rows.db", train="messages"))
        assert ingest(settings, tmp_path / "sql", replace=replace_it)["splits"] == {"train": rows}


def test_a_file_of_several_without_rows_gives_its_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    empty = pa.table({"text": pa.array([], pa.string()), "tags": pa.array([], pa.list_(pa.string()))})
    pq.write_table(empty, tmp_path / "part-0.parquet")
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "part-1.parquet")
    with pa.ipc.new_file(str(tmp_path / "part-2.arrow"), empty.schema):
        pass
    several = Files(train="part-*", root=str(tmp_path))
    assert several.splits()["train"].select_columns(["text", "tags", "label"])[:] == {
        "text": ["a"],
        "tags": [None],
        "label": [1],
    }
    assert ingest(Ingest(source=several, processes=1), tmp_path / "out")["columns"] == {
        "text": "string", "tags": "list<element: string>", "label": "int64"}  # fmt: skip
    with pytest.raises(DataError, match=r"part-0\.parquet: expected rows, found no rows"):
        Files(train="part-0.parquet", root=str(tmp_path)).splits()
