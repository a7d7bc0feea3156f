"""Shards that ``hf-trainpipe ingest`` wrote, as a data source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

from hf_trainpipe.data.sources import SPLITS, Source
from hf_trainpipe.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset

    from hf_trainpipe.recipe.interfaces import Preview


@dataclass(frozen=True)
class Shards(Source):
    """A folder that ``hf-trainpipe ingest`` wrote, checked against its manifest.

    Rows lie in one file of the machine's cache that every rank maps into memory; messages name the file and line that a row
    was read from before it became part of a shard.
    """

    folder: str
    """The folder with manifest.json."""
    _: KW_ONLY
    train: str = "train"
    """The name of the split in the manifest."""
    validation: str | float | None = None
    """The same, or a fraction of the training rows; None: the manifest's ``validation``, if it has one."""
    test: str | float | None = None
    """As ``validation``."""
    fingerprint: str | None = None
    """What the manifest has to tell of all rows; None: unchecked. The run's own fingerprint of its data is checked anyway."""

    def describe(self) -> str:
        return f"shards: {self.folder}" + (f" ({self.fingerprint[:12]})" if self.fingerprint else "")

    def named_splits(self) -> tuple[dict[str, Any], dict[str, float]]:
        """Those of the recipe, and those that the manifest has by their usual names."""
        named, fractions = super().named_splits()
        there = self.read()[0]["splits"]
        usual = {name: name for name in SPLITS if getattr(self, name) is None and name in there}
        found = {**named, **usual}
        return {name: found[name] for name in SPLITS if name in found}, fractions

    def read(self) -> tuple[dict[str, Any], list[Any], Path]:
        """The manifest, its shards, and where they lie.

        Raises:
            DataError: no manifest, or another fingerprint than the recipe's.
        """
        from hf_trainpipe.data.shards import read_manifest
        from hf_trainpipe.utils.resources import resolve

        folder = resolve(self.folder)
        manifest, shards = read_manifest(folder)
        if self.fingerprint not in (None, manifest["fingerprint"]):
            raise DataError(
                f"data.fingerprint: expected {self.fingerprint}, {folder} has {manifest['fingerprint']}.",
                fix="The rows are others than those that the recipe was written for. Put the new fingerprint into it if you "
                "meant to change them.",
            )
        return manifest, shards, folder

    def paths(self) -> tuple[Path, ...]:
        return (self.read()[2] / "manifest.json",)  # it has the hash of every shard

    def preview(self) -> Preview:
        from hf_trainpipe.data.preview import preview_shards

        return preview_shards(self)

    def _load(self, wanted: Mapping[str, Any]) -> dict[str, Dataset]:
        from datasets import Dataset

        from hf_trainpipe.data.shards import check_shards, mapped, shards_of

        manifest, shards, folder = self.read()
        chosen = {split: shards_of(shards, name, field=f"data.{split}") for split, name in wanted.items()}
        check_shards(folder, [shard for parts in chosen.values() for shard in parts])
        return {
            split: Dataset.from_file(str(mapped(folder, parts, known_by=manifest["fingerprint"])))
            for split, parts in chosen.items()
        }
