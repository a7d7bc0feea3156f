"""Outputs of an evaluation that takes long, kept on disk part by part: one that was killed goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING

import numpy as np

from hf_trainpipe.runtime.model.outputs import Outputs
from hf_trainpipe.runtime.tokens.batch import token_budget_batches
from hf_trainpipe.utils.pieces import Pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch

    from hf_trainpipe.data.prepare import Prepared
    from hf_trainpipe.engine.ranks import Ranks
    from hf_trainpipe.runtime.tasks.base import Task

FOLDER = "generated"
"""In a run's directory."""
_BATCHES = 4
"""Batches of a part."""


def parts_of(items: np.ndarray, widths: np.ndarray, *, max_tokens: int) -> list[np.ndarray]:
    """Items in parts of a few whole batches: computed part by part they fall into the same batches as at once.

    Args:
        items: int64[n].
        widths: [n] or [n, S] tokens of each, as :func:`.features.token_budget_batches` takes them.
        max_tokens: Of a batch.
    """
    batches = list(token_budget_batches(widths, max_tokens=max_tokens))
    return [items[np.concatenate(batches[at : at + _BATCHES])] for at in range(0, len(batches), _BATCHES)]


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
        folder = run / FOLDER / f"{split.name}-{digest.hexdigest()[:32]}"
        if ranks.is_main:
            for other in (run / FOLDER).glob(f"{split.name}-*"):
                if other != folder:
                    shutil.rmtree(other, ignore_errors=True)
        self._pieces = Pieces(folder)

    def part(self, features: np.ndarray, compute: Callable[[], Outputs]) -> Outputs:
        """The outputs of some features: those on the disk, or else what ``compute`` gives."""
        return _outputs(features, self._pieces.piece(features, lambda: _arrays(compute())))


def remove_kept(run: Path) -> None:
    """Remove what is kept, once the run is complete."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)


def _arrays(found: Outputs) -> dict[str, np.ndarray]:
    return {
        **{f"rows {name}": array for name, array in found.arrays.items()},
        **{f"starts {name}": array for name, array in found.starts.items()},
    }


def _outputs(items: np.ndarray, held: Mapping[str, np.ndarray]) -> Outputs:
    arrays, starts = (
        {name.removeprefix(kind): array for name, array in held.items() if name.startswith(kind)}
        for kind in ("rows ", "starts ")
    )
    return Outputs(items, arrays, starts)


def _bytes() -> torch.dtype:
    import torch

    return torch.uint8
