"""The process that pushes while a run trains: ``python -m hf_trainpipe.hub.background_push_process RUN --parent PID``.

It watches the run's directory for new checkpoints: the newest is mirrored, the best (or each) becomes a package that is
pushed. Where it cannot keep up, it takes the newest. A push that fails is tried again later, less and less often. When
the trainer was interrupted or has ended, it pushes the newest checkpoint once more and ends; when the run is complete the
trainer says "stop" and pushes the rest itself.

Lines for the user go to the pipe that was its standard output, everything else to outbox/background-push.log; secrets
are masked in both. It writes only into outbox/.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from hf_trainpipe.checkpoint import manifest as manifests
from hf_trainpipe.checkpoint.manifest import Broken, folder_name
from hf_trainpipe.checkpoint.snapshot import Checkpoint
from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.hub.interim import write_interim
from hf_trainpipe.hub.mirror import enqueue_checkpoint
from hf_trainpipe.hub.push_queue import BACKGROUND, OUTBOX, Entry, PushQueue, link_or_copy
from hf_trainpipe.hub.repository import enqueue, upload_waiting
from hf_trainpipe.hub.retry import USUAL
from hf_trainpipe.sidecar.child import Child, make_parser, run_process
from hf_trainpipe.utils.backoff import backoff

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 30.0, 600.0


class _Pusher:
    """What was pushed, and what is next."""

    def __init__(self, run: Path, spec: dict[str, Any], *, say: Callable[[str], None]) -> None:
        self.run = run
        self.spec = spec
        self.say = say
        self.queue = PushQueue(run / OUTBOX, owner=run)
        self.seen: int | None = None
        """The newest checkpoint that was queued."""
        self.best: int | None = None
        """The step of the best model that was queued."""
        self.failures = 0
        self.not_before = 0.0
        self._said: set[str] = set()

    def push_new(self, *, last: bool = False) -> None:
        """Queue what is new, and upload what waits; ``last``: without a pause after failures."""
        self._try(self._enqueue)
        if not last and time.monotonic() < self.not_before:
            return
        done, failed = upload_waiting(self.queue, policy=USUAL)
        for entry in done:
            what = "the checkpoint" if entry.kind == "checkpoint" else "the model"
            self.say(f"pushed {what} of step {entry.step} to {entry.repo} ({str(entry.commit)[:12]})")
        for error in failed:
            self._warn(error)
        self.failures = self.failures + 1 if failed else 0
        pause = backoff(self.failures, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S) if failed else 0.0
        self.not_before = time.monotonic() + pause

    def _warn(self, error: TrainpipeError) -> None:
        """Say an error, once."""
        if error.message not in self._said:
            self._said.add(error.message)
            self.say(f"warning: a background push failed, the run goes on: {error.message}")

    def _try(self, step: Callable[..., None], *given: Any) -> None:
        try:
            step(*given)
        except TrainpipeError as error:
            self._warn(error)

    def _enqueue(self) -> None:
        steps = [int(folder.name.removeprefix("step-")) for folder in (self.run / "checkpoints").glob("step-*")]
        if not steps or max(steps) == self.seen:
            return
        held = self._hold(max(steps))
        if not held:
            return  # rotated away meanwhile: there is a newer one
        self.seen = max(held)
        if self.spec["checkpoints"]:
            self._try(self._enqueue_checkpoints, held)
        best = held[self.seen].manifest["best_step"]
        step = {"best": best, "every_save": self.seen}.get(self.spec["when"])
        if step is not None and step != self.best:
            self.best = step
            self._try(self._enqueue_package, held[step])

    def _enqueue_checkpoints(self, held: dict[int, Checkpoint]) -> None:
        with self.queue.lock():
            enqueue_checkpoint(self.run, held, self.queue, repo=self.spec["repo"], private=self.spec["private"])

    def _enqueue_package(self, checkpoint: Checkpoint) -> None:
        package = write_interim(
            self.queue.path / "template",
            checkpoint,
            self.queue.path / "interim",
            facts=self.spec["facts"],
            run=self.run,
            select=self.spec["select"],
        )
        asked = Entry(
            kind="package",
            repo=self.spec["repo"],
            private=self.spec["private"],
            message=f"Step {checkpoint.step}, still training",
            step=checkpoint.step,
        )
        with self.queue.lock():
            enqueue(package, asked, self.queue)

    def _hold(self, step: int) -> dict[int, Checkpoint]:
        """A checkpoint, and the best that it names, held by links: the run may rotate them away meanwhile."""
        place = self.queue.path / "held"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        newest = _link(self.run / "checkpoints" / folder_name(step), place)
        if newest is None:
            return {}
        best = newest.manifest["best_step"]
        other = newest if best in (None, step) else _link(self.run / "checkpoints" / folder_name(best), place)
        return {} if other is None else {newest.step: newest, other.step: other}


def _link(folder: Path, place: Path) -> Checkpoint | None:
    """A checkpoint as links of its files, verified; None if it was removed or is damaged."""
    target = place / folder.name
    try:
        shutil.copytree(folder, target, copy_function=link_or_copy)
        return Checkpoint(target, manifests.verify(target, run_uid=None))
    except (OSError, shutil.Error, Broken, TrainpipeError):
        return None


def main(arguments: list[str] | None = None) -> int:
    """Push what a run writes, until its trainer ends."""
    options = make_parser("hf_trainpipe.hub.background_push_process", __doc__).parse_args(arguments)
    child = Child(options.parent)
    queue = options.run / OUTBOX
    held = FileLock(queue / "background-push.lock")
    if not child.acquire(held):
        return 0
    pusher = _Pusher(options.run, json.loads((queue / BACKGROUND).read_bytes()), say=child.say)
    while not child.wait(options.poll):
        if (options.run / "run.json").exists():
            pusher.push_new()
    if not child.request.startswith(b"stop") and (options.run / "run.json").exists():
        pusher.push_new(last=True)
    for name in ("held", "mirror", "interim"):
        shutil.rmtree(queue / name, ignore_errors=True)
    held.release()
    return 0


if __name__ == "__main__":
    run_process(main, failed=1)
