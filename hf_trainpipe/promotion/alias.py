"""Who holds an alias, and why: a log that only grows, one numbered record after the other, in any store.

A record is appended only under the number that follows the last one, so of two that are written at once one is taken: whoever
lost reads again what holds the alias. What people and servers look at (a file, registry aliases, tags) follows the log.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from hf_trainpipe.errors import DataError, TrainpipeError
from hf_trainpipe.package.layout import read_manifest

CHAMPION, CHALLENGER = "champion", "challenger"
Kind = Literal["promoted", "refused", "raced", "rolled back"]
_TRIES = 100
"""Appends that may be lost to others before something is wrong with the store."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """A package in a store."""

    digest: str
    """Of the files that answer: equal packages have equal ones."""
    reference: str
    """What the store calls it: a folder, a version, a commit."""
    name: str
    """The recipe's."""
    source: str = ""
    """Where it came from."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One thing that happened to an alias."""

    number: int
    """From 1."""
    kind: Kind
    package: Held
    """What held the alias from now on; of ``refused`` and ``raced`` what asked for it."""
    over: int | None = None
    """The record whose package held the alias until then."""
    restores: int | None = None
    """Of ``rolled back``: the record whose package came back."""
    test: str | None = None
    """Fingerprint of the frozen test rows that decided."""
    key: str | None = None
    """Of a gate: equal for the same packages, rows and terms."""
    told: str = ""
    """What happened, in a sentence."""
    decision: Mapping[str, Any] = field(default_factory=dict)
    """The figures of the gate."""
    time: str = ""
    """UTC, ISO 8601."""
    nonce: str = ""
    """No two records are equal, whoever writes them."""

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, **asdict(self)}


def read_record(value: Any, where: str) -> Record:
    """What :meth:`Record.to_json` wrote.

    Raises:
        DataError: it is something else.
    """
    try:
        found = {name: value[name] for name in Record.__dataclass_fields__ if name in value}
        return Record(**{**found, "package": Held(**found["package"])})
    except (TypeError, KeyError) as error:
        raise DataError(
            f"{where}: expected a record of an alias, found {value!r:.80} ({error}).", fix="Bring it back from a copy."
        ) from error


@dataclass(frozen=True)
class Log:
    """All records of an alias, as they were when it was read."""

    records: tuple[Record, ...] = ()

    @property
    def champion(self) -> Record | None:
        """The record whose package holds the alias."""
        return next((one for one in reversed(self.records) if one.kind in ("promoted", "rolled back")), None)

    @property
    def challenger(self) -> Record | None:
        """The last record of a package that asked for the alias and does not hold it."""
        last = self.records[-1] if self.records else None
        return last if last is not None and last.kind in ("refused", "raced") else None

    @property
    def turn(self) -> int:
        """The number of the champion's record; 0: nobody holds the alias."""
        return self.champion.number if self.champion is not None else 0

    @property
    def test(self) -> str | None:
        """The frozen test rows, by their fingerprint."""
        return next((one.test for one in reversed(self.records) if one.test is not None), None)

    def gates(self, test: str) -> list[Record]:
        """The gates that these test rows decided: each is one use of them."""
        return [one for one in self.records if one.test == test and one.key is not None]

    def gate(self, key: str) -> Record | None:
        """The record of a gate that was held before."""
        return next((one for one in reversed(self.records) if one.key == key), None)

    def before(self) -> Record | None:
        """What a roll-back restores: the champion before the one that holds the alias now."""
        now = self.champion
        while now is not None and now.restores is not None:
            now = self.records[now.restores - 1]
        return self.records[now.over - 1] if now is not None and now.over else None


class Store(ABC):
    """Where the log of an alias lies, and its packages. Six methods, none of which knows what a champion is."""

    @abstractmethod
    def records(self) -> list[dict[str, Any]]:
        """The log, by number; empty where there is none."""

    @abstractmethod
    def append(self, number: int, record: Mapping[str, Any]) -> bool:
        """Add a record under a number, once: False where somebody else was faster."""

    @abstractmethod
    def put(self, package: Path) -> str:
        """Take a package, whole or not at all, and return what it is called here; the same one twice is one."""

    @abstractmethod
    def fetch(self, reference: str) -> Path:
        """A folder with the package, complete."""

    @abstractmethod
    def point(self, names: Mapping[str, Record]) -> None:
        """Make what others look at follow: name (champion, challenger) to its record. Safe to repeat."""

    @abstractmethod
    def describe(self) -> str:
        """Where it is, for people."""


class Alias:
    """An alias in a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __str__(self) -> str:
        return self.store.describe()

    def read(self) -> Log:
        """The log as it is now.

        Raises:
            DataError: the store holds something else.
        """
        found = tuple(read_record(value, f"{self}, record {at}") for at, value in enumerate(self.store.records(), 1))
        if (numbers := [one.number for one in found]) != list(range(1, len(found) + 1)):
            raise DataError(
                f"{self}: expected records numbered from 1 without a gap, found {', '.join(map(str, numbers[:20]))}.",
                fix="Bring the missing ones back from a copy.",
            )
        return Log(found)

    def append(self, make: Callable[[Log], Record]) -> Record:
        """Add a record that follows from the log; made again from what is there where somebody else was faster.

        Args:
            make: Its number, time and nonce are set here. What it raises ends the attempt.
        """
        for _ in range(_TRIES):
            log = self.read()
            asked = make(log)
            stamps = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "nonce": uuid.uuid4().hex}
            record = Record(**{**vars(asked), "number": len(log.records) + 1, **stamps})
            if self.store.append(record.number, record.to_json()):
                self.point()
                return record
        raise TrainpipeError(f"{self}: {_TRIES} records were lost to others.", fix="Look at who writes there.")

    def point(self) -> None:
        """Let names follow the log; again where it grew meanwhile."""
        log = None
        while log != (log := self.read()):
            found = {CHAMPION: log.champion, CHALLENGER: log.challenger}
            self.store.point({name: record for name, record in found.items() if record is not None})

    def take(self, package: Path, *, source: str) -> Held:
        """Put a package into the store."""
        manifest = read_manifest(package)
        return Held(digest=digest_of(package), reference=self.store.put(package), name=manifest["name"], source=source)

    def current(self) -> tuple[int, Path]:
        """The number of the champion's record, and a folder with its package.

        Raises:
            DataError: nobody holds the alias.
        """
        champion = self.read().champion
        if champion is None:
            raise DataError(
                f"{self}: nobody holds this alias yet.", fix=f"hf-trainpipe promote runs/NAME --over {self}"
            )
        return champion.number, self.store.fetch(champion.package.reference)

    def roll_back(self, *, to: int | None = None) -> Record:
        """Give the alias back to who held it before, or to the package of a record.

        Raises:
            DataError: there is none; or the alias changed hands meanwhile.
        """
        seen = self.read()
        target = seen.before() if to is None else next((one for one in seen.records if one.number == to), None)
        now = seen.champion
        if target is None or now is None or target.kind in ("refused", "raced"):
            held = ", ".join(str(one.number) for one in seen.records if one.kind in ("promoted", "rolled back"))
            found = "nothing" if to is None else f"record {to}"
            raise DataError(
                f"{self}: expected a champion to go back to, found {found} before the present one; records of "
                f"champions: {held or 'none'}.",
                fix="Name one of them: --to N",
            )

        def make(log: Log) -> Record:
            if log.turn != seen.turn:
                raise DataError(
                    f"{self} changed hands meanwhile: record {log.turn} holds it now, not {seen.turn}.",
                    fix="Look at it (--show), and roll back again if that is still wanted.",
                )
            return Record(
                number=0,
                kind="rolled back",
                package=target.package,
                over=now.number,
                restores=target.number,
                told=f"back to {target.package.name} of record {target.number}",
            )

        return self.append(make)


def digest_of(package: Path) -> str:
    """By what a package is known: the sha256 of its files but the card, which verifying writes to."""
    files = read_manifest(package)["files"]
    told = {name: entry["sha256"] for name, entry in files.items() if name != "README.md"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def is_alias(spelled: str) -> bool:
    """Whether an argument names an alias that is there, not the folder of a package or a run."""
    from hf_trainpipe.promotion.folder_store import MARK

    return spelled.startswith(("mlflow:", "hub:")) or (Path(spelled) / MARK).is_file()


def open_alias(spelled: str) -> Alias:
    """``aliases/reviews`` (a folder, made where it is missing), ``mlflow:NAME`` or ``hub:USER/NAME``."""
    kind, colon, name = spelled.partition(":")
    if colon and kind == "mlflow":
        from hf_trainpipe.promotion.mlflow_store import MlflowStore

        return Alias(MlflowStore(name))
    if colon and kind == "hub":
        from hf_trainpipe.promotion.hub_store import HubStore

        return Alias(HubStore(name))
    from hf_trainpipe.promotion.folder_store import FolderStore

    return Alias(FolderStore(Path(spelled)))
