"""Garbage is collected again after the imports, and nobody's own choice is overruled."""

from __future__ import annotations

import gc

from hf_trainpipe import garbage


def test_collection_is_postponed_and_resumed() -> None:
    assert gc.isenabled()
    try:
        garbage.postpone()
        assert not gc.isenabled()
        garbage.resume()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_a_process_that_collects_nothing_stays_so() -> None:
    gc.disable()
    try:
        garbage.postpone()
        garbage.resume()
        assert not gc.isenabled()
    finally:
        gc.enable()
