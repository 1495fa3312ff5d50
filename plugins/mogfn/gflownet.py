"""A multi-objective GFlowNet: one policy for every preference, P(x | w, β) ∝ R_w(x)^β.

Jain et al., "Multi-Objective GFlowNets", arXiv 2210.12765 (MOGFN-PC).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...core import Candidate
from ...core.training.threads import threads
from .backward import by_ways, log_backward
from .conditions import Conditions, Encoder
from .drawing import Drawing
from .environment import (
    Act,
    ActBack,
    Bools,
    Environment,
    Floats,
    Graph,
    Integers,
    Trajectories,
    joined,
    pick,
)
from .goals import hindsight
from .local_search import improved
from .losses import (
    PENALTIES,
    Terms,
    detailed_balance,
    group_means,
    log_partition_variance,
    log_z_estimates,
    subtrajectory_balance,
    trajectory_balance,
)
from .memory import Memory
from .options import TrainingOptions
from .policy import Conditioning, Heads, Policy
from .reproducible import seeded
from .scalarise import Scalarise, log_scalarise

Rewards: TypeAlias = Callable[[Sequence[Candidate]], NDArray[np.float64]]
"""Rewards (n, d) of candidates, each to be maximised, of about [0, 1]."""


class GFlowNet:
    """The policy, its training, and what is asked of it afterwards. Runs on one thread of the CPU."""

    def __init__(
        self,
        environment: Environment,
        objectives: int,
        rewards: Rewards,
        options: TrainingOptions,
        rng: np.random.Generator,
        *,
        scalarise: Scalarise | None = None,
        given: Sequence[Candidate] = (),
        log_multiplicity: Callable[[Sequence[Candidate]], NDArray[np.float64]] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.environment = environment
        self.options = options
        self.rewards = rewards
        self._log_multiplicity = log_multiplicity
        self.memory = Memory(options.memory, options.apart)
        self.given = Memory(max(1, len(given)))
        """Candidates that half of what is replayed comes from, if there are any: an offline data set."""
        if given:
            self.given.add(given, rewards(given))
        self.encoder = Encoder(objectives, options.encoding, options.bins, options.beta)
        self.log_scalarise = scalarise or log_scalarise(options.scalarisation)
        self._rng = rng
        self._dtype = dtype
        self._drawing = Drawing(options, objectives)
        with seeded(int(rng.integers(2**31))):
            self.policy = Policy(
                environment.features,
                environment.actions,
                self.encoder.features,
                width=options.width,
                depth=options.depth,
                learned_backward=options.backward == "learned" and isinstance(environment, Graph),
                tempered=options.beta.distribution != "constant" or options.beta.warmup > 0,
                modulated=options.conditioning == "film",
            ).to(dtype)
        z = set(self.policy.log_z.parameters())
        self._optimizer = torch.optim.Adam(
            [
                {"params": [p for p in self.policy.parameters() if p not in z], "lr": options.learning_rate},
                {
                    "params": list(self.policy.log_z.parameters()),
                    "lr": options.learning_rate * options.z_factor,
                },
            ],
            fused=True,
        )
        self._served = copy.deepcopy(self.policy) if options.average else self.policy
        self.step_number = 0

    # Training -------------------------------------------------------------------------------------

    def train(self, steps: int | None = None, watch: Callable[[int, float], None] | None = None) -> float:
        """Train; return the mean loss of the last tenth. `watch` gets each step's number and loss."""
        total = steps or self.options.steps
        losses: list[float] = []
        with threads():
            for index in range(total):
                self._schedule(index / total)
                losses.append(self.step(index / total))
                if watch is not None:
                    watch(self.step_number, losses[-1])
        return float(np.mean(losses[-max(1, total // 10) :]))

    def step(self, done: float = 1.0) -> float:
        """Train on one batch; `done` is the part of the training that is over. Returns the loss."""
        conditions = self.draw_conditions(done)
        trajectories, order = self.collect(conditions, done)
        rewards = self.rewards(trajectories.candidates)
        self.memory.add(trajectories.candidates, rewards)
        rows = conditions[order]
        if self.options.scalarisation == "goal":
            self._drawing.learn(rows, rewards, done)
            rows = hindsight(rows, rewards, self._rng)
        loss = self.loss(trajectories, rows, rewards, order // self.options.group)
        self._optimizer.zero_grad()
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.options.clip)
        self._optimizer.step()  # pyright: ignore[reportUnknownMemberType]
        self.step_number += 1
        if self.options.average:
            weight = max(1 - self.options.average, 1 / self.step_number)
            with torch.no_grad():
                for mean, now in zip(self._served.parameters(), self.policy.parameters(), strict=True):
                    mean.lerp_(now, weight)
        return float(loss.detach())

    def draw_conditions(self, done: float = 1.0) -> Conditions:
        """Draw a batch's conditions: `group` rows in a row are equal."""
        return self._drawing.draw(done, self._rng)

    def collect(self, conditions: Conditions, done: float = 0.0) -> tuple[Trajectories, Integers]:
        """Walk a batch: forward with exploration, and back from known candidates.

        Returns the walks, and for each the row of its condition.
        """
        place = np.arange(len(conditions)) % self.options.group
        share = self.options.replay if len(self.memory) else 0.0
        old = place < share * self.options.group
        new, back = np.flatnonzero(~old), np.flatnonzero(old)
        walks: list[Trajectories] = []
        if len(new):
            act = self._act(conditions[new], self.policy, self._rng, self._off_policy(done))
            made = self.environment.forward(len(new), act, self._rng)
            if self.options.local_search:
                made = self._search_around(made, conditions[new], act)
            walks.append(made)
        if len(back):
            each = int(np.count_nonzero(old[: self.options.group]))
            known = self._known(conditions[back], each)
            walks.append(self.environment.backward(known, self._act_back(conditions[back]), self._rng))
        return joined(walks), np.concatenate([new, back])

    def loss(
        self,
        walks: Trajectories,
        conditions: Conditions,
        rewards: NDArray[np.float64],
        group: Integers,
    ) -> Tensor:
        """The mean loss of walks with rewards (B, d); `group` (B,) numbers those that share a condition."""
        terms = self.terms(walks, conditions, rewards)
        shape = PENALTIES[self.options.penalty]
        match self.options.loss:
            case "tb":
                return trajectory_balance(terms, shape).mean()
            case "db":
                return detailed_balance(terms, shape).mean()
            case "subtb":
                return subtrajectory_balance(terms, self.options.decay, shape).mean()
            case "vargrad":
                groups = torch.as_tensor(group)
                estimates = group_means(log_z_estimates(terms).detach(), groups)
                follow = (terms.log_z - estimates).square()  # no gradient reaches the policy from here
                return (log_partition_variance(terms, groups, shape) + follow).mean()

    def terms(self, walks: Trajectories, conditions: Conditions, rewards: NDArray[np.float64]) -> Terms:
        """Evaluate the policy along walks, each under its condition and with its rewards (B, d)."""
        owner = torch.as_tensor(walks.owner)
        encoded, log_beta = self._encoded(conditions)
        heads: Heads = self.policy(
            torch.as_tensor(walks.features, dtype=self._dtype),
            torch.as_tensor(walks.mask),
            self.policy.prepare(encoded, log_beta)[owner],
            None if walks.parents is None else torch.as_tensor(walks.parents),
        )
        taken = torch.as_tensor(walks.actions)[:, None]
        forward = heads.forward.gather(1, taken).squeeze(1).double()
        count, lengths = len(walks.candidates), torch.as_tensor(walks.lengths)
        starts = lengths.cumsum(0) - lengths
        step = torch.arange(len(owner)) - starts[owner]
        width = max(1, int(lengths.max()))

        def padded(values: Tensor) -> Tensor:
            return torch.zeros(count, width, dtype=torch.float64).index_put((owner, step), values.double())

        on = step.new_zeros(count, width, dtype=torch.bool)
        on[owner, step] = True
        dense = padded(forward)
        dense[:, 0] = dense[:, 0] + torch.as_tensor(walks.fixed)
        return Terms(
            dense,
            padded(self._log_backward(walks, heads)),
            padded(heads.flow),
            on,
            self.policy.log_z(encoded).squeeze(-1).double(),
            torch.as_tensor(self._log_rewards(walks.candidates, conditions, rewards)),
        )

    # Asking ---------------------------------------------------------------------------------------

    def sample(self, conditions: Conditions, rng: np.random.Generator) -> Sequence[Candidate]:
        """Draw one candidate a condition from the policy, without exploration."""
        with threads():
            act = self._act(conditions, self._served, rng)
            return self.environment.forward(len(conditions), act, rng).candidates

    def log_probability(self, candidates: Sequence[Candidate], conditions: Conditions) -> NDArray[np.float64]:
        """Log P(x | w, β) of candidates, each under its condition: (n,). Where they have one walk only.

        Raises:
            TypeError: a candidate has many walks.
        """
        if not self.environment.one_walk:
            raise TypeError("many walks lead to a candidate: in a graph, see exact.terminating_distribution")
        walks = self.environment.backward(candidates, None, self._rng)
        with torch.no_grad(), threads():
            return self.terms(walks, conditions, conditions.weights).forward.sum(dim=1).numpy()

    def log_z(self, conditions: Conditions) -> NDArray[np.float64]:
        """The learned log Z of conditions: (n,)."""
        with torch.no_grad():
            return self._served.log_z(self._encoded(conditions)[0]).squeeze(-1).double().numpy()

    def action_probabilities(
        self, conditions: Conditions, features: Floats, mask: Bools
    ) -> NDArray[np.float64]:
        """P_F of states under conditions, one each: (n, A)."""
        return self._probabilities(
            self._served, self._prepared(self._served, conditions), features, mask, None
        )

    # Keeping --------------------------------------------------------------------------------------

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The weights of the policy that proposals come from."""
        return self._served.state_dict()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take weights instead of training."""
        self.policy.load_state_dict(tensors)
        self._served.load_state_dict(tensors)

    # Inside ---------------------------------------------------------------------------------------

    def _search_around(self, walks: Trajectories, conditions: Conditions, act: Act) -> Trajectories:
        """Better walks near these; all that is seen on the way is remembered."""

        def judge(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
            rewards = self.rewards(candidates)
            self.memory.add(candidates, rewards)
            return self._log_rewards(candidates, conditions, rewards)

        rounds, back = self.options.local_search, self._act_back(conditions)
        return improved(self.environment, walks, act, back, judge, rounds, self._rng)

    def _log_rewards(
        self, candidates: Sequence[Candidate], conditions: Conditions, rewards: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """What log P is to be, up to log Z: β log R, less the logarithm of how many are the same: (n,)."""
        found = conditions.beta * self.log_scalarise(conditions.weights, rewards)
        return found if self._log_multiplicity is None else found - self._log_multiplicity(candidates)

    def _known(self, conditions: Conditions, each: int) -> Sequence[Candidate]:
        """Known candidates worth training on, one a condition; `each` conditions in a row are equal."""

        def score(rewards: NDArray[np.float64]) -> NDArray[np.float64]:
            return self.log_scalarise(conditions.weights[::each, None], rewards[None])

        found = self.memory.draw(score, self._rng, each)
        if len(self.given):
            given = self.given.draw(score, self._rng, each)
            half = self._rng.random(len(found)) < 0.5
            found = [two if other else one for one, two, other in zip(found, given, half, strict=True)]
        return found

    def _act(
        self,
        conditions: Conditions,
        policy: Policy,
        rng: np.random.Generator,
        off_policy: tuple[float, float] = (0.0, 1.0),
    ) -> Act:
        """Choose as the policy does; off policy, with a share of uniform actions and at a temperature."""
        prepared = self._prepared(policy, conditions)
        exploration, temperature = off_policy

        def act(rows: Integers, features: Floats, mask: Bools) -> Integers:
            all_there = len(rows) == len(conditions)
            conditioning = prepared if all_there else prepared[torch.as_tensor(rows)]
            weights = self._probabilities(policy, conditioning, features, mask, None)
            if temperature != 1:
                weights = weights ** (1 / temperature)
                weights /= weights.sum(axis=1, keepdims=True)
            if exploration:
                even = mask / mask.sum(axis=1, keepdims=True)
                weights = (1 - exploration) * weights + exploration * even
            return pick(weights, rng)

        return act

    def _off_policy(self, done: float) -> tuple[float, float]:
        """Share of uniform actions, and temperature."""
        left = 1 - done if self.options.annealing else 1.0
        return left * self.options.exploration, 1 + left * (self.options.tempering - 1)

    def _act_back(self, conditions: Conditions) -> ActBack | None:
        """Choose as the backward policy does; None: uniformly."""
        graph = self.environment
        if not isinstance(graph, Graph) or self.options.backward == "uniform":
            return None
        if self.options.backward != "learned":
            return by_ways(graph, self._rng)
        prepared = self._prepared(self.policy, conditions)

        def act(rows: Integers, states: Integers, origins: Bools) -> Integers:
            conditioning, features = prepared[torch.as_tensor(rows)], graph.encode(states)
            weights = self._probabilities(self.policy, conditioning, features, origins, origins)
            return pick(weights, self._rng)

        return act

    def _probabilities(
        self,
        policy: Policy,
        conditioning: Conditioning,
        features: Floats,
        mask: Bools,
        origins: Bools | None,
    ) -> NDArray[np.float64]:
        states, allowed = torch.as_tensor(features, dtype=self._dtype), torch.as_tensor(mask)
        with torch.no_grad():
            if origins is None:
                found = policy.log_forward(states, allowed, conditioning)
            else:
                found = policy(states, allowed, conditioning, torch.as_tensor(origins)).backward
            return found.double().exp().numpy()

    def _log_backward(self, walks: Trajectories, heads: Heads) -> Tensor:
        if not isinstance(self.environment, Graph):
            return torch.zeros(len(walks.owner), dtype=torch.float64)
        return log_backward(self.options.backward, self.environment, walks, heads)

    def _prepared(self, policy: Policy, conditions: Conditions) -> Conditioning:
        with torch.no_grad():
            return policy.prepare(*self._encoded(conditions))

    def _encoded(self, conditions: Conditions) -> tuple[Tensor, Tensor]:
        encoded = torch.as_tensor(self.encoder.encode(conditions), dtype=self._dtype)
        return encoded, torch.as_tensor(conditions.beta, dtype=self._dtype).log()[:, None]

    def _schedule(self, done: float) -> None:
        factor = 0.5 ** int(4 * done)
        for group, rate in zip(
            self._optimizer.param_groups,
            (self.options.learning_rate, self.options.learning_rate * self.options.z_factor),
            strict=True,
        ):
            group["lr"] = rate * factor
