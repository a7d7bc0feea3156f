"""What a model made of a split before the first step, computed once and kept on disk: the model itself as it begins, or a teacher.

An entry (:mod:`hf_trainpipe.utils.cached`) has a ``.npy`` file an array. The numbers follow from the weights of a model as it begins, the
features (so the tokenizer, the template and the data), what the task reads them by, and the precision. If any of these changes,
another entry is made. The ranks of a run compute a share each; runs that want the same entry at the same time wait for each other. A
reference is computed in pieces of whole batches, each kept at once, so that a pass that was interrupted goes on and gives the same
bits; hard negatives are found among all texts, in one piece.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.engine.kept import parts_of
from hf_trainpipe.runtime.tasks.base import LOOKED_TOKENS
from hf_trainpipe.utils.cached import Entry
from hf_trainpipe.utils.pieces import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hf_trainpipe.engine.ranks import Ranks
    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.runtime.tokens.features import Features

VERSION = 1


def with_reference(
    features: Features,
    task: Task,
    *,
    compute: Callable[[Features], Features],
    weights: str,
    precision: str,
    root: Path,
    split: str,
    say: Callable[[str], None],
    ranks: Ranks | None = None,
) -> Features:
    """Features with the dense columns of :meth:`.Task.precompute`.

    Args:
        compute: Some of the features with them, computed.
        weights: What identifies the weights.
        precision: What they are computed in: ``fp32``, ``bf16``, ...
        root: The cache folder.
        split: For messages.
        say: Called with a line when they are computed.
        ranks: Of the run, which all call this and compute a share each; None: whoever comes first computes all of it.
    """

    def columns(share: np.ndarray) -> dict[str, np.ndarray]:
        some = features if len(share) == features.num_features else features.keep(share)
        return {name: rows for name, rows in compute(some).dense.items() if name not in features.dense}

    def cut(share: np.ndarray) -> list[np.ndarray]:
        if not task.refers:
            return [share]
        parts = parts_of(share, task.widths(features)[share], max_tokens=LOOKED_TOKENS)
        return [np.sort(part) for part in parts]

    def told(computed: int) -> None:
        before = features.num_features - computed
        say(
            f"looked at {split} with the model as it begins: {features.num_examples:,} examples"
            f"{f', {before:,} of them before' if before else ''}; kept"
        )

    settings = {
        "version": VERSION,
        "task": [type(task).__name__, task.encoding],
        **({} if task.refers else {"asked": [task.to_json(), _digest_of_columns(features)]}),
        "weights": weights,
        "precision": precision,
        "features": tokens_digest(features),
    }
    known = kept(settings, columns, lengths=features.lengths, root=root, ranks=ranks, done=told, cut=cut)
    return replace(features, dense={**features.dense, **known})


def kept(
    settings: dict[str, Any],
    compute: Callable[[np.ndarray], dict[str, np.ndarray]],
    *,
    lengths: np.ndarray,
    root: Path,
    ranks: Ranks | None,
    done: Callable[[int], None],
    cut: Callable[[np.ndarray], Sequence[np.ndarray]] = lambda share: [share],
) -> dict[str, np.ndarray]:
    """Arrays with a row for each of some items, from the disk, or computed and put there.

    Args:
        settings: All that they follow from, as JSON.
        compute: The arrays of some of the items, ascending int64.
        lengths: int64[n]: how long an item takes, about; ranks get shares of all lengths.
        root: The cache folder.
        ranks: Of the run, which all call this and compute a share each; None: whoever comes first computes all of it.
        done: Called once they are computed, with the number of items that were not there in pieces.
        cut: Ascending items in the pieces that are computed and kept one after the other, each ascending.
    """
    entry = Entry(root / "reference", settings)

    def known() -> dict[str, np.ndarray] | None:
        found = entry.read(_read)
        return found if found is not None and all(len(rows) == len(lengths) for rows in found.values()) else None

    def save(computed: dict[str, np.ndarray]) -> None:
        with entry.lock:
            entry.write(partial(_write, computed))

    def pieced(share: np.ndarray) -> dict[str, np.ndarray]:
        return entry.pieces.whole(cut(share) or [share], compute)  # no part: more ranks than items

    if ranks is None or ranks.size == 1:
        with entry.lock:
            found = known()
            if found is None:
                found = pieced(np.arange(len(lengths)))
                save(found)
                done(entry.pieces.computed)
    else:
        found = ranks.from_main(known)
        if found is None:
            shares = _shares(lengths, ranks.size)
            found = joined(shares, ranks.gather(pieced(shares[ranks.rank])))
            ranks.from_main(partial(save, found))
            entry.pieces.remove()  # those of another machine
            done(round(ranks.sum(entry.pieces.computed)))
    return found


def _shares(lengths: np.ndarray, size: int) -> list[np.ndarray]:
    """Of each rank the items that it computes, ascending, of all lengths."""
    by_length = np.argsort(-lengths, kind="stable")
    return [np.sort(by_length[rank::size]) for rank in range(size)]


def tokens_digest(features: Features) -> str:
    """sha256 of the tokens of all examples."""
    digest = hashlib.sha256(np.ascontiguousarray(features.example).tobytes())
    for name, stream in features.streams.items():
        digest.update(f"{name} {stream.mask} {stream.side}".encode())
        digest.update(np.ascontiguousarray(stream.starts).tobytes())
        for column, held in stream.columns.items():
            digest.update(f"{column} {held.values.dtype} {held.fill}".encode())
            digest.update(np.ascontiguousarray(held.values).tobytes())
    return digest.hexdigest()


def _digest_of_columns(features: Features) -> str:
    """Of what is right, too: negatives follow from it."""
    digest = hashlib.sha256()
    for name, rows in sorted({**features.dense, **features.of_examples}.items()):
        digest.update(f"{name} {rows.dtype} {rows.shape}".encode())
        digest.update(np.ascontiguousarray(rows).tobytes())
    return digest.hexdigest()


def _read(folder: Path) -> dict[str, np.ndarray]:
    return {file.stem: np.load(file) for file in sorted(folder.glob("*.npy"))}


def _write(arrays: dict[str, np.ndarray], folder: Path) -> None:
    for name, rows in arrays.items():
        np.save(folder / f"{name}.npy", rows)
