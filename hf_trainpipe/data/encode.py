"""The token cache: flat memory-mapped arrays, keyed by content, tokenizer and settings.

A cache entry is a folder of ``.npy`` files and an ``entry.json`` that is written last. One process
builds it, usually rank 0, while the others wait on a file lock (not on a collective, which would
time out: accelerate issue 2528); a warm start opens files.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.errors import DataError
from hf_trainpipe.runtime.errors import InputError
from hf_trainpipe.runtime.tasks.registry import is_built_in
from hf_trainpipe.runtime.text.preprocessing import steps_to_json
from hf_trainpipe.runtime.tokens.features import Features, Overflow, Ragged, Stream
from hf_trainpipe.utils.atomic import new_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hf_trainpipe.recipe.interfaces import Augmentation
    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.runtime.text.preprocessor import Preprocessor
    from hf_trainpipe.runtime.tokens.encoder import Encoder

CACHE_VERSION = 3
CHUNK = 10_000
"""Rows hashed at a time."""


def content_digest(inputs: Mapping[str, Sequence[Any]]) -> str:
    """sha256 over the values themselves, so that equal content is equal whatever file it came from."""
    # Runs of older versions compare with this: they called a text and its pair together a pair.
    digest = hashlib.sha256(("pair" if [*inputs] == ["text", "text_pair"] else " ".join(inputs)).encode())
    for number, values in enumerate(inputs.values()):
        digest.update(b"second" if number else b"")
        for start in range(0, len(values), CHUNK):
            texts = [_flat(value) for value in values[start : start + CHUNK]]
            digest.update(np.fromiter(map(len, texts), dtype="<u8", count=len(texts)).tobytes())
            digest.update("".join(texts).encode())
    return digest.hexdigest()


def _flat(value: Any) -> str:
    if isinstance(value, str):
        return value
    is_words = isinstance(value, list) and all(isinstance(word, str) for word in value)
    return "\x1f".join(value) if is_words else json.dumps(value, sort_keys=True, default=str)


def files_digest(steps: Sequence[Preprocessor | Augmentation]) -> str | None:
    """sha256 of what steps read beside their code; None: nothing.

    Raises:
        MissingPipeline: a file is not on this machine.
    """
    found = {name: hashlib.sha256(file).hexdigest() for step in steps for name, file in step.data_files().items()}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest() if found else None


def tokenizer_digest(tokenizer: Any) -> str:
    """sha256 of a fast tokenizer's own serialisation, without its padding and truncation, which calls change.

    They stand before the added tokens; parsing the whole vocabulary to leave them out takes longer than all the rest.
    """
    document = tokenizer.backend_tokenizer.to_str()
    return hashlib.sha256(document[document.index('"added_tokens"') :].encode()).hexdigest()


def _task_settings(task: Task) -> Any:
    """What of a task decides about its features."""
    name = type(task).__name__
    if task.encodes_by is not None:
        return [name, task.encoding]
    if is_built_in(task):
        return [name, task.to_json()]
    file = inspect.getsourcefile(type(task))
    code = Path(file).read_bytes() if file is not None else b""
    return [name, task.to_json(), hashlib.sha256(code).hexdigest()]


def _save(features: Features, folder: Path) -> None:
    """The streams, and what examples have; encoding makes no targets."""
    streams: dict[str, Stream] = {**features.streams, **({} if features.within is None else {"": features.within})}
    described: dict[str, Any] = {}
    np.save(folder / "example.npy", features.example)
    for number, (name, stream) in enumerate(streams.items()):
        np.save(folder / f"{number}.npy", stream.starts)
        columns = {}
        for place, (column, held) in enumerate(stream.columns.items()):
            np.save(folder / f"{number}-{place}.npy", held.values)
            columns[column] = {"fill": held.fill, "to_model": held.to_model, "to_loss": held.to_loss}
        described[name] = {"columns": columns, "mask": stream.mask, "side": stream.side}
    entry = {
        "version": CACHE_VERSION,
        "streams": described,
        "num_examples": features.num_examples,
        "overflow": asdict(features.overflow),
    }
    (folder / "entry.json").write_text(json.dumps(entry))


def _open(folder: Path) -> Features:
    entry = json.loads((folder / "entry.json").read_text())

    def held(name: str) -> np.ndarray:
        array: np.ndarray = np.load(folder / f"{name}.npy", mmap_mode="r")
        return array

    streams = {}
    for number, (name, told) in enumerate(entry["streams"].items()):
        columns = {
            column: Ragged(held(f"{number}-{place}"), **facts)
            for place, (column, facts) in enumerate(told["columns"].items())
        }
        streams[name] = Stream(held(str(number)), columns, mask=told["mask"], side=told["side"])
    within = streams.pop("", None)
    overflow = Overflow(**entry["overflow"])
    return Features(streams, held("example"), entry["num_examples"], overflow, within=within)


def _known(folder: Path) -> Features | None:
    """The entry of a cache; None if there is none or it is damaged."""
    try:
        return _open(folder)
    except (EOFError, KeyError, OSError, TypeError, ValueError):
        return None


def encode_cached(
    inputs: Mapping[str, Sequence[Any]],
    *,
    task: Task,
    encoder: Encoder,
    split: str,
    content: str,
    root: Path,
    place: Callable[[int], str],
    say: Callable[[str], None],
    digest: str | None = None,
    files: str | None = None,
    drawn: Any = None,
) -> Features:
    """What a task makes of the inputs of a split: the cache's entry, which is built first where it is missing.

    Args:
        inputs: Columns by role.
        split: Its name, for messages.
        content: :func:`content_digest` of ``inputs``.
        root: The cache folder.
        place: Where a row comes from, for errors.
        say: Called with a line when something is built.
        digest: :func:`tokenizer_digest` of the encoder's tokenizer, where it is known already.
        files: :func:`files_digest` of the encoder's steps.
        drawn: What else the encoder makes of a text depends on, as JSON values; None: nothing.

    Raises:
        DataError: a text is over-long and the policy is ``error``; the message names its place.
    """
    from filelock import FileLock

    tokenizer = encoder.tokenizer
    settings = {
        "cache": CACHE_VERSION,
        "content": content,
        "task": _task_settings(task),
        "tokenizer": digest or tokenizer_digest(tokenizer),
        "preprocessing": steps_to_json(encoder.steps),
        "max_length": encoder.max_length,
        "overflow": encoder.overflow,
        "stride": encoder.stride if encoder.overflow == "window" else 0,
    }
    if tokenizer.backend_tokenizer.encode_special_tokens:  # what its serialisation does not say
        settings["special_tokens"] = "text"
    if files is not None:
        settings["files"] = files
    if drawn is not None:
        settings["drawn"] = drawn
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]
    folder = root / "tokens" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if (known := _known(folder)) is None:
            try:
                features = task.encode(inputs, encoder)
            except InputError as error:
                position = getattr(error, "position", None)
                where = place(position) if position is not None else f"split {split!r}"
                raise DataError(f"{where}: {error.message}", fix=error.fix) from None
            with new_folder(folder) as building:
                _save(features, building)
            say(f"encoded {split}: {features.num_examples:,} examples, {features.num_tokens:,} tokens")
    return known or _open(folder)
