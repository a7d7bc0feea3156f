"""A server that watches what it is asked: a sample of its texts, measured once they are answered, as numbers.

Everything runs in the model's thread, behind the answers. Of a text nothing is kept but its readings, in the folder of the state;
where somebody asks for it, the texts that moved an alarm too.
"""

from __future__ import annotations

import json
import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.errors import DataError, PackageError
from hf_trainpipe.watch.measure import measure_features
from hf_trainpipe.watch.profile import Profile, read_profile
from hf_trainpipe.watch.state import State, locked, open_state

if TYPE_CHECKING:
    from hf_trainpipe.serve.engine import Engine
    from hf_trainpipe.serve.metrics import Metrics
    from hf_trainpipe.serve.settings import Watching
    from hf_trainpipe.watch.sequence import Mover

_log = logging.getLogger("hf_trainpipe.serve")
MOVED = "moved.jsonl"
"""Texts that moved an alarm, where they are kept."""
_SAVE_EVERY = 20
"""Texts after which those that wait for a window are saved."""


def profile_of(engine: Engine) -> Profile:
    """The profile of a package that is served.

    Raises:
        PackageError: it has none, one that another backend or precision measured, or a runtime of its own answers.
    """
    profile = read_profile(engine.folder)
    measured = str(profile.facts["backend"])
    if engine.runtime != "installed":
        raise PackageError(
            f"{engine.folder}: its own runtime answers, and only the installed one can be watched.",
            fix="Write the package again (`hf-trainpipe package RUN`), or leave --allow-code away.",
            exit_code=2,
        )
    if (precision := engine.info["precision"]) != "fp32":
        raise PackageError(
            f"{engine.folder}: its profile was measured in fp32, and it answers in {precision}.",
            fix=f"Leave --watch or --precision {precision} away.",
            exit_code=2,
        )
    if measured != engine.backend:
        raise PackageError(
            f"{engine.folder}: its profile was measured by {measured}, and {engine.backend} answers, whose numbers differ.",
            fix=f"Serve it with --backend {measured}, or make a profile by {engine.backend} "
            f"(watch --make-profile --backend {engine.backend}).",
            exit_code=2,
        )
    return profile


class Watcher:
    """Measures a share of the answered texts of one package; the model's thread alone calls it.

    Its folder is opened with the first text. Where a package takes over from another, the sequence of the new one begins once
    that of the old one was saved. One that cannot be watched answers all the same, which is said at once.
    """

    def __init__(self, settings: Watching, engine: Engine, metrics: Metrics) -> None:
        self._settings, self._engine, self._metrics = settings, engine, metrics
        self._profile: Profile | None = None
        self._chance = np.random.default_rng()
        self._open = ExitStack()
        self._state: State | None = None
        self._is_on = False
        self._is_broken = False
        self._has_waited = False
        self._seen = 0
        self._texts: dict[str, Any] = {}
        try:
            self._profile = profile_of(engine)
            self._is_on = True
        except PackageError as error:
            self._stop(error)
        metrics.watching(lambda: self._is_on)

    def see(self, job: Any) -> None:
        """Measure some of the texts of a request that was just answered. Whatever goes wrong, the server goes on."""
        if self._is_broken:
            return
        try:
            drawn = np.flatnonzero(self._chance.random(len(job.examples)) < self._settings.share)
            if len(drawn) and (state := self._opened()) is not None:
                self._measure(state, job, drawn)
        except Exception as error:  # of any kind: answers are what the server is for
            self._stop(error)

    def _stop(self, error: Exception) -> None:
        self._is_on, self._is_broken = False, True
        said = error.message if isinstance(error, PackageError | DataError) else type(error).__name__
        _log.error("watch: nothing is watched: %s; the server goes on", said.rstrip("."))

    def close(self) -> None:
        """Save what waits for a window."""
        if self._state is not None and not self._is_broken:
            self._state.save(self._settings.folder)
        self._open.close()

    def _opened(self) -> State | None:
        """The state; None as long as another server, or the package before, is at work in its folder."""
        if self._state is None:
            assert self._profile is not None
            try:
                self._open.enter_context(locked(self._settings.folder, seconds=0))
            except DataError as error:
                if not self._has_waited:
                    _log.warning("watch: waits: %s", error.message)
                self._is_on, self._has_waited = False, True
                return None
            self._state, note = open_state(self._settings.folder, self._profile, {})
            if note:
                _log.warning("watch: %s", note)
            windows = self._state.windows
            self._seen = self._state.num_pending + windows.windows * windows.promise.window
            self._is_on = True
            self._metrics.watched(windows)
        return self._state

    def _measure(self, state: State, job: Any, drawn: Any) -> None:
        predictor, windows = self._engine.predictor, state.windows
        merged = predictor.task.merge(job.outputs, job.prepared)
        measured = measure_features(predictor, job.prepared, drawn, predictions=merged.take(drawn))
        places = [f"text {self._seen + number}" for number in range(1, len(drawn) + 1)]
        self._seen += len(drawn)
        self._metrics.sampled(len(drawn))
        if self._settings.keeps_texts:
            self._texts |= {place: job.examples[at].values for place, at in zip(places, drawn.tolist(), strict=True)}
        tested = False
        for movers in state.add(windows.profile.read(measured), places):
            tested = True
            self._metrics.watched(windows)
            if windows.alarm is not None and windows.alarm["window"] == windows.windows:
                self._say(windows.alarm, movers)
            waiting = {*state.places}
            self._texts = {place: text for place, text in self._texts.items() if place in waiting}
        if tested or self._seen % _SAVE_EVERY < len(drawn):
            state.save(self._settings.folder)

    def _say(self, alarm: dict[str, Any], movers: list[Mover]) -> None:
        _log.warning("watch: drifted: %s, in window %d", " and ".join(alarm["signals"]), alarm["window"])
        if self._settings.keeps_texts:
            with (self._settings.folder / MOVED).open("a", encoding="utf-8") as file:
                for mover in movers:
                    told = {**vars(mover), "input": self._texts.get(mover.place)}
                    file.write(json.dumps(told, ensure_ascii=False, default=str) + "\n")
