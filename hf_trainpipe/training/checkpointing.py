"""A run's checkpoints: save, restore the newest, load the best for the package.

Of a model with adapters they hold what is trained; run.json says what identifies the rest.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from safetensors import SafetensorError

from hf_trainpipe.checkpoint import tensors as tensor_files
from hf_trainpipe.checkpoint.manifest import MODEL
from hf_trainpipe.checkpoint.optimizer import flatten_optimizer, load_optimizer
from hf_trainpipe.checkpoint.shards import ShardWriter
from hf_trainpipe.checkpoint.snapshot import Checkpoint, Snapshot
from hf_trainpipe.checkpoint.store import SaveFailed, Store
from hf_trainpipe.data.sampler import ORDER_VERSION
from hf_trainpipe.engine.sharding import is_sharded, local_rows
from hf_trainpipe.errors import CheckpointError, PackageError
from hf_trainpipe.model.lora import held, how_to_merge, is_adapted
from hf_trainpipe.model.quantised import base_of
from hf_trainpipe.package import layout
from hf_trainpipe.training.augmented import folder_of
from hf_trainpipe.training.state import RunState
from hf_trainpipe.utils.atomic import sha256_file

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.tracking.ledger import Ledger
    from hf_trainpipe.training.monitor import TrainingLog
    from hf_trainpipe.training.run import Run


class Checkpointing:
    """Checkpoints of a run. All ranks call its methods; rank 0 writes."""

    def __init__(self, run: Run, log: TrainingLog) -> None:
        self.run = run
        self.log = log
        self.folder = run.folder
        self.console = run.console
        self.saved_step: int | None = None
        self.rows: ShardWriter | None = None
        """With FSDP2 it writes the rows of a rank other than 0."""
        if run.ranks.sharded and not run.ranks.is_main:
            self.rows = ShardWriter(self.folder.path / "checkpoints", rank=run.ranks.rank, ranks=run.ranks.size)
        self.store = Store(
            self.folder.path,
            keep=run.recipe.budget.keep_checkpoints,
            run_uid=run.ranks.from_main(lambda: self.folder.uid),
            mode="write" if self.folder.is_main else "read",
            on_quarantine=lambda place, reason: self.console.say(
                f"warning: a damaged checkpoint was set aside ({place.name}): {reason}"
            ),
            on_saved=self.console.checkpoint,
        )

    def restore(self) -> None:
        """Load the newest valid checkpoint, if there is one, and continue the log where that checkpoint was saved.

        Raises:
            CheckpointError: there are checkpoints and none is valid, or a rank cannot see rank 0's.
        """
        self.log.open(offset=self._restored())

    def _restored(self) -> int:
        """Load the newest checkpoint; the ledger's offset there in bytes, 0 at the start."""
        newest = self.store.latest(self._misfit) if self.folder.is_main else None
        step = self.run.ranks.from_main(lambda: newest.step if newest else None)
        if step is None:
            return 0
        checkpoint = newest or self.store.at(step)
        if checkpoint is None:
            raise CheckpointError(
                f"Rank {self.run.ranks.rank} cannot read the checkpoint of step {step} that rank 0 chose.",
                fix="All ranks must see the same run directory: put it on a shared file system.",
            )
        self._load(checkpoint)
        self.saved_step = step
        self.console.say(f"continuing after step {step:,} (attempt {self.folder.attempt})")
        return int(checkpoint.manifest["ledger_offset"])

    def _misfit(self, checkpoint: Checkpoint) -> str | None:
        """Why an intact checkpoint does not fit this run; None if it does."""
        run = self.run
        try:
            state, weights = checkpoint.state, held(run.bare)
            RunState.from_json(state["run"])
            if not isinstance(checkpoint.manifest["ledger_offset"], int):
                return f"its manifest has the ledger offset {checkpoint.manifest['ledger_offset']!r}"
            base = base_of(run.bare)
            if base is not None and checkpoint.manifest.get("base") != vars(base):
                return f"its adapters were trained beside other weights in {base.bits} bits"
            saved, moments = checkpoint.shapes()
            for name in sorted({*saved, *weights}):
                found, expected = saved.get(name), list(weights[name].shape) if name in weights else None
                if found != expected:
                    return f"weights of {name}: expected {expected or 'none'}, found {found or 'none'}"
            for missing in sorted({*state["optimizer"].get("tensors", moments)} ^ {*moments}):
                return f"the optimizer's tensors: {missing} is {'not expected' if missing in moments else 'missing'}"
        except (AttributeError, KeyError, OSError, SafetensorError, TypeError, ValueError) as error:
            return f"it cannot be read ({type(error).__name__}: {error})"
        return None

    def _load(self, checkpoint: Checkpoint) -> None:
        run = self.run
        run.load_weights(checkpoint.load_model())
        state = checkpoint.state
        algorithm = state["optimizer"].get("algorithm", "adamw")
        if algorithm == run.recipe.optim.algorithm:
            load_optimizer(
                run.optimizer,
                run.bare.named_parameters(),
                tensors=checkpoint.load_optimizer(),
                state=state["optimizer"],
            )
        else:  # --allow-change optim.algorithm
            self.console.say(f"warning: the optimizer begins anew: the checkpoint holds the state of {algorithm}")
        run.state = RunState.from_json(state["run"])
        if run.mixed.scaler is not None and state.get("scaler"):
            run.mixed.scaler.load_state_dict(state["scaler"])
        if run.ranks.rank != 0:
            run.state.window.loss_sum = run.state.window.count = 0.0  # rank 0 holds the sums of all

    def save(self, *, wait: bool = False, due: bool = False) -> None:
        """Write a checkpoint in the background, at most one a step; a save that fails is a warning.

        Args:
            wait: Return only when it is on the disk.
            due: Whether an evaluation follows, which a run that continues from the checkpoint begins with.
        """
        self.log.fetch_losses()
        run, state, ledger = self.run, self.run.state, self.log.ledger
        loss_sum = run.ranks.sum(state.window.loss_sum)
        if self.saved_step != state.step and (self.rows is not None or ledger is not None):
            tensors, options = flatten_optimizer(run.optimizer, run.bare.named_parameters())
            saved = {
                group: {name: local_rows(tensor) for name, tensor in named.items() if ledger or is_sharded(tensor)}
                for group, named in (("model", held(run.bare)), ("optimizer", tensors))
            }
            if self.rows is not None:
                self.rows.save_async(state.step, **saved)
            elif ledger is not None:
                ledger.flush()
                scaler = run.mixed.scaler
                snapshot = Snapshot(
                    step=state.step,
                    ranks=run.ranks.size if run.ranks.sharded else 1,
                    **saved,
                    state={
                        "run": {
                            **state.to_json(),
                            "due": due,
                            "window": {**vars(state.window), "loss_sum": loss_sum},
                        },
                        "optimizer": {**options, "tensors": sorted(tensors), "algorithm": run.recipe.optim.algorithm},
                        "scaler": scaler.state_dict() if scaler is not None else None,
                    },
                    manifest=self._facts(ledger),
                    best_step=state.best.step if state.best else None,
                )
                self._guard(lambda: self.store.save_async(snapshot))
        self.saved_step = state.step
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until the save in flight is on the disk."""
        if self.rows is not None:
            self.rows.wait()
        if self.folder.is_main:
            self._guard(self.store.wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for a save in flight. If it fails, there is a warning; a more important error may be on its way."""
        with contextlib.suppress(SaveFailed):
            self.wait()

    def _guard(self, action: Callable[[], object]) -> None:
        try:
            action()
        except SaveFailed as error:
            if error.give_up:
                raise
            self.console.say(f"warning: {error.message}")

    def _facts(self, ledger: Ledger) -> dict[str, Any]:
        run = self.run
        return {
            "attempt": self.folder.attempt,
            "epoch": run.epoch,
            "examples": run.feed.order.examples_before(run.state.step),
            "seed": run.recipe.seed,
            "order_version": ORDER_VERSION,
            "examples_per_step": run.plan.examples_per_step,
            "world_size": run.ranks.size,
            "dtype": "float32",
            "precision": run.plan.precision,
            "fingerprints": run.data.fingerprints,
            "ledger_offset": ledger.offset,
            **({"adapter": how} if (how := how_to_merge(run.bare)) else {}),
            **({"base": dict(vars(base))} if (base := base_of(run.bare)) is not None else {}),
        }

    def prove(self) -> str | None:
        """Load the newest checkpoint as a resumed run does: what is not as it was saved, None where all is."""
        run = self.run
        self.wait()
        newest = self.store.latest(self._misfit)
        if newest is None:
            return "it is not there"
        tensors, _ = flatten_optimizer(run.optimizer, run.bare.named_parameters())
        before = {
            "weights": {name: tensor.detach().clone() for name, tensor in held(run.bare).items()},
            "the optimizer's": {name: tensor.detach().clone() for name, tensor in tensors.items()},
        }
        self._load(newest)
        tensors, _ = flatten_optimizer(run.optimizer, run.bare.named_parameters())
        for what, now in (("weights", held(run.bare)), ("the optimizer's", tensors)):
            for name, tensor in before[what].items():
                if name not in now or not bool((now[name] == tensor).all()):
                    return f"{what} {name} differs"
        return None

    def load_best(self) -> int:
        """Load the best weights into the model, or keep the last ones if nothing was evaluated.

        Returns:
            The step they come from.
        """
        run = self.run
        self.wait()
        run.accelerator.wait_for_everyone()
        best = run.state.best
        if best is None or best.step == run.state.step:
            return run.state.step
        checkpoint = self.store.at(best.step)
        weights = checkpoint.load_model() if checkpoint is not None else self._packaged(best.step)
        if weights is None:
            self.console.say(
                f"warning: the best checkpoint (step {best.step:,}) is gone; the last weights are packaged"
            )
            run.state.best = None
            return run.state.step
        run.load_weights(weights)
        return best.step

    def tidy(self) -> None:
        """Delete all checkpoints of a complete run but the last one; the package holds the best weights.

        Merged into a package, an adapter cannot be taken out of it again: then the best one stays too.
        """
        run, best = self.run, self.run.state.best
        if self.folder.is_main:
            shutil.rmtree(folder_of(self.folder.path), ignore_errors=True)
        if not self.folder.is_main or run.recipe.budget.keep_when_done == "all":
            return
        is_packaged = best is None or best.step == run.state.step or self._packaged(best.step) is not None
        if is_packaged or is_adapted(run.bare):
            try:
                self.store.keep_only(run.state.step, *(() if is_packaged or best is None else (best.step,)))
            except OSError as error:
                self.console.say(f"warning: old checkpoints stay: {error}")

    def _packaged(self, step: int) -> dict[str, torch.Tensor] | None:
        """The weights of this complete run's package, by the model's names; None if they are of another step, damaged or
        incomplete."""
        package, expected = self.folder.path / "package", held(self.run.bare)
        result = self.folder.result
        try:
            if result is None or result["best_step"] != step:
                return None
            file = package / MODEL
            if sha256_file(file) != layout.read_manifest(package)["files"][MODEL]["sha256"]:
                return None
            found = tensor_files.read_file(file)
        except (KeyError, OSError, PackageError, SafetensorError):
            return None
        # A package holds tied weights once, under any of their names.
        names_of = {id(parameter): name for name, parameter in self.run.bare.named_parameters(remove_duplicate=True)}
        for name, parameter in self.run.bare.named_parameters(remove_duplicate=False):
            found.setdefault(name, found.get(names_of[id(parameter)]))  # type: ignore[arg-type]
        weights = {name: found.get(name) for name in expected}
        if any(tensor is None or tensor.shape != expected[name].shape for name, tensor in weights.items()):
            return None
        return weights  # type: ignore[return-value]
