"""Disable garbage collection while libraries are imported.

Importing torch and transformers creates a million objects that stay alive; scanning them again and again takes a fifth of
the time until the first step.
"""

from __future__ import annotations

import gc

_postponed = False


def postpone_gc() -> None:
    """Disable garbage collection until :func:`resume_gc`."""
    global _postponed
    if gc.isenabled():
        gc.disable()
        _postponed = True


def resume_gc() -> None:
    """Enable garbage collection again, except for the objects that exist now. Does nothing if it was not postponed."""
    global _postponed
    if _postponed:
        gc.freeze()
        gc.enable()
        _postponed = False
