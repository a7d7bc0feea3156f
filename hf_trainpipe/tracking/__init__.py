"""Numbers of a run: the ledger (the truth), the console, and the trackers that follow the ledger."""

from __future__ import annotations

from hf_trainpipe.tracking.base import ConfirmingSession
from hf_trainpipe.tracking.console import Console
from hf_trainpipe.tracking.follower import Follower, SyncReport, sync
from hf_trainpipe.tracking.ledger import Ledger, Point, read, series
from hf_trainpipe.tracking.neptune import Neptune

__all__ = [
    "ConfirmingSession",
    "Console",
    "Follower",
    "Ledger",
    "Neptune",
    "Point",
    "SyncReport",
    "read",
    "series",
    "sync",
]
