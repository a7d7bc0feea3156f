"""What a preprocessing step is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ..kinds import to_json
from .edits import Edit, apply_edits


class Preprocessor(ABC):
    """Text in, text out, by edits, so that places in the result are known in the original.

    Subclasses are frozen dataclasses whose fields are JSON values. The same object runs in training and
    inside the package.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Shorten(Preprocessor):
    ...     word_safe = False
    ...     characters: int = 100
    ...
    ...     def edits(self, texts):
    ...         for text in texts:
    ...             yield [Edit(self.characters, len(text), "")] if len(text) > self.characters else []
    >>> Shorten(5).transform(["Good morning"])
    ['Good ']
    """

    word_safe: ClassVar[bool] = False
    """Whether it may run on each word by itself, where the words and their number must stay."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Distributions that it imports beside those that every package needs; a package pins them."""

    @property
    def kind(self) -> str:
        """The name of the class: how a package calls it."""
        return type(self).__name__

    @abstractmethod
    def edits(self, texts: Sequence[str]) -> Iterable[list[Edit]]:
        """For each text the edits to make, sorted and without overlap. Gets many texts at once."""

    def transform(self, texts: Sequence[str]) -> list[str]:
        """The texts after the edits. Overridden where there is a faster way to the same result."""
        found = list(self.edits(texts))
        assert len(found) == len(texts), f"{self.kind}.edits gave {len(found)} lists for {len(texts)} texts"
        return [apply_edits(text, edits) for text, edits in zip(texts, found, strict=True)]

    def data_files(self) -> Mapping[str, bytes]:
        """What it reads beside its code, by the name that the file has in a package, so that it answers the same elsewhere.

        Raises:
            MissingPipeline: a file is not on this machine.
        """
        return {}

    def within(self, package: Path) -> Preprocessor:
        """The step that reads those files from the folder of a package, now, and nothing elsewhere."""
        return self

    def to_json(self) -> dict[str, Any]:
        """``{"kind": ..., field: value, ...}``, tuples as lists."""
        return to_json(self)
