"""One thread runs the model; queued requests share its batches.

A request is admitted or refused on the event loop (:mod:`.admission`), before anything is tokenised. The thread encodes
the small requests that have arrived since its last batch and a slice of one large request, picks a batch out of all that
waits (:mod:`.shares`, :mod:`.batch_selection`), computes it, and answers the requests that are now complete. So a short request
beside long ones waits for a slice and a batch, not for the long ones. Requests whose client has gone are not computed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import traceback
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from hf_trainpipe.runtime.bounds import Bounds
from hf_trainpipe.runtime.handler.jobs import heard
from hf_trainpipe.runtime.model.memory import give_back
from hf_trainpipe.serve.admission import Admission, too_much
from hf_trainpipe.serve.batch_selection import choose
from hf_trainpipe.serve.callers import Caller
from hf_trainpipe.serve.refusals import Refusal, internal
from hf_trainpipe.serve.shares import Share, Shares

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hf_trainpipe.serve.engine import Engine
    from hf_trainpipe.serve.metrics import Metrics
    from hf_trainpipe.serve.settings import Limits
    from hf_trainpipe.serve.watching import Watcher

_Item = TypeVar("_Item")
_log = logging.getLogger("hf_trainpipe.serve")
_WINDOW = 64
"""Features among which a batch is chosen: those that are next."""
_SLICE = 16_000
"""Characters of a large request that are tokenised between two batches, but one input at least."""
_TOGETHER = 64_000
"""Characters of small requests that are tokenised between two batches."""
_READ_COST = 1 / 16
"""Tokens of the model that tokenising a character counts for."""
_AHEAD = 2
"""Large requests of a client that are tokenised ahead: they take memory."""
_TRIM_EVERY = 16
"""Batches after which freed memory is given back."""
_LINGER = 0.05
"""Share of the last batch's time that the next one, unless it is full, waits for the clients that were just answered to
ask again. Without it the first of them would be computed alone and the others after it, in batches half as large."""


@dataclass(eq=False)
class _Ticket:
    """A request inside the batcher. The thread alone touches ``job``, ``share`` and ``features``."""

    job: Any
    future: asyncio.Future[list[Any]]
    client: str
    is_large: bool
    characters: int
    share: Share = field(init=False)
    features: deque[tuple[int, int]] = field(default_factory=deque)
    """Number and tokens of each feature that is not computed yet."""
    is_abandoned: bool = False
    """Set by the event loop once the client is gone, by the thread where the request failed."""

    @property
    def is_read(self) -> bool:
        return self.job.prepared is not None


class Batcher:
    """Answers of a package for many clients at a time.

    Args:
        engine: The package.
        limits: What a request, and all together, may take.
        batch_tokens: Tokens of a batch, padding included.
        watcher: Sees each request that was answered; None: nobody does.
    """

    def __init__(
        self, engine: Engine, *, limits: Limits, batch_tokens: int, metrics: Metrics, watcher: Watcher | None = None
    ) -> None:
        self._watcher = watcher
        self._engine = engine
        self._limits = limits
        self._batch_tokens = batch_tokens
        # A package's own runtime may be older than these two.
        self._call_tokens: int | None = getattr(engine.predictor, "call_tokens", 48)
        self._takes_bounds = hasattr(engine.predictor, "encode_part")
        self._metrics = metrics
        self.admission = Admission(limits)
        self._bounds = Bounds(characters=limits.characters, tokens=limits.tokens)
        self._shares = Shares()
        self._arrived: list[_Ticket] = []
        self._num_batches = 0
        self._wake = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)

    def start(self) -> None:
        """Start the model's thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread after the queued batches."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether the model's thread runs."""
        return self._thread.is_alive()

    async def ask(
        self,
        inputs: Sequence[Any],
        parameters: Mapping[str, Any],
        caller: Caller | None = None,
        *,
        listener: Callable[[list[int]], None] | None = None,
    ) -> list[Any]:
        """The answer of each input, in order, as ``predict`` of the package gives it.

        Args:
            caller: Its client's share is used; the work is cancelled where the caller disconnects.
            listener: Told in the model's thread of the tokens that are written of the one input, each time one comes.

        Raises:
            Refusal: 413, 422, 429, 499 or 503.
        """
        self.admission.check_inputs(inputs)
        predictor, caller = self._engine.predictor, caller or Caller()
        try:
            self._engine.task.check_parameters(parameters)
            job = predictor.open(inputs, **parameters)
        except self._engine.input_error as error:
            raise _unusable(error) from None
        characters = job.characters
        self.admission.check_characters(characters)
        if not inputs:
            return []
        with self.admission.admit(caller.client, len(inputs), characters), heard(job, listener):
            is_large = self.admission.is_large(len(inputs), characters)
            future = asyncio.get_running_loop().create_future()
            ticket = _Ticket(job, future, caller.client, is_large, characters)
            self._metrics.waiting.set(self.admission.waiting)
            caller.on_disconnect(future.cancel)
            try:
                with self._wake:
                    self._arrived.append(ticket)
                    self._wake.notify()
                return await self._answer_of(future)
            finally:
                ticket.is_abandoned = True
                caller.on_disconnect(None)
                self._metrics.waiting.set(self.admission.waiting - len(inputs))

    async def _answer_of(self, future: asyncio.Future[list[Any]]) -> list[Any]:
        seconds = self._limits.deadline_s
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            late, fix = f"No answer within {seconds:g} s.", "Try again, later or with fewer inputs."
            raise Refusal(503, "deadline", late, fix, headers={"Retry-After": "1"}) from None
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise  # the server ends
            raise Refusal(499, "gone", "The client has closed its connection.", "") from None

    # Everything below runs in the model's thread.

    def _work(self) -> None:
        pool: list[_Ticket] = []
        expected, until = 0, 0.0
        while (arrived := self._gather(len(pool), expected, until)) or pool:
            for ticket in arrived:
                ticket.share = self._shares.enter(ticket.client, pool)
                pool.append(ticket)
            self._read([ticket for ticket in pool if not ticket.is_read and not ticket.is_abandoned], pool)
            pool = [ticket for ticket in pool if not ticket.is_abandoned and (ticket.features or not ticket.is_read)]
            expected = 0
            if ready := [ticket for ticket in pool if ticket.features]:
                batch = self._next_batch(ready)
                begin = time.perf_counter()
                self._isolated(batch, self._run, lambda piece: piece[0])
                until = time.perf_counter() + _LINGER * (time.perf_counter() - begin)
                waited = len(pool) + len(self._arrived)  # those that still wait, and those that were answered
                pool = [ticket for ticket in pool if ticket.features or not ticket.is_read]
                tokens_left = sum(length for ticket in pool for _, length in ticket.features)
                is_all_read = all(ticket.is_read for ticket in pool)
                expected = waited if is_all_read and tokens_left < self._batch_tokens else 0
            self._shares.forget(pool)
        if self._watcher is not None:
            self._watcher.close()

    def _gather(self, left: int, expected: int, until: float) -> list[_Ticket]:
        """New requests; waits until there are ``expected`` of them with the ``left`` ones, or until the time is over.

        Empty where nothing is left and the server closes.
        """
        with self._wake:
            self._wake.wait_for(lambda: left or self._arrived or self._is_closing)
            self._wake.wait_for(
                lambda: left + len(self._arrived) >= expected or self._is_closing, until - time.perf_counter()
            )
            arrived, self._arrived = self._arrived, []
        return arrived

    def _read(self, unread: list[_Ticket], pool: list[_Ticket]) -> None:
        """Tokenise small requests together, and a slice of the next large one."""
        small = [ticket for ticket in unread if not ticket.is_large]
        chosen: list[_Ticket] = []
        room = _TOGETHER
        for ticket, _ in self._shares.turns(small, [[_READ_COST * ticket.characters] for ticket in small]):
            if chosen and ticket.characters > room:
                break
            room -= ticket.characters
            chosen.append(ticket)
        if chosen:
            self._isolated(chosen, self._encode, lambda ticket: ticket)
        ahead = Counter(ticket.client for ticket in pool if ticket.is_large and ticket.features)
        large = [ticket for ticket in unread if ticket.is_large and ahead[ticket.client] < _AHEAD]
        for ticket, _ in self._shares.turns(large, [[1.0]] * len(large)):
            self._isolated([ticket], self._encode_slice, lambda ticket: ticket)
            if ticket.is_read or ticket.is_abandoned:
                give_back()
            break

    def _encode(self, tickets: list[_Ticket]) -> None:
        predictor = self._engine.predictor
        jobs = [ticket.job for ticket in tickets]
        refused = predictor.encode(jobs, bounds=self._bounds) if self._takes_bounds else predictor.encode(jobs)
        for ticket in tickets:
            self._shares.serve(ticket.share, _READ_COST * ticket.characters)
            if ticket.job in refused:
                _fail([ticket], _unusable(refused[ticket.job]))
            else:
                self._queue_features(ticket)

    def _encode_slice(self, tickets: list[_Ticket]) -> None:
        [ticket] = tickets
        if not self._takes_bounds:
            self._encode(tickets)
            return
        try:
            self._engine.predictor.encode_part(ticket.job, characters=_SLICE, bounds=self._bounds)
        finally:
            self._shares.serve(ticket.share, _READ_COST * min(_SLICE, ticket.characters))
        if ticket.is_read:
            self._queue_features(ticket)
        else:
            self._check_limit(ticket, ticket.job.num_tokens)

    def _queue_features(self, ticket: _Ticket) -> None:
        if self._check_limit(ticket, tokens := ticket.job.num_tokens):
            self._metrics.tokens.inc(tokens)
            ticket.features.extend(enumerate(ticket.job.lengths.tolist()))

    def _check_limit(self, ticket: _Ticket, tokens: int) -> bool:
        if tokens <= self._limits.tokens:
            return True
        _fail([ticket], too_much("tokens", f"{self._limits.tokens} tokens", tokens))
        return False

    def _next_batch(self, ready: list[_Ticket]) -> list[tuple[_Ticket, int]]:
        """Remove the features of the next batch from their requests."""
        pieces = [list(islice(ticket.features, _WINDOW)) for ticket in ready]
        place_of = {ticket: place for place, ticket in enumerate(ready)}
        turns = self._shares.turns(ready, [[length for _, length in piece] for piece in pieces])
        candidates = [(ticket, *pieces[place_of[ticket]][piece]) for ticket, piece in islice(turns, _WINDOW)]
        lengths = np.array([length for _, _, length in candidates], dtype=np.int64)
        chosen = choose(lengths, max_tokens=self._batch_tokens, call_tokens=self._call_tokens)
        taken: dict[_Ticket, set[int]] = {}
        for place in chosen.tolist():
            ticket, feature, length = candidates[place]
            taken.setdefault(ticket, set()).add(feature)
            self._shares.serve(ticket.share, length)
        for ticket, features in taken.items():
            ticket.features = deque(item for item in ticket.features if item[0] not in features)
        computed = lengths[chosen].sum() if self._call_tokens is None else len(chosen) * lengths[chosen].max()
        self._metrics.batch(features=len(chosen), computed=int(computed))
        return [candidates[place][:2] for place in chosen.tolist()]

    def _run(self, batch: list[tuple[_Ticket, int]]) -> None:
        predictor = self._engine.predictor
        begin = time.perf_counter()
        predictor.run([(ticket.job, feature) for ticket, feature in batch])
        self._metrics.model_seconds.inc(time.perf_counter() - begin)
        self._isolated(
            [ticket for ticket in dict(batch) if not ticket.job.missing], self._answer, lambda ticket: ticket
        )
        self._num_batches += 1
        if self._num_batches % _TRIM_EVERY == 0:
            give_back()

    def _answer(self, done: list[_Ticket]) -> None:
        _tell([(ticket.future, self._engine.predictor.answer(ticket.job)) for ticket in done])
        if self._watcher is not None:
            for ticket in done:
                self._watcher.see(ticket.job)

    def _isolated(
        self, items: list[_Item], action: Callable[[list[_Item]], None], ticket_of: Callable[[_Item], _Ticket]
    ) -> None:
        """Do work for several requests together; where that fails, once more one by one, so that a request that cannot be
        computed fails alone and the others lose the time of one more call."""
        alone = len(items) == 1
        try:
            action(items)
            return
        except Exception as error:
            self._failed(error, [ticket_of(item) for item in items], alone=alone)
        for item in () if alone else items:  # what the error held on to is free by now
            if not ticket_of(item).is_abandoned:
                self._isolated([item], action, ticket_of)

    def _failed(self, error: Exception, tickets: list[_Ticket], *, alone: bool) -> None:
        """Log what went wrong, and tell the client if it was its request ``alone``."""
        if alone and isinstance(error, self._engine.input_error):
            _fail(tickets, _unusable(error))
            return
        _log.error("the model's thread, %d at a time: %s", len(tickets), describe(error))
        if alone:
            _fail(tickets, internal())


def describe(error: BaseException) -> str:
    """The type of an error and where it was raised, without its message: that may hold a text of a request."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at " + " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[::-1][:6])


def _unusable(error: Exception) -> Refusal:
    if (what := getattr(error, "what", None)) is not None:  # TooMuch
        return Refusal(413, what, getattr(error, "message", ""), getattr(error, "fix", ""))
    position = getattr(error, "position", None)
    data = {} if position is None else {"position": position}
    return Refusal(422, "input", getattr(error, "message", ""), getattr(error, "fix", ""), **data)


def _fail(tickets: Sequence[_Ticket], refusal: Refusal) -> None:
    for ticket in tickets:
        ticket.features.clear()
        ticket.is_abandoned = True
    _tell([(ticket.future, refusal) for ticket in tickets])


_Results = list[tuple[asyncio.Future[list[Any]], list[Any] | Refusal]]


def _tell(results: _Results) -> None:
    """Resolve futures on their event loop, from the model's thread."""
    if results:
        results[0][0].get_loop().call_soon_threadsafe(_resolve, results)


def _resolve(results: _Results) -> None:
    for future, result in results:
        if future.done():
            continue
        if isinstance(result, Refusal):
            future.set_exception(result)
        else:
            future.set_result(result)
