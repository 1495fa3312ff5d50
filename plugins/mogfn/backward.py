"""P_B along walks: which of a state's ways back is taken, and how likely that is.

Where it isn't learned it is uniform over the steps that may have led to a state, or gives each walk to a
state the same chance: P_B(s | s') = n(s) / n(s') with n the number of ways to a state. Of all flows with
the same rewards that one's walks have the largest entropy (Mohammadpour et al., "Maximum entropy GFlowNets
with soft Q-learning", arXiv 2312.14331). Their GSQL spends a walk's 1 / n(x) in its last step instead.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .environment import ActBack, Bools, Graph, Integers, Trajectories, pick
from .options import BackwardName
from .policy import Heads


def log_backward(kind: BackwardName, graph: Graph, walks: Trajectories, heads: Heads) -> Tensor:
    """Log P_B(s_t | s_t+1) by state s_t: (N,).

    A walk's last is 0, since stopping has one way back; but see `gsql`.
    """
    assert walks.parents is not None
    assert walks.states is not None
    last = np.append(walks.owner[1:] != walks.owner[:-1], True)
    if kind == "gsql":
        return -torch.as_tensor(np.where(last, graph.log_ways(walks.states), 0.0))
    if kind == "maxent":
        ways = graph.log_ways(walks.states)
        back = torch.as_tensor(ways - np.roll(ways, -1))
    elif heads.backward is not None:
        taken = torch.as_tensor(walks.actions)[:, None]
        back = heads.backward.roll(-1, dims=0).gather(1, taken).squeeze(1).double()
    else:
        ways = np.roll(walks.parents.sum(axis=1), -1)
        back = -torch.as_tensor(np.log(np.maximum(ways, 1)))
    return torch.where(torch.as_tensor(last), 0.0, back)


def by_ways(graph: Graph, rng: np.random.Generator) -> ActBack:
    """Walk back so that each walk to a candidate is as likely."""

    def act(rows: Integers, states: Integers, origins: Bools) -> Integers:
        del rows
        index, actions = np.nonzero(origins)
        before = graph.log_ways(graph.step(states[index], actions, -1))
        weights = np.zeros(origins.shape)
        weights[index, actions] = np.exp(before - graph.log_ways(states)[index])
        return pick(weights, rng)

    return act
