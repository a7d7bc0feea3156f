"""Python's collection of garbage, left out while libraries are imported.

Importing torch and transformers makes a million objects that stay; looking through them again and again for garbage takes
a fifth of the time until the first step.
"""

from __future__ import annotations

import gc

__all__ = ["postpone_gc", "resume_gc"]

_postponed = False


def postpone_gc() -> None:
    """Collect nothing until :func:`resume_gc`."""
    global _postponed
    if gc.isenabled():
        gc.disable()
        _postponed = True


def resume_gc() -> None:
    """Collect again, but not what is there by now. Does nothing where nothing was postponed."""
    global _postponed
    if _postponed:
        gc.freeze()
        gc.enable()
        _postponed = False
