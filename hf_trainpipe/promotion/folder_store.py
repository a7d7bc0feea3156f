"""An alias as a folder.

alias.json        who holds it, for people and other tools; written after the log, from it
alias.lock        held while a record is added
log/000001.json   a record each; never changed
packages/DIGEST/  package/, and recorded.jsonl, which it must reproduce
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from hf_trainpipe.errors import DataError
from hf_trainpipe.package import layout
from hf_trainpipe.package.verify import find_recorded
from hf_trainpipe.promotion.alias import Store, digest_of
from hf_trainpipe.utils.atomic import fsync_dir, fsync_tree, require_writable, write_json

if TYPE_CHECKING:
    from hf_trainpipe.promotion.alias import Record

MARK = "alias.json"
_SHORT = 16
"""Digits of a digest that name a folder."""


class FolderStore(Store):
    """A folder on a file system with locks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if folder.exists() and not (folder / MARK).is_file() and not self._log.is_dir() and any(folder.iterdir()):
            raise DataError(
                f"{folder}: expected the folder of an alias, or one that is not there yet, found other files in it.",
                fix="Name another folder: --over aliases/NAME",
            )

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def describe(self) -> str:
        return str(self.folder)

    def records(self) -> list[dict[str, Any]]:
        found = []
        for file in sorted(self._log.glob("[0-9]*.json")):
            try:
                found.append(json.loads(file.read_bytes()))
            except ValueError as error:
                raise DataError(f"{file}: expected JSON, found {error}.", fix="Bring it back from a copy.") from error
        return found

    def append(self, number: int, record: Mapping[str, Any]) -> bool:
        require_writable(self._log)
        with FileLock(self.folder / "alias.lock"):
            file = self._log / f"{number:06}.json"
            if file.exists():
                return False
            write_json(file, record, sort_keys=False)
            return True

    def put(self, package: Path) -> str:
        digest = digest_of(package)
        reference = f"packages/{digest[:_SHORT]}"
        place = self.folder / reference
        if place.is_dir():
            return reference
        require_writable(place.parent)
        building = place.with_name(f".tmp-{place.name}-{os.getpid()}")
        shutil.rmtree(building, ignore_errors=True)
        try:
            building.mkdir()
            names, _ = layout.list_files(package)
            for name in names:
                (building / "package" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(package / name, building / "package" / name)
            if (recorded := find_recorded(package)) is not None:
                shutil.copy2(recorded, building / layout.RECORDED)
            layout.refuse_changed(building / "package", layout.read_manifest(building / "package"))
            fsync_tree(building)
            try:
                building.rename(place)
            except OSError:  # somebody else was faster with the same package
                if not place.is_dir():
                    raise
        finally:
            shutil.rmtree(building, ignore_errors=True)
        fsync_dir(place.parent)
        return reference

    def fetch(self, reference: str) -> Path:
        place = self.folder / reference / "package"
        if not place.is_dir():
            raise DataError(
                f"{self.folder}: the log names {reference}, which is not there.", fix="Bring it back from a copy."
            )
        return place.resolve()

    def point(self, names: Mapping[str, Record]) -> None:
        told = {
            name: {
                "record": record.number,
                "package": f"{record.package.reference}/package",
                "digest": record.package.digest,
                "name": record.package.name,
                "since": record.time,
            }
            for name, record in names.items()
        }
        with FileLock(self.folder / "alias.lock"):
            file = self.folder / MARK
            before = json.loads(file.read_bytes()) if file.is_file() else {}
            newest = max((record.number for record in names.values()), default=0)
            if newest >= before.get("newest", 0):  # a slower process has read an older log
                write_json(file, {"schema": 1, "newest": newest, **told})
