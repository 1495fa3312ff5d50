"""The networks: forward and backward policy and log flow in one trunk, log Z beside it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

NEVER = torch.finfo(torch.float32).min


class Heads(NamedTuple):
    """What the trunk says of N states: log P_F (N, A), log P_B (N, A) if learned, log F (N,)."""

    forward: Tensor
    backward: Tensor | None
    flow: Tensor


@dataclass(frozen=True)
class Conditioning:
    """What the trunk is told of n conditions: a shift (n, width), and, or none, factors of features
    (n, width) and of logits (n, 1).
    """

    shift: Tensor
    gain: Tensor | None
    scale: Tensor | None

    def __getitem__(self, rows: Tensor) -> Conditioning:
        gain, scale = (None if one is None else one.index_select(0, rows) for one in (self.gain, self.scale))
        return Conditioning(self.shift.index_select(0, rows), gain, scale)


class Policy(nn.Module):
    """A residual MLP over state and condition, and a small one for log Z(condition).

    Logits are scaled by a learned, positive f(β) where β varies (Logit-GFN, arXiv 2310.02823). A condition
    shifts the state's features; where `modulated`, it multiplies them, too (FiLM, arXiv 1709.07871).
    """

    def __init__(
        self,
        features: int,
        actions: int,
        conditions: int,
        *,
        width: int = 128,
        depth: int = 3,
        learned_backward: bool = False,
        tempered: bool = False,
        modulated: bool = False,
    ) -> None:
        super().__init__()
        self.state = nn.Linear(features, width)
        self.condition = nn.Linear(conditions, width, bias=False)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.forward_head = nn.Linear(width, actions)
        self.backward_head = nn.Linear(width, actions) if learned_backward else None
        self.flow_head = nn.Linear(width, 1)
        self.scale = _mlp(1, 16, 1) if tempered else None
        self.log_z = _mlp(conditions, 64, 64, 1)
        self.gain = nn.Linear(conditions, width) if modulated else None
        for head in (self.forward_head, self.backward_head, self.flow_head, self.log_z[-1], self.gain):
            if isinstance(head, nn.Linear):  # uniform policies, flows, Z and factors of 1 to start from
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)

    def prepare(self, conditions: Tensor, log_beta: Tensor) -> Conditioning:
        """Prepare conditions (B, C) with their log β (B, 1): once a walk, not once a state."""
        scale = None
        if self.scale is not None:
            scale = nn.functional.softplus(self.scale(log_beta) + 0.5413)  # 1 to start from
        gain = None if self.gain is None else 1 + self.gain(conditions)
        return Conditioning(self.condition(conditions), gain, scale)

    def forward(
        self, features: Tensor, mask: Tensor, conditioning: Conditioning, origins: Tensor | None
    ) -> Heads:
        """Evaluate states: features (N, F), mask (N, A), each under its condition (N)."""
        hidden = self._hidden(features, conditioning)
        backward = None
        if self.backward_head is not None and origins is not None:
            backward = log_softmax(self.backward_head(hidden), origins)
        forward = self._log_forward(hidden, mask, conditioning)
        return Heads(forward, backward, self.flow_head(hidden).squeeze(-1))

    def log_forward(self, features: Tensor, mask: Tensor, conditioning: Conditioning) -> Tensor:
        """Log P_F of states alone: (N, A). Walks ask for it at each step."""
        return self._log_forward(self._hidden(features, conditioning), mask, conditioning)

    def _hidden(self, features: Tensor, conditioning: Conditioning) -> Tensor:
        hidden = self.state(features)
        if conditioning.gain is not None:
            hidden = hidden * conditioning.gain
        hidden = nn.functional.silu(hidden + conditioning.shift)
        for block in self.blocks:
            hidden = hidden + nn.functional.silu(block(hidden))
        return hidden

    def _log_forward(self, hidden: Tensor, mask: Tensor, conditioning: Conditioning) -> Tensor:
        logits = self.forward_head(hidden)
        return log_softmax(logits if conditioning.scale is None else logits * conditioning.scale, mask)


def log_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Log probabilities of the allowed actions; a forbidden one's is never to be looked at."""
    return torch.log_softmax(logits.masked_fill(~mask, NEVER), dim=-1)


def _mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers[:-1])
