"""The files of a package: which names it may hold, and how what is there differs from what trainpipe.json lists.

The one rule for everything that opens a package: only listed files, with their sizes and hashes, none of them a link (but
those by which the Hub's own cache names its files).
Of what is not listed, hidden names, ``__pycache__`` and documents are passed over, since nothing reads them; anything else,
above all what Python could import or transformers would open, is refused by its name.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .stamps import Stamps

MANIFEST = "trainpipe.json"
DOCUMENT = re.compile(r"README\.md|LICENSE(\.md|\.txt)?|NOTICE|curves\.png")
"""Nothing that answers reads them, and people write into a card: a load does not compare them, ``verify`` does."""
_ALLOWED = re.compile(
    r"""
      README\.md | LICENSE(\.md|\.txt)? | NOTICE | curves\.png | trainpipe\.json | requirements\.txt
    | config\.json | generation_config\.json
    | model(-\d{5}-of-\d{5})?\.safetensors | model\.safetensors\.index\.json
    | tokenizer\.json | tokenizer_config\.json | special_tokens_map\.json | added_tokens\.json
    | vocab\.(txt|json) | merges\.txt | tokenizer\.model | spiece\.model | sentencepiece(\.bpe)?\.model
    | chat_template\.jinja
    | modules\.json | config_sentence_transformers\.json | sentence_bert_config\.json | 1_Pooling/config\.json
    | [A-Za-z_]\w*\.py
    | code/inference\.py | code/requirements\.txt
    | onnx/model(_int8)?\.onnx(\.data)? | onnx/tokenizer(_facts)?\.json | onnx/requirements\.txt
    | tensorflow/saved_model/(saved_model|fingerprint)\.pb | tensorflow/model\.tflite
    | tensorflow/saved_model/variables/variables\.(index|data-00000-of-00001) | tensorflow/(tokenizer|facts)\.json
    | adapter/adapter_config\.json | adapter/adapter_model\.safetensors
    | nltk_data/corpora/stopwords/[a-z]+
    | nltk_data/corpora/wordnet/(LICENSE | index\.(noun|verb|adj|adv) | (noun|verb|adj|adv)\.exc)
    | nltk_data/tokenizers/punkt_tab/[a-z]+/((abbrev_types|sent_starters)\.txt | (collocations|ortho_context)\.tab)
    | nltk_data/taggers/averaged_perceptron_tagger_eng/averaged_perceptron_tagger_eng\.(weights|tagdict|classes)\.json
    | profile\.(json|safetensors)
    | trainpipe_runtime/([A-Za-z_]\w*/)*[A-Za-z_]\w*\.py
    """,
    re.VERBOSE | re.ASCII,
)
_PASSED_OVER = re.compile(r"(\.(md|txt|rst|png|jpe?g|gif|svg|webp|pdf|html|csv|tsv|jsonl|log|cff|bib|ipynb))?")
"""Endings of documents that are not listed and that nothing loads or imports."""
_OTHER_WEIGHTS = re.compile(r"\.(bin|pt|pth|pkl|pickle|ckpt|h5|msgpack)")
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
_WEIGHTS = re.compile(
    r"(adapter/adapter_)?model(-\d{5}-of-\d{5})?\.safetensors|onnx/model(_int8)?\.onnx(\.data)?"
    r"|tensorflow/(saved_model/variables/variables\.data-00000-of-00001|model\.tflite)"
)
_LARGE_TEXT = re.compile(r"((onnx|tensorflow)/)?tokenizer\.json|vocab\.(txt|json)|merges\.txt|.*\.model")
_MIB = 1 << 20
_POINTER = b"version https://git-lfs.github.com/spec/"
_FETCH = "Fetch the package again: its download is not complete."
_OTHER = "Fetch the package again, or write it again (`hf-trainpipe package RUN`)."
_REMOVE = f"Remove what {MANIFEST} does not list: nothing beside it is read or run."
_FILES = "Use a folder of plain files: `hf download REPO --local-dir FOLDER` writes one."


class Problem(NamedTuple):
    """How one file differs: a phrase that begins with its name, and what to do."""

    text: str
    fix: str
    is_stranger: bool = False
    """Neither listed nor of a name that a package holds: a push leaves it behind."""


def is_package_file(name: str) -> bool:
    """Whether ``name``, a path inside a package with ``/``, is one that a package may hold.

    >>> [is_package_file(name) for name in ("model.safetensors", "trainpipe_runtime/words.py", ".env")]
    [True, True, False]
    """
    return _ALLOWED.fullmatch(name) is not None


def limit_of(name: str) -> int | None:
    """The most bytes that a file of this name may have; None: weights, whose header has a limit of its own."""
    if _WEIGHTS.fullmatch(name):
        return None
    return (256 if _LARGE_TEXT.fullmatch(name) else 32) * _MIB


def walk(folder: Path, prefix: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Names with ``/`` and facts of everything below ``folder`` but hidden names, ``__pycache__`` and plain folders.

    Follows no link but those of the Hub's cache (:func:`blob_of`): a link is yielded as one.
    """
    with os.scandir(folder / prefix) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.startswith("."):
            continue
        facts = facts_of(Path(entry.path))
        if not stat.S_ISDIR(facts.st_mode):
            yield prefix + entry.name, facts
        elif entry.name != "__pycache__":
            yield from walk(folder, f"{prefix}{entry.name}/")


def problems(
    folder: Path,
    listed: Mapping[str, Mapping[str, Any]],
    *,
    unread: Callable[[str], bool] = lambda name: False,
    stamps: Stamps | None = None,
) -> list[Problem]:
    """Compare the files below ``folder`` with the listed ones, ``{name: {"size", "sha256"}}``.

    Args:
        unread: Names whose content is not compared: what will not be read.
        stamps: Hashes that were computed before, for files that did not change since; None: computes each.
    """
    found = [_unknown(name) for name in listed if not is_package_file(name) or name == MANIFEST]
    missing = {name for name in listed if is_package_file(name) and not (unread(name) and DOCUMENT.fullmatch(name))}
    for name, facts in walk(folder):
        missing.discard(name)
        if not stat.S_ISREG(facts.st_mode):
            found.append(_not_a_file(folder, name, facts, name not in listed and not is_package_file(name)))
        elif name in listed:
            if not DOCUMENT.fullmatch(name) or not unread(name):
                wrong = _wrong_size(folder, name, listed[name], facts)
                if not wrong and not unread(name):
                    wrong = _wrong_content(folder, name, listed[name], facts, stamps)
                found += wrong
        elif name != MANIFEST and (is_package_file(name) or not _PASSED_OVER.fullmatch(_ending(name))):
            found.append(Problem(f"{name} is not listed in {MANIFEST}", _REMOVE, not is_package_file(name)))
    found += [Problem(f"{name} is missing", _FETCH) for name in missing]
    return sorted(found)


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _unknown(name: str) -> Problem:
    weights = _OTHER_WEIGHTS.fullmatch(_ending(name))
    why = "weights may only be safetensors" if weights else "no package holds a file of that name"
    return Problem(
        f"{name} is listed, but {why}", "Use the version of the project that wrote it, or write it again with this one."
    )


def _not_a_file(folder: Path, name: str, facts: os.stat_result, is_stranger: bool) -> Problem:
    if stat.S_ISLNK(facts.st_mode):
        target = os.readlink(folder / name)[:100]
        return Problem(f"{name} is a link (to {target!r}), not a file", _FILES, is_stranger)
    return Problem(f"{name} is no plain file", _FILES, is_stranger)


def _wrong_size(folder: Path, name: str, expected: Mapping[str, Any], facts: os.stat_result) -> list[Problem]:
    size, limit = facts.st_size, limit_of(name)
    if limit is not None and size > limit:
        return [Problem(f"{name} has {size:,} bytes; at most {limit:,} are read", "Do not use this package.")]
    if size == expected["size"]:
        return []
    if size < 1024 and read_limited(folder / name, 1024).startswith(_POINTER):
        fix = "Run `git lfs pull` in its folder, or `hf download REPO --local-dir FOLDER`."
        return [Problem(f"{name} is a pointer of Git LFS; the file itself was not fetched", fix)]
    fix = _FETCH if size < expected["size"] else _OTHER
    return [Problem(f"{name} has {size} bytes, {expected['size']} were recorded", fix)]


def _wrong_content(
    folder: Path, name: str, expected: Mapping[str, Any], facts: os.stat_result, stamps: Stamps | None
) -> list[Problem]:
    known = stamps.known(name, facts) if stamps else None
    if known is None:
        with open_plain(folder / name) as descriptor:
            facts = os.fstat(descriptor.fileno())
            known = digest_of(descriptor)
        if stamps:
            stamps.learn(name, facts, known)
    if known == expected["sha256"]:
        return []
    return [Problem(f"{name} has sha256 {known[:12]}, {expected['sha256'][:12]} was recorded", _OTHER)]


def blob_of(path: Path) -> Path | None:
    """What a link in the Hub's own cache stands for: ``models--X/snapshots/COMMIT/NAME`` is ``models--X/blobs/HASH``.

    None for every other link. The target may be a link in turn; who opens it does not follow that.
    """
    target = Path(os.path.normpath(path.parent / os.readlink(path)))
    cache = target.parent.parent
    is_blob = target.parent.name == "blobs" and _BLOB.fullmatch(target.name) is not None
    return target if is_blob and cache.name.startswith("models--") and cache / "snapshots" in path.parents else None


def facts_of(path: Path) -> os.stat_result:
    """Of a file, or of the file that the Hub's cache holds for it; of a link itself otherwise."""
    facts = os.lstat(path)
    blob = blob_of(path) if stat.S_ISLNK(facts.st_mode) else None
    return facts if blob is None else os.lstat(blob)


def open_plain(path: Path) -> Any:
    """Open a file for reading; a link is an OSError, but for those of the Hub's cache, and a pipe does not hang."""
    if path.is_symlink():
        path = blob_of(path) or path
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags), "rb")


def read_limited(path: Path, limit: int = 32 * _MIB) -> bytes:
    """The bytes of a plain file.

    Raises:
        OSError: it is a link, is missing or cannot be read.
        ValueError: it has more than ``limit`` bytes, or is no plain file.
    """
    with open_plain(path) as stream:
        facts = os.fstat(stream.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("expected a plain file")
        if facts.st_size > limit:
            raise ValueError(f"it has {facts.st_size:,} bytes; at most {limit:,} are read")
        content: bytes = stream.read(limit + 1)
        return content


def hash_file(path: Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    with path.open("rb") as stream:
        return digest_of(stream)


def digest_of(stream: Any) -> str:
    """The sha256 of what is left of a stream. (``hashlib.file_digest`` came with Python 3.11; a package may meet 3.10.)"""
    digest, block = hashlib.sha256(), bytearray(_MIB)
    view = memoryview(block)
    while count := stream.readinto(block):
        digest.update(view[:count])
    return digest.hexdigest()
