"""A server that follows an alias: the package that holds it is loaded and proved beside the one that answers, and then takes over.

One that cannot be loaded, was changed or does not reproduce its recorded predictions is refused: the one before goes on answering.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import PackageError, TrainpipeError
from hf_trainpipe.package.layout import RECORDED
from hf_trainpipe.package.probe import gaps
from hf_trainpipe.package.verify import TOLERANCE, read_recorded, tolerance_of
from hf_trainpipe.utils.brief import one_line

if TYPE_CHECKING:
    import logging

    from hf_trainpipe.serve.engine import Engine
    from hf_trainpipe.serve.switch import Served, Switch


@dataclass(frozen=True, kw_only=True)
class Follow:
    """An alias that is followed, whatever store it lies in."""

    name: str
    turn: Callable[[], int]
    """The number of the record that says who holds it."""
    current: Callable[[], tuple[int, Path]]
    """That number, and a folder with its package."""
    every_s: float = 5.0


def first_answers(engine: Engine) -> None:
    """The first call is slow, and shows what is broken."""
    engine.predictor.predict(list(engine.schema.examples))


def prove(engine: Engine, package: Path) -> None:
    """Hold a loaded package against the recorded predictions beside it, where there are some.

    Raises:
        PackageError: it does not reproduce them.
    """
    first_answers(engine)
    recorded = package.parent / RECORDED
    in_16_bits = engine.info["precision"] != "fp32"  # then it was held against them when it was loaded
    if in_16_bits or not recorded.is_file():
        return
    lines = read_recorded(recorded)
    allowed = TOLERANCE
    if engine.backend != "torch":
        allowed = tolerance_of(package, engine.backend, engine.predictor.info.backends[engine.backend])
    found = max(gaps(engine.predictor, lines), default=0.0)
    if not found <= allowed:
        raise PackageError(
            f"{package} does not reproduce its recorded predictions: logits may differ by {allowed:g}, found {found:.3g}.",
            fix="hf-trainpipe rollback ALIAS gives the alias back to the package before.",
        )


class Following:
    """Looks at an alias every few seconds, on the event loop; what takes long is done in threads beside it."""

    def __init__(
        self,
        follow: Follow,
        switch: Switch,
        *,
        load: Callable[[Path], Engine],
        make: Callable[[Engine, int], Served],
        logger: logging.Logger,
    ) -> None:
        self._follow, self._switch = follow, switch
        self._load, self._make, self._log = load, make, logger
        self._refused: int | None = None
        """A record whose package was refused: it is not tried again."""
        self._said = ""
        """Why the alias could not be looked at, said once."""
        self._task: asyncio.Task[None] | None = None
        self._draining: set[asyncio.Task[None]] = set()
        assert switch.current.record is not None
        switch.current.signs.metrics.record.set(switch.current.record)

    def start(self) -> None:
        """Begin to look, on the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._look())

    def stop(self) -> None:
        """Look no more: the server ends with the package that answers now."""
        if self._task is not None:
            self._task.cancel()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._follow.every_s)
            await self.once()

    async def once(self) -> None:
        """Look once, and swap where another package holds the alias."""
        metrics = self._switch.current.signs.metrics
        try:
            turn = await asyncio.to_thread(self._follow.turn)
            if turn in (0, self._switch.current.record, self._refused):
                self._said = ""
                return
            record, package = await asyncio.to_thread(self._follow.current)
        except Exception as error:
            self._unseen(error)
            return
        begin = time.perf_counter()
        try:
            new = self._make(await asyncio.to_thread(self._proved, package), record)
        except Exception as error:
            self._refused = record
            metrics.swapped("refused")
            self._log.error(
                "refused: record %d of %s: %s. Record %s goes on answering.",
                record, self._follow.name, _told(error), self._switch.current.record,
            )  # fmt: skip
            return
        old = self._switch.replace(new)
        metrics.swapped("taken")
        metrics.record.set(record)
        self._log.info(
            "record %d of %s answers now; loaded and proved in %.1f s beside record %s, which has %d requests to end",
            record, self._follow.name, time.perf_counter() - begin, old.record, old.asked,
        )  # fmt: skip
        task = asyncio.get_running_loop().create_task(self._drain(old))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    def _proved(self, package: Path) -> Engine:
        engine = self._load(package)
        prove(engine, package)
        return engine

    async def _drain(self, old: Served) -> None:
        await old.drain()
        self._log.info("record %s has ended its requests", old.record)
        del old
        gc.unfreeze()  # the model that is gone was frozen with all that was loaded
        gc.collect()
        gc.freeze()

    def _unseen(self, error: Exception) -> None:
        told = _told(error)
        if told != self._said:
            self._said = told
            self._log.error("%s cannot be looked at: %s. Record %s goes on answering.", self._follow.name, told,
                            self._switch.current.record)  # fmt: skip


def _told(error: Exception) -> str:
    """What went wrong; of errors that may hold anything only their type."""
    message: Any = getattr(error, "message", None)
    is_ours = isinstance(error, TrainpipeError) or isinstance(message, str)
    return str(message).rstrip(".") if is_ours else one_line(error, named=True)
