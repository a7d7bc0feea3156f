"""The training split of an epoch, its texts changed by the recipe's augmentation.

Texts are changed and encoded once an epoch, into the run's folder, by the first rank that asks; the others open the same
files. Tokens are hidden when a micro-batch is made. Both follow from (seed, epoch, example), so a resumed run makes them
again, and there is no state to save.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hf_trainpipe.augmentation.encoder import AugmentingEncoder, token_draws
from hf_trainpipe.training.distilling import as_taught

if TYPE_CHECKING:
    from pathlib import Path

    from hf_trainpipe.data.prepare import Prepared
    from hf_trainpipe.runtime.tokens.batch import Batch
    from hf_trainpipe.training.setup import Setup

FOLDER = "augmented"


class Augmented:
    """What the training reads in place of its split, where the recipe has an augmentation."""

    def __init__(self, setup: Setup) -> None:
        steps = setup.recipe.augmentation or ()
        self.setup = setup
        self.texts = tuple(step for step in steps if step.changes != "tokens")
        """Steps for which an epoch is encoded anew."""
        self.tokens = tuple(step for step in steps if step.changes == "tokens")
        self._open: tuple[int, Prepared] | None = None

    def of(self, rows: Prepared, epoch: int) -> Prepared:
        """The rows of an epoch as it reads them."""
        if not self.texts:
            return rows
        if self._open is None or self._open[0] != epoch:
            self._open = epoch, self._drawn(rows, epoch)
        return self._open[1]

    def _drawn(self, rows: Prepared, epoch: int) -> Prepared:
        setup, encoder = self.setup, rows.rows.encoder
        assert setup.data.prepare_again is not None
        assert encoder is not None
        place = folder_of(setup.folder.path)
        with setup.console.working(f"changing the texts of epoch {epoch + 1}"):
            drawing = AugmentingEncoder(encoder, self.texts, seed=setup.recipe.seed, epoch=epoch)
            drawn = setup.data.prepare_again(rows, drawing, place / f"{epoch:06d}")
            drawn = replace(drawn, features=as_taught(drawn.features, rows.features))
        if setup.ranks.is_main:
            for old in place.iterdir():
                if old.name < f"{epoch - 1:06d}":  # a slow rank may still read the one before
                    shutil.rmtree(old, ignore_errors=True)
        return drawn

    def hide(self, batch: Batch, features: np.ndarray, epoch: int, rows: Prepared) -> Batch:
        """A micro-batch with some of its tokens hidden."""
        if not self.tokens:
            return batch
        import torch

        assert rows.rows.encoder is not None
        masker, seed = rows.rows.encoder.masker, self.setup.recipe.seed
        drawn = [token_draws(seed, epoch, feature) for feature in features.tolist()]
        hidden = {}
        for name, mask in batch.masks.items():
            column = rows.features.streams[name].ids
            assert column is not None
            ids, is_token = batch[column].numpy().copy(), batch[mask].numpy().astype(bool)
            for row, draws in enumerate(drawn):
                for step in self.tokens:
                    if draws.random() < step.examples:
                        ids[row, is_token[row]] = step.hidden(ids[row, is_token[row]], draws, masker)
            hidden[column] = torch.from_numpy(ids)
        return batch.with_tensors({**batch, **hidden})


def folder_of(run: Path) -> Path:
    """Where a run keeps the texts of its epochs, as tokens."""
    return run / FOLDER
