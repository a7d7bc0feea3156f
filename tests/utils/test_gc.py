"""Garbage collection is enabled again after the imports, unless the user disabled it."""

from __future__ import annotations

import gc

from hf_trainpipe.utils.gc import postpone_gc, resume_gc


def test_collection_is_postponed_and_resumed() -> None:
    assert gc.isenabled()
    try:
        postpone_gc()
        assert not gc.isenabled()
        resume_gc()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_a_process_that_collects_nothing_stays_so() -> None:
    gc.disable()
    try:
        postpone_gc()
        resume_gc()
        assert not gc.isenabled()
    finally:
        gc.enable()
