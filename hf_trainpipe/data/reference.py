"""What a model made of a split before the first step, computed once and kept on disk: the model itself as it begins, or a teacher.

An entry is a folder of ``.npy`` files beside the token cache, an array a file, and an ``entry.json`` that is written last and has
their sha256. Its name is a hash of what the numbers follow from: of a model as it begins the weights, the features (so the
tokenizer, the template and the data), what the task reads them by, and the precision. If any of these changes, another entry is
made; a damaged one is made again. The ranks of a run compute a share each; runs that want the same entry at the same time wait for
each other.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.utils.atomic import new_folder, sha256_file

if TYPE_CHECKING:
    from collections.abc import Callable
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

    settings = {
        "version": VERSION,
        "task": [type(task).__name__, task.encoding],
        **({} if task.refers else {"asked": [task.to_json(), _digest_of_columns(features)]}),
        "weights": weights,
        "precision": precision,
        "features": tokens_digest(features),
    }
    told = f"looked at {split} with the model as it begins: {features.num_examples:,} examples; kept"
    known = kept(settings, columns, lengths=features.lengths, root=root, ranks=ranks, done=lambda: say(told))
    return replace(features, dense={**features.dense, **known})


def kept(
    settings: dict[str, Any],
    compute: Callable[[np.ndarray], dict[str, np.ndarray]],
    *,
    lengths: np.ndarray,
    root: Path,
    ranks: Ranks | None,
    done: Callable[[], None],
) -> dict[str, np.ndarray]:
    """Arrays with a row for each of some items, from the disk, or computed and put there.

    Args:
        settings: All that they follow from, as JSON.
        compute: The arrays of some of the items, ascending int64.
        lengths: int64[n]: how long an item takes, about; ranks get shares of all lengths.
        root: The cache folder.
        ranks: Of the run, which all call this and compute a share each; None: whoever comes first computes all of it.
        done: Called once they are computed.
    """
    from filelock import FileLock

    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]
    folder = root / "reference" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    one_at_a_time = FileLock(folder.with_suffix(".lock"))

    def save(found: dict[str, np.ndarray]) -> None:
        with one_at_a_time:
            _save(folder, found, settings)

    if ranks is None or ranks.size == 1:
        with one_at_a_time:
            known = _known(folder, len(lengths))
            if known is None:
                known = compute(np.arange(len(lengths)))
                save(known)
                done()
    else:
        known = ranks.from_main(lambda: _known(folder, len(lengths)))
        if known is None:
            known = _together(ranks, lengths, compute)
            ranks.from_main(partial(save, known))
            done()
    return known


def _together(
    ranks: Ranks, lengths: np.ndarray, compute: Callable[[np.ndarray], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The arrays of all items, of which each rank computes a share of all lengths."""
    by_length = np.argsort(-lengths, kind="stable")
    shares = [np.sort(by_length[rank :: ranks.size]) for rank in range(ranks.size)]
    parts = ranks.gather(compute(shares[ranks.rank]))
    back = np.argsort(np.concatenate(shares))
    return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}


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


def _known(folder: Path, count: int) -> dict[str, np.ndarray] | None:
    """The arrays of an entry, of so many rows; None if there is none or it is damaged."""
    try:
        entry: dict[str, Any] = json.loads((folder / "entry.json").read_text())
        found = {}
        for name, digest in entry["columns"].items():
            if sha256_file(folder / f"{name}.npy") != digest:
                return None
            found[name] = np.load(folder / f"{name}.npy")
    except (EOFError, KeyError, OSError, TypeError, ValueError):
        return None
    return found if all(len(rows) == count for rows in found.values()) else None


def _save(folder: Path, arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> None:
    with new_folder(folder) as building:
        for name, rows in arrays.items():
            np.save(building / f"{name}.npy", rows)
        hashes = {name: sha256_file(building / f"{name}.npy") for name in arrays}
        (building / "entry.json").write_text(json.dumps({**settings, "columns": hashes}))
