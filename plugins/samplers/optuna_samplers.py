"""Optuna's samplers by name, each with the options of its constructor."""

from __future__ import annotations

from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from ...core import Categorical, PluginOptions, SearchProblem, SpecError
from ...core.draw import probe
from ...core.sampler import Restore
from .bridge import OptunaSampler

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.samplers.nsgaii import BaseCrossover, BaseMutation
    from optuna.search_space import IntersectionSearchSpace


class TpeOptions(PluginOptions):
    """Options of `tpe`."""

    n_startup_trials: int = Field(10, ge=0, description="Random trials before the first model.")
    n_ei_candidates: int = Field(24, ge=1, description="Draws of which the most promising is proposed.")
    multivariate: bool | None = Field(
        None,
        description="Model choices jointly; by default with one objective only, as Optuna does.",
    )
    group: bool = Field(False, description="Model jointly within each branch of a conditional space.")
    constant_liar: bool = Field(
        True, description="Count running trials as bad, so that they aren't repeated."
    )

    @model_validator(mode="after")
    def _group_is_multivariate(self) -> TpeOptions:
        if self.group and self.multivariate is False:
            raise ValueError("`group` models choices jointly, so `multivariate: false` contradicts it")
        return self


class Tpe(OptunaSampler[TpeOptions]):
    """Tree-structured Parzen estimator (Optuna's TPESampler), for one or several objectives.

    Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NIPS 2011; Ozaki et al., MOTPE,
    GECCO 2020.
    """

    name: ClassVar[str] = "tpe"
    summary: ClassVar[str] = "tree-structured Parzen estimator (Optuna)"

    def make(self, seed: int) -> BaseSampler:
        from optuna.samplers import TPESampler

        options = self.options
        sampler = TPESampler(
            n_startup_trials=options.n_startup_trials,
            n_ei_candidates=options.n_ei_candidates,
            multivariate=True if options.group else options.multivariate,
            group=options.group,
            constant_liar=options.constant_liar,
            seed=seed,
        )
        # A mere cache of which choices all trials share: saves a pass over them at each ask.
        sampler._search_space = self._shared  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return sampler

    @cached_property
    def _shared(self) -> IntersectionSearchSpace:
        from optuna.search_space import IntersectionSearchSpace

        return IntersectionSearchSpace(include_pruned=True)


class GpOptions(PluginOptions):
    """Options of `gp`."""

    n_startup_trials: int = Field(10, ge=0, description="Random trials before the first model.")
    deterministic_objective: bool = Field(False, description="Model the objective without noise.")


class GaussianProcess(OptunaSampler[GpOptions]):
    """Bayesian optimisation with a Gaussian process (Optuna's GPSampler): logEI, or logEHVI.

    Sample-efficient and slow: from tenths of a second to seconds an ask, and again when a stage is
    restored, since each fit of the kernel starts from the last one (from scratch it finds clearly
    worse candidates). Ament et al., "Unexpected Improvements to Expected Improvement for Bayesian
    Optimization", arXiv 2310.20708.
    """

    name: ClassVar[str] = "gp"
    summary: ClassVar[str] = "Bayesian optimisation with a Gaussian process (Optuna)"
    restore: ClassVar[Restore] = "re-ask"

    def start(self, problem: SearchProblem) -> None:
        super().start(problem)
        missing = [package for package in ("scipy", "torch") if find_spec(package) is None]
        if missing:
            raise SpecError(
                f"sampler 'gp' needs {' and '.join(missing)}: `pip install {' '.join(missing)}`, or use 'tpe'"
            )

    def make(self, seed: int) -> BaseSampler:
        from optuna.samplers import GPSampler

        return GPSampler(
            n_startup_trials=self.options.n_startup_trials,
            deterministic_objective=self.options.deterministic_objective,
            warn_independent_sampling=False,
            seed=seed,
        )


CrossoverName = Literal["uniform", "blxalpha", "sbx", "spx", "undx", "vsbx"]
THREE_PARENTS = ("spx", "undx")


class Nsga2Options(PluginOptions):
    """Options of `nsga2`."""

    population_size: int = Field(50, ge=2, description="Candidates in a generation.")
    crossover: CrossoverName = Field(
        "uniform",
        description="How numbers of two parents are crossed; categories are always swapped.",
    )
    crossover_prob: float = Field(0.9, ge=0, le=1, description="Probability that a child has two parents.")
    swapping_prob: float = Field(
        0.5, ge=0, le=1, description="Probability of taking each choice from the second parent."
    )
    mutation: Literal["resample", "polynomial"] = Field(
        "resample",
        description="How a changed number gets its value: drawn afresh, or near the old one.",
    )
    mutation_eta: float = Field(
        20.0, ge=0, description="polynomial: the larger, the nearer to the old value."
    )
    mutation_prob: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Probability of changing each choice; by default one in the number of choices.",
    )

    @model_validator(mode="after")
    def _enough_parents(self) -> Nsga2Options:
        if self.crossover in THREE_PARENTS and self.population_size < 3:
            raise ValueError(
                f"crossover {self.crossover} takes three parents: population_size must be 3 or more"
            )
        return self

    def make_crossover(self) -> BaseCrossover:
        """Make Optuna's crossover."""
        from optuna.samplers import nsgaii

        match self.crossover:
            case "uniform":
                return nsgaii.UniformCrossover(self.swapping_prob)
            case "blxalpha":
                return nsgaii.BLXAlphaCrossover()
            case "sbx":
                return nsgaii.SBXCrossover()
            case "spx":
                return nsgaii.SPXCrossover()
            case "undx":
                return nsgaii.UNDXCrossover()
            case "vsbx":
                return nsgaii.VSBXCrossover()

    def make_mutation(self) -> BaseMutation | None:
        """Make Optuna's mutation; None resamples."""
        from optuna.samplers import nsgaii

        return nsgaii.PolynomialMutation(self.mutation_eta) if self.mutation == "polynomial" else None


class Nsga2(OptunaSampler[Nsga2Options]):
    """Non-dominated sorting genetic algorithm II (Optuna's NSGAIISampler).

    Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", 2002.
    """

    name: ClassVar[str] = "nsga2"
    summary: ClassVar[str] = "genetic algorithm NSGA-II for several objectives (Optuna)"
    restore: ClassVar[Restore] = "re-ask"

    @property
    def lookahead(self) -> int:
        return self.options.population_size

    def make(self, seed: int) -> BaseSampler:
        from optuna.samplers import NSGAIISampler

        options = self.options
        return NSGAIISampler(
            population_size=options.population_size,
            mutation=options.make_mutation(),
            mutation_prob=options.mutation_prob,
            crossover=options.make_crossover(),
            crossover_prob=options.crossover_prob,
            swapping_prob=options.swapping_prob,
            seed=seed,
        )


class Nsga3Options(Nsga2Options):
    """Options of `nsga3`."""

    dividing_parameter: int = Field(
        3, ge=1, description="Divisions of each axis between the default reference points."
    )
    reference_points: tuple[tuple[float, ...], ...] | None = Field(
        None,
        description="Points that steer the selection, a value an objective; else evenly spread.",
    )


class Nsga3(OptunaSampler[Nsga3Options]):
    """NSGA-III (Optuna's NSGAIIISampler), for three objectives and more.

    Deb & Jain, "An Evolutionary Many-Objective Optimization Algorithm Using Reference-Point-Based
    Nondominated Sorting Approach", 2014.
    """

    name: ClassVar[str] = "nsga3"
    summary: ClassVar[str] = "genetic algorithm NSGA-III for many objectives (Optuna)"
    restore: ClassVar[Restore] = "re-ask"

    @property
    def lookahead(self) -> int:
        return self.options.population_size

    def start(self, problem: SearchProblem) -> None:
        super().start(problem)
        wanted = len(problem.optimised)
        for point in self.options.reference_points or ():
            if len(point) != wanted:
                raise SpecError(
                    f"sampler 'nsga3': the reference point {list(point)} has {len(point)} values, "
                    f"and the job optimises {wanted}: give one each, in the job file's order"
                )

    def make(self, seed: int) -> BaseSampler:
        import numpy as np
        from optuna.samplers import NSGAIIISampler

        options = self.options
        points = options.reference_points
        return NSGAIIISampler(
            population_size=options.population_size,
            mutation=options.make_mutation(),
            mutation_prob=options.mutation_prob,
            crossover=options.make_crossover(),
            crossover_prob=options.crossover_prob,
            swapping_prob=options.swapping_prob,
            reference_points=None if points is None else np.asarray(points, dtype=float),
            dividing_parameter=options.dividing_parameter,
            seed=seed,
        )


class CmaEsOptions(PluginOptions):
    """Options of `cma-es`."""

    n_startup_trials: int = Field(1, ge=0, description="Random trials before the first generation.")
    popsize: int | None = Field(
        None, ge=2, description="Candidates in a generation; by default 4 + 3 ln(numeric choices)."
    )
    use_separable_cma: bool = Field(
        False,
        description="Keep the covariance diagonal: faster learning of many, separable choices.",
    )
    with_margin: bool = Field(False, description="Keep integers from getting stuck on one value.")
    lr_adapt: bool = Field(False, description="Adapt the learning rate: for noisy and multimodal objectives.")
    consider_pruned_trials: bool = Field(
        False, description="Learn from the last report of pruned trials too."
    )

    @model_validator(mode="after")
    def _compatible(self) -> CmaEsOptions:
        chosen = [name for name in ("use_separable_cma", "with_margin", "lr_adapt") if getattr(self, name)]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} exclude each other: choose one")
        return self


class CmaEs(OptunaSampler[CmaEsOptions]):
    """Covariance matrix adaptation evolution strategy (Optuna's CmaEsSampler), for numeric choices.

    Categorical choices are drawn at random. Hansen & Ostermeier, "Completely Derandomized
    Self-Adaptation in Evolution Strategies", 2001.
    """

    name: ClassVar[str] = "cma-es"
    summary: ClassVar[str] = "covariance matrix adaptation for numeric choices (Optuna)"
    restore: ClassVar[Restore] = "re-ask"
    several_objectives: ClassVar[bool] = False
    learns_bounds: ClassVar[bool] = False

    @property
    def lookahead(self) -> int:
        return self.options.popsize or 4

    def start(self, problem: SearchProblem) -> None:
        super().start(problem)
        if all(isinstance(choice, Categorical) for choice in probe(problem.space)):
            raise SpecError(
                f"sampler 'cma-es' learns about numbers, and space {problem.space.name!r} has "
                "categories only: use 'tpe' or 'evolution'"
            )

    def make(self, seed: int) -> BaseSampler:
        from optuna.samplers import CmaEsSampler

        options = self.options
        return CmaEsSampler(
            n_startup_trials=options.n_startup_trials,
            popsize=options.popsize,
            use_separable_cma=options.use_separable_cma,
            with_margin=options.with_margin,
            lr_adapt=options.lr_adapt,
            consider_pruned_trials=options.consider_pruned_trials,
            warn_independent_sampling=False,
            seed=seed,
        )


class QmcOptions(PluginOptions):
    """Options of `qmc`."""

    qmc_type: Literal["sobol", "halton"] = Field("sobol", description="The low-discrepancy sequence.")
    scramble: bool = Field(False, description="Randomise the sequence by the job's seed.")


class QuasiMonteCarlo(OptunaSampler[QmcOptions]):
    """Quasi-Monte Carlo (Optuna's QMCSampler): random search that leaves smaller gaps.

    Choices that not every candidate makes are drawn at random. Bergstra & Bengio, "Random Search
    for Hyper-Parameter Optimization", JMLR 2012.
    """

    name: ClassVar[str] = "qmc"
    summary: ClassVar[str] = "low-discrepancy sequence: evenly spread candidates (Optuna)"
    restore: ClassVar[Restore] = "re-ask"

    @property
    def lookahead(self) -> int:
        return 1_000_000

    def make(self, seed: int) -> BaseSampler:
        from optuna.samplers import QMCSampler

        return QMCSampler(
            qmc_type=self.options.qmc_type,
            scramble=self.options.scramble,
            warn_independent_sampling=False,
            warn_asynchronous_seeding=False,
            seed=seed,
        )
