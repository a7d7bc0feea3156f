"""The folder ``checkpoints/`` on disk: written whole or not at all, verified, quarantined, rotated.

    checkpoints/step-00000120/   MANIFEST.json model.safetensors optimizer.safetensors state.json
    checkpoints/.tmp-*           being written; removed when the folder is opened for writing
    checkpoints/.trash-*         being deleted; likewise
    checkpoints/.quarantine/     found damaged, with the reason beside each

A checkpoint gets a name ``step-*`` only by the rename that ends its writing, and loses it by the rename that
begins its deletion: a kill at any instant leaves valid checkpoints under valid names.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hf_trainpipe.checkpoint import manifest, shards, tensors
from hf_trainpipe.checkpoint.manifest import MANIFEST, MODEL, OPTIMIZER, STATE, Broken, folder_name, shard_name
from hf_trainpipe.checkpoint.snapshot import Checkpoint, Prepared
from hf_trainpipe.utils import atomic

QUARANTINE = ".quarantine"
_TRASH = ".trash-"
_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What can be done to ``checkpoints/``. Policy is in :class:`~hf_trainpipe.checkpoint.store.Store`."""

    path: Path
    run_uid: str | None
    """The run that checkpoints must belong to; None: any."""
    mode: Literal["write", "read"]
    """``read`` changes nothing on disk: damaged checkpoints are reported where they are."""
    on_quarantine: Callable[[Path, str], None]
    """Called with the place of a damaged checkpoint and the reason."""

    def prepare(self) -> None:
        """Make sure that the folder can be written, and remove what a killed process left unfinished.

        Raises:
            TrainpipeError: it cannot be written.
        """
        atomic.require_writable(self.path)
        for path in self.path.iterdir():
            if path.name.startswith((atomic.TEMPORARY, _TRASH)):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def steps(self) -> list[int]:
        """Steps of the checkpoints that have a valid name, ascending. They are not verified."""
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []
        found = (_NAME.fullmatch(name) for name in names)
        return sorted(int(match[1]) for match in found if match and folder_name(int(match[1])) == match[0])

    def has(self, step: int) -> bool:
        """Whether there is a folder with the name of that step's checkpoint."""
        return os.path.lexists(self.path / folder_name(step))

    def open(self, step: int) -> Checkpoint | None:
        """The verified checkpoint of ``step``; None if there is none or it went into quarantine.

        Raises:
            CheckpointError: of a newer schema, of another run, or unreadable for lack of a permission.
        """
        if not self.has(step):
            return None
        path = self.path / folder_name(step)
        try:
            return Checkpoint(path, manifest.verify(path, run_uid=self.run_uid))
        except Broken as error:
            self.quarantine(step, str(error))
            return None

    def write(self, prepared: Prepared) -> Path:
        """Write a new checkpoint, and read it back.

        Raises:
            OSError: nothing temporary is left, unless the disk refuses that as well.
            Broken: what was read back differs from what was written.
        """
        final = self.path / folder_name(prepared.step)
        temporary = self.path / f"{atomic.TEMPORARY}{prepared.step:08d}-{uuid.uuid4().hex}"
        try:
            temporary.mkdir()
            model, optimizer = (shard_name(name, 0, prepared.ranks) for name in (MODEL, OPTIMIZER))
            files = {
                model: tensors.write_file(temporary / model, prepared.model),
                optimizer: tensors.write_file(temporary / optimizer, prepared.optimizer),
                STATE: atomic.write_new(temporary / STATE, prepared.state),
                **shards.collect(self.path, temporary, step=prepared.step, ranks=prepared.ranks),
            }
            listed = {name: {"size": file.size, "sha256": file.sha256} for name, file in files.items()}
            facts = {"step": prepared.step, "best_step": prepared.best_step, "run_uid": self.run_uid, "files": listed}
            data = manifest.render({**prepared.manifest, "schema": manifest.SCHEMA, **facts})
            atomic.write_new(temporary / MANIFEST, data)
            atomic.fsync_dir(temporary)
            os.rename(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        # If this fails the checkpoint is whole, but its name may not survive a power cut.
        atomic.fsync_dir(self.path)
        manifest.verify(final, run_uid=None)
        return final

    def quarantine(self, step: int, reason: str) -> None:
        """Move a damaged checkpoint into the quarantine, write the reason beside it, and report both."""
        path = self.path / folder_name(step)
        place = path
        if self.mode == "write" and self.has(step):
            free = None
            try:
                (self.path / QUARANTINE).mkdir(exist_ok=True)
                free = free_name(self.path / QUARANTINE, path.name)
                os.rename(path, free)
                place = free
                atomic.fsync_dir(self.path)
                atomic.write_json(free.parent / f"{free.name}.reason.json", {"step": step, "reason": reason})
            except OSError as error:
                reason = f"{reason} (putting it into quarantine failed: {error.strerror or error})"
        self.on_quarantine(place, reason)

    def delete(self, *, keep: Collection[int | None]) -> None:
        """Delete every checkpoint whose step is not in ``keep``.

        Raises:
            OSError: what remains of a deletion is removed when the folder is opened again.
        """
        for step in self.steps():
            if step not in keep:
                trash = self.path / f"{_TRASH}{folder_name(step)}-{uuid.uuid4().hex}"
                os.rename(self.path / folder_name(step), trash)
                atomic.fsync_dir(self.path)
                shutil.rmtree(trash)


def free_name(folder: Path, name: str, ending: str = "") -> Path:
    """``folder/name-N`` and the suffix, for the smallest free N from 1 on."""
    number = 1
    while os.path.lexists(folder / f"{name}-{number}{ending}"):
        number += 1
    return folder / f"{name}-{number}{ending}"
