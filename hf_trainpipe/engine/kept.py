"""Outputs of an evaluation that takes long, kept on disk part by part: one that was killed goes on where it stopped."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.runtime.model.outputs import Outputs
from hf_trainpipe.utils.atomic import write_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from hf_trainpipe.data.prepare import Prepared
    from hf_trainpipe.engine.ranks import Ranks
    from hf_trainpipe.runtime.tasks.base import Task

FOLDER = "generated"
"""In a run's directory."""


class Kept:
    """The parts of one evaluation, in a folder named by all that decides about them; those of earlier ones are removed.

    Args:
        run: The run's directory.
        split: What is evaluated.
        model: Whose weights count, bit for bit.
        precision: Of its products.
        examples: Some of the split; None: all.
    """

    def __init__(
        self,
        run: Path,
        split: Prepared,
        model: torch.nn.Module,
        ranks: Ranks,
        *,
        task: Task,
        precision: str,
        examples: np.ndarray | None = None,
    ) -> None:
        digest = hashlib.sha256()
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(dtype=_bytes()).numpy().data)
        chosen = None if examples is None else np.asarray(examples).tolist()
        digest.update(json.dumps([split.digest, task.to_json(), precision, chosen], sort_keys=True).encode())
        self.folder = run / FOLDER / f"{split.name}-{digest.hexdigest()[:32]}"
        self._rank = f"{ranks.rank}-of-{ranks.size}"
        if ranks.is_main:
            for other in (run / FOLDER).glob(f"{split.name}-*"):
                if other != self.folder:
                    shutil.rmtree(other, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)

    def part(self, features: np.ndarray, compute: Callable[[], Outputs]) -> Outputs:
        """The outputs of some features: those on the disk, or else what ``compute`` gives."""
        path = self.folder / f"{self._rank}-{hashlib.sha256(features.tobytes()).hexdigest()[:16]}.npz"
        try:
            return _read(path)
        except (EOFError, OSError, KeyError, ValueError, zipfile.BadZipFile):  # not there, or damaged
            found = compute()
        stream, rows = io.BytesIO(), {f"rows {name}": array for name, array in found.arrays.items()}
        named: dict[str, Any] = {**rows, **{f"starts {name}": array for name, array in found.starts.items()}}
        np.savez(stream, items=found.items, **named)
        write_bytes(path, stream.getvalue(), durable=False)
        return found


def remove_kept(run: Path) -> None:
    """Remove what is kept, once the run is complete."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)


def _read(path: Path) -> Outputs:
    with np.load(path) as held:
        named = {name: held[name] for name in held.files}
    items = named.pop("items")
    arrays, starts = (
        {name.removeprefix(kind): array for name, array in named.items() if name.startswith(kind)}
        for kind in ("rows ", "starts ")
    )
    return Outputs(items, arrays, starts)


def _bytes() -> torch.dtype:
    import torch

    return torch.uint8
