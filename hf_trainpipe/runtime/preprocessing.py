"""What a recipe's own steps import: ``from hf_trainpipe.runtime.preprocessing import Edit, Preprocessor``.

Recipe files travel in packages, so this name stays, whatever moves behind it.
"""

from __future__ import annotations

from .text.edits import Aligned, Edit, apply_edits
from .text.preprocessing import (
    CleanUrls,
    Lowercase,
    NormalizeSpace,
    NormalizeUnicode,
    Preprocessor,
    SpacyLemmas,
    SpacyMaskEntities,
    SpacySentences,
    SpacyTokens,
    StripHtml,
)

__all__ = [
    "Aligned",
    "CleanUrls",
    "Edit",
    "Lowercase",
    "NormalizeSpace",
    "NormalizeUnicode",
    "Preprocessor",
    "SpacyLemmas",
    "SpacyMaskEntities",
    "SpacySentences",
    "SpacyTokens",
    "StripHtml",
    "apply_edits",
]
