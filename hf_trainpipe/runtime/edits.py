"""Recipe files in packages of older versions import edits from here: see :mod:`.preprocessing`."""

from __future__ import annotations

from .text.edits import Aligned, Edit, apply_edits

__all__ = ["Aligned", "Edit", "apply_edits"]
