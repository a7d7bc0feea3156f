"""Checkpoints: an atomic store, verified loading, the resume contract, the run lock. No pickle anywhere."""

from __future__ import annotations

from hf_trainpipe.checkpoint.contract import (
    Difference,
    check_extension,
    check_finished,
    check_resume,
    compare,
    compare_versions,
    remember,
)
from hf_trainpipe.checkpoint.lock import RunLock
from hf_trainpipe.checkpoint.optimizer import flatten_optimizer, load_optimizer
from hf_trainpipe.checkpoint.shards import ShardWriter
from hf_trainpipe.checkpoint.snapshot import Checkpoint, Snapshot
from hf_trainpipe.checkpoint.store import SaveFailed, Store
from hf_trainpipe.utils.atomic import require_space

__all__ = [
    "Checkpoint",
    "Difference",
    "RunLock",
    "SaveFailed",
    "ShardWriter",
    "Snapshot",
    "Store",
    "check_extension",
    "check_finished",
    "check_resume",
    "compare",
    "compare_versions",
    "flatten_optimizer",
    "load_optimizer",
    "remember",
    "require_space",
]
