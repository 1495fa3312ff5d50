"""The sampler for small budgets: a surrogate learns from trials, a GFlowNet samples what it promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ...core import Candidate, Choice, SearchProblem, SearchSpace, SpecError, Suggestion, Value
from ...core.draw import draw, draw_candidate
from ...core.seeds import generator
from . import acquisition
from .acquisition import AcquisitionName, Improving, Rewards
from .conditions import Conditions
from .describe import Describer
from .edits import Edits, EditWalks
from .environment import Environment
from .improvement import Improvement, choose, directions
from .options import TrainingOptions
from .parents import parents
from .rounds import RoundOptions, RoundSampler, Snapshot
from .scalarise import log_scalarise
from .serving import best_first, preferences, repeated
from .slots import Division
from .walk import Walks

if TYPE_CHECKING:
    from .gflownet import GFlowNet
    from .keeping import Tensors
    from .model import Model

RAYS = 96
"""Directions that see the hypervolume."""
SHORTLIST = 256
"""Candidates whose improvement is computed by samples, and whose exact objectives are."""
PARENTS = 32
"""Candidates at most that a walk of edits chooses from."""


class AlTraining(TrainingOptions):
    """The GFlowNet of a round: small, since it is trained anew each time."""

    steps: int = Field(default=150, ge=1, description="Training steps.")
    width: int = Field(default=64, ge=1, description="Width of the policy's layers.")
    depth: int = Field(default=2, ge=1, description="Number of the policy's layers.")
    learning_rate: float = Field(default=3e-3, gt=0, description="Of the policy; halved every quarter.")


class AlOptions(RoundOptions):
    """Options of `mogfn-al`."""

    initial: int = Field(default=10, ge=0, description="Random candidates before the first round.")
    surrogate: Literal["ensemble", "evidential", "gp"] = Field(
        default="ensemble",
        description="The model of measured objectives: a deep ensemble; one network that learns how sure it "
        "is (evidential regression); or exact Gaussian processes "
        "(`pip install 'orchestrate-automl[botorch]'`), better on small numbers.",
    )
    acquisition: AcquisitionName = Field(
        default="ucb",
        description="What the GFlowNet is trained on, by preference: the upper confidence bounds of the "
        "objectives (`ucb`); a function drawn from what the model holds possible, another each round "
        "(`thompson`); the expected improvement over the best measured for the preference (`ei`). Or the "
        "expected hypervolume improvement, which knows no preference, over what was measured (`ehvi`), or "
        "over what the model makes of that, since measurements are noisy (`nehvi`).",
    )
    kappa: float = Field(
        default=1.0, ge=0, description="Deviations added to the mean by `ucb`; 0: the mean alone (greedy)."
    )
    pool: int = Field(default=512, ge=1, description="Samples of the policy that a round chooses from.")
    growth: float = Field(
        default=0.125,
        gt=0,
        description="A round has at most this part of the trials so far: the first are small.",
    )
    samples: int = Field(default=24, ge=1, description="Samples of the model behind an improvement.")
    apart: int = Field(
        default=1, ge=0, description="Choices in which two proposals of a round differ at least."
    )
    edits: int = Field(
        default=0,
        ge=0,
        description="Let a walk choose a candidate of the front and change so many of its choices at most, "
        "as in the paper; 0: it makes all choices anew.",
    )
    backtrack: int = Field(
        default=0,
        ge=0,
        description="Candidates at least whose neighbours are looked at: where the front has fewer, some "
        "that were on it join, the better ones likelier.",
    )
    explore: int = Field(default=0, ge=0, description="Random candidates among a round's proposals.")
    pretraining: int = Field(
        default=256, ge=0, description="Random candidates whose exact objectives are learnt beforehand."
    )
    bins: int = Field(default=16, ge=2, description="Cells that a real-valued choice is cut into.")
    gflownet: AlTraining = Field(  # pyright: ignore[reportIncompatibleVariableOverride] - frozen
        default=AlTraining(), description="The GFlowNet and its training."
    )

    @model_validator(mode="after")
    def _promises(self) -> AlOptions:
        if self.gflownet.scalarisation == "goal" and self.acquisition not in ("ucb", "thompson"):
            raise ValueError(
                f"scalarisation 'goal' asks for rewards in a direction, and acquisition {self.acquisition!r} "
                "has none: take `ucb` or `thompson`"
            )
        return self


class Learnt(NamedTuple):
    """What a round has trained."""

    model: Model
    net: GFlowNet


class MogfnAl(RoundSampler[AlOptions, Learnt]):
    """Active learning with a multi-objective GFlowNet (after arXiv 2210.12765, section 4.2).

    A round models the measured objectives, trains a preference-conditional policy on what the model
    promises, and chooses from the policy's samples, and the front's neighbours, those that together
    improve the hypervolume most. Trials that are still running count as the model expects them.
    """

    name: ClassVar[str] = "mogfn-al"
    summary: ClassVar[str] = "GFlowNet on a surrogate: for tens to hundreds of expensive trials"

    def start(self, problem: SearchProblem) -> None:
        super().start(problem)
        if self.options.surrogate == "gp":
            from importlib.util import find_spec

            if find_spec("gpytorch") is None:
                raise SpecError(
                    "sampler 'mogfn-al' with surrogate 'gp' needs GPyTorch: "
                    "pip install 'orchestrate-automl[botorch]', or take surrogate 'ensemble'"
                )
        self._values: dict[str, dict[str, float]] = {}
        self._pretraining: list[Candidate] | None = None

    def size(self, number: int) -> int:
        return max(1, min(self.options.batch, int(self.options.growth * number)))

    def propose(self, snapshot: Snapshot, count: int) -> Sequence[Candidate]:
        learnt = self.learnt(snapshot)
        if learnt is None:
            return []
        rng = generator(self.problem.seed, snapshot.number, 1)
        model, net = learnt
        options = self.options
        weights = preferences(
            self.problem, options.preference, options.spread, -(-options.pool // 8), rng, options.cover
        ).repeat(8, axis=0)
        drawn = net.sample(Conditions(weights, np.full(len(weights), net.options.beta.high)), rng)
        around = [] if options.preference else self._neighbours(model, options.pool // 4, rng)
        named = {self.aliases.name(one): one for one in (*drawn, *around)}
        pool = [one for name, one in named.items() if name not in snapshot.proposed]
        self.record(pool=float(len(pool)))
        return self._select(model, pool, snapshot, max(1, count - options.explore), rng)

    def propose_for(self, preference: Mapping[str, float], count: int) -> Sequence[Suggestion]:
        snapshot = self.latest()
        learnt = self.learnt(snapshot)
        if learnt is None:
            raise SpecError(f"sampler {self.name!r} has too few finished trials to learn from yet")
        model, net = learnt
        rng = generator(self.problem.seed, snapshot.number, 2)
        weights = np.array([preference[goal.name] for goal in self.problem.optimised])
        beta = net.options.beta.high
        drawn = net.sample(repeated(weights, 16 * count, beta), rng)
        named = {self.aliases.name(one): one for one in drawn}
        found = [one for name, one in named.items() if name not in self.proposed]
        if not found:
            return []
        belief = model.believe(found, exactly=True)
        from .model import unwarped

        scalarise = log_scalarise(self.options.gflownet.scalarisation)
        merit = scalarise(weights[None], np.maximum(unwarped(belief.mean), 0)) + np.log(belief.chance)
        order = best_first(merit)[:count]
        found = [found[index] for index in order]
        mean, deviation = belief.mean[order], belief.deviation[order]
        low, middle, high = (model.values(mean + sign * deviation) for sign in (-1, 0, 1))
        likely: list[float | None] = [None] * len(found)
        if net.environment.one_walk:
            likely = net.log_probability(found, repeated(weights, len(found), beta)).tolist()
        return [
            Suggestion(
                one,
                middle[row],
                {name: abs(high[row][name] - low[row][name]) / 2 for name in middle[row]},
                likely[row],
            )
            for row, one in enumerate(found)
        ]

    # A round --------------------------------------------------------------------------------------

    def learn(self, snapshot: Snapshot, kept: Tensors | None = None) -> Learnt | None:
        from .gflownet import GFlowNet
        from .keeping import below
        from .model import Model

        scored = [told for told in snapshot.told if told.observation.scored]
        if len(scored) < 4:
            return None
        rng = generator(self.problem.seed, snapshot.number, 0)
        walks = Walks(self.problem.space, Division(self.options.bins), [told.candidate for told in scored])
        model = Model(
            self.problem,
            self.options,
            self.options.surrogate,
            Describer(self.problem.space, walks.slots),
            snapshot.told,
            self._pretrained(),
            self._exact_values,
            rng,
            kept and below("model", kept),
        )
        compute, scalarise = self._acquisition(model, rng)
        cache: dict[Candidate, NDArray[np.float64]] = {}

        def reward(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
            new = [one for one in dict.fromkeys(candidates) if one not in cache]
            if new:
                cache.update(zip(new, compute(new), strict=True))
            return np.array([cache[one] for one in candidates])

        environment: Environment = walks
        if self.options.edits:
            near = self._parents(model, rng)[:PARENTS]
            environment = EditWalks(Edits(self.problem.space, near, self.options.edits), walks.division)
        net = GFlowNet(
            environment,
            self.objectives,
            reward,
            self.options.gflownet,
            rng,
            scalarise=scalarise,
            log_multiplicity=self.aliases.log_multiplicity,
        )
        if kept is not None:
            net.restore(below("policy", kept))
            return Learnt(model, net)
        known = [told.candidate for told in scored]
        known += self._neighbours(model, 2 * len(known), rng)
        if isinstance(environment, EditWalks):
            known = [one for one in known if environment.edits.near(one)]
        net.memory.add(known, reward(known))
        if scalarise is not None:
            scalarise.anchor(reward(known), self.objectives)
        loss = net.train()
        errors = {f"surrogate_error/{name}": error for name, error in model.errors.items()}
        self.record(loss=loss, **errors)
        return Learnt(model, net)

    def _acquisition(self, model: Model, rng: np.random.Generator) -> tuple[Rewards, Improving | None]:
        """What the GFlowNet is trained on, and how a preference makes one of it where that isn't its own."""
        options, power = self.options, 1 / self.options.gflownet.beta.high
        if options.acquisition == "ucb":
            return acquisition.bounded(model, options.kappa, power), None
        if options.acquisition == "thompson":
            return acquisition.drawn(model, power, rng), None
        draws = acquisition.stratified(options.samples, self.objectives, rng)
        if options.acquisition == "ei":
            method = options.gflownet.scalarisation
            assert method != "goal"
            return acquisition.by_preference(model, draws, power, method)
        noisy = options.acquisition == "nehvi"
        improvement = self._improvement(model, [], rng, options.samples if noisy else 1, noisy=noisy)
        return acquisition.in_hypervolume(model, draws, power, improvement)

    def tensors(self, learnt: Learnt) -> Tensors:
        from .keeping import under

        return under("model", learnt.model.tensors) | under("policy", learnt.net.tensors)

    def _select(
        self,
        model: Model,
        pool: Sequence[Candidate],
        snapshot: Snapshot,
        count: int,
        rng: np.random.Generator,
    ) -> list[Candidate]:
        """Choose candidates of a pool that together improve the hypervolume most."""
        from .model import unwarped

        if not pool:
            return []
        belief = model.believe(pool)
        hope = unwarped(belief.mean + belief.deviation)
        promise = self._improvement(model, snapshot.pending, rng).expected(hope[None], belief.chance)
        short = [pool[index] for index in best_first(promise)[:SHORTLIST]]
        belief = model.believe(short, exactly=True)
        noise = rng.standard_normal((self.options.samples, *belief.mean.shape))
        samples = acquisition.sampled(belief, noise)

        def apart(one: int, other: int) -> bool:
            return differing(short[one], short[other]) >= self.options.apart

        improvement = self._improvement(model, snapshot.pending, rng, self.options.samples)
        chosen = choose(improvement, samples, belief.chance, count, apart)
        self.record(improvement=sum(gain for _, gain in chosen))
        return [short[index] for index, _ in chosen]

    def _improvement(
        self,
        model: Model,
        pending: Sequence[Candidate],
        rng: np.random.Generator,
        samples: int = 1,
        *,
        noisy: bool = False,
    ) -> Improvement:
        """Improvement over finished trials (`noisy`: over samples of what the model makes of them), and over
        running ones as the model expects them.
        """

        def sampled(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
            belief = model.believe(candidates, exactly=True)
            noise = rng.standard_normal((samples, *belief.mean.shape)) if samples > 1 else np.zeros((1, 1, 1))
            return acquisition.sampled(belief, noise)

        front = np.repeat(model.front[None], samples, axis=0)
        if noisy and len(model.front):
            front = sampled(model.feasible)
        if pending:
            front = np.concatenate([front, sampled(pending)], axis=1)
        return Improvement(front, directions(self.objectives, RAYS, generator(self.problem.seed, 0, 4)))

    def _neighbours(self, model: Model, count: int, rng: np.random.Generator) -> list[Candidate]:
        """Candidates of the front, or near it, with one choice changed."""
        around = self._parents(model, rng)
        drawn: list[int] = rng.integers(len(around), size=count).tolist()
        return [changed(self.problem.space, around[index], rng) for index in drawn]

    def _parents(self, model: Model, rng: np.random.Generator) -> list[Candidate]:
        values = [told.observation.values for told in model.scored]
        found = parents(values, self.problem.goals, self.options.backtrack, rng)
        return [model.scored[index].candidate for index in found]

    # Exact objectives -----------------------------------------------------------------------------

    def _exact_values(self, candidate: Candidate) -> dict[str, float]:
        if candidate.digest not in self._values:
            exact = self.problem.exact.items()
            self._values[candidate.digest] = {name: compute(candidate) for name, compute in exact}
        return self._values[candidate.digest]

    def _pretrained(self) -> list[Candidate]:
        if self._pretraining is None:
            rng = generator(self.problem.seed, 0, 5)
            count = self.options.pretraining if self.problem.exact else 0
            self._pretraining = [draw_candidate(self.problem.space, rng) for _ in range(count)]
        return self._pretraining


def changed(space: SearchSpace, parent: Candidate, rng: np.random.Generator) -> Candidate:
    """Walk the space along a parent's choices, with one of them drawn again."""
    names = list(parent)
    drawn = names[int(rng.integers(len(names)))] if names else None

    def pick(choice: Choice) -> Value:
        old = parent.get(choice.name)
        if choice.name == drawn or choice.name not in parent or old not in choice:
            return draw(choice, rng)
        return old

    return space.generate(pick)


def differing(one: Candidate, other: Candidate) -> int:
    """Number of choices that differ, or that one of the two doesn't make."""
    names = one.keys() | other.keys()
    return sum(name not in one or name not in other or one[name] != other[name] for name in names)
