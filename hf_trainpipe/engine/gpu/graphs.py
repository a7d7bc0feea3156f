"""Forward and backward passes as CUDA graphs: one launch instead of a thousand.

A shape is recorded when it comes for the second time; before that, and where there is no room, it runs eagerly. Both ways
compute the same bits for the same seed, which is proven for each graph before it is used, so that a resumed run, which
records anew, ends with the same weights. Graphs share one pool of memory. Their gradients are copied into one set of tensors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch

from hf_trainpipe.engine.gpu.rounding import RoundedBatch, Shape
from hf_trainpipe.utils.brief import first_line

if TYPE_CHECKING:
    from hf_trainpipe.engine.mixed import Mixed

MAX_GRAPHS = 48
"""Shapes that are recorded; further ones run eagerly."""
WARM_UPS = 1
"""Passes on the stream of the recording before it."""


class Replayable(Protocol):
    """A recorded function of no arguments."""

    def replay(self) -> None: ...


class Record(Protocol):
    """Records a function; ``warm_ups``: it may run so many times before."""

    def __call__(self, run: Callable[[], Any], *, warm_ups: int = WARM_UPS) -> Replayable: ...


class Recorder:
    """Records functions as CUDA graphs that share memory: what one computes is overwritten by the next that runs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # memory is shared within one alone

    def __call__(self, run: Callable[[], Any], *, warm_ups: int = WARM_UPS) -> Replayable:
        stream, now = self._stream, torch.cuda.current_stream(self._device)
        stream.wait_stream(now)
        with torch.cuda.stream(stream):
            for _ in range(warm_ups):
                run()
        now.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads save checkpoints and prepare batches meanwhile: what they call must not end the recording.
        with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
            run()
        return graph


@dataclass(eq=False)
class Graph:
    """A recorded forward and backward pass, and what it reads and writes."""

    recorded: Replayable
    inputs: RoundedBatch
    """On the device; each replay copies another batch in."""
    scale: torch.Tensor
    """Factor on the loss before its backward pass."""
    loss: torch.Tensor
    """The loss, summed; overwritten by each replay."""
    trained: Sequence[int]
    """Which parameters get a gradient."""

    def replay(self, batch: RoundedBatch, scale: float) -> torch.Tensor:
        """Copy a batch in and run; the loss."""
        self.inputs.memory.copy_(batch.memory, non_blocking=True)
        self.scale.fill_(scale)
        self.recorded.replay()
        return self.loss


@dataclass(kw_only=True, eq=False)
class Graphs:
    """Adds up gradients over micro-batches, by graphs where they are recorded.

    Where :attr:`Mixed.halves` stands in for weights, gradients are those of what stands there, cast back here.

    Args:
        parameters: Of the model; those that are trained.
        loss_of: The loss, summed, of a micro-batch whose tensors are on the device; random as the step's seed says.
        record: See :class:`Recorder`.
        limit: Shapes that are recorded at most.
    """

    parameters: Sequence[torch.nn.Parameter]
    device: torch.device
    mixed: Mixed
    loss_of: Callable[[RoundedBatch], torch.Tensor]
    say: Callable[[str], None]
    record: Callable[[torch.device], Record] = Recorder
    limit: int = MAX_GRAPHS
    seen: Counter[Shape] = field(default_factory=Counter, init=False)
    known: dict[Shape, Graph] = field(default_factory=dict, init=False)
    _recorder: Record | None = field(default=None, init=False)
    _found: list[torch.Tensor] = field(default_factory=list, init=False)
    """The gradients of the graph that ran last."""
    _total: list[torch.Tensor] = field(default_factory=list, init=False)
    """Those of the micro-batches before it in the same step."""

    def add_gradient(self, batch: RoundedBatch, scale: float) -> torch.Tensor:
        """Add the gradient of a micro-batch to the parameters'.

        Args:
            batch: On the CPU, in page-locked memory.
            scale: Factor on the loss before the backward pass.

        Returns:
            The loss, summed: a scalar on the device, which the next micro-batch may overwrite.
        """
        self.seen[batch.shape] += 1
        graph = self.known.get(batch.shape)
        if graph is None and self.seen[batch.shape] > 1 and len(self.known) < self.limit:
            return self._run_and_record(batch, scale)
        if graph is None:
            return self.run(batch, scale)
        self._keep_found()
        loss = graph.replay(batch, scale)
        held = [grad for place in graph.trained if (grad := self.parameters[place].grad) is not None]
        if held:
            torch._foreach_add_(held, [self._found[place] for place in graph.trained])
        else:
            self._take_found(graph)
        return loss

    def forget(self) -> None:
        """Give the memory of all graphs back; shapes that come again are recorded again."""
        self.known.clear()
        self.seen.clear()
        self._recorder = None

    def run(self, batch: RoundedBatch, scale: float) -> torch.Tensor:
        """The same launch by launch."""
        loss = self.loss_of(batch.to(self.device))
        self.mixed.add_gradients(loss * scale, self.parameters)
        return loss.detach()

    def _run_and_record(self, batch: RoundedBatch, scale: float) -> torch.Tensor:
        """Run a micro-batch; keep its graph if the gradient of that has the same bits."""
        self._keep_found()
        state, before = self._random_state(), [parameter.grad for parameter in self.parameters]
        self._set([None] * len(before))
        loss = self.run(batch, scale)
        computed, bits = [parameter.grad for parameter in self.parameters], self._bits(loss)
        reason: str | None = None
        try:
            graph = self._graph(batch, loss.dtype)
            self._random_state(state)
            again = graph.replay(batch, scale)
            self._take_found(graph)
            if torch.equal(self._bits(again), bits):
                self.known[batch.shape] = graph
            else:
                reason = "the gradient of one differs from that of the eager step"
        except RuntimeError as error:
            reason = first_line(error)
        if reason is not None:
            self.limit = len(self.known)
            self.say(
                f"warning: steps of further shapes are launched one by one, those of {self.limit} are not: {reason}"
            )
        for parameter, grad, earlier in zip(self.parameters, computed, before, strict=True):
            parameter.grad = earlier if grad is None else grad if earlier is None else earlier.add_(grad)
        return loss

    def _graph(self, batch: RoundedBatch, kind: torch.dtype) -> Graph:
        if not self._found:
            self._found = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._recorder = self._recorder or self.record(self.device)
        there, trained = batch.to(self.device), dict[int, None]()
        scale, total = (torch.ones((), dtype=kind, device=self.device) for _ in range(2))

        def run() -> None:
            loss = self.loss_of(there)
            by_type: dict[torch.dtype, list[tuple[int, torch.Tensor]]] = {}  # one launch for each
            for place, grad in enumerate(self.mixed.gradients(loss * scale, self.parameters)):
                if grad is not None:
                    by_type.setdefault(grad.dtype, []).append((place, grad))
            for pairs in by_type.values():
                torch._foreach_copy_([self._found[place] for place, _ in pairs], [grad for _, grad in pairs])
            trained.update((place, None) for pairs in by_type.values() for place, _ in pairs)
            total.copy_(loss.detach())

        return Graph(self._recorder(run), there, scale, total, list(trained))

    def _random_state(self, state: torch.Tensor | None = None) -> torch.Tensor:
        """The state of the device's generator; given one, it is set."""
        on_gpu = self.device.type == "cuda"
        if state is not None:
            torch.cuda.set_rng_state(state, self.device) if on_gpu else torch.set_rng_state(state)
        return torch.cuda.get_rng_state(self.device) if on_gpu else torch.get_rng_state()

    def _bits(self, loss: torch.Tensor) -> torch.Tensor:
        """int64: sums over the bits of the loss and of each parameter's gradient."""
        grads = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
        bits = [one.detach().reshape(-1).view(kinds[one.element_size()]) for one in (loss, *grads)]
        return torch.stack([one.sum(dtype=torch.int64) for one in bits])

    def _set(self, grads: Sequence[torch.Tensor | None]) -> None:
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = grad

    def _take_found(self, graph: Graph) -> None:
        for place in graph.trained:
            self.parameters[place].grad = self._found[place]

    def _keep_found(self) -> None:
        """Move the gradients of the graph that ran last, where they count, before another one overwrites them."""
        pairs = zip(self.parameters, self._found, strict=False)
        places = [place for place, (parameter, found) in enumerate(pairs) if parameter.grad is found]
        if not places:
            return
        if not self._total:
            self._total = [torch.zeros_like(parameter) for parameter in self.parameters]
        torch._foreach_copy_([self._total[place] for place in places], [self._found[place] for place in places])
        for place in places:
            self.parameters[place].grad = self._total[place]
