"""One thread runs the model; requests that wait share its batches.

A request is admitted or refused on the event loop, before anything is tokenised. The thread encodes what has
arrived since its last batch, picks a batch out of all that waits (:mod:`.choice`), computes it, and answers the
requests that are now complete. So a short request beside a long one waits for one batch, not for the long one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from hf_trainpipe.runtime.memory import give_back
from hf_trainpipe.serve.choice import choose
from hf_trainpipe.serve.refusals import Refusal, internal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hf_trainpipe.serve.engine import Engine
    from hf_trainpipe.serve.metrics import Metrics
    from hf_trainpipe.serve.settings import Limits

__all__ = ["Batcher", "describe"]

_Item = TypeVar("_Item")
_log = logging.getLogger("hf_trainpipe.serve")
_WINDOW = 64
"""Features among which a batch is chosen, at least the oldest of as many requests."""
_SHARE = 16
"""Features of one request among them: a request of many inputs leaves room for others."""
_TRIM_EVERY = 16
"""Batches after which freed memory is given back."""
_LINGER = 0.05
"""Of the last batch's time: so long the next one, unless it is full, waits for the clients that were just answered to ask
again. Without it the first of them would be computed alone and the others after it, batches half as large as they could
be."""


@dataclass(eq=False)
class _Ticket:
    """A request inside the batcher. The thread alone touches ``job`` and ``features``."""

    job: Any
    future: asyncio.Future[list[Any]]
    features: deque[tuple[int, int]] = field(default_factory=deque)
    """Number and tokens of each feature that is not computed."""
    is_abandoned: bool = False
    """Set on the event loop once nobody waits for the answer."""


class Batcher:
    """Answers of a package for many clients at a time.

    Args:
        engine: The package.
        limits: What a request, and all together, may take.
        batch_tokens: Tokens of a batch, padding included.
    """

    def __init__(self, engine: Engine, *, limits: Limits, batch_tokens: int, metrics: Metrics) -> None:
        self._engine = engine
        self._limits = limits
        self._batch_tokens = batch_tokens
        self._call_tokens = engine.call_tokens
        self._metrics = metrics
        self._waiting = 0
        self._arrived: list[_Ticket] = []
        self._num_batches = 0
        self._wake = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)

    def start(self) -> None:
        """Start the model's thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread after the batches that wait."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether the model's thread runs."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Inputs that are admitted and not answered."""
        return self._waiting

    async def ask(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
        """The answer of each input, in order, as ``predict`` of the package gives it.

        Raises:
            Refusal: 413, 422, 429 or 503.
        """
        limits = self._limits
        if len(inputs) > limits.inputs:
            raise Refusal(
                413,
                "inputs",
                f"inputs: expected at most {limits.inputs}, found {len(inputs)}.",
                "Send several requests.",
            )
        predictor = self._engine.predictor
        try:
            predictor.decoder.check_parameters(parameters)
            job = predictor.open(inputs, **parameters)
        except self._engine.input_error as error:
            raise _unusable(error) from None
        if (characters := job.characters) > limits.characters:
            raise Refusal(
                413,
                "characters",
                f"inputs: expected at most {limits.characters} characters, found {characters}.",
                "Send shorter texts, or several requests.",
            )
        if not inputs:
            return []
        if self._waiting and self._waiting + len(inputs) > limits.queue:
            raise Refusal(
                429,
                "queue",
                f"{self._waiting} inputs wait already; {limits.queue} may.",
                "Try again, later and less often.",
                headers={"Retry-After": "1"},
            )
        ticket = _Ticket(job, asyncio.get_running_loop().create_future())
        self._waiting += len(inputs)
        self._metrics.waiting.set(self._waiting)
        try:
            with self._wake:
                self._arrived.append(ticket)
                self._wake.notify()
            async with asyncio.timeout(limits.deadline_s):
                return await ticket.future
        except TimeoutError:
            raise Refusal(
                503,
                "deadline",
                f"No answer within {limits.deadline_s:g} s.",
                "Try again, later or with fewer inputs.",
                headers={"Retry-After": "1"},
            ) from None
        finally:
            ticket.is_abandoned = True
            self._waiting -= len(inputs)
            self._metrics.waiting.set(self._waiting)

    # Everything below runs in the model's thread.

    def _work(self) -> None:
        pool: list[_Ticket] = []
        expected, until = 0, 0.0
        while (arrived := self._gather(len(pool), expected, until)) or pool:
            arrived = [ticket for ticket in arrived if not ticket.is_abandoned]
            self._guarded(arrived, self._encode, lambda ticket: ticket)
            pool = [ticket for ticket in (*pool, *arrived) if ticket.features and not ticket.is_abandoned]
            if pool:
                batch = self._next_batch(pool)
                begin = time.perf_counter()
                self._guarded(batch, self._run, lambda piece: piece[0])
                until = time.perf_counter() + _LINGER * (time.perf_counter() - begin)
                waited = len(pool) + len(self._arrived)  # those that still wait, and those that were answered
                pool = [ticket for ticket in pool if ticket.features]
                tokens_left = sum(length for ticket in pool for _, length in ticket.features)
                expected = waited if tokens_left < self._batch_tokens else 0

    def _gather(self, left: int, expected: int, until: float) -> list[_Ticket]:
        """What has arrived; beside the ``left`` that wait already, as many as are ``expected`` if they come in time.

        Nothing where nothing is left and the server closes.
        """
        with self._wake:
            self._wake.wait_for(lambda: left or self._arrived or self._is_closing)
            self._wake.wait_for(
                lambda: left + len(self._arrived) >= expected or self._is_closing, until - time.perf_counter()
            )
            arrived, self._arrived = self._arrived, []
        return arrived

    def _encode(self, arrived: list[_Ticket]) -> None:
        predictor = self._engine.predictor
        refused = predictor.encode([ticket.job for ticket in arrived])
        for ticket in arrived:
            if ticket.job in refused:
                _fail([ticket], _unusable(refused[ticket.job]))
                continue
            lengths = ticket.job.lengths.tolist()
            if (tokens := sum(lengths)) > self._limits.tokens:
                refusal = Refusal(
                    413,
                    "tokens",
                    f"inputs: expected at most {self._limits.tokens} tokens, found {tokens}.",
                    "Send shorter texts, or several requests.",
                )
                _fail([ticket], refusal)
                continue
            self._metrics.tokens.inc(tokens)
            ticket.features.extend(enumerate(lengths))

    def _next_batch(self, pool: list[_Ticket]) -> list[tuple[_Ticket, int]]:
        """Take the features of the next batch out of their requests."""
        candidates: list[tuple[_Ticket, int, int]] = []
        for ticket in pool:
            for place, (feature, length) in enumerate(ticket.features):
                if place == _SHARE:
                    break
                candidates.append((ticket, feature, length))
            if len(candidates) >= _WINDOW:
                break
        lengths = np.array([length for _, _, length in candidates], dtype=np.int64)
        chosen = choose(lengths, max_tokens=self._batch_tokens, call_tokens=self._call_tokens)
        batch = [candidates[place][:2] for place in chosen.tolist()]
        taken: dict[_Ticket, set[int]] = {}
        for ticket, feature in batch:
            taken.setdefault(ticket, set()).add(feature)
        for ticket, features in taken.items():
            ticket.features = deque(item for item in ticket.features if item[0] not in features)
        computed = lengths[chosen].sum() if self._call_tokens is None else len(chosen) * lengths[chosen].max()
        self._metrics.batch(features=len(chosen), computed=int(computed))
        return batch

    def _run(self, batch: list[tuple[_Ticket, int]]) -> None:
        predictor = self._engine.predictor
        begin = time.perf_counter()
        predictor.run([(ticket.job, feature) for ticket, feature in batch])
        self._metrics.model_seconds.inc(time.perf_counter() - begin)
        self._guarded([ticket for ticket in dict(batch) if not ticket.job.missing], self._answer, lambda ticket: ticket)
        self._num_batches += 1
        if self._num_batches % _TRIM_EVERY == 0:
            give_back()

    def _answer(self, done: list[_Ticket]) -> None:
        answers = [(ticket.future, self._engine.predictor.answer(ticket.job)) for ticket in done]
        if answers:
            _on_loop(answers[0][0], _deliver, answers)

    def _guarded(
        self, items: list[_Item], action: Callable[[list[_Item]], None], ticket_of: Callable[[_Item], _Ticket]
    ) -> None:
        """Do a part of the work together; where that fails, once more one by one, so that a request that cannot be
        computed fails alone. The requests after it in the same part lose the time of one more call, no more."""
        try:
            action(items)
            return
        except Exception as error:
            self._failed(error, [ticket_of(item) for item in items], alone=len(items) == 1)
        failed: set[_Ticket] = set()
        for item in items if len(items) > 1 else ():
            if (ticket := ticket_of(item)) in failed or ticket.is_abandoned:
                continue
            try:
                action([item])
            except Exception as error:
                self._failed(error, [ticket], alone=True)
                failed.add(ticket)

    def _failed(self, error: Exception, tickets: list[_Ticket], *, alone: bool) -> None:
        """Log what went wrong, and tell the client if it was its request ``alone``."""
        _log.error("the model's thread, %d at a time: %s", len(tickets), describe(error))
        if alone:
            _fail(tickets, _unusable(error) if isinstance(error, self._engine.input_error) else internal())


def describe(error: BaseException) -> str:
    """The type of an error and where it was raised, without its message: that may hold a text of a request."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at " + " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[::-1][:6])


def _unusable(error: Exception) -> Refusal:
    position = getattr(error, "position", None)
    data = {} if position is None else {"position": position}
    return Refusal(422, "input", getattr(error, "message", ""), getattr(error, "fix", ""), **data)


def _fail(tickets: Sequence[_Ticket], refusal: Refusal) -> None:
    for ticket in tickets:
        ticket.features.clear()
    if tickets:
        _on_loop(tickets[0].future, _deliver, [(ticket.future, refusal) for ticket in tickets])


def _on_loop(future: asyncio.Future[Any], action: Any, *arguments: Any) -> None:
    future.get_loop().call_soon_threadsafe(action, *arguments)


def _deliver(results: Sequence[tuple[asyncio.Future[list[Any]], list[Any] | Refusal]]) -> None:
    for future, result in results:
        if future.done():
            continue
        if isinstance(result, Refusal):
            future.set_exception(result)
        else:
            future.set_result(result)
