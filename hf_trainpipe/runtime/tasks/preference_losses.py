"""Losses by which a model learns which of its answers are wanted, from the logarithms of their probabilities.

Legend: E examples. Each function gives [E] losses, one an example, in fp32.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def dpo(gain_E2: torch.Tensor, *, beta: float, smoothing: float = 0.0) -> torch.Tensor:
    """Direct preference optimisation (equation 7 of arXiv 2305.18290).

    Args:
        gain_E2: How much likelier than to the reference the chosen and the rejected answer are: differences of logarithms.
        beta: What rewards are multiplied by: the smaller, the farther a model may go from its reference.
        smoothing: The share of pairs whose answers are thought to be the wrong way round (conservative DPO).
    """
    margin = beta * (gain_E2[:, 0] - gain_E2[:, 1])
    return -functional.logsigmoid(margin) * (1 - smoothing) - functional.logsigmoid(-margin) * smoothing


def orpo(mean_E2: torch.Tensor, *, beta: float) -> torch.Tensor:
    """Odds ratio preference optimisation (equations 6 and 7 of arXiv 2403.07691): learns the chosen answer, and to keep away from
    the rejected one; without a reference.

    Args:
        mean_E2: Logarithms of the probabilities of the chosen and the rejected answer, divided by their tokens.
        beta: The weight of the odds ratio beside the chosen answer's own loss; lambda in the paper.
    """
    mean_E2 = mean_E2.clamp(max=-1e-6)  # a probability of 1 has no odds
    odds_E2 = mean_E2 - torch.log(-torch.expm1(mean_E2))
    return -mean_E2[:, 0] - beta * functional.logsigmoid(odds_E2[:, 0] - odds_E2[:, 1])


def kto(
    gain_E: torch.Tensor,
    desirable_E: torch.Tensor,
    baseline: torch.Tensor,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> torch.Tensor:
    """Kahneman-Tversky optimisation (equation 8 of arXiv 2402.01306), of answers that come without a counterpart.

    Args:
        gain_E: How much likelier than to the reference each answer is.
        desirable_E: 1 of wanted answers, 0 of others.
        baseline: How much likelier answers to other questions have become, 0 at least: the estimate of the KL divergence.
    """
    ahead_E = beta * (gain_E - baseline)
    wanted_E = desirable_E > 0
    sign_E = torch.where(wanted_E, ahead_E, -ahead_E)
    weight_E = torch.where(wanted_E, desirable_weight, undesirable_weight)
    return weight_E * (1 - torch.sigmoid(sign_E))


def baseline_of(gain_E: torch.Tensor, weights_E: torch.Tensor) -> torch.Tensor:
    """The mean gain of answers to other questions over the whole batch, 0 at least; nothing learns by it.

    Args:
        weights_E: 0 of what does not count.
    """
    mean = (gain_E * weights_E).sum() / weights_E.sum().clamp(min=1e-12)
    return mean.clamp(min=0.0).detach()
