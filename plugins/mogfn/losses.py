"""Training objectives of GFlowNets, over a batch of trajectories.

All take log probabilities by state and log rewards by trajectory, and give a loss a trajectory: (B,).
A trajectory's log reward includes β.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

LossName: TypeAlias = Literal["tb", "db", "subtb", "vargrad"]
Penalty: TypeAlias = Literal["square", "absolute", "huber", "log-cosh"]
Shape: TypeAlias = Callable[[Tensor], Tensor]


def _log_cosh(residual: Tensor) -> Tensor:
    return residual + functional.softplus(-2 * residual) - 0.6931471805599453


def _huber(residual: Tensor) -> Tensor:
    return functional.smooth_l1_loss(residual, torch.zeros_like(residual), reduction="none")


PENALTIES: Mapping[Penalty, Shape] = {
    "square": torch.square,
    "absolute": torch.abs,
    "huber": _huber,
    "log-cosh": _log_cosh,
}
"""What a residual costs."""


class Terms(NamedTuple):
    """What the losses need of B trajectories, padded to L steps. Padding is 0."""

    forward: Tensor
    """log P_F(s_t+1 | s_t): (B, L)."""
    backward: Tensor
    """log P_B(s_t | s_t+1): (B, L); 0 for the last step."""
    flow: Tensor
    """log F(s_t): (B, L)."""
    on: Tensor
    """Which steps there are: (B, L) bool, a prefix of each row."""
    log_z: Tensor
    """log Z of each trajectory's condition: (B,)."""
    log_reward: Tensor
    """β log R: (B,)."""


def log_z_estimates(terms: Terms) -> Tensor:
    """β log R + Σ log P_B - Σ log P_F: (B,). Each is log Z where the flow is exact."""
    return terms.log_reward + (terms.backward - terms.forward).sum(dim=1)


def trajectory_balance(terms: Terms, shape: Shape = torch.square) -> Tensor:
    """Log Z + Σ log P_F - β log R - Σ log P_B: (B,). Malkin et al., arXiv 2201.13259."""
    return shape(terms.log_z - log_z_estimates(terms))


def detailed_balance(terms: Terms, shape: Shape = torch.square) -> Tensor:
    """Mean over edges of log F(s) + log P_F - log F(s') - log P_B: (B,).

    F(s') of the last edge is the reward. Bengio et al., arXiv 2111.09266.
    """
    flows = _flows(terms)
    residuals = flows[:, :-1] + terms.forward - terms.backward - flows[:, 1:]
    costs = torch.where(terms.on, shape(residuals), 0.0)
    return costs.sum(dim=1) / terms.on.sum(dim=1).clamp(min=1)


def subtrajectory_balance(terms: Terms, decay: float = 1.0, shape: Shape = torch.square) -> Tensor:
    """Mean over all parts i < j of a trajectory, weighted by decay^(j - i): (B,).

    Madan et al., arXiv 2209.12782, equation 10; the first state's flow is Z.
    """
    flows = _flows(terms)
    steps = torch.where(terms.on, terms.forward - terms.backward, 0.0)
    potential = flows - functional.pad(steps.cumsum(dim=1), (1, 0))
    residuals = potential[:, :, None] - potential[:, None, :]
    place = torch.arange(flows.shape[1])
    gap = place[None, :] - place[:, None]
    inside = (gap > 0) & (place <= terms.on.sum(dim=1)[:, None])[:, None, :]
    weights = torch.where(inside, decay ** gap.clamp(min=1).to(flows.dtype), 0.0)
    costs = shape(torch.where(inside, residuals, 0.0))
    return (weights * costs).sum(dim=(1, 2)) / weights.sum(dim=(1, 2)).clamp(min=1e-300)


def log_partition_variance(terms: Terms, group: Tensor, shape: Shape = torch.square) -> Tensor:
    """Distance of each estimate of log Z from the mean of its group (B,), which shares a condition: (B,).

    Needs no Z. Zhang et al., arXiv 2302.05446.
    """
    estimates = log_z_estimates(terms)
    return shape(estimates - group_means(estimates, group))


def group_means(values: Tensor, group: Tensor) -> Tensor:
    """Each value's group's mean: (B,)."""
    count = int(group.max()) + 1
    sums = torch.zeros(count, dtype=values.dtype).index_add(0, group, values)
    sizes = torch.zeros(count, dtype=values.dtype).index_add(0, group, torch.ones_like(values))
    return (sums / sizes.clamp(min=1))[group]


def _flows(terms: Terms) -> Tensor:
    """Log F of a trajectory's states with Z first and the reward behind its last: (B, L + 1)."""
    flows = functional.pad(torch.where(terms.on, terms.flow, 0.0), (0, 1))
    place = torch.arange(flows.shape[1])
    flows = torch.where(place == 0, terms.log_z[:, None], flows)
    return torch.where(place == terms.on.sum(dim=1)[:, None], terms.log_reward[:, None], flows)
