"""Rows of a database, by a connection string of SQLAlchemy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

from hf_trainpipe.data.credentials import filled, refuse_secrets, shown_address, without_values
from hf_trainpipe.data.place import Place
from hf_trainpipe.data.sources import SPLITS, Source
from hf_trainpipe.errors import DataError, MissingExtra, RecipeError, closest
from hf_trainpipe.utils.brief import first_line, listed

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from hf_trainpipe.recipe.interfaces import Preview

FETCHED = 10_000
"""Rows fetched at a time."""
_ORDERED = re.compile(r"\border\s+by\b", re.IGNORECASE)
_NAME = re.compile(r"[^\s;()]+")


@dataclass(frozen=True)
class Sql(Source):
    """Rows of a database. A split is a table with a primary key, or a query that ends with ``ORDER BY``.

    A database gives rows in any order, and a run that resumes has to see the same ones: hence the order. For data that changes
    while runs go on, ``hf-trainpipe ingest`` keeps what was read once as shards.
    """

    url: str
    """A connection string of SQLAlchemy: ``postgresql+psycopg://reader:${DB_PASSWORD}@host/name``, ``sqlite:///file.db``. It
    names environment variables in place of secrets."""
    _: KW_ONLY
    train: str
    """A table, or a query with ``ORDER BY``."""
    validation: str | float | None = None
    """The same, or a fraction of the training rows; None: no such split."""
    test: str | float | None = None
    """As ``validation``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_secrets("data.url", self.url)
        for name in SPLITS:
            if isinstance(said := getattr(self, name), str) and not _NAME.fullmatch(said) and not _ORDERED.search(said):
                raise RecipeError(
                    f"data.{name}: expected a table or a query with ORDER BY, found {said!r:.80}.",
                    fix="Add ORDER BY and a column that is unique, such as id: without it a database may give the rows in "
                    "another order each time.",
                )

    def describe(self) -> str:
        return f"database {shown_address(self.url)}: " + self._described(lambda value: value)

    def preview(self) -> Preview:
        from hf_trainpipe.recipe.interfaces import Preview

        return Preview(unchecked=(f"{self.describe()}: its rows are read when the run begins, not by show.",))

    def _load(self, wanted: Mapping[str, Any]) -> dict[str, Dataset]:
        from datasets import Dataset

        return {split: Dataset(table) for split, table in self.tables(wanted).items()}

    def tables(self, wanted: Mapping[str, str]) -> dict[str, pa.Table]:
        """The rows of splits, in the order of their queries."""
        with _connected(self.url) as connection:
            return {split: _read(connection, said, split) for split, said in wanted.items()}

    def batches(self, said: str, split: str) -> Iterator[pa.Table]:
        """The rows of a table or query, some at a time."""
        with _connected(self.url) as connection:
            for first, columns in _fetched(connection, said, split):
                yield _table(columns, split, first)


@contextmanager
def _connected(url: str) -> Iterator[Any]:
    """A connection that only reads; what goes wrong is told without values of variables."""
    try:
        import sqlalchemy
    except ImportError as error:
        raise MissingExtra(
            f"data: databases need SQLAlchemy: {error}.", fix="pip install 'hf-trainpipe[sql]'"
        ) from None
    engine = None
    try:
        address = sqlalchemy.make_url(url)
        parts = {
            name: filled(value, where="data.url")
            for name in ("username", "password", "host", "database")
            if isinstance(value := getattr(address, name), str)
        }
        address = address.set(**parts).set(
            query={
                name: filled(value, where="data.url") if isinstance(value, str) else value
                for name, value in address.query.items()
            }
        )
        engine = sqlalchemy.create_engine(address)
        with engine.connect() as connection:
            yield connection
    except ImportError as error:
        raise MissingExtra(
            f"data.url: {address.drivername} needs a driver: {error}.", fix=f"pip install {error.name or 'the driver'}"
        ) from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        said = without_values(first_line(getattr(error, "orig", None) or error), url).rstrip(".")
        raise DataError(
            f"{shown_address(url)}: the database answers: {said}.",
            fix="Correct data.url or the query. Secrets come from the variables that data.url names.",
        ) from None
    finally:
        if engine is not None:
            engine.dispose()


def _read(connection: Any, said: str, split: str) -> pa.Table:
    columns: dict[str, list[Any]] = {}
    for _, part in _fetched(connection, said, split):
        for name, cells in part.items():
            columns.setdefault(name, []).extend(cells)
    return _table(columns, split, 0)


def _table(columns: dict[str, list[Any]], split: str, first: int) -> pa.Table:
    from hf_trainpipe.data.readers_tables import plain, to_table

    return plain(to_table(columns, lambda row: Place(f"row {first + row} of split {split!r}")), f"data.{split}")


def _fetched(connection: Any, said: str, split: str) -> Iterator[tuple[int, dict[str, list[Any]]]]:
    """Rows by column, some at a time, with the number of the first."""
    import sqlalchemy

    query: Any = sqlalchemy.text(said) if not _NAME.fullmatch(said) else _whole_table(connection, said, split)
    found = connection.execution_options(stream_results=True).execute(query)
    names = list(map(str, found.keys()))
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(
            f"data.{split}: the query gives {', '.join(map(repr, repeated))} twice.",
            fix="Name the columns: SELECT a AS b.",
        )
    first = 0
    for rows in found.partitions(FETCHED):
        yield first, dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        first += len(rows)
    if not first:
        raise DataError(f"data.{split}: expected rows, {said!r:.80} gives none.", fix="Correct the query.")


def _whole_table(connection: Any, name: str, split: str) -> Any:
    """All rows of a table, by its primary key."""
    import sqlalchemy

    schema, _, bare = name.rpartition(".")
    about = sqlalchemy.inspect(connection)
    known = [*about.get_table_names(schema=schema or None), *about.get_view_names(schema=schema or None)]
    if bare not in known:
        raise DataError(
            f"data.{split}: the database has no table {name!r}. There are: {listed(known) or 'none'}.",
            fix=f"Name a table, or write a query.{closest(bare, known)}",
        )
    table = sqlalchemy.Table(bare, sqlalchemy.MetaData(), schema=schema or None, autoload_with=connection)
    keys = list(table.primary_key.columns)
    if not keys:
        raise DataError(
            f"data.{split}: the table {name!r} has no primary key, so that its rows have no order.",
            fix=f"Write a query with one: SELECT * FROM {name} ORDER BY ...",
        )
    return sqlalchemy.select(table).order_by(*keys)
