"""A pass that takes long, kept on disk piece by piece: one that was interrupted goes on behind the last piece."""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.utils.atomic import write_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Arrays = Mapping[str, np.ndarray]


class Pieces:
    """The pieces of one pass.

    Args:
        folder: Named by all that decides about the numbers, but for which items a piece has. Made with the first piece.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.computed = 0
        """Items whose pieces were not there."""

    def piece(self, items: np.ndarray, compute: Callable[[], Arrays]) -> Arrays:
        """The arrays of some items: those on the disk, or else what ``compute`` gives; a damaged piece counts as none.

        Args:
            items: int64[n], in the order in which they are computed.
        """
        path = self.folder / f"{hashlib.sha256(np.ascontiguousarray(items).tobytes()).hexdigest()[:32]}.npz"
        try:
            with np.load(io.BytesIO(path.read_bytes())) as held:
                return {name: held[name] for name in held.files}
        except (EOFError, OSError, KeyError, ValueError, zipfile.BadZipFile):
            found = compute()
        stream, named = io.BytesIO(), dict[str, Any](found)
        np.savez(stream, **named)
        with suppress(FileNotFoundError):  # another run has the whole by now, and removed them
            self.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(path, stream.getvalue(), durable=False)
        self.computed += len(items)
        return found

    def remove(self) -> None:
        """Once the whole of it is kept."""
        shutil.rmtree(self.folder, ignore_errors=True)
