"""Words of one meaning, from the files of WordNet (wndb(5WN)), which NLTK's search finds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from hf_trainpipe.runtime.text.nltk_data import PARTS, read_all

_FOLDER = "corpora/wordnet"


def files(step: str) -> dict[str, bytes]:
    """The files that synonyms are read from.

    Args:
        step: Who asks, for messages.

    Raises:
        MissingPipeline: they are not on this machine.
    """
    return read_all([f"{_FOLDER}/{kind}.{part}" for part in PARTS.values() for kind in ("index", "data")], step=step)


class Synonyms:
    """Words of the first, most frequent, meaning of a word, in all parts of speech.

    Args:
        held: What :func:`files` gave.
    """

    def __init__(self, held: Mapping[str, bytes]) -> None:
        self._data = {part: held[f"{_FOLDER}/data.{part}"] for part in PARTS.values()}
        self._meaning: dict[str, list[tuple[str, int]]] = {}
        for part in PARTS.values():
            for line in held[f"{_FOLDER}/index.{part}"].splitlines():
                if line[:1] not in (b" ", b""):  # the licence
                    lemma, _, count, *rest = line.split()
                    self._meaning.setdefault(lemma.decode(), []).append((part, int(rest[len(rest) - int(count)])))
        self.of = lru_cache(65_536)(self._of)

    def _of(self, word: str) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for part, offset in self._meaning.get(word, ()):
            data = self._data[part]
            fields = data[offset : data.index(b"\n", offset)].split()
            words = [fields[4 + 2 * number].decode() for number in range(int(fields[3], 16))]
            # Of an adjective "(p)" says where it stands.
            found |= dict.fromkeys(name.partition("(")[0] for name in words if "_" not in name)
        return tuple(name for name in found if name.lower() != word)
