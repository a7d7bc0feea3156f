"""Losses of vectors that lie close where texts belong together. Each is a sum over the examples of a step.

Shapes: B features of a step, in order of their examples and of the texts of each; E pairs; H size of a vector. ``batch`` has, of
each feature, ``part`` (0 a text, 1 its pair, more: negatives), ``number`` of its example, ``same`` and ``anchor`` (which text it
and the text of its example are: equal texts have equal numbers), ``weights``, and of scored pairs ``labels``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

_ROWS = 2048
"""Texts compared with all others at a time, so that no matrix of all of them is made."""


def squared(unit_BH: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The squared error of the cosine of each pair."""
    cosine_E = (unit_BH[0::2] * unit_BH[1::2]).sum(dim=1)
    error_E = (cosine_E - batch["labels"][0::2]).square()
    weights_E = batch["weights"][0::2] + batch["weights"][1::2]
    return (error_E * weights_E).sum()


def cosent(unit_BH: torch.Tensor, batch: Mapping[str, torch.Tensor], *, temperature: float) -> torch.Tensor:
    """CoSENT (https://kexue.fm/archives/8847), times the number of pairs: a pair of a higher score has the larger cosine."""
    import torch

    cosine_E, labels_E = (unit_BH[0::2] * unit_BH[1::2]).sum(dim=1) / temperature, batch["labels"][0::2]
    gaps_EE = cosine_E[:, None] - cosine_E[None]
    wrong_EE = gaps_EE.masked_fill(labels_E[:, None] >= labels_E[None], -torch.inf)
    zero = wrong_EE.new_zeros(1)
    return torch.logsumexp(torch.cat([zero, wrong_EE.flatten()]), dim=0) * batch["weights"].sum()


def in_batch(unit_BH: torch.Tensor, batch: Mapping[str, torch.Tensor], *, temperature: float) -> torch.Tensor:
    """Of each text the cross-entropy of its pair among the pairs and negatives of all examples (InfoNCE), but for those that
    are known to belong to it: the same text, or a pair of the same text."""
    import torch

    part_B, number_B = batch["part"], batch["number"]
    count = len(part_B)
    codes = torch.unique(torch.cat([batch["same"], batch["anchor"]]), return_inverse=True)[1]
    same_B, anchor_B = codes[:count], codes[count:]
    is_pair_B = part_B == 1
    [anchors], [others] = (torch.nonzero(which, as_tuple=True) for which in (part_B == 0, part_B > 0))
    size = int(codes.max()) + 1
    belongs = torch.zeros(size, size, dtype=torch.bool, device=part_B.device)
    belongs[anchor_B[is_pair_B], same_B[is_pair_B]] = True
    losses = []
    for rows in torch.split(anchors, _ROWS):
        scores = unit_BH[rows] @ unit_BH[others].T / temperature
        is_own = (number_B[rows][:, None] == number_B[others][None]) & is_pair_B[others][None]
        is_known = belongs[same_B[rows]][:, same_B[others]] | (same_B[rows][:, None] == same_B[others][None])
        of_all = torch.logsumexp(scores.masked_fill(is_known & ~is_own, -torch.inf), dim=1)
        of_own = scores.masked_fill(~is_own, 0.0).sum(dim=1)
        losses.append(((of_all - of_own) * (batch["weights"][rows] > 0)).sum())
    return torch.stack(losses).sum()
