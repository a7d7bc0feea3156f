"""A sequence of windows on disk, so that a second call goes on with the test: ``state.json`` and one file of numbers.

``state.json`` is replaced last and names the file that belongs to it, so that a kill leaves the state before or the one after.
Neither holds a text; of logs there are names, numbers of rows and hashes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.errors import CheckpointError, DataError
from hf_trainpipe.utils.atomic import read_json_object, write_json
from hf_trainpipe.watch.bets import Evidence
from hf_trainpipe.watch.profile import Profile
from hf_trainpipe.watch.sequence import Mover, Promise, Windows
from hf_trainpipe.watch.signals import SIGNALS, held, kept

Array = NDArray[Any]
FILE = "state.json"
VERSION = 1
_NEEDS: dict[str, type | tuple[type, ...]] = {
    "version": int, "profile": str, "promise": dict, "windows": int, "evidence": dict, "history": list, "logs": list,
    "pending": list, "arrays": str,
}  # fmt: skip


@dataclass(kw_only=True)
class State:
    """Windows, what waits for the next one, and what of which logs was read."""

    windows: Windows
    pending: dict[str, list[Array]] = field(default_factory=dict)
    """By signal the readings of texts that are not a whole window yet."""
    places: list[str] = field(default_factory=list)
    """Where they stand."""
    logs: list[dict[str, Any]] = field(default_factory=list)
    """``{"name", "rows", "sha256"}`` of what was read, the hash over its rows."""

    @property
    def num_pending(self) -> int:
        return len(self.places)

    def add(self, readings: dict[str, Array], places: list[str]) -> Iterator[list[Mover]]:
        """Take texts; yields of each window that they complete what moved it."""
        for name in self.windows.profile.signals:
            self.pending.setdefault(name, []).append(readings[name])
        self.places += places
        size = self.windows.promise.window
        while len(self.places) >= size:
            whole = {name: np.concatenate(parts) for name, parts in self.pending.items()}
            moved = self.windows.take({name: array[:size] for name, array in whole.items()}, self.places[:size])
            self.pending = {name: [array[size:]] for name, array in whole.items()}
            self.places = self.places[size:]
            yield moved

    def save(self, folder: Path) -> None:
        """Replace what is on disk."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        windows = self.windows
        arrays: dict[str, Array] = {}
        for name in windows.profile.signals:
            for kind, parts in (("pool", windows.pool[name]), ("pending", self.pending.get(name, []))):
                if parts:
                    arrays[f"{kind}.{name}"] = np.ascontiguousarray(kept(name, np.concatenate(parts)))
        earlier = sorted(folder.glob("texts-*.safetensors"))
        number = 1 + max((int(path.stem.partition("-")[2]) for path in earlier), default=0)
        file = folder / f"texts-{number}.safetensors"
        save_file(arrays, file)
        told = {
            "version": VERSION,
            "profile": windows.profile.identity,
            "promise": asdict(windows.promise),
            "windows": windows.windows,
            "alarm": windows.alarm,
            "evidence": {name: evidence.to_json() for name, evidence in windows.evidence.items()},
            "history": windows.history,
            "logs": self.logs,
            "pending": self.places,
            "arrays": file.name,
        }
        write_json(folder / FILE, told, sort_keys=False)
        for path in earlier:
            path.unlink(missing_ok=True)


def open_state(folder: Path, profile: Profile, promised: Mapping[str, Any]) -> tuple[State, str | None]:
    """The state of a folder, or a new one; and what to say of it: it belonged to another profile, and is replaced.

    Args:
        promised: Fields of the :class:`.Promise` that somebody named; the others are as the sequence began, or the usual ones.

    Raises:
        DataError: it is damaged, or began with another promise.
    """
    fresh = State(windows=Windows(profile=profile, promise=Promise(**promised), seed=int(profile.identity[:8], 16)))
    if not (folder / FILE).is_file():
        return fresh, None
    fix = f"Begin anew with --reset, or remove {folder}."
    try:
        told = read_json_object(folder / FILE, needs=_NEEDS, fix=fix)
    except CheckpointError as error:
        raise DataError(error.message, fix=error.fix) from None
    if told["profile"] != profile.identity:
        return fresh, "what was watched before belongs to another profile: a new sequence begins"
    for name, value in promised.items():
        if told["promise"][name] != value:
            raise DataError(
                f"{folder / FILE}: its sequence began with {name} {told['promise'][name]}, found {value}: what is promised "
                "does not change on the way.",
                fix=f"Leave it as it was. {fix}",
            )
    promise = Promise(**told["promise"])
    from safetensors.numpy import load_file

    try:
        arrays = load_file(folder / told["arrays"])
    except Exception as error:  # safetensors has errors of its own
        raise DataError(f"{folder / told['arrays']}: cannot be read: {error}.", fix=fix) from error
    windows = fresh.windows = replace(fresh.windows, promise=promise)
    windows.windows, windows.history, windows.alarm = told["windows"], told["history"], told.get("alarm")
    windows.evidence = {
        name: Evidence.from_json(told["evidence"][name], two_sided=SIGNALS[name].two_sided, horizon=promise.horizon)
        for name in profile.signals
    }
    for name in profile.signals:
        read = {kind: arrays.get(f"{kind}.{name}") for kind in ("pool", "pending")}
        windows.pool[name], fresh.pending[name] = ([] if one is None else [held(name, one)] for one in read.values())
    fresh.places, fresh.logs = list(told["pending"]), list(told["logs"])
    return fresh, None


@contextmanager
def locked(folder: Path, *, seconds: float = 60) -> Iterator[None]:
    """Alone in a folder; a second call waits.

    Raises:
        DataError: another one is at work for longer than that.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "watch.lock", timeout=seconds):
            yield
    except Timeout:
        raise DataError(
            f"{folder}: another watch is at work there.",
            fix="Wait for it, or stop it: a server that watches keeps its folder. Another test has another --state.",
        ) from None
