"""A question with two answers in one row: the question is computed once, and neither answer sees the other.

The way is that of prefix sharing for preference tuning (arXiv 2410.20305), over flat tokens: positions of both answers begin
behind the question, and attention goes as :class:`.layout.Branched` says. Before a model takes this way it shows, on a small
batch, that each answer gets the numbers it has in a row of its own, and that what one says moves nothing of the other. A model that
does not, or that is padded, gets two rows, each with the question.

Legend: B questions of a batch, L tokens of the longest with both answers, W of the longest with one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ..brief import first_line
from ..tokens.ragged import ends_of, ranges
from .exact import exact_products
from .forking import apart
from .inference import bare
from .layout import Branched
from .next_token import IGNORED, position_losses
from .unpad import TOLERANCE, is_unpadded, known_lengths, prove

_REASON = "_hf_trainpipe_branches"
"""Attribute of a model that was asked: why questions are not shared; empty: they are."""
_SEEN = 1e-5
"""Most that another first answer may move the second one's numbers, over their largest value."""


class Rows(NamedTuple):
    """Questions with their answers."""

    ids: torch.Tensor
    """int64[B, L]: a question, its first answer, its second one. What predicts an answer's first token begins it."""
    labels: torch.Tensor
    """int64[B, L] the token behind each; ``IGNORED`` where none is asked for."""
    branch: torch.Tensor
    """int64[B, L]: 0 of the question, and of padding; 1 and 2 of the answers."""
    mask: torch.Tensor
    """int64[B, L]: 0 of padding, which is on the right."""

    @property
    def parts(self) -> npt.NDArray[np.int64]:
        """[B, 3] tokens of the question and of each answer."""
        whole = self.mask.sum(1)
        first, second = (self.branch == 1).sum(1), (self.branch == 2).sum(1)
        found: npt.NDArray[np.int64] = torch.stack([whole - first - second, first, second], dim=1).cpu().numpy()
        return found


def answer_losses(model: Any, rows: Rows, *, shared: bool = True) -> torch.Tensor:
    """[B, 2]: minus the logarithm of each answer's probability, with a gradient.

    Args:
        model: A causal model, bare or wrapped.
        shared: Whether a question may be computed once for both its answers.
    """
    losses = shared_losses if shared and why_not_shared(model) is None else separate_losses
    return losses(model, rows)


def shared_losses(model: Any, rows: Rows) -> torch.Tensor:
    """The same with each question computed once; of an unpadded model."""
    mask = rows.mask.clone()  # known by itself: the run knows the other one as that of plain documents
    layout = Branched.of_parts(rows.parts, rows.ids.shape[1], rows.ids.device)
    with known_lengths([(mask, layout)]):
        losses_BL = position_losses(model, {"input_ids": rows.ids, "attention_mask": mask}, rows.labels)
    return torch.stack([losses_BL.where(rows.branch == end, 0.0).sum(1) for end in (1, 2)], dim=1)


def separate_losses(model: Any, rows: Rows) -> torch.Tensor:
    """The same with a row for each answer."""
    begin, first, second = rows.parts.T
    count, long = rows.ids.shape
    lengths = np.concatenate([begin + first, begin + second])  # [2B]
    is_token = np.arange(int(lengths.max()))[None] < lengths[:, None]
    row = np.arange(count) * long
    starts = np.concatenate([np.stack([row, row + begin], axis=1), np.stack([row, row + begin + first], axis=1)])
    sizes = np.concatenate([np.stack([begin, first], axis=1), np.stack([begin, second], axis=1)])
    at = np.zeros(is_token.shape, dtype=np.int64)
    at[is_token] = ranges(starts.reshape(-1), sizes.reshape(-1))
    place, mask = (torch.from_numpy(array).to(rows.ids.device) for array in (at, is_token.astype(np.int64)))
    ids = rows.ids.reshape(-1)[place] * mask
    labels = torch.where(mask.bool(), rows.labels.reshape(-1)[place], IGNORED)
    with known_lengths([(mask, lengths)] if is_unpadded(model) else []):
        losses = position_losses(model, {"input_ids": ids, "attention_mask": mask}, labels)
    return losses.sum(1).view(2, count).T


def why_not_shared(model: Any) -> str | None:
    """Why a model computes a question once for each answer; None: it does not. Asked once of a model."""
    inner = bare(model)
    if not is_unpadded(inner):
        return "its batches are padded"
    if (known := inner.__dict__.get(_REASON)) is None:
        known = _tried(inner) or ""
        inner.__dict__[_REASON] = known
    return known or None


def _tried(model: Any) -> str | None:
    def numbers(losses: Callable[[Any, Rows], torch.Tensor], rows: Rows) -> torch.Tensor:
        def compute() -> torch.Tensor:
            with torch.no_grad(), exact_products():
                return losses(model, rows)

        return apart(compute)

    one, other = (_small(model, change) for change in (0, 1))
    was_training = model.training
    model.eval()
    try:
        expected, found, changed = (
            numbers(separate_losses, one),
            numbers(shared_losses, one),
            numbers(shared_losses, other),
        )
    except Exception as error:  # another version of transformers, a model of its own kind: two rows are there
        return first_line(error, named=True)
    finally:
        model.train(was_training)
    seen, difference = prove([found[:, 1]], [changed[:, 1]]), prove([expected], [found])
    if not seen <= _SEEN:
        return f"another first answer moves what it makes of the second by {seen:.1e}"
    if not difference <= TOLERANCE:
        return f"what it makes of an answer differs from the same in a row of its own by {difference:.1e}"
    return None


_SMALL = np.array([[6, 4, 3], [1, 2, 6], [2, 1, 1]])
"""Tokens of the questions and answers of :func:`_small`."""


def _small(model: Any, change: int) -> Rows:
    """A few short questions and answers.

    Args:
        change: Added to the ids of first answers.
    """
    device, width = next(model.parameters()).device, int(_SMALL.sum(axis=1).max())
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    count = len(_SMALL)
    places = np.arange(width)[None]
    until = np.stack([ends_of(parts)[1:] for parts in _SMALL])  # [B, 3]
    mask = places < until[:, 2:]
    branch = np.where(places < until[:, :1], 0, np.where(places < until[:, 1:2], 1, 2)) * mask
    ids = (np.arange(count * width).reshape(count, width) * 7 + 5 + change * (branch == 1)) % vocabulary
    labels = np.where(branch > 0, (ids + 3) % vocabulary, IGNORED)
    arrays = (ids, labels, branch, mask.astype(np.int64))
    return Rows(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))
