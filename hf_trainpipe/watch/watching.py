"""Watch a log with a package: its rows in windows, the test that goes on, what moved it."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.data.readers_base import AS_FOUND, ReadOptions
from hf_trainpipe.errors import DataError, PackageError
from hf_trainpipe.package.layout import find_package
from hf_trainpipe.tracking.console import Console
from hf_trainpipe.watch.logs import Log
from hf_trainpipe.watch.measure import lacks, measure
from hf_trainpipe.watch.power import Smallest, smallest
from hf_trainpipe.watch.profile import Profile, read_profile
from hf_trainpipe.watch.sequence import Mover, Windows
from hf_trainpipe.watch.state import State, locked, open_state

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LOGS = 1_000
"""Logs that are known again."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A text that moved a signal, as it stands in the log."""

    mover: Mover
    text: str | None
    """None: it was read by an earlier call, and texts are not kept."""


@dataclass(kw_only=True)
class Watched:
    """What :func:`watch` found."""

    package: Path
    state: Path
    windows: Windows
    rows: int = 0
    """Read by this call, those known already left out."""
    known: int = 0
    """Rows of the log that an earlier call has read."""
    pending: int = 0
    """Texts that wait for the next window."""
    new: int = 0
    """Windows of this call."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows without a text, or that the package cannot read, by reason."""
    moved: list[Moved] = field(default_factory=list)
    """Texts that moved the alarm; without one those that moved most in the last window."""
    smallest: dict[str, Smallest] = field(default_factory=dict)
    """By signal what would be seen."""
    notes: list[str] = field(default_factory=list)

    @property
    def drifted(self) -> bool:
        return self.windows.alarm is not None

    def to_json(self) -> dict[str, Any]:
        """As one object."""
        windows, alarm = self.windows, self.windows.alarm
        return {
            "drifted": self.drifted,
            "windows": windows.windows,
            "new_windows": self.new,
            "rows": self.rows,
            "known_rows": self.known,
            "pending": self.pending,
            "left_out": dict(self.left_out),
            "promise": vars(windows.promise),
            "needed": windows.needed,
            "alarm": None if alarm is None else {name: alarm[name] for name in ("window", "signals", "since")},
            "signals": {
                name: {
                    "evidence": evidence.money,
                    "smallest": {"value": self.smallest[name].value, "of": self.smallest[name].kind},
                }
                for name, evidence in windows.evidence.items()
            },
            "moved": [{**vars(one.mover), "text": one.text} for one in self.moved],
            "state": str(self.state),
            "notes": self.notes,
        }


def state_folder(package: Path) -> Path:
    """Where the state of a package lies: ``watch`` beside the package of a run, else ``NAME-watch`` beside it.

    >>> str(state_folder(Path("runs/a/package"))), str(state_folder(Path("models/news")))
    ('runs/a/watch', 'models/news-watch')
    """
    return package.parent / ("watch" if package.name == "package" else f"{package.name}-watch")


def watch(
    package: Path | str,
    input: Path | str | None,
    *,
    state: Path | str | None = None,
    promised: Mapping[str, Any] | None = None,
    reset: bool = False,
    column: Sequence[str] = (),
    reading: ReadOptions = AS_FOUND,
    device: str | None = None,
    allow_code: bool = False,
    backend: str | None = None,
) -> Watched:
    """Go on with the test of a package by the rows of a log that were not read yet.

    A log that has grown since the last call is read from where it was left. Rows that fill no window wait, as numbers, for the
    next call. Nothing is kept of a text.

    Args:
        input: The log; ``-`` is standard input; None: where the test stands.
        state: The folder of the sequence; None: :func:`state_folder`.
        promised: Fields of a :class:`.Promise`; those that are not named are as the sequence began, or the usual ones.
        reset: Begin a new sequence, once rows of the log were measured.

    Raises:
        DataError: the log cannot be read, lacks the columns, or none of its rows can be measured; the state is damaged.
        PackageError: there is no package, or it has no profile.
    """
    path = find_package(package)
    profile = read_profile(path)
    worker = {"device": device, "allow_code": allow_code, "precision": "fp32"}
    worker["backend"] = same_backend(profile, backend)
    folder = state_folder(path.resolve()) if state is None else Path(state)
    with nullcontext() if input is None else locked(folder):
        held, note = open_state(folder, profile, promised or {}, anew=reset)
        found = Watched(package=path, state=folder, windows=held.windows, notes=[note] if note else [])
        if (alarm := held.windows.alarm) is not None:
            found.moved = [Moved(mover=Mover(**one), text=None) for one in alarm["texts"]]
        if input is not None:
            log = Log(input, path, column=column, reading=reading, logs=held.logs)
            _read(found, held, log, worker)
    found.pending = held.num_pending
    found.smallest = {name: smallest(held.windows, name) for name in profile.signals}
    return found


def same_backend(profile: Profile, backend: str | None) -> str:
    """The backend that a profile was measured by.

    Raises:
        PackageError: another one is asked for, whose numbers differ.
    """
    measured = str(profile.facts["backend"])
    if backend is not None and backend != measured:
        raise PackageError(
            f"The profile was measured by {measured}, whose numbers differ from those of {backend}.",
            fix=f"Leave --backend out, or make a profile by it: --make-profile --input FILE --backend {backend}.",
            exit_code=2,
        )
    return measured


def _read(found: Watched, held: State, log: Log, worker: Mapping[str, Any]) -> None:
    """Measure the rows that are new, chunk by chunk; each is saved, so that a kill costs one."""
    from hf_trainpipe.runtime.handler.predictor import Predictor

    found.known = log.known
    predictor, windows = None, held.windows
    logs, texts, seen = list(held.logs), dict[str, str](), dict[str, str]()
    with Console(0).working(f"watching {log.name}") as work:
        for chunk in log.chunks():
            predictor = predictor or Predictor.load(found.package, **worker)
            inputs = [value for _, value in chunk]
            measured, kept = measure(predictor, inputs)
            for position in sorted({*range(len(inputs))} - {*kept}):
                found.left_out[lacks(predictor.task, inputs[position]) or "that the package cannot read"] += 1
            places = [chunk[position][0] for position in kept]
            for place, position in zip(places, kept, strict=True):
                texts[place] = predictor.task.spelt(inputs[position])
            for movers in held.add(windows.profile.read(measured), places) if measured is not None else ():
                found.new += 1
                seen |= {one.place: texts[one.place] for one in movers if one.place in texts}
                if windows.alarm is not None:
                    movers = [Mover(**one) for one in windows.alarm["texts"]]
                found.moved = [Moved(mover=one, text=seen.get(one.place)) for one in movers]
            waiting = {*held.places}
            texts = {place: text for place, text in texts.items() if place in waiting}
            found.rows += len(chunk)
            if log.is_repeatable:
                held.logs = [*logs, log.told()][-_LOGS:]
            held.save(found.state)
            work(found.rows)
    if found.rows and found.left_out.total() == found.rows:
        raise DataError(
            f"{log.name}: none of its {found.rows:,} rows can be measured: {next(iter(found.left_out))}.",
            fix="Check the file, or choose the column that holds the text with --column NAME.",
            file=log.name,
        )
