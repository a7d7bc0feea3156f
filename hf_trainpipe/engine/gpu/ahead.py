"""Prepare the micro-batches of the next step while the device computes this one."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Prepared = TypeVar("Prepared")


class Ahead(Generic[Prepared]):
    """Calls ``prepare(step)`` for the next step in a thread.

    Args:
        prepare: A function of the step alone, as long as what :meth:`get` is told stays the same.
        total_steps: Steps from this one on do not exist.
    """

    def __init__(self, prepare: Callable[[int], Prepared], *, total_steps: int) -> None:
        self._prepare, self._total_steps = prepare, total_steps
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="micro-batches")
        self._known: tuple[int, Hashable] | None = None
        self._next: Future[Prepared] | None = None

    def get(self, step: int, settings: Hashable) -> Prepared:
        """What ``prepare(step)`` gives, or raises.

        Args:
            settings: What it depends on beside the step; what was prepared with others is dropped.
        """
        found = self._next.result() if self._next is not None and self._known == (step, settings) else None
        if found is None:
            if self._next is not None:
                self._next.exception()  # ``prepare`` is not called by two threads at once
            found = self._prepare(step)
        self._next, self._known = None, (step + 1, settings)
        if step + 1 < self._total_steps:
            self._next = self._thread.submit(self._prepare, step + 1)
        return found
