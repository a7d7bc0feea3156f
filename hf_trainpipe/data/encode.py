"""The token cache: flat memory-mapped arrays, keyed by content, tokenizer and settings.

A cache entry is a folder of ``.npy`` files and an ``entry.json`` that is written last. One process
builds it, usually rank 0, while the others wait on a file lock (not on a collective, which would
time out: accelerate issue 2528); a warm start opens files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hf_trainpipe.errors import DataError
from hf_trainpipe.runtime.errors import InputError
from hf_trainpipe.runtime.text.preprocessing import Preprocessor, apply, apply_words, steps_to_json
from hf_trainpipe.runtime.tokens.encoding import Encoded, Overflow, TextEncoder

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Tokens

__all__ = ["CACHE_VERSION", "Columns", "content_digest", "encode_cached", "tokenizer_digest"]

CACHE_VERSION = 2
CHUNK = 10_000
"""Rows preprocessed at a time, so that texts in flight stay bounded."""


@dataclass(frozen=True)
class Columns:
    """What is encoded: one column of texts, a pair of them, or a column of word lists."""

    kind: Literal["text", "pair", "words"]
    first: Sequence[Any]
    second: Sequence[str] | None = None
    is_preprocessed: bool = False
    """Whether the preprocessing was done where the words were cut, and so stands in the content."""

    def __len__(self) -> int:
        return len(self.first)


def content_digest(columns: Columns) -> str:
    """sha256 over the values themselves, so that equal content is equal whatever file it came from."""
    digest = hashlib.sha256(columns.kind.encode())

    def feed(values: Sequence[Any]) -> None:
        for start in range(0, len(values), CHUNK):
            texts = [value if isinstance(value, str) else "\x1f".join(value) for value in values[start : start + CHUNK]]
            digest.update(np.fromiter(map(len, texts), dtype="<u8", count=len(texts)).tobytes())
            digest.update("".join(texts).encode())

    feed(columns.first)
    if columns.second is not None:
        digest.update(b"second")
        feed(columns.second)
    return digest.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """sha256 of a fast tokenizer's own serialisation, without its padding and truncation, which calls change.

    They stand before the added tokens; parsing the whole vocabulary to leave them out takes longer than all the rest.
    """
    document = tokenizer.backend_tokenizer.to_str()
    return hashlib.sha256(document[document.index('"added_tokens"') :].encode()).hexdigest()


def _build(columns: Columns, *, preprocessing: tuple[Preprocessor, ...], encoder: TextEncoder) -> Encoded:
    first: list[Any] = []
    second: list[str] | None = None if columns.second is None else []
    for start in range(0, len(columns), CHUNK):
        rows = slice(start, start + CHUNK)
        if columns.kind == "words":
            first.extend(apply_words(preprocessing, list(columns.first[rows])))
        else:
            first.extend(apply(preprocessing, list(columns.first[rows])))
        if second is not None and columns.second is not None:
            second.extend(apply(preprocessing, list(columns.second[rows])))
    if columns.kind == "words":
        return encoder.words(first)
    return encoder.texts(first, second)


def _save(encoded: Encoded, folder: Path) -> None:
    arrays: dict[str, Any] = {"ids": encoded.ids, "starts": encoded.starts, "example": encoded.example}
    if encoded.types is not None:
        arrays["types"] = encoded.types
    if encoded.words is not None:
        arrays["words"] = encoded.words
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    entry = {
        "version": CACHE_VERSION,
        "arrays": sorted(arrays),
        "num_examples": encoded.num_examples,
        "overflow": asdict(encoded.overflow),
    }
    (folder / "entry.json").write_text(json.dumps(entry))


def _open(folder: Path) -> Encoded:
    entry = json.loads((folder / "entry.json").read_text())
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in entry["arrays"]}
    return Encoded(
        ids=arrays["ids"],
        types=arrays.get("types"),
        starts=arrays["starts"],
        example=arrays["example"],
        words=arrays.get("words"),
        num_examples=entry["num_examples"],
        overflow=Overflow(**entry["overflow"]),
    )


def _known(folder: Path) -> Encoded | None:
    """The entry of a cache; None where there is none, or it is damaged and has to be built anew."""
    try:
        return _open(folder)
    except (EOFError, KeyError, OSError, TypeError, ValueError):
        return None


def encode_cached(
    columns: Columns,
    *,
    split: str,
    content: str,
    preprocessing: tuple[Preprocessor, ...],
    tokenizer: Any,
    tokens: Tokens,
    max_length: int,
    root: Path,
    place: Callable[[int], str],
    say: Callable[[str], None],
    digest: str | None = None,
) -> Encoded:
    """Open the cache entry of a split, building it first where it is missing.

    Args:
        columns: The texts or words.
        split: Its name, for messages.
        content: :func:`content_digest` of ``columns``.
        max_length: Tokens a feature holds at most.
        root: The cache folder.
        place: Where a row comes from, for errors.
        say: Called with a line when something is built.
        digest: :func:`tokenizer_digest` of ``tokenizer``, where it is known already.

    Raises:
        DataError: a text is over-long and the policy is ``error``; the message names its place.
    """
    from filelock import FileLock

    if columns.is_preprocessed:
        preprocessing = ()
    settings = {
        "cache": CACHE_VERSION,
        "content": content,
        "tokenizer": digest or tokenizer_digest(tokenizer),
        "preprocessing": steps_to_json(preprocessing),
        "max_length": max_length,
        "overflow": tokens.overflow,
        "stride": tokens.stride if tokens.overflow == "window" else 0,
    }
    if tokenizer.backend_tokenizer.encode_special_tokens:  # what its serialisation does not say
        settings["special_tokens"] = "text"
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]
    folder = root / "tokens" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if (known := _known(folder)) is None:
            encoder = TextEncoder(tokenizer, max_length=max_length, overflow=tokens.overflow, stride=tokens.stride)
            try:
                encoded = _build(columns, preprocessing=preprocessing, encoder=encoder)
            except InputError as error:
                position = getattr(error, "position", None)
                where = place(position) if position is not None else f"split {split!r}"
                raise DataError(f"{where}: {error.message}", fix=error.fix) from None
            building = folder.with_name(f".{key}.{os.getpid()}")
            shutil.rmtree(building, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
            building.mkdir()
            _save(encoded, building)
            building.rename(folder)
            say(f"encoded {split}: {len(columns):,} examples, {len(encoded.ids):,} tokens")
    return known or _open(folder)
