"""The Rust side of a fast tokenizer: a copy of its own, and its output as flat arrays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import InputError

Given = TypeVar("Given")
Done = TypeVar("Done")

Ints = npt.NDArray[np.int64]


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """At most ``size`` items at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def tokens_of(batches: Iterable[Sequence[Any]]) -> tuple[npt.NDArray[np.int32], Ints]:
    """The token ids of all encodings, one after the other, and how many each has."""
    ids, counts = [np.zeros(0, dtype=np.int32)], [np.zeros(0, dtype=np.int64)]
    for encodings in batches:
        lists = [encoding.ids for encoding in encodings]
        count = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        counts.append(count)
        ids.append(np.fromiter(chain.from_iterable(lists), dtype=np.int32, count=int(count.sum())))
    return np.concatenate(ids), np.concatenate(counts)


def copy_backend(tokenizer: Any) -> Any:
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise InputError(
            f"tokenizer: expected a fast tokenizer, found {type(tokenizer).__name__}.",
            fix="Choose a model with a tokenizer.json.",
        )
    copy = Tokenizer.from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    copy.encode_special_tokens = backend.encode_special_tokens
    return copy


def word_backend(backend: Any) -> Any:
    """For words: byte-level tokenizers must put the space before each word that they had in running text."""
    from tokenizers import Tokenizer

    if '"ByteLevel"' not in (text := backend.to_str()):
        return backend
    content = json.loads(text)

    def visit(part: Any) -> bool:
        if not isinstance(part, dict):
            return False
        children = [visit(child) for child in part.get("pretokenizers", ())]  # all of them, not the first
        changed = any(children)
        if part.get("type") == "ByteLevel" and part.get("add_prefix_space") is False:
            part["add_prefix_space"] = changed = True
        return changed

    if not visit(content.get("pre_tokenizer")):
        return backend
    copy = Tokenizer.from_str(json.dumps(content))
    copy.encode_special_tokens = backend.encode_special_tokens
    return copy


def unknown_id(tokenizer: Any) -> int:
    for name in ("unk_token_id", "mask_token_id", "eos_token_id", "pad_token_id"):
        token = getattr(tokenizer, name, None)
        if token is not None:
            return int(token)
    return 0


def ahead(work: Callable[[Given], Done], items: Iterable[Given]) -> Iterator[Done]:
    """The results of ``work``, in order; while one is used, a thread is at the next (the backend lets go of Python)."""
    from concurrent.futures import Future, ThreadPoolExecutor

    coming: Future[Done] | None = None
    with ThreadPoolExecutor(max_workers=1) as pool:
        for item in items:
            ready, coming = coming, pool.submit(work, item)
            if ready is not None:
                yield ready.result()
        if coming is not None:
            yield coming.result()
