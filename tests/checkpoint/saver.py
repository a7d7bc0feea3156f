"""A run that resumes and saves once, without torch, to be killed and made to fail from outside.

    python saver.py DIRECTORY

Opens the store, takes the newest valid checkpoint, saves the step after it. Exit 0: saved; 10: the save was
given up; 11: refused at the start.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from hf_trainpipe.checkpoint.snapshot import Snapshot
from hf_trainpipe.checkpoint.store import SaveFailed, Store
from hf_trainpipe.checkpoint.tensors import Blob
from hf_trainpipe.errors import TrainpipeError

RUN = "run-1"
LAST = 3
SAVED, GIVEN_UP, REFUSED = 0, 10, 11


def content(step: int) -> bytes:
    return bytes((step * 37 + position) % 256 for position in range(64))


def snapshot(step: int) -> Snapshot:
    return Snapshot(
        step=step,
        model={"weight": Blob("U8", (64,), content(step))},
        optimizer={"exp_avg/weight": Blob("U8", (64,), content(step + 100))},
        state={"step": step},
        best_step=max(step - 1, 1),
    )


def run(directory: Path) -> int:
    try:
        store = Store(directory, run_uid=RUN, on_quarantine=lambda place, reason: None)
        newest = store.latest()
        store.save(snapshot(min(newest.step + 1, LAST) if newest else 1))
    except SaveFailed:
        return GIVEN_UP
    except TrainpipeError:
        return REFUSED
    return SAVED


if __name__ == "__main__":
    logging.disable()  # a warning that cannot be written to stderr is not what is tried here
    os._exit(run(Path(sys.argv[1])))
