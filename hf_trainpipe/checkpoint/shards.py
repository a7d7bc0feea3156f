"""Parts of a checkpoint that other ranks write: their rows, in files of their own, taken in by rank 0.

Every rank writes in the background, and no collective is needed: a rank writes its files below
``checkpoints/`` under a temporary name, and then, in one step, a note that says what they are. Rank 0, when it writes
the checkpoint, waits for the notes and moves the files into it; it has a name only after that.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from hf_trainpipe.checkpoint import tensors
from hf_trainpipe.checkpoint.manifest import MODEL, OPTIMIZER, shard_name
from hf_trainpipe.utils import atomic
from hf_trainpipe.utils.atomic import Written

PATIENCE_SECONDS = 600.0
POLL_SECONDS = 0.02


def _place(checkpoints: Path, step: int, rank: int) -> Path:
    return checkpoints / f"{atomic.TEMPORARY}rows-{step:08d}-{rank:05d}"


class ShardWriter:
    """Writes the rows of a rank other than 0; one save is in flight at most.

    Args:
        checkpoints: The folder that all ranks see; rank 0 has made it and removed what was unfinished.
    """

    def __init__(self, checkpoints: Path, *, rank: int, ranks: int) -> None:
        self.checkpoints = checkpoints
        self.rank = rank
        self.ranks = ranks
        self._buffers = tensors.Buffers()
        self._thread: threading.Thread | None = None

    def save_async(
        self, step: int, *, model: Mapping[str, tensors.Value], optimizer: Mapping[str, tensors.Value]
    ) -> None:
        """Copy the rows and write them in the background. Rank 0 learns of a failure and gives the save up."""
        self.wait()
        copies = {MODEL: self._buffers.copy("model", model), OPTIMIZER: self._buffers.copy("optimizer", optimizer)}

        def write() -> None:
            place = _place(self.checkpoints, step, self.rank)
            note: dict[str, object] = {}
            try:
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                for name, shared in copies.items():
                    own = shard_name(name, self.rank, self.ranks)
                    note[own] = list(tensors.write_file(place / own, shared))
                atomic.fsync_dir(place)
            except OSError as error:
                note = {"error": [error.errno, error.strerror or str(error)]}
            with contextlib.suppress(OSError):  # then rank 0 waits in vain, gives the save up and says so
                atomic.write_json(place.with_suffix(".json"), note)

        self._thread = threading.Thread(target=write, name=f"rows-{step}")
        self._thread.start()

    def wait(self) -> None:
        """Wait for the save in flight."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def collect(checkpoints: Path, target: Path, *, step: int, ranks: int) -> dict[str, Written]:
    """Move the files of the other ranks into ``target``, a folder on the same disk; on rank 0.

    Raises:
        OSError: a rank could not write its rows, or did not in time; what it left is removed.
    """
    files: dict[str, Written] = {}
    end = time.monotonic() + PATIENCE_SECONDS
    try:
        for rank in range(1, ranks):
            place = _place(checkpoints, step, rank)
            while not place.with_suffix(".json").exists():
                if time.monotonic() > end:
                    raise TimeoutError(f"rank {rank} did not write its rows in {PATIENCE_SECONDS:.0f} s")
                time.sleep(POLL_SECONDS)
            note = json.loads(place.with_suffix(".json").read_text())
            if "error" in note:
                raise OSError(note["error"][0], f"rank {rank}: {note['error'][1]}")
            for name, (size, sha256) in note.items():
                (place / name).rename(target / name)
                files[name] = Written(size, sha256)
    finally:
        for rank in range(1, ranks):
            place = _place(checkpoints, step, rank)
            shutil.rmtree(place, ignore_errors=True)
            place.with_suffix(".json").unlink(missing_ok=True)
    return files
