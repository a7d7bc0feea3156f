"""What a package knows of the texts that it was tried on: ``profile.json`` and ``profile.safetensors``.

A part of the reference is used to say how texts are read (the nearest of its vectors tell how new a text is, the counts of its
tokens how unusual), the rest is what new texts are ranked among. Both are numbers: neither file holds a text. Vectors are projected
by chance to at most 256 numbers.

Shapes: N texts of the reference, A of them anchors, P = N - A ranked, W numbers of a vector, K of a projected one, C outputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.errors import DataError, PackageError
from hf_trainpipe.utils.atomic import finite, write_json
from hf_trainpipe.watch.measure import Measured
from hf_trainpipe.watch.signals import SIGNALS, held, kept

Array = NDArray[Any]

JSON, ARRAYS = "profile.json", "profile.safetensors"
"""The files of a package."""
VERSION = 1
LEAST, MOST = 100, 2000
"""Texts of a reference: fewer tell nothing, and of more a run takes so many, drawn by chance."""
WINDOW, FALSE_ALARMS, HORIZON = 200, 0.05, 365
"""Texts of a window; how often there may be an alarm without a drift, in a year; windows of a year."""
_ANCHORS = 0.3
"""Share of the reference that says how texts are read."""
_WIDTH = 256
_NEAREST = 3
_SHRINK = 0.1
"""Of the covariance of vectors towards a round one, in 1/50 of their whole variance, so that few anchors whiten it."""
_BLOCK = 4096


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The reference of a package."""

    facts: Mapping[str, Any]
    """What ``profile.json`` holds: for people, and how it was measured."""
    reads: Mapping[str, Array]
    """How texts are read: ``projection`` [W, K], ``anchors`` [A, K], ``center`` [K], ``whitening`` [K, K], ``answers`` [C],
    ``ids`` and ``counts`` of tokens, ascending."""
    pool: Mapping[str, Array]
    """By signal what new texts are ranked among: [P], or [P, K] of directed ones."""

    @cached_property
    def identity(self) -> str:
        """A hash of everything that evidence depends on."""
        digest = hashlib.sha256(json.dumps({"version": VERSION, **self.facts}, sort_keys=True).encode())
        pool = {name: kept(name, array) for name, array in self.pool.items()}
        for kind, arrays in (("read", self.reads), ("pool", pool)):
            for name in sorted(arrays):
                digest.update(f"{kind}.{name}".encode() + np.ascontiguousarray(arrays[name]).tobytes())
        return digest.hexdigest()

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the signals that these texts and this task have, in their order."""
        return tuple(name for name in SIGNALS if name in self.pool)

    def read(self, texts: Measured) -> dict[str, Array]:
        """The readings of texts, by signal; what is compared by direction is centred on the anchors."""
        found: dict[str, Array] = {}
        if texts.vectors is not None and "anchors" in self.reads:
            placed = _placed(texts.vectors, self.reads["projection"])
            found["novelty"] = _distance(placed, self.reads["anchors"].astype(np.float32))
            whitened = (placed - self.reads["center"]) @ self.reads["whitening"]
            found["embeddings"] = held("embeddings", whitened)
        if texts.answers is not None and "answers" in self.reads:
            found["answers"] = held("answers", texts.answers - self.reads["answers"])
        if texts.confidence is not None:
            found["confidence"] = texts.confidence.astype(np.float32)
        found["vocabulary"] = _surprise(texts, self.reads["ids"], self.reads["counts"])
        found["length"] = texts.length.astype(np.float32)
        return {name: found[name] for name in SIGNALS if name in found}

    def save(self, folder: Path) -> None:
        """Write both files."""
        from safetensors.numpy import save_file

        arrays = {f"read.{name}": np.ascontiguousarray(array) for name, array in self.reads.items()}
        arrays |= {f"pool.{name}": np.ascontiguousarray(kept(name, array)) for name, array in self.pool.items()}
        save_file(arrays, folder / ARRAYS)
        write_json(folder / JSON, dict(self.facts), indent=2, sort_keys=False)


def make_profile(texts: Measured, *, source: str, labels: tuple[str, ...] = (), backend: str = "torch") -> Profile:
    """The profile of a reference. Which of its texts become anchors is drawn by chance, the same for the same reference.

    Args:
        source: Where the texts come from, for people: ``test``, or a file's name.
        labels: Names of the task's outputs.
        backend: What ran the network: watched texts have to be measured by the same.

    Raises:
        DataError: there are too few texts.
    """
    if len(texts) < LEAST:
        raise DataError(
            f"a profile needs {LEAST} texts, and {source} has {len(texts):,} that can be answered.",
            fix="hf-trainpipe watch PACKAGE --make-profile --input FILE, with a file of texts as they are usually asked",
        )
    order = np.random.default_rng(len(texts)).permutation(len(texts))
    cut = round(_ANCHORS * len(texts))
    anchors, ranked = texts.take(order[:cut]), texts.take(order[cut:])
    reads: dict[str, Array] = {}
    if anchors.vectors is not None:
        reads |= _read_vectors(anchors.vectors)
    if anchors.answers is not None:
        reads["answers"] = anchors.answers.mean(axis=0)
    reads["ids"], reads["counts"] = (found.astype(np.int64) for found in np.unique(anchors.ids, return_counts=True))
    facts = {
        "version": VERSION,
        "source": source,
        "texts": len(texts),
        "anchors": cut,
        "backend": backend,
        "about": _about(texts, labels),
    }
    plain = Profile(facts=facts, reads=reads, pool={})
    pool = plain.read(ranked)
    return Profile(facts={**facts, "signals": list(pool)}, reads=reads, pool=pool)


def read_profile(package: Path) -> Profile:
    """The profile of a package, whose files trainpipe.json lists with their hashes.

    Raises:
        PackageError: it has none, or one of a later version.
    """
    from hf_trainpipe.package.layout import hash_file, read_manifest

    files = read_manifest(package)["files"]
    if JSON not in files or ARRAYS not in files:
        raise PackageError(
            f"{package} has no profile of the texts that it was tried on: nothing to compare with.",
            fix=f"hf-trainpipe watch {package} --make-profile --input FILE\n"
            "FILE: some hundred texts as they are usually asked.",
            exit_code=2,
        )
    for name in (JSON, ARRAYS):
        if not (package / name).is_file() or hash_file(package / name) != files[name]["sha256"]:
            raise PackageError(
                f"{package / name} is not as trainpipe.json says.", fix="Fetch or write the package again.", exit_code=2
            )
    from safetensors.numpy import load_file

    facts = json.loads((package / JSON).read_bytes())
    if facts.get("version") != VERSION:
        raise PackageError(
            f"{package / JSON}: expected version {VERSION}, found {facts.get('version')!r}.",
            fix="Use the version of the project that wrote it.",
            exit_code=2,
        )
    arrays = load_file(package / ARRAYS)
    parts = {kind: {name.removeprefix(f"{kind}."): array for name, array in arrays.items() if name.startswith(f"{kind}.")}
             for kind in ("read", "pool")}  # fmt: skip
    return Profile(
        facts=facts, reads=parts["read"], pool={name: held(name, one) for name, one in parts["pool"].items()}
    )


def _about(texts: Measured, labels: tuple[str, ...]) -> dict[str, Any]:
    """Means over the reference, for people."""
    found: dict[str, Any] = {"tokens": float(texts.length.mean())}
    if texts.confidence is not None:
        found["confidence"] = float(texts.confidence.mean())
    if texts.answers is not None:
        means = texts.answers.mean(axis=0).tolist()
        found["answers"] = dict(zip(labels, means, strict=True)) if len(labels) == len(means) else means
    about: dict[str, Any] = finite(found)
    return about


def _read_vectors(vectors: Array) -> dict[str, Array]:
    """How vectors are read, from those of the anchors."""
    width = vectors.shape[1]
    chance = np.random.default_rng(0).standard_normal((width, min(width, _WIDTH)))
    projection = np.linalg.qr(chance)[0].astype(np.float32)  # orthonormal columns: of few numbers a rotation
    placed = _placed(vectors, projection)
    center = placed.mean(axis=0)
    spread = np.cov(placed - center, rowvar=False, dtype=np.float64)
    spread = np.atleast_2d(spread) + (_SHRINK / 50 * np.trace(np.atleast_2d(spread)) + 1e-12) * np.eye(len(center))
    values, axes = np.linalg.eigh(spread)
    whitening = ((axes / np.sqrt(values)) @ axes.T).astype(np.float32)
    return {"projection": projection, "anchors": placed.astype(np.float16), "center": center, "whitening": whitening}


def _placed(vectors: Array, projection: Array) -> Array:
    """float32[n, K] of length 1."""
    found = vectors.astype(np.float32) @ projection
    placed: Array = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return placed


def _distance(placed: Array, anchors: Array) -> Array:
    """float32[n]: the mean squared distance to the nearest anchors."""
    found = np.empty(len(placed), dtype=np.float32)
    nearest = min(_NEAREST, len(anchors))
    for start in range(0, len(placed), _BLOCK):
        cosines = placed[start : start + _BLOCK] @ anchors.T
        best = np.partition(cosines, len(anchors) - nearest, axis=1)[:, len(anchors) - nearest :]
        found[start : start + _BLOCK] = 2 - 2 * best.mean(axis=1)
    return found


def _surprise(texts: Measured, ids: Array, counts: Array) -> Array:
    """float32[n]: the mean surprise of a text's tokens, -log of how often they come among the anchors' (add one half)."""
    place = np.minimum(np.searchsorted(ids, texts.ids), max(0, len(ids) - 1))
    known = (ids[place] == texts.ids) if len(ids) else np.zeros(len(texts.ids), dtype=bool)
    count = np.where(known, counts[place] if len(ids) else 0, 0)
    surprise = -np.log((count + 0.5) / (counts.sum() + 0.5 * (len(ids) + 1)))
    sums = np.zeros(len(texts))
    np.add.at(sums, np.repeat(np.arange(len(texts)), texts.length), surprise)
    return (sums / np.maximum(texts.length, 1)).astype(np.float32)
