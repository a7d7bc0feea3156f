"""Products in fp32, whatever the process around them has set.

Autocast, ``torch.set_float32_matmul_precision`` and the TF32 switches belong to a process or a thread: a notebook, a
training run or a server's other models may have set any of them before a package answers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any

import torch

_DEVICES = ("cpu", "cuda", "xpu", "mps", "hpu")
"""Where autocast may be on."""


class Switches:
    """What this process multiplies fp32 matrices in, as it is now, to be put back by :meth:`restore`.

    torch has two sets of switches and refuses to read the older one where the newer (``...fp32_precision``) says
    something else. So the older one is written first, which moves both, and then what is different of the newer.
    """

    def __init__(self) -> None:
        try:
            self._matrices = torch.get_float32_matmul_precision()
        except RuntimeError:
            self._matrices = "highest"
        try:
            self._tf32 = bool(torch.backends.cudnn.allow_tf32) if _has_gpus() else False
        except RuntimeError:
            self._tf32 = True
        self._single = [place.fp32_precision for place in _places()]

    @property
    def exact(self) -> bool:
        """Whether products are in fp32 already."""
        return self._matrices == "highest" and not self._tf32 and all(value in _EXACT for value in self._single)

    def restore(self) -> None:
        """Set everything as it was found."""
        self._write_older(self._matrices, tf32=self._tf32)
        for place, value in zip(_places(), self._single, strict=True):
            if place.fp32_precision != value:
                place.fp32_precision = value

    @classmethod
    def set_exact(cls) -> None:
        """Multiply in fp32: matrices, convolutions and recurrent layers, on every device."""
        cls._write_older("highest", tf32=False)
        for place in _places():
            if place.fp32_precision not in _EXACT:
                place.fp32_precision = "ieee"

    @staticmethod
    def _write_older(matrices: str, *, tf32: bool) -> None:
        torch.set_float32_matmul_precision(matrices)
        if _has_gpus():
            torch.backends.cudnn.allow_tf32 = tf32


_EXACT = ("none", "ieee")


def _has_gpus() -> bool:
    """Whether this build of torch has the switches of a GPU, where TF32 is on for convolutions unless it is switched off."""
    return bool(torch.backends.cuda.is_built())  # type: ignore[no-untyped-call]


def _places() -> tuple[Any, ...]:
    """The newer switches: bf16 of a CPU, TF32 of a GPU."""
    backends: Any = torch.backends
    cuda, cudnn, mkldnn = backends.cuda, backends.cudnn, backends.mkldnn
    of_cpu = (mkldnn.matmul, mkldnn.conv, mkldnn.rnn)
    return (*of_cpu, cuda.matmul, cudnn.conv, cudnn.rnn) if _has_gpus() else of_cpu


class _Held:
    """The switches are a process's: the first thread that needs fp32 sets them, the last puts them back."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.open = 0
        self.before: Switches | None = None

    def enter(self) -> None:
        with self.lock:
            if self.open == 0:
                found = Switches()
                if not found.exact:
                    Switches.set_exact()
                    self.before = found
            self.open += 1

    def leave(self) -> None:
        with self.lock:
            self.open -= 1
            if self.open == 0 and self.before is not None:
                self.before.restore()
                self.before = None


_held = _Held()


def _after_fork() -> None:
    """A child has none of the threads that held the lock."""
    global _held
    before, _held = _held.before, _Held()
    if before is not None:
        before.restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def no_autocast() -> Iterator[None]:
    """Autocast is off while it is open, on every device, in this thread."""
    with ExitStack() as stack:
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def exact_products() -> Iterator[None]:
    """Matrices are multiplied in fp32 while it is open, on every device, in this thread and the others."""
    held = _held
    held.enter()
    try:
        with no_autocast():
            yield
    finally:
        held.leave()
