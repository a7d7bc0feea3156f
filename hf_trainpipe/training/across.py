"""The loss of a step, micro-batch by micro-batch: also one that looks across the whole global batch.

Such a loss (``Task.separable`` is False) needs the outputs of all features at once, whose activations need not fit into
memory. So the micro-batches run twice, as in GradCache (https://arxiv.org/abs/2101.06983): first one by one for
their outputs, which the ranks exchange; the loss of them all gives the gradient of each output. Then each micro-batch runs
again, with the same randomness, and passes that gradient on to the weights. The update is that of one large batch,
whatever the ranks and the micro-batches. One micro-batch of one rank runs once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hf_trainpipe.engine.randomness import seed_everything

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hf_trainpipe.runtime.tokens.batch import Batch
    from hf_trainpipe.training.run import Run

    Tensors = Mapping[str, torch.Tensor]


def losses(run: Run, micro_batches: Sequence[Batch]) -> Callable[[int], torch.Tensor]:
    """What gives the loss sum of each micro-batch of the step, in their order, for the backward pass.

    The parts of all micro-batches and ranks add up to the loss of the step.
    """
    if run.task.separable or (run.ranks.size == 1 and len(micro_batches) == 1):
        return lambda micro: run.loss_sum(micro_batches[micro])
    return _Across(run, micro_batches)


class _Across:
    def __init__(self, run: Run, micro_batches: Sequence[Batch]) -> None:
        self.run, self.micro_batches = run, micro_batches
        self.whole = torch.zeros(())
        """The loss of the step on rank 0; 0 on the others."""
        self.gradients: list[Tensors] = []
        """Of the outputs of each micro-batch of this rank."""

    def __call__(self, micro: int) -> torch.Tensor:
        if micro == 0:
            self._look()
        self._seed(micro)
        outputs, _ = self.run.outputs(self.micro_batches[micro])
        gradients = self.gradients[micro]
        passed_on = torch.stack([(output * gradients[name]).sum() for name, output in outputs.items()]).sum()
        told = self.whole if micro == 0 else torch.zeros_like(self.whole)
        return told + passed_on - passed_on.detach()

    def _seed(self, micro: int) -> None:
        run = self.run
        seed_everything(run.recipe.seed, run.state.step, micro, run.ranks.rank)

    def _look(self) -> None:
        """Compute the outputs of all features of the step, their loss, and the gradient of this rank's outputs.

        A rank that runs out of memory still joins the exchange, with outputs that are no numbers; then it raises.
        """
        run = self.run
        groups, rows = run.feed.global_batch(run.state.step)
        counts = [sum(map(len, of_rank)) for of_rank in groups]
        sizes = [len(group) for group in groups[run.ranks.rank]]
        failed: Exception | None = None
        found: list[Tensors] = []
        try:
            with run.parallel.forward_alone():
                for micro, batch in enumerate(self.micro_batches):
                    self._seed(micro)
                    # With a graph, which is dropped at once: without one, kernels may draw other dropout masks.
                    found.append({name: output.detach() for name, output in run.outputs(batch)[0].items()})
        except (RuntimeError, MemoryError) as error:
            if run.ranks.size == 1 or run.ranks.sharded:
                raise
            failed = error
        with torch.no_grad():
            if failed is not None:
                shapes, _ = run.outputs(run.feed.empty_batch())
                mine = {name: one.new_full((sum(sizes), *one.shape[1:]), torch.nan) for name, one in shapes.items()}
            else:  # micro-batches beyond this rank's own are empty ones
                own = found[: len(sizes)]
                mine = {name: torch.cat([one[name] for one in own] or [found[0][name][:0]]) for name in found[0]}
            everyones = {name: run.ranks.gather_rows(one, counts) for name, one in mine.items()}
        if failed is not None:
            raise failed
        outputs = {name: one.detach().requires_grad_() for name, one in everyones.items()}
        targets = rows.targets(torch.cat([torch.from_numpy(group) for of_rank in groups for group in of_rank]).numpy())
        loss = run.task.loss_sum(outputs, {name: one.to(run.accelerator.device) for name, one in targets.items()})
        gradients = dict(zip(outputs, torch.autograd.grad(loss, list(outputs.values())), strict=True))
        begin = sum(counts[: run.ranks.rank])
        self.whole = loss.detach() * float(run.ranks.rank == 0)
        for micro, batch in enumerate(self.micro_batches):
            is_own = micro < len(sizes)
            end = begin + (sizes[micro] if is_own else 0)
            width = len(batch["weights"])
            self.gradients.append(
                {
                    name: one[begin:end] if is_own else one.new_zeros(width, *one.shape[1:])
                    for name, one in gradients.items()
                }
            )
            begin = end
