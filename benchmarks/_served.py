"""Objectives that cost nothing: who serves all preferences best with 128 candidates?

Tasks, those who give candidates for them, and what the candidates are judged by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from _nasbench import resolved
from _record import Size
from numpy.typing import NDArray

from orchestrate.core import Candidate
from orchestrate.core.draw import draw_candidate
from orchestrate.core.indicators import preferences, r2, top_k_diversity, top_k_reward
from orchestrate.core.pareto import hypervolume
from orchestrate.core.sampler import SearchProblem
from orchestrate.core.scalarisation import simplex
from orchestrate.core.seeds import generator
from orchestrate.plugins.mogfn import exact, serving
from orchestrate.plugins.mogfn.conditions import BetaOptions, Conditions
from orchestrate.plugins.mogfn.environment import HasEnvironment, Trajectories
from orchestrate.plugins.mogfn.gflownet import GFlowNet
from orchestrate.plugins.mogfn.options import TrainingOptions
from orchestrate.plugins.mogfn.pc import MogfnPc
from orchestrate.plugins.mogfn.walk import Walks

Floats = NDArray[np.float64]

SERVED = 128
BETA = 16
FIVE = [(1.0, 0.0), (0.75, 0.25), (0.5, 0.5), (0.25, 0.75), (0.0, 1.0)]
HELD_OUT = [(0.9, 0.1), (0.63, 0.37), (0.4, 0.6), (0.15, 0.85)]
"""No multiples of a quarter."""


@dataclass(frozen=True)
class Exact:
    """A task whose objectives are known for every candidate: a space, and which of its scores count."""

    space: Mapping[str, Any]
    scores: tuple[str, ...]

    @property
    def training(self) -> Mapping[Size, tuple[int, int]]:
        """Training steps, and trajectories in each."""
        return TRAINING[self.space["name"]]

    @property
    def options(self) -> Mapping[str, Any]:
        """Of the GFlowNet."""
        return OPTIONS[self.space["name"]]

    @cached_property
    def problem(self) -> SearchProblem:
        """What a sampler is asked to solve."""
        return resolved(self.job({"name": "random"}, 0)).stages[0].problem

    def job(self, sampler: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """A job file over the task."""
        return {
            "name": "served",
            "space": dict(self.space),
            "objectives": [
                {"name": "synthetic", "score": score, "label": score, "reference": 0.0}
                for score in self.scores
            ],
            "stages": [
                {
                    "name": "serve",
                    "program": {"name": "synthetic"},
                    "sampler": dict(sampler),
                    "trials": SERVED,
                }
            ],
            "seed": seed,
        }


def grid(size: int, *scores: str) -> Exact:
    """A grid of two dimensions."""
    return Exact({"name": "hypergrid", "size": size}, scores)


WORDS = {"name": "ngrams", "alphabet": "AVCDEF", "shortest": 8, "longest": 12, "scale": 6}
TASKS: dict[str, dict[str, Exact]] = {
    "grids": {
        "branin, currin": grid(32, "branin", "currin"),
        "currin, shubert": grid(32, "currin", "shubert"),
        "branin, shubert": grid(32, "branin", "shubert"),
        "branin, currin, shubert": grid(32, "branin", "currin", "shubert"),
    },
    "words": {
        "AV, VC": Exact({**WORDS, "wanted": ["AV", "VC"]}, ("AV", "VC")),
        "AV, VC, CA": Exact({**WORDS, "wanted": ["AV", "VC", "CA"]}, ("AV", "VC", "CA")),
    },
}
TRAINING: dict[str, dict[Size, tuple[int, int]]] = {
    "hypergrid": {"smoke": (3, 16), "default": (2000, 128), "full": (5000, 128)},
    "ngrams": {"smoke": (3, 16), "default": (1000, 64), "full": (4000, 128)},
}
"""Training steps, and trajectories in each, by space. The full grid's are the paper's."""
OPTIONS: dict[str, dict[str, Any]] = {
    "hypergrid": {"learning_rate": 1e-2, "width": 64},
    "ngrams": {"replay": 0.0},
}
"""Of the GFlowNet, by space. The grid's are the paper's; its far cells are found by replay."""

# Who gives candidates ----------------------------------------------------------------------------------


def trained(task: Exact, size: Size, seed: int, **options: Any) -> MogfnPc:
    """`mogfn-pc`, trained on the task; rewards are the scores themselves."""
    steps, batch = task.training[size]
    gflownet = {"steps": steps, "batch": batch, "beta": {"high": BETA}, **task.options, **options}
    bounds = {score: [0, 1] for score in task.scores}
    sampler = {"name": "mogfn-pc", "batch": SERVED, "bounds": bounds, "gflownet": gflownet}
    stage = resolved(task.job(sampler, seed)).stages[0]
    assert isinstance(stage.sampler, MogfnPc)
    stage.sampler.start(stage.problem)
    return stage.sampler


def served(task: Exact, size: Size, seed: int) -> tuple[list[Candidate], dict[str, float]]:
    """What the trained sampler gives for evenly spread preferences, and how well it follows them."""
    sampler = trained(task, size, seed)
    given = [sampler.ask(number) for number in range(SERVED)]
    net = sampler.learnt(sampler.snapshot(SERVED))
    on_grid = task.space["name"] == "hypergrid"
    return given, conditioning(net, task) if net and on_grid else {}


class Reinforce(GFlowNet):
    """MOReinforce (Lin et al., arXiv 2203.15386): the same policy by policy gradient, for E[R_w^β | w]."""

    def loss(
        self, walks: Trajectories, conditions: Conditions, rewards: Floats, group: NDArray[np.int64]
    ) -> torch.Tensor:
        terms = self.terms(walks, conditions, rewards)
        gains = terms.log_reward.exp()
        return -((gains - gains.mean()) * terms.forward.sum(dim=1)).mean()


def reinforced(task: Exact, size: Size, seed: int) -> tuple[list[Candidate], dict[str, float]]:
    """What a policy gives that was trained as `served`'s, but to earn the most for a preference."""
    steps, batch = task.training[size]
    problem = task.problem
    space: Any = problem.space
    environment = space.environment() if isinstance(space, HasEnvironment) else Walks(space)

    def rewards(found: Sequence[Candidate]) -> Floats:
        values = [[problem.exact[score](one) for score in task.scores] for one in found]
        return np.maximum(np.array(values).reshape(-1, len(task.scores)), 0)

    options = TrainingOptions(
        **{**task.options, "replay": 0.0},
        steps=steps,
        batch=batch,
        beta=BetaOptions(high=BETA, warmup=0.0),
        exploration=0.0,
    )
    net = Reinforce(environment, len(task.scores), rewards, options, generator(seed))
    net.train()
    weights = serving.preferences(problem, None, 0.0, SERVED, generator(seed, 1))
    given = serving.distinct(net, weights, (), generator(seed, 2))
    on_grid = task.space["name"] == "hypergrid"
    return given, conditioning(net, task) if on_grid else {}


def random_draws(task: Exact, size: Size, seed: int) -> tuple[list[Candidate], dict[str, float]]:  # noqa: ARG001
    """Random candidates."""
    return [draw_candidate(task.problem.space, generator(seed, number)) for number in range(SERVED)], {}


def last_population(task: Exact, size: Size, seed: int) -> tuple[list[Candidate], dict[str, float]]:
    """NSGA-III's population after as many evaluations as the GFlowNet's training has trajectories.

    A gene is the place of a choice's value in its list, taken modulo the list's length.
    """
    from pymoo.algorithms.moo.nsga3 import NSGA3
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.operators.crossover.pntx import TwoPointCrossover
    from pymoo.operators.mutation.pm import PolynomialMutation
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    problem, evaluations = task.problem, math.prod(task.training[size])
    length, width = (2, 32) if task.space["name"] == "hypergrid" else (12, 7)

    def decode(genes: Sequence[int]) -> Candidate:
        left = iter(genes)
        return problem.space.generate(
            lambda choice: choice.values[int(next(left)) % len(choice.values)]  # type: ignore[index,arg-type]
        )

    class Genes(ElementwiseProblem):
        def __init__(self) -> None:
            super().__init__(n_var=length, n_obj=len(task.scores), xl=0, xu=width - 1, vtype=int)

        def _evaluate(self, x: Any, out: Any, *_: Any, **__: Any) -> None:
            candidate = decode(x.tolist())
            out["F"] = [-problem.exact[score](candidate) for score in task.scores]

    algorithm = NSGA3(
        ref_dirs=preferences(len(task.scores)),
        pop_size=SERVED,
        sampling=IntegerRandomSampling(),
        crossover=TwoPointCrossover(),
        mutation=PolynomialMutation(
            prob=1.0, prob_var=1 / length, eta=3.0, vtype=float, repair=RoundingRepair()
        ),
        eliminate_duplicates=True,
    )
    found = minimize(Genes(), algorithm, ("n_eval", max(SERVED, evaluations)), seed=seed)
    return [decode(genes.tolist()) for genes in found.pop.get("X")], {}


GIVERS: dict[str, Callable[[Exact, Size, int], tuple[list[Candidate], dict[str, float]]]] = {
    "mogfn-pc": served,
    "NSGA-III": last_population,
    "MOReinforce": reinforced,
    "random": random_draws,
}

# What they are judged by ---------------------------------------------------------------------------------

LARGER_IS_BETTER = {"hypervolume": True, "R2": False, "top-10 reward": True, "top-10 diversity": True}
UTILITY, DISTANCE = "served utility", "L1"


def judge(task: Exact, candidates: Sequence[Candidate]) -> dict[str, float]:
    """All indicators of a set of candidates."""
    problem = task.problem
    points = [{name: compute(one) for name, compute in problem.exact.items()} for one in candidates]
    qualities = np.array([[point[score] for score in task.scores] for point in points])
    weights = preferences(len(task.scores))
    return {
        "hypervolume": hypervolume(points, problem.goals, [0.0] * len(task.scores)),
        "R2": r2(qualities, weights),
        "top-10 reward": top_k_reward(qualities, weights),
        "top-10 diversity": top_k_diversity(qualities, weights, candidates),
    }


def conditioning(net: GFlowNet, task: Exact) -> dict[str, float]:
    """How well a policy on a grid follows preferences, computed over all cells without sampling.

    Served utility: 0 is a policy that ignores the preference, 1 the exact one. L1: mean distance to the
    exact distributions.
    """
    weights = simplex(2, 63) if len(task.scores) == 2 else simplex(len(task.scores), 10)
    cells, reached = exact.terminating_distributions(net, weights, BETA)
    rewards = net.rewards(cells)
    targets = np.array([exact.target(BETA * net.log_scalarise(one, rewards))[0] for one in weights])
    ignored = np.tile(targets.mean(axis=0), (len(weights), 1))
    low, high, here = (exact.served_utility(one, weights, rewards) for one in (ignored, targets, reached))
    return {
        UTILITY: (here - low) / (high - low),
        DISTANCE: float(np.abs(reached - targets).sum(axis=1).mean()),
    }


class Errors(NamedTuple):
    """A policy's distances to the exact distributions, each the mean over preferences but for `*_most`."""

    distance: float
    distance_most: float
    divergence: float
    log_z_most: float


def errors(net: GFlowNet, beta: float, weights: Sequence[tuple[float, ...]]) -> Errors:
    """Compare a policy on a grid with the exact distributions of some preferences."""
    cells, distributions = exact.terminating_distributions(net, np.array(weights), beta)
    rewards = net.rewards(cells)
    rows: list[tuple[float, float, float]] = []
    for one, reached in zip(weights, distributions, strict=True):
        wanted, log_z = exact.target(beta * net.log_scalarise(np.array(one), rewards))
        learnt = net.log_z(Conditions(np.array([one]), np.array([float(beta)])))[0]
        rows.append((exact.distance(reached, wanted), exact.jensen_shannon(reached, wanted), learnt - log_z))
    distances, divergences, log_z_errors = np.array(rows).T
    return Errors(
        float(distances.mean()),
        float(distances.max()),
        float(divergences.mean()),
        float(np.abs(log_z_errors).max()),
    )
