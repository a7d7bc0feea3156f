"""Texts as arrays of characters, any number of them an example: what metrics read of what is right, and of what was written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .features import Ragged, Stream
from .ragged import ends_of

Array = npt.NDArray[Any]
END = -1
"""Behind each text; a text may hold NUL itself."""


def characters_of(examples: Sequence[Sequence[str]], *, is_target: bool = False) -> Stream:
    """The texts of each example in a column ``characters``, int32: code points, and :data:`END` behind each text.

    Args:
        is_target: Whether they are what is learnt, so that the data's fingerprint has them.
    """
    joined = ["".join(f"{text}\0" for text in texts) for texts in examples]
    codes = np.frombuffer("".join(joined).encode("utf-32-le", "surrogatepass"), dtype=np.int32)
    ends = np.zeros(len(codes), dtype=bool)
    lengths = np.array([len(text) + 1 for texts in examples for text in texts], dtype=np.int64)
    ends[np.cumsum(lengths) - 1] = True
    column = Ragged(np.where(ends, np.int32(END), codes), to_model=False, to_loss=is_target)
    return Stream(ends_of(np.array([len(one) for one in joined], dtype=np.int64)), {"characters": column})


def texts_of(codes: Array) -> list[str]:
    """The texts of one example, from its characters."""
    cuts = np.flatnonzero(codes == END)
    return [text_of(codes[begin:end]) for begin, end in zip([0, *(cuts[:-1] + 1)], cuts, strict=True)]


def text_of(codes: Array) -> str:
    """One text, from its characters."""
    return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
