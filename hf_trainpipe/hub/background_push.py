"""Pushing while a run trains, seen from the trainer: start a process for it, and detach from it at the end.

The process (:mod:`hf_trainpipe.hub.background_push_process`) finds new checkpoints in the run's directory. The training
loop neither knows of it nor waits for it, and it can be killed at any instant: its work is in the push queue on disk.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.hub.push_queue import OUTBOX
from hf_trainpipe.sidecar.parent import Sidecar
from hf_trainpipe.utils.atomic import write_json

if TYPE_CHECKING:
    from hf_trainpipe.package.card import CardFacts
    from hf_trainpipe.recipe import Hub

SPEC = "background-push.json"
"""In the queue's folder: what the process is to do. It holds no secret."""


class BackgroundPush(Sidecar):
    """A running process that pushes; or none, with the reason among the messages.

    Args:
        run: The run's directory.
        hub: What the recipe asks for.
        select: The metric that chooses the best model.
        facts: Further facts for model cards; None: there is no template, so only checkpoints are mirrored.
    """

    def __init__(self, run: Path, hub: Hub, *, select: str, facts: CardFacts | None) -> None:
        super().__init__()
        spec: dict[str, Any] = {
            "repo": hub.repo,
            "private": hub.private,
            "when": hub.when if facts is not None else "end",
            "checkpoints": hub.checkpoints,
            "select": select,
            "facts": asdict(facts) if facts is not None else {},
        }
        try:
            (run / OUTBOX).mkdir(exist_ok=True)
            write_json(run / OUTBOX / SPEC, spec)
            self._start(
                "hf_trainpipe.hub.background_push_process",
                [str(run.resolve())],
                log=run / OUTBOX / "background-push.log",
                environ={"OMP_NUM_THREADS": "1"},
            )
        except OSError as error:
            self._messages.append(f"warning: nothing is pushed while it trains ({error})")

    def stop(self, *, timeout: float = 20.0) -> None:
        """End it where the run is complete; a push that is under way has ``timeout`` seconds, the queue keeps the rest."""
        self._end("stop", timeout=timeout, kill=True)

    def leave(self) -> None:
        """Detach from it where the run was interrupted: it pushes the newest checkpoint and ends."""
        self._end()
