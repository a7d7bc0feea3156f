"""The input columns of a file to predict.

In this order: those that were named (``--column``); those that the recipe read in training, also under the names that
they had before ``data.rename``, ``data.join`` and ``data.lists``; the names of the handler's own inputs (``text`` with ``text_pair``
for pairs, ``words``). A file with none of them is refused with the columns that it has. Only where a package does not
know the recipe's columns, a file's only column is taken whatever its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hf_trainpipe.data.sources_shape import as_list, as_text
from hf_trainpipe.data.written_lists import is_written_list, parse_list
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.utils.brief import listed

__all__ = ["Chooser", "Known", "Listed", "joined", "known_columns", "parse_asked", "words_of"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Known:
    """The columns that a package was trained on."""

    forms: tuple[tuple[str, ...], ...] = (("text",),)
    """Roles of an input, in each of its forms."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Role to the recipe's name."""
    target: str | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    join: Mapping[str, Sequence[str]] = field(default_factory=dict)
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The recipe's names, in the order of the roles."""
        return tuple(self.columns.values())

    @property
    def roles(self) -> tuple[str, ...]:
        """The form of an input that is asked for unless a file has another."""
        return next((form for form in self.forms if set(form) == set(self.columns)), self.forms[0])

    @property
    def is_one(self) -> bool:
        """Whether each form has one value."""
        return all(len(form) == 1 for form in self.forms)


def known_columns(manifest: Mapping[str, Any]) -> Known:
    """From trainpipe.json, of any version as :func:`.layout.read_manifest` gives it."""
    about, columns = manifest["about"], manifest.get("columns") or {}
    return Known(
        forms=tuple(tuple(form) for form in about["forms"]),
        columns=dict(about["columns"]),
        target=about.get("target"),
        rename=dict(columns.get("rename") or {}),
        join=dict(columns.get("join") or {}),
        lists=dict(columns.get("lists") or {}),
    )


def parse_asked(asked: Sequence[str], known: Known) -> tuple[str, ...]:
    """The columns of ``--column``: ``review``, or ``a b`` for a pair, or ``text=a text_pair=b``.

    Returns:
        None named: ``()``; else a column for each role.

    Raises:
        DataError: too many or too few, or a role that this package does not have.
    """
    if not asked:
        return ()
    roles = known.roles
    if not known.is_one and len(asked) != len(roles):  # of a task that also takes fewer
        roles = next((form for form in known.forms if len(form) == len(asked)), roles)
    anywhere = {"text", "text_pair", "words"} | {role for form in known.forms for role in form}
    named: dict[str, str] = {}
    plain: list[str] = []
    for spelled in asked:
        role, equals, column = spelled.partition("=")
        if equals and role in anywhere:
            named[roles[0] if known.is_one and len(known.forms) > 1 else role] = column
        else:
            plain.append(spelled)
    free = [role for role in roles if role not in named]
    named |= dict(zip(free, plain, strict=False))
    if set(named) != set(roles) or len(plain) > len(free) or not all(named.values()):
        is_pair = len(roles) == 2
        many = "one column" if len(roles) == 1 else "a pair of columns" if is_pair else f"{len(roles)} columns"
        example = (
            "--column review" if len(roles) == 1 else " ".join(f"--column {role}" for role in "abcdefgh"[: len(roles)])
        )
        answers = "pairs of texts" if roles == ("text", "text_pair") else " and ".join(known.forms[-1])
        raise DataError(
            f"--column: this package answers {answers} and takes {many}, found {' '.join(asked)!r}.",
            fix=f"Write {example}.",
        )
    return tuple(named[role] for role in roles)


class Listed(tuple[str, ...]):
    """Columns whose cells become a list, not one text (``data.lists``)."""

    __slots__ = ()


def joined(cells: Iterable[Any], source: tuple[str, ...]) -> Any:
    """The one cell that those of several columns become."""
    return as_list(cells) if isinstance(source, Listed) else as_text(cells)


class Chooser:
    """Turns rows into inputs of a package. The first row of a file decides about its columns.

    Args:
        known: The package's roles and the recipe's columns.
        asked: What :func:`parse_asked` gave.
        name: The file, for messages.
    """

    def __init__(self, known: Known, asked: tuple[str, ...] = (), *, name: str) -> None:
        self.known = known
        self.asked = asked
        self.name = name
        self.columns: tuple[str, ...] = ()
        """The columns that were chosen, as the file spells them."""
        self.roles = known.roles
        """What they are, once :meth:`sources` has looked: a file may have the columns of another form than the recipe's."""
        self._get: Callable[[Row], Any] | None = None

    def input_of(self, fields: Row) -> Any:
        """The input of a row; None for a missing cell.

        Raises:
            DataError: the first row has none of the columns.
        """
        if self._get is None:
            self._get = self._choose(fields)
        return self._get(fields)

    def line(self, value: Any) -> Any:
        """The input of a line of text, which has no columns.

        Raises:
            DataError: a column was asked for.
        """
        if self.asked:
            raise DataError(
                f"{self.name}: --column names {', '.join(map(repr, self.asked))}, and lines of text have no columns.",
                fix="Leave --column out, or name the file's format: --format csv.",
                file=self.name,
            )
        return value

    def sources(self, fields: Row) -> list[tuple[str, ...]]:
        """For each role the columns of the file that it is made of, joined by spaces; of :class:`Listed`, as a list.

        Raises:
            DataError: the file has none of the columns.
        """
        there = list(fields)
        if self.asked:
            absent = next((name for name in self.asked if name not in fields), None)
            if absent is not None:
                raise self._missing(absent, there)
            if len(self.asked) != len(self.roles):
                self.roles = next(form for form in self.known.forms if len(form) == len(self.asked))
            return [(name,) for name in self.asked]
        if self.known.inputs:
            found = [self.source(name, fields) for name in self.known.inputs]
            if all(found):
                return [source or () for source in found]
        for roles in reversed(self.known.forms):
            if all(role in fields for role in roles):
                self.roles = roles if not self.known.is_one else self.roles
                return [(role,) for role in roles]
        if not self.known.is_one:  # of several columns of the recipe, some are an input by themselves
            for roles in self.known.forms:
                found = [self.source(self.known.columns.get(role, role), fields) for role in roles]
                if all(found):
                    self.roles = roles
                    return [source or () for source in found]
        if len(there) == 1 and not self.known.inputs and self.known.is_one:
            return [(there[0],)]
        raise self._missing(None, there)

    def _choose(self, fields: Row) -> Callable[[Row], Any]:
        known = self.known.inputs and all(self.source(name, fields) for name in self.known.inputs)
        if "inputs" in fields and not self.asked and not known:
            self.columns = ("inputs",)
            return lambda row: row.get("inputs")
        sources = self.sources(fields)
        self.columns = tuple(part for source in sources for part in source)
        if self._takes_words and not self.asked and sources[0][0] in self._single_roles:
            return self._handler_forms(sources[0][0])
        return self._joined(sources)

    @property
    def _single_roles(self) -> tuple[str, ...]:
        """Where each form has one value: their roles."""
        return tuple(role for form in self.known.forms for role in form) if self.known.is_one else ()

    @property
    def _takes_words(self) -> bool:
        return "words" in self._single_roles

    def source(self, name: str, fields: Row) -> tuple[str, ...] | None:
        """The columns of the file that the recipe's column comes from: itself, or what was renamed or joined to it."""
        if name in fields:
            return (name,)
        back = {new: old for old, new in self.known.rename.items()}
        if back.get(name) in fields:
            return (back[name],)
        for made, kind in ((self.known.join, tuple), (self.known.lists, Listed)):
            parts = [part if part in fields else back.get(part, part) for part in made.get(name, ())]
            if parts and all(part in fields for part in parts):
                return kind(parts)
        return None

    def _joined(self, sources: Sequence[tuple[str, ...]]) -> Callable[[Row], Any]:
        def cell(row: Row, names: tuple[str, ...]) -> Any:
            if len(names) == 1:
                return row.get(names[0])
            return joined((row.get(name) for name in names), names)

        roles = self.roles
        if len(roles) > 1 or roles not in (self.known.roles, self.known.forms[0]):
            return lambda row: {role: cell(row, source) for role, source in zip(roles, sources, strict=True)}
        if self._takes_words:
            return lambda row: words_of(cell(row, sources[0]))
        return lambda row: cell(row, sources[0])

    def _handler_forms(self, first: str) -> Callable[[Row], Any]:
        """Rows with words and rows with a text may follow each other; ``first`` counts where a row has both."""
        order = (first, *(role for role in reversed(self._single_roles) if role != first))

        def get(row: Row) -> Any:
            name = next((name for name in order if row.get(name) is not None), first)
            return words_of(row[name]) if name == "words" else row.get(name)

        return get

    def _missing(self, name: str | None, there: list[str]) -> DataError:
        wanted = (name,) if name else self.known.inputs or self.known.roles
        hint = next((found for column in wanted if (found := closest(column, there))), "")
        example = " ".join(["--column NAME"] * len(self.known.roles))
        said = "the package learned from" if self.known.inputs and not name else "expected"
        return DataError(
            f"{self.name}: {said} {' and '.join(map(repr, wanted))}, found the columns "
            f"{listed(there, 20, quoted=True) or 'none'}.{hint}",
            fix=f"Choose with {example}.",
            file=self.name,
        )


def words_of(cell: Any) -> Any:
    """Words as a list, also from a csv cell with a JSON or Python list; other text stays text."""
    if isinstance(cell, str) and cell[:1] == "[" and is_written_list(cell):
        try:
            return {"words": parse_list(cell)}
        except ValueError:
            return cell
    return {"words": list(cell)} if isinstance(cell, list | tuple) else cell
