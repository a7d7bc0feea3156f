"""Numbers of a run: the ledger (the truth), the console, and the trackers that follow the ledger.

Names are imported when they are first used: a server shows its start on the console and needs nothing of the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "ConfirmingSession": "base",
    "Console": "console",
    "Follower": "follower",
    "SyncReport": "follower",
    "sync": "follower",
    "Ledger": "ledger",
    "Point": "ledger",
    "read": "ledger",
    "series": "ledger",
    "Neptune": "neptune",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
