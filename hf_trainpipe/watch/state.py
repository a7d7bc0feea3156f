"""A sequence of windows on disk, so that a second call goes on with the test.

state.json                   the evidence, what was read of which logs, and the name of the file of what waits
PROFILE-waits-N.safetensors  numbers of the texts that wait for the next window
PROFILE-window-N.safetensors numbers of the texts of a window of this year, written once, with its evidence

``state.json`` is replaced last and says how many windows and which other file belong to it, so that a kill leaves the state before
or the one after. None of them holds a text; of logs there are names, numbers of rows and hashes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.errors import CheckpointError, DataError
from hf_trainpipe.utils.atomic import read_json_object, write_bytes, write_json
from hf_trainpipe.watch.bets import Evidence
from hf_trainpipe.watch.profile import Profile
from hf_trainpipe.watch.sequence import Mover, Promise, Windows
from hf_trainpipe.watch.signals import SIGNALS, held, kept

Array = NDArray[Any]
_SHORT = 8
"""Digits of a profile's identity in the names of files."""
_TOLD = "window"
"""Of a window's file, what :attr:`.Windows.history` has of it, as JSON."""
FILE = "state.json"
VERSION = 2
_NEEDS: dict[str, type | tuple[type, ...]] = {
    "profile": str, "promise": dict, "windows": int, "evidence": dict, "logs": list, "pending": list, "waits": str,
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
    saved: int = 0
    """The last window whose file is written."""
    is_anew: bool = False
    """Whether it takes the place of another of the same profile, which stays until this one is saved."""

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
        """Replace what is on disk: what waits, and the windows that came since the last time."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.is_anew:
            (folder / FILE).unlink(missing_ok=True)  # its windows have the names of the new ones
            self.is_anew = False
        windows = self.windows
        profile = windows.profile.identity
        files = {number: folder / _window(profile, number) for number in windows.of_year}
        for at, (number, file) in enumerate(files.items()):
            if number > self.saved:
                readings = {name: held[at] for name, held in windows.pool.items()}
                _write(file, readings, {_TOLD: json.dumps(windows.history[at])})
        self.saved = windows.windows
        earlier = {*folder.glob("*-waits-*.safetensors"), *folder.glob("*-window-*.safetensors")}
        number = 1 + max((int(path.stem.rpartition("-")[2]) for path in earlier if "-waits-" in path.name), default=0)
        waits = folder / f"{profile[:_SHORT]}-waits-{number}.safetensors"
        _write(waits, {name: np.concatenate(parts) for name, parts in self.pending.items()}, {})
        told = {
            "version": VERSION,
            "profile": profile,
            "promise": asdict(windows.promise),
            "windows": windows.windows,
            "alarm": windows.alarm,
            "evidence": {name: evidence.to_json() for name, evidence in windows.evidence.items()},
            "logs": self.logs,
            "pending": self.places,
            "waits": waits.name,
        }
        write_json(folder / FILE, told, sort_keys=False)
        for path in earlier - {*files.values()}:
            path.unlink(missing_ok=True)


def _window(profile: str, number: int) -> str:
    return f"{profile[:_SHORT]}-window-{number}.safetensors"


def _write(path: Path, readings: Mapping[str, Array], told: dict[str, str]) -> None:
    from safetensors.numpy import save

    write_bytes(path, save({name: np.ascontiguousarray(kept(name, one)) for name, one in readings.items()}, told))


def _read(path: Path, *, fix: str) -> tuple[dict[str, Array], dict[str, str]]:
    """Readings by signal, and what is told beside them.

    Raises:
        DataError: it is not there, or damaged.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, "numpy") as file:
            return {name: held(name, file.get_tensor(name)) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except Exception as error:  # safetensors has errors of its own
        raise DataError(f"{path}: cannot be read: {error}.", fix=fix) from error


def open_state(
    folder: Path, profile: Profile, promised: Mapping[str, Any], *, anew: bool = False
) -> tuple[State, str | None]:
    """The state of a folder, or a new one; and what to say of it: it belonged to another profile, and is replaced.

    Args:
        promised: Fields of the :class:`.Promise` that somebody named; the others are as the sequence began, or the usual ones.
        anew: Begin a new one whatever is there.

    Raises:
        DataError: it is damaged, or began with another promise.
    """
    fresh = State(windows=Windows(profile=profile, promise=Promise(**promised), seed=int(profile.identity[:8], 16)))
    if anew or not (folder / FILE).is_file():
        fresh.is_anew = anew
        return fresh, None
    fix = f"Begin anew with --reset, or remove {folder}."
    try:
        version = read_json_object(folder / FILE, needs={"version": int}, fix=fix)["version"]
        if version != VERSION:  # another one has other keys
            raise DataError(f"{folder / FILE}: expected version {VERSION}, found {version}.", fix=fix)
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
    windows = fresh.windows = replace(fresh.windows, promise=promise)
    windows.windows, windows.alarm, fresh.saved = told["windows"], told.get("alarm"), told["windows"]
    windows.evidence = {
        name: Evidence.from_json(told["evidence"][name], two_sided=SIGNALS[name].two_sided, horizon=promise.horizon)
        for name in profile.signals
    }
    windows.pool = {name: [] for name in profile.signals}
    for number in windows.of_year:
        readings, beside = _read(folder / _window(profile.identity, number), fix=fix)
        for name, held_before in windows.pool.items():
            held_before.append(readings[name])
        windows.history.append(json.loads(beside[_TOLD]))
    waiting, _ = _read(folder / told["waits"], fix=fix)
    fresh.pending = {name: [one] for name, one in waiting.items()}
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
