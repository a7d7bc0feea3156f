"""Feed one tracker from the ledger: every point, and none of them twice.

A run that was killed repeats the steps after its checkpoint with the same losses and scores, so those are sent at once.
What is measured (speed, the number of the attempt) it does not repeat: such a point waits for a checkpoint of its step.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
import time
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.tracking.base import ConfirmingSession, artifacts_file, load_spec, tracking_folder
from hf_trainpipe.tracking.facts import is_measured, last_kept_step, outcome_of
from hf_trainpipe.tracking.ledger import Point, Tail, parse_object, read
from hf_trainpipe.tracking.state import Sent, read_sent, write_sent
from hf_trainpipe.utils.backoff import backoff
from hf_trainpipe.utils.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from hf_trainpipe.recipe import RunInfo, Session

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
LONGEST_WAIT_AT_THE_END_SECONDS = 2.0
ANSWER_SECONDS, FILE_SECONDS = 60.0, 600.0
"""How long a tracker may take to connect, to take some points and to close; and to take a file."""
ATTEMPT = "attempt"
"""The series that tells in which attempt a step was made."""


class Feeder:
    """Sends the ledger of a run to one tracker, and keeps a record of what arrived.

    Args:
        run: What the tracker gets to know of the run.
        spec: The tracker, as :func:`~hf_trainpipe.tracking.base.describe` wrote it.
        position: Its place among the recipe's trackers.
        say: Shows one line to the user.
        log: Writes details to the follower's log.
    """

    def __init__(
        self,
        run: RunInfo,
        spec: Mapping[str, Any],
        *,
        position: int,
        say: Callable[[str], None],
        log: Callable[[str], None],
    ) -> None:
        self.run = run
        self.kind = str(spec["kind"])
        self.destination: str | None = None
        self.num_sent = 0
        self.done = threading.Event()
        self.error: str | None = None
        """What went wrong last; None where the last attempt went well."""
        self._spec = spec
        self._say = say
        self._log = log
        self._state = tracking_folder(run.directory) / f"{self.kind}-{position}.json"
        self._destinations = read_sent(self._state)
        self._ledger = Tail(run.directory / "ledger.jsonl")
        self._artifacts = Tail(artifacts_file(run.directory))
        self._session: Session | None = None
        self._sent = Sent()
        """What the destination holds, once there is one."""
        self._waiting: list[Point] = []
        """Points that were read and cannot be sent yet."""
        self._rewinds = 0
        self._doing: tuple[str, float] | None = None
        """What the tracker is asked to do, and until when."""

    def follow(self, ending: threading.Event, *, poll_s: float) -> None:
        """Send what comes until ``ending`` is set and everything has arrived. Retries without limit."""
        num_failures = 0
        while True:
            is_last = ending.is_set()  # read first, so that points logged before the end are not missed
            if self.send_new():
                num_failures, wait = 0, poll_s
                if is_last:
                    break
            else:
                num_failures += 1
                wait = backoff(num_failures, first_s=FIRST_WAIT_SECONDS, longest_s=LONGEST_WAIT_SECONDS)
            if num_failures and ending.is_set():
                time.sleep(min(wait, LONGEST_WAIT_AT_THE_END_SECONDS))
            else:
                ending.wait(wait)
        self.close()
        self.done.set()

    def send_new(self) -> bool:
        """Send what is new. False: the tracker failed; the next call connects again."""
        try:
            session = self._session or self._connect()
            while (lines := self._ledger.read()) or self._waiting:
                with self._within("taking points", ANSWER_SECONDS):
                    self._send(session, self._ready(lines, session))
                if not lines:
                    break
            with self._within("taking a file", FILE_SECONDS):
                self._upload(session)
                self._conclude(session)
        except Exception as error:  # any tracker, any failure: the others and the run go on
            self._fail(error)
            return False
        if self.error is not None:
            self._say(f"{self.kind}: connected again.")
            self.error = None
        return True

    def late(self) -> str | None:
        """What the tracker has been doing for too long, for the user; None: it is in time."""
        doing = self._doing
        if doing is None or time.monotonic() < doing[1]:
            return None
        return f"no answer in time while {doing[0]}"

    def tell_late(self) -> None:
        """Tell once where the tracker is late."""
        if (late := self.late()) is not None and self.error is None:
            self._tell(late)

    def close(self) -> None:
        """Close the session and the files; a failure is written to the log."""
        self._ledger.rewind()
        self._artifacts.rewind()
        session, self._session = self._session, None
        if session is not None:
            try:
                with self._within("closing", ANSWER_SECONDS):
                    session.finish()
            except Exception as error:
                self._log(f"{self.kind}: finish: {error!r}")

    def num_left(self) -> int:
        """Finite points of the ledger that this tracker could have and has not got."""
        kept = last_kept_step(self.run.directory)
        points = [point for point in read(self._ledger.path) if math.isfinite(point.value)]
        return sum(not (self._sent.has(point.name, point.step) or _waits(point, kept)) for point in points)

    @property
    def address(self) -> str | None:
        """Address of the run, for the user."""
        return self._sent.address

    @contextlib.contextmanager
    def _within(self, doing: str, seconds: float) -> Iterator[None]:
        self._doing = (doing, time.monotonic() + seconds)
        try:
            yield
        finally:
            self._doing = None

    def _connect(self) -> Session:
        with self._within("connecting", ANSWER_SECONDS):
            return self._connected()

    def _connected(self) -> Session:
        session = load_spec(self._spec).start(self.run)
        self._session = session
        self.destination = session.destination if isinstance(session, ConfirmingSession) else "default"
        is_new = self.destination not in self._destinations
        self._sent = sent = self._destinations.setdefault(self.destination, Sent())
        if isinstance(session, ConfirmingSession):
            if is_new and session.notice:
                self._say(f"{self.kind}: {session.notice}")
            sent.address = session.address
            names = {point.name for point in read(self._ledger.path)} | set(sent.steps) | {ATTEMPT}
            held = session.last_steps(sorted(names))
            if held is not None:
                # What the server says, not our own record.
                sent.steps = {name: held[name] for name in names if name in held}
        self._save()
        self._log(f"{self.kind}: connected to {self.destination} {sent.address or ''}")
        return session

    def _save(self) -> None:
        write_sent(self._state, self._destinations, kind=self.kind)

    def _ready(self, lines: Sequence[bytes], session: Session) -> list[Point]:
        """The points that can be sent: those of new lines, and of those that waited. A plain session gets all in order."""
        if self._ledger.rewinds != self._rewinds:  # the ledger was replaced by a shorter one
            self._rewinds, self._waiting = self._ledger.rewinds, []
        points = [point for line in lines if (point := Point.from_line(line)) is not None]
        if not isinstance(session, ConfirmingSession):
            return points
        points = [*self._waiting, *_with_attempt(points)]
        kept = last_kept_step(self.run.directory)
        self._waiting = [point for point in points if _waits(point, kept)]
        return [point for point in points if not _waits(point, kept)]

    def _send(self, session: Session, points: Sequence[Point]) -> None:
        sent = self._sent
        steps = dict(sent.steps)
        confirms = isinstance(session, ConfirmingSession)
        num_fresh = 0
        try:
            for step, group in groupby(points, key=attrgetter("step")):
                fresh = {p.name: p for p in group if p.name not in steps or step > steps[p.name]}
                if not fresh:
                    continue
                first = next(iter(fresh.values()))
                session.log({name: p.value for name, p in fresh.items()}, step=step, time=first.time)
                steps.update(dict.fromkeys(fresh, step))
                num_fresh += len(fresh)
                if not confirms:
                    sent.steps = dict(steps)
            if isinstance(session, ConfirmingSession) and num_fresh:
                session.flush()
                sent.steps = steps
            self.num_sent += num_fresh
        finally:
            if num_fresh:
                self._save()

    def _upload(self, session: Session) -> None:
        sent = self._sent
        while lines := self._artifacts.read():
            for line in lines:
                row = parse_object(line)
                if row is None or not isinstance(row.get("path"), str):
                    continue
                path = self.run.directory / row["path"]
                try:
                    found = path.stat()
                except OSError:
                    self._log(f"{self.kind}: {row['path']} is not there and is not uploaded")
                    continue
                version = [found.st_size, found.st_mtime_ns]
                if sent.artifacts.get(row["path"]) != version:
                    session.artifact(path)
                    if isinstance(session, ConfirmingSession):
                        session.flush()
                    sent.artifacts[row["path"]] = version
                    self._save()

    def _conclude(self, session: Session) -> None:
        outcome = outcome_of(self.run)
        if outcome is None or not isinstance(session, ConfirmingSession):
            return
        found = (self.run.directory / "result.json").stat()
        version = [found.st_size, found.st_mtime_ns]
        if self._sent.artifacts.get("result.json") != version:
            session.conclude(outcome)
            session.flush()
            self._sent.artifacts["result.json"] = version
            self._save()

    def _fail(self, error: Exception) -> None:
        text = brief(error)
        self._log(f"{self.kind}: {text}")
        if self.error is None:
            self._tell(text)
        self.error = text
        self.close()

    def _tell(self, text: str) -> None:
        self.error = text
        self._say(f"{self.kind}: {text}. The run goes on; the ledger keeps everything, and sending is tried again.")


def _with_attempt(points: Iterable[Point]) -> Iterator[Point]:
    """Finite points, and the attempt of each step after those of the step."""
    for _, group in groupby(points, key=attrgetter("step")):
        some = [point for point in group if math.isfinite(point.value)]
        yield from some
        if some:
            yield replace(some[-1], name=ATTEMPT, value=float(some[-1].attempt))


def _waits(point: Point, last_kept_step: float) -> bool:
    return point.step > last_kept_step and is_measured(point.name)


def brief(error: BaseException) -> str:
    """An exception on one line, without colours and secrets: at most 200 characters."""
    text = f"{error.message} {error.fix}" if isinstance(error, TrainpipeError) else str(error)
    text = scrub(re.sub(r"\x1b\[[0-9;]*m", "", text))
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("---", "==="))]
    kind = type(error).__name__
    first = next((line for line in lines if not line.startswith(kind)), "")
    return (f"{kind}: {first}" if first else kind)[:200].rstrip(". ")
