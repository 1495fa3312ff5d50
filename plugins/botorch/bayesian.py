"""`qnehvi` and `qparego`: ask/tell over any space, with BoTorch's acquisition functions."""

# BoTorch's annotations are partial.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingModuleSource=false, reportMissingImports=false

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from ...core import (
    Candidate,
    Goal,
    Observation,
    PluginOptions,
    Sampler,
    SearchProblem,
    SpaceExhausted,
    SpecError,
    Suggestion,
)
from ...core.draw import draw_candidate, draw_new
from ...core.indicators import Scale
from ...core.mutate import mutate
from ...core.pareto import losses, pareto_indices
from ...core.plugin import OptionsT
from ...core.scalarisation import scalarise
from ...core.seeds import generator, spawn
from .encoding import Encoding
from .surrogate import Scaling, Series, Surrogate, repeatable, tensor

INSTALL = "pip install 'orchestrate-automl[botorch]'"
ROUNDS = 3
"""Times that the best of the pool are looked around."""
STEP = 0.1
"""Numbers move by a normal step of this part of their range when a candidate is looked around."""


class BoTorchOptions(PluginOptions):
    """Options of BoTorch's samplers."""

    n_startup_trials: int = Field(10, ge=2, description="Random candidates before the first model.")
    pool: int = Field(
        1000, ge=10, description="Candidates of which the most promising is proposed, in the first place."
    )
    mc_samples: int = Field(64, ge=1, description="Draws of the posterior that the acquisition averages.")
    winsorize: bool = Field(
        True, description="Cut off values far worse than the rest, where no bound is set on them."
    )


class BoTorchSampler(Sampler[OptionsT]):
    """Bayesian optimisation over any space: Gaussian processes, and an acquisition function over a pool.

    A goal is modelled by its own process (`SingleTaskGP`: noise estimated, length scales' prior by
    the number of columns) over encoded candidates: categories one-hot, numbers scaled, a flag for each
    choice that not every candidate makes. The pool consists of random candidates and of
    changed Pareto-optimal ones; then the best by acquisition are changed again, a few times. So every
    proposal is of the space, whatever its conditions, and none was asked for before.

    Bounds are modelled as outcome constraints; candidates that break a bound on an objective known
    without a run are never proposed. Candidates that still run are pending points.
    """

    options: Any

    def start(self, problem: SearchProblem) -> None:
        super().start(problem)
        if find_spec("botorch") is None:
            raise SpecError(f"sampler {self.name!r} needs BoTorch: `{INSTALL}`, or use 'gp' or 'nsga2'")
        self._encoding = Encoding(problem.space)
        self._surrogate = Surrogate()
        self._asked: dict[int, Candidate] = {}
        self._digests: set[str] = set()
        self._told: dict[int, Observation] = {}
        self._promise: float | None = None
        self._last: float | None = None
        bounded = [g for g in problem.goals if (g.minimum, g.maximum) != (None, None)]
        self._modelled = [*problem.optimised, *(goal for goal in bounded if goal.direction is None)]
        self._bounded = bounded

    def ask(self, number: int) -> Candidate:
        scored = [told for told in self._told.values() if told.scored]
        rng = generator(self.problem.seed, number)
        if len(self._asked) < self.options.n_startup_trials or len(scored) < 2:
            candidate = draw_new(self.problem.space, self._digests, rng)
        else:
            candidate = self._best(number, self.weights(number), 1, rng)[0]
            self._promise = self._last
        self.adopt(number, candidate)
        return candidate

    def adopt(self, number: int, candidate: Candidate) -> None:
        self._asked[number] = candidate
        self._digests.add(candidate.digest)
        self._encoding.learn(candidate)

    def tell(self, number: int, candidate: Candidate, observation: Observation) -> None:
        self._told[number] = observation

    def propose_for(self, preference: Mapping[str, float], count: int) -> Sequence[Suggestion]:
        if sum(told.scored for told in self._told.values()) < 2:
            raise SpecError(
                f"sampler {self.name!r} has seen fewer than two scored trials: it has no model yet"
            )
        weights = np.array([preference[goal.name] for goal in self.problem.optimised])
        number = max(self._asked, default=0) + 1
        rng = generator(self.problem.seed, number, 1)
        chosen = self._best(number, weights, count, rng)
        with repeatable(0):
            found = self._described(chosen)
        points = [told.values for told in self._told.values() if told.scored]
        seen = losses(points, self.problem.goals)
        scale = Scale(seen.min(axis=0), seen.max(axis=0))
        merit = scalarise(scale.qualities([one.predicted for one in found], self.problem.goals), weights)
        return [found[index] for index in np.argsort(-merit, kind="stable").tolist()]

    def diagnostics(self) -> Mapping[str, float]:
        promise, self._promise = self._promise, None
        return {} if promise is None else {"log_acquisition": promise}

    @abstractmethod
    def weights(self, number: int) -> np.ndarray[Any, Any] | None:
        """The preference that ask `number` serves; None for all at once, by hypervolume."""

    # The pool -------------------------------------------------------------------------------------

    def _best(self, number: int, weights: Any, count: int, rng: np.random.Generator) -> list[Candidate]:
        """The best candidates by acquisition, one after the other, each pending for the next."""
        chosen: list[Candidate] = []
        with repeatable(spawn(self.problem.seed, number) % 2**31):
            series, baseline = self._series()
            model, scales = self._surrogate.model(series)
            for _ in range(count):
                running = [one for key, one in self._asked.items() if key not in self._told]
                value = self._acquisition(model, scales, series, baseline, [*running, *chosen], weights)
                taken = self._digests | {one.digest for one in chosen}
                try:
                    chosen.append(self._search(value, taken, rng))
                except SpaceExhausted:
                    if chosen:
                        break
                    raise
        return chosen

    def _search(self, value: Any, taken: set[str], rng: np.random.Generator) -> Candidate:
        space, found = self.problem.space, dict[Candidate, float]()
        fresh = [draw_candidate(space, rng) for _ in range(self.options.pool)]
        scored = [(key, told) for key, told in self._told.items() if told.scored]
        front = pareto_indices([told.values for _, told in scored], self.problem.goals)
        parents = [self._asked[scored[index][0]] for index in front]
        for _ in range(1 + ROUNDS):
            for _ in range(self.options.pool // 4 if parents else 0):
                parent = parents[int(rng.integers(len(parents)))]
                fresh.append(mutate(space, parent, rng, step=STEP))
            fresh = [one for one in dict.fromkeys(fresh) if one not in found and one.digest not in taken]
            fresh = [one for one in fresh if self._allowed(one)]
            if fresh:
                found.update(zip(fresh, value(self._encoding.encode(fresh)), strict=True))
            parents = sorted(found, key=found.__getitem__, reverse=True)[:10]
            fresh = []
        self._last = found[parents[0]] if parents else None
        return parents[0] if parents else draw_new(space, taken, rng)

    def _allowed(self, candidate: Candidate) -> bool:
        """Whether no bound is broken as far as that is known without a run."""
        exact = self.problem.exact
        return all(
            goal.violation(exact[goal.name](candidate)) == 0 for goal in self._bounded if goal.name in exact
        )

    # Models ---------------------------------------------------------------------------------------

    def _series(self) -> tuple[list[Series], Any]:
        """Each modelled goal's values, larger is better where it has a direction; and the candidates
        that were scored.
        """
        numbers = list(self._told)
        points = self._encoding.encode([self._asked[number] for number in numbers])
        series: list[Series] = []
        for goal in self._modelled:
            known = [
                (row, self._told[number].values[goal.name])
                for row, number in enumerate(numbers)
                if goal.name in self._told[number].values
                and (self._told[number].scored or self._told[number].outcome == "infeasible")
            ]
            sign = -1.0 if goal.direction == "minimize" else 1.0
            values = sign * np.array([value for _, value in known])
            censor = self.options.winsorize and goal not in self._bounded
            series.append(Series(points[[row for row, _ in known]], values, censor))
        scored = [row for row, number in enumerate(numbers) if self._told[number].scored]
        return series, points[scored]

    def _acquisition(
        self,
        model: Any,
        scales: Sequence[Scaling],
        series: Sequence[Series],
        baseline: Any,
        pending: Sequence[Candidate],
        weights: Any,
    ) -> Any:
        """The acquisition function over encoded candidates: a table to a list of values."""
        import torch
        from botorch.acquisition.logei import qLogNoisyExpectedImprovement
        from botorch.acquisition.multi_objective import logei
        from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective
        from botorch.acquisition.objective import GenericMCObjective
        from botorch.sampling import SobolQMCNormalSampler

        goals = len(self.problem.optimised)
        common: dict[str, Any] = {
            "model": model,
            "X_baseline": tensor(baseline),
            "X_pending": tensor(self._encoding.encode(pending)) if pending else None,
            "constraints": self._constraints(scales) or None,
            "prune_baseline": True,
            "sampler": SobolQMCNormalSampler(torch.Size([self.options.mc_samples]), seed=0),
        }
        reached = [np.sort(_standard(one, scale)) for one, scale in zip(series[:goals], scales, strict=False)]
        worst = torch.tensor([float(values[0]) for values in reached], dtype=torch.float64)
        best = torch.tensor([float(values[-1]) for values in reached], dtype=torch.float64)
        if goals == 1 or weights is not None:
            shares = tensor(np.ones(1) if weights is None else weights)
            width = torch.clamp(best - worst, min=1e-9)

            def utility(samples: Any, X: Any = None) -> Any:  # noqa: ARG001 - as BoTorch calls it
                quality = (samples[..., :goals] - worst) / width
                left = shares * (1 - quality)
                return -left.max(dim=-1).values - 0.05 * left.sum(dim=-1)

            function = qLogNoisyExpectedImprovement(objective=GenericMCObjective(utility), **common)
        else:
            # Else BoTorch compiles a kernel of the same values here: half a minute without a word, and a
            # process that is killed meanwhile leaves a lock at which all later ones wait for ever.
            logei._load_attempted = True  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            function = logei.qLogNoisyExpectedHypervolumeImprovement(
                ref_point=self._reference(scales, worst, best),
                objective=IdentityMCMultiOutputObjective(outcomes=list(range(goals))),
                **common,
            )

        def value(table: Any) -> list[float]:
            with torch.no_grad():
                parts = tensor(table)[:, None, :].split(500)
                return torch.cat([function(part) for part in parts]).tolist()

        return value

    def _reference(self, scales: Sequence[Scaling], worst: Any, best: Any) -> list[float]:
        """The goals' reference values; else the worst seen, moved outwards by a tenth of the range."""
        corner = (worst - 0.1 * (best - worst)).tolist()
        for index, goal in enumerate(self.problem.optimised):
            if goal.reference is not None:
                sign = -1.0 if goal.direction == "minimize" else 1.0
                corner[index] = scales[index].standard(sign * goal.reference)
        return corner

    def _constraints(self, scales: Sequence[Scaling]) -> list[Any]:
        """BoTorch's outcome constraints: negative where a bound is kept."""
        found: list[Any] = []
        for goal in self._bounded:
            index = self._modelled.index(goal)
            sign = -1.0 if goal.direction == "minimize" else 1.0
            for bound, side in ((goal.minimum, 1.0), (goal.maximum, -1.0)):
                if bound is not None:
                    limit = scales[index].standard(sign * bound)
                    found.append(_constraint(index, limit, side * sign))
        return found

    def _described(self, chosen: Sequence[Candidate]) -> list[Suggestion]:
        import torch

        series, _ = self._series()
        model, scales = self._surrogate.model(series)
        table = tensor(self._encoding.encode(chosen))
        with torch.no_grad():
            posterior = model.posterior(table)
            means, deviations = posterior.mean.numpy(), posterior.variance.sqrt().numpy()
        found: list[Suggestion] = []
        for row, candidate in enumerate(chosen):
            predicted: dict[str, float] = {}
            spread: dict[str, float] = {}
            for column, (goal, scale) in enumerate(zip(self._modelled, scales, strict=True)):
                sign = -1.0 if goal.direction == "minimize" else 1.0
                predicted[goal.name] = sign * (means[row, column] * scale.deviation + scale.mean)
                spread[goal.name] = float(deviations[row, column] * scale.deviation)
                if goal.name in self.problem.exact:
                    predicted[goal.name], spread[goal.name] = self.problem.exact[goal.name](candidate), 0.0
            found.append(Suggestion(candidate, predicted, spread))
        return found


def _standard(series: Series, scale: Scaling) -> Any:
    from .surrogate import winsorised

    values = winsorised(series.values) if series.censor else series.values
    return (values - scale.mean) / scale.deviation


def _constraint(index: int, limit: float, side: float) -> Any:
    def violation(samples: Any) -> Any:
        return side * (limit - samples[..., index])

    return violation


class QNehvi(BoTorchSampler[BoTorchOptions]):
    """Noisy expected hypervolume improvement, in its logarithmic form (BoTorch's qLogNEHVI).

    For two to four objectives and tens to hundreds of expensive trials; with a single objective it
    is qLogNEI. A few seconds an ask after a hundred trials: the time of a trial should make that little.
    The hypervolume's reference is the objectives' `reference`, where they have one, else the worst value
    seen moved outwards by a tenth. Daulton, Balandat & Bakshy, "Parallel Bayesian Optimization of
    Multiple Noisy Objectives with Expected Hypervolume Improvement", NeurIPS 2021 (arXiv 2105.08195);
    Ament et al., arXiv 2310.20708.
    """

    name: ClassVar[str] = "qnehvi"
    summary: ClassVar[str] = "Bayesian optimisation by expected hypervolume improvement (BoTorch)"

    def weights(self, number: int) -> None:
        return None


class QParEgo(BoTorchSampler[BoTorchOptions]):
    """Each ask serves another random preference: noisy expected improvement of its augmented Tchebycheff
    scalarisation (qNParEGO with BoTorch's qLogNEI).

    Cheaper than `qnehvi`, above all with three objectives and more. Knowles, "ParEGO", IEEE Transactions
    on Evolutionary Computation 10(1), 2006; the noisy form of Daulton et al., arXiv 2105.08195.
    """

    name: ClassVar[str] = "qparego"
    summary: ClassVar[str] = "Bayesian optimisation of random preferences, ParEGO (BoTorch)"

    def weights(self, number: int) -> np.ndarray[Any, Any]:
        goals: Sequence[Goal] = self.problem.optimised
        return generator(self.problem.seed, number, 2).dirichlet(np.ones(len(goals)))
