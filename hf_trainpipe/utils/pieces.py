"""A pass that takes long, kept on disk piece by piece: one that was interrupted goes on behind the last piece."""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.utils.atomic import write_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
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

    def whole(self, parts: Sequence[np.ndarray], compute: Callable[[np.ndarray], Arrays]) -> dict[str, np.ndarray]:
        """The arrays of all items, ascending, one part after the other.

        Args:
            parts: int64[n] each: the items of a piece.
            compute: The arrays of some items.
        """
        return joined(parts, [self.piece(part, partial(compute, part)) for part in parts])

    def remove(self) -> None:
        """Once the whole of it is kept."""
        shutil.rmtree(self.folder, ignore_errors=True)


def joined(items: Sequence[np.ndarray], parts: Sequence[Arrays]) -> dict[str, np.ndarray]:
    """The arrays of all items, ascending, from those of some each."""
    back = np.argsort(np.concatenate(items))
    return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}
