"""The preference-conditional sampler: a GFlowNet trained on the objectives themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ...core import (
    Candidate,
    SearchProblem,
    SpaceError,
    SpecError,
    Suggestion,
    Value,
    enumerate_candidates,
    replay,
)
from ...core.draw import draw_candidate
from ...core.pareto import violation
from ...core.sampler import Curve
from ...core.seeds import generator
from . import rewards
from .anyorder import AnyOrder
from .conditions import Conditions, even
from .environment import Environment, HasEnvironment
from .exact import rank_correlation, target
from .rounds import RoundOptions, RoundSampler, Snapshot, Told
from .scalarise import FOCUS, cosine
from .serving import best_first, distinct, preferences, repeated
from .slots import Division
from .walk import Walks

if TYPE_CHECKING:
    from .gflownet import GFlowNet, Rewards
    from .keeping import Tensors

INFEASIBLE = 0.3
"""Rewards of a candidate that breaks a bound are cut to this part. At β = 24 that is 3e-13 of its
probability, and no cliff that training would see nothing else of."""
PROBES = 512
"""Random candidates that show the range of exact objectives, and how right a policy is."""
VALIDATED = 16
"""Preferences at least for which a policy is asked while it is trained."""
POINTS = 50
"""Points of a training's curves, or few more."""
ENUMERATED = 2000
"""Candidates of a space at most for its true log Z to be computed."""


class PcOptions(RoundOptions):
    """Options of `mogfn-pc`."""

    bins: int = Field(default=16, ge=2, description="Cells that a real-valued choice is cut into.")
    graph: bool = Field(
        default=True,
        description="Use the graph that a space brings along, if it does, instead of its choices.",
    )
    order: Literal["program", "any"] = Field(
        default="program",
        description="The order in which a walk makes the choices: the space's own, where a candidate has one "
        "walk; or any, each choice once those that it depends on are made.",
    )
    known: tuple[dict[str, Value], ...] = Field(
        default=(),
        description="Good candidates, as choices by name, where all objectives are exact: half of what is "
        "replayed while the policy is trained comes from them.",
    )

    @model_validator(mode="after")
    def _used(self) -> PcOptions:
        if self.known and not self.gflownet.replay:
            raise ValueError("known candidates are replayed, and gflownet.replay is 0")
        return self


class Course:
    """How a training goes: its mean loss, and what `measure` says of the policy, by training step."""

    def __init__(self, net: GFlowNet, measure: Callable[[GFlowNet], Mapping[str, float]]) -> None:
        self._net, self._measure = net, measure
        self._losses: list[float] = []
        self._stride = max(1, net.options.steps // POINTS)
        self.curves: dict[str, list[tuple[int, float]]] = {}

    def watch(self, step: int, loss: float) -> None:
        """Take note of a step that is done."""
        self._losses.append(loss)
        if step % self._stride == 0 or step == self._net.options.steps:
            found = {"loss": fmean(self._losses), **self._measure(self._net)}
            for name, value in found.items():
                self.curves.setdefault(name, []).append((step, value))
            self._losses.clear()


class MogfnPc(RoundSampler[PcOptions, "GFlowNet"]):
    """MOGFN-PC (Jain et al., arXiv 2210.12765, section 4.1): P(x | w, β) ∝ R_w(x)^β.

    Where all optimised objectives are exact (static), the policy is trained on them before the first
    trial, and every proposal is a sample from it. Otherwise each round trains a policy on the finished
    trials alone, walked back; for expensive objectives `mogfn-al` makes more of each trial.
    """

    name: ClassVar[str] = "mogfn-pc"
    summary: ClassVar[str] = "preference-conditional GFlowNet: diverse candidates for every trade-off"

    def start(self, problem: SearchProblem) -> None:
        super().start(problem)
        if self.options.order == "any":
            self._environment(())  # a space whose choices have no such order is refused before any trial
        self._given = [self._known(place, one) for place, one in enumerate(self.options.known, start=1)]
        if self._given and not self.exact:
            raise SpecError(
                f"sampler {self.name!r}: option 'known' is for objectives that are all exact; otherwise the "
                "policy learns from finished trials alone"
            )
        self._net: GFlowNet | None = None
        self._values: dict[str, dict[str, float]] = {}

    @property
    def exact(self) -> bool:
        """Whether every optimised objective is known without a trial."""
        return all(goal.name in self.problem.exact for goal in self.problem.optimised)

    @property
    def initial(self) -> int:
        return 0 if self.exact else self.options.initial

    def propose(self, snapshot: Snapshot, count: int) -> Sequence[Candidate]:
        net = self.learnt(snapshot)
        if net is None:
            return []
        rng = generator(self.problem.seed, snapshot.number, 1)
        options = self.options
        weights = preferences(self.problem, options.preference, options.spread, count, rng, options.cover)
        return distinct(net, weights, snapshot.proposed, rng, self.aliases.name)

    def propose_for(self, preference: Mapping[str, float], count: int) -> Sequence[Suggestion]:
        snapshot = self.latest()
        net = self.learnt(snapshot)
        if net is None:
            raise SpecError(f"sampler {self.name!r} has no finished trial to learn from yet")
        weights = np.array([preference[goal.name] for goal in self.problem.optimised])
        rng = generator(self.problem.seed, snapshot.number, 2)
        found = distinct(net, np.tile(weights, (count, 1)), self.proposed, rng, self.aliases.name)
        conditions = repeated(weights, len(found), net.options.beta.high)
        likely: list[float | None] = [None] * len(found)
        if net.environment.one_walk:
            likely = [float(one) for one in net.log_probability(found, conditions)]
        suggestions = [
            Suggestion(one, self._exact_values(one), log_probability=log_p)
            for one, log_p in zip(found, likely, strict=True)
        ]
        if self.exact:
            merit = net.log_scalarise(conditions.weights, net.rewards(found))
        else:
            merit = np.array([log_p or 0.0 for log_p in likely])
        return [suggestions[index] for index in best_first(merit)]

    # Training -------------------------------------------------------------------------------------

    def learn(self, snapshot: Snapshot, kept: Tensors | None = None) -> GFlowNet | None:
        if self.exact:
            if self._net is None:
                self._net = self._train(self._rewards_of_anything(), generator(self.problem.seed, 0, 2), kept)
            return self._net
        scored = [told for told in snapshot.told if told.observation.scored]
        if not scored:
            return None
        rng = generator(self.problem.seed, snapshot.number, 0)
        return self._train(self._rewards_of(scored), rng, kept, scored)

    def tensors(self, learnt: GFlowNet) -> Tensors:
        return learnt.tensors

    def _train(
        self, reward: Rewards, rng: np.random.Generator, kept: Tensors | None, scored: Sequence[Told] = ()
    ) -> GFlowNet:
        from .gflownet import GFlowNet

        options = self.options.gflownet
        if scored:
            options = options.model_copy(update={"replay": 1.0})
        known = [told.candidate for told in scored]
        net = GFlowNet(
            self._environment([*known, *self._given]),
            self.objectives,
            reward,
            options,
            rng,
            given=self._given,
            log_multiplicity=self.aliases.log_multiplicity,
        )
        if kept is not None:
            net.restore(kept)
            return net
        if scored:
            net.memory.add(known, reward(known))
        if self.exact:
            course = Course(net, self._validated)
            net.train(watch=course.watch)
            self.record(**course.curves, **self._checks(net))
        else:
            self.record(loss=net.train(), **self._log_z(net))
        return net

    def _known(self, place: int, choices: Mapping[str, Value]) -> Candidate:
        try:
            return replay(self.problem.space, choices)
        except SpaceError as error:
            raise SpecError(f"sampler {self.name!r}: option 'known', candidate {place}: {error}") from error

    def _environment(self, known: Sequence[Candidate]) -> Environment:
        space = self.problem.space
        if self.options.graph and isinstance(space, HasEnvironment):
            return space.environment()
        if self.options.order == "any":
            return AnyOrder(space, Division(self.options.bins))
        return Walks(space, Division(self.options.bins), known)

    def _shown(self) -> dict[str, NDArray[np.float64]]:
        """Preferences for which a policy is looked at: each single objective, and their even mixture."""
        count = self.objectives
        names = [*(goal.name for goal in self.problem.optimised), "even"]
        return dict(zip(names, np.vstack([np.eye(count), np.full((1, count), 1 / count)]), strict=True))

    def _log_z(self, net: GFlowNet) -> dict[str, float]:
        """The learned log Z."""
        weights = np.array([*self._shown().values()])
        learnt = net.log_z(Conditions(weights, np.full(len(weights), net.options.beta.high)))
        return {f"log_z/{name}": one for name, one in zip(self._shown(), learnt.tolist(), strict=True)}

    def _validated(self, net: GFlowNet) -> dict[str, float]:
        """How a policy does in training: log Z, and what it makes for preferences that stay the same."""
        weights = even(self.objectives, VALIDATED).repeat(2, axis=0)
        conditions = Conditions(weights, np.full(len(weights), net.options.beta.high))
        rewards = net.rewards(net.sample(conditions, generator(self.problem.seed, 0, 6)))
        found = {"served_reward": float(np.exp(net.log_scalarise(weights, rewards)).mean())}
        if net.options.scalarisation == "goal":
            found["focus_accuracy"] = float(np.mean(cosine(weights, rewards) >= FOCUS))
        return found | self._log_z(net)

    def _checks(self, net: GFlowNet) -> dict[str, float | Curve]:
        """What tells whether a policy of exact objectives is right.

        `log_z/NAME_true`, where all candidates can be listed. `rank_correlation/NAME` of log P(x | w) with
        log R_w over random candidates, where a candidate has one walk; 1 is ideal.
        """
        beta = net.options.beta.high
        found: dict[str, float | Curve] = {}
        everything, probes = self._everything(), self._probes()
        for name, one in self._shown().items():
            if everything:
                log_rewards = net.log_scalarise(one, net.rewards(everything))
                truth = target(beta * log_rewards - self.aliases.log_multiplicity(everything))[1]
                found[f"log_z/{name}_true"] = [(step, truth) for step in (1, net.options.steps)]
            if net.environment.one_walk:
                likely = net.log_probability(probes, repeated(one, len(probes), beta))
                likely += self.aliases.log_multiplicity(probes)
                found[f"rank_correlation/{name}"] = rank_correlation(
                    likely, net.log_scalarise(one, net.rewards(probes))
                )
        return found

    def _everything(self) -> list[Candidate]:
        """All candidates of a small space; none of a larger one, or where they have no end."""
        try:
            found = list(islice(enumerate_candidates(self.problem.space), ENUMERATED + 1))
        except SpaceError:
            return []
        return found if len(found) <= ENUMERATED else []

    # Rewards --------------------------------------------------------------------------------------

    def _probes(self) -> list[Candidate]:
        """Random candidates, the same ones each time."""
        rng = generator(self.problem.seed, 0, 3)
        return [draw_candidate(self.problem.space, rng) for _ in range(PROBES)]

    def _exact_values(self, candidate: Candidate) -> dict[str, float]:
        """The exact goals' values; computed once a candidate."""
        if candidate.digest not in self._values:
            self._values[candidate.digest] = {
                name: compute(candidate) for name, compute in self.problem.exact.items()
            }
        return self._values[candidate.digest]

    def _rewards_of_anything(self) -> Rewards:
        """Rewards computed from the exact goals."""
        scales = self._scales([self._exact_values(one) for one in self._probes()])

        def reward(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
            points = [self._exact_values(one) for one in candidates]
            feasible = np.array([violation(point, self.problem.goals) == 0 for point in points])
            return np.maximum(rewards.table(scales, points), 0.0) * np.where(feasible, 1, INFEASIBLE)[:, None]

        return reward

    def _rewards_of(self, scored: Sequence[Told]) -> Rewards:
        """Rewards of finished trials."""
        scales = self._scales([told.observation.values for told in scored])
        points = [told.observation.values for told in scored]
        feasible = np.array([told.observation.violation == 0 for told in scored])
        found = np.maximum(rewards.table(scales, points), 0.0) * np.where(feasible, 1, INFEASIBLE)[:, None]
        known = {told.candidate: row for told, row in zip(scored, found, strict=True)}
        return lambda candidates: np.array([known[one] for one in candidates]).reshape(-1, self.objectives)

    def _scales(self, points: Sequence[Mapping[str, float]]) -> list[rewards.Scale]:
        options = self.options
        return [
            rewards.scale(
                goal,
                [point[goal.name] for point in points],
                options.bounds.get(goal.name),
                goal.name in options.log,
            )
            for goal in self.problem.optimised
        ]
