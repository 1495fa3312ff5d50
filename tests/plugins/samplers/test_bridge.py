"""Optuna behind our contract is Optuna: the same candidates, states, constraints, and no noise."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from typing import Any

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from orchestrate.core import (
    Candidate,
    Categorical,
    Choice,
    Choose,
    Goal,
    Integer,
    Observation,
    SearchProblem,
    SearchSpace,
    SpaceError,
    SpecError,
)
from orchestrate.plugins.samplers.bridge import OptunaSampler
from orchestrate.plugins.samplers.optuna_samplers import (
    CmaEs,
    GaussianProcess,
    Nsga2,
    Nsga3,
    QuasiMonteCarlo,
    Tpe,
)
from tests.plugins.samplers.spaces import BOUNDED, DOUBLE, SINGLE, Cells, Mixed, Numbers, score


@pytest.fixture(autouse=True)
def quiet_reference() -> Any:
    """The direct use of Optuna, that we compare with, may say what it likes."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    yield
    optuna.logging.set_verbosity(level)


def suggest(trial: optuna.Trial, choice: Choice) -> Any:
    """Answer a choice as someone would who writes an Optuna objective by hand."""
    if isinstance(choice, Categorical):
        if choice.name == "flag":  # 1, True and 1.0 are one to Optuna
            return choice.options[trial.suggest_categorical("flag", range(len(choice.options)))]
        return trial.suggest_categorical(choice.name, choice.options)
    if isinstance(choice, Integer):
        high = choice.high - (choice.high - choice.low) % choice.step
        return trial.suggest_int(choice.name, choice.low, high, step=choice.step, log=choice.log)
    return trial.suggest_float(choice.name, choice.low, choice.high, log=choice.log)


def direct(
    sampler: BaseSampler, problem: SearchProblem, asks: int, fresh: OptunaSampler[Any] | None = None
) -> list[Candidate]:
    """Use Optuna without us: `Study.ask`, `suggest_*`, `set_constraint`, `Study.tell`."""
    directions: list[Any] = [goal.direction for goal in problem.optimised]
    study = optuna.create_study(sampler=sampler, directions=directions)
    made: list[Candidate] = []
    for number in range(asks):
        if fresh is not None:
            study.sampler = fresh.make(fresh._seed(number))
        trial = study.ask()
        candidate = problem.space.generate(lambda choice, trial=trial: suggest(trial, choice))
        values = score(candidate)
        for goal in problem.goals:
            if goal.minimum is not None:
                trial.set_constraint(f"{goal.name}:min", goal.minimum - values[goal.name])
            if goal.maximum is not None:
                trial.set_constraint(f"{goal.name}:max", values[goal.name] - goal.maximum)
        study.tell(trial, [values[goal.name] for goal in problem.optimised])
        made.append(candidate)
    return made


def ours(sampler: OptunaSampler[Any], problem: SearchProblem, asks: int) -> list[Candidate]:
    sampler.start(problem)
    made: list[Candidate] = []
    for number in range(asks):
        candidate = sampler.ask(number)
        values = score(candidate)
        violation = sum(goal.violation(values[goal.name]) for goal in problem.goals)
        sampler.tell(number, candidate, Observation("finished", values, violation))
        made.append(candidate)
    return made


@pytest.mark.parametrize("goals", [SINGLE, DOUBLE, BOUNDED], ids=["one", "two", "bounded"])
@pytest.mark.parametrize(
    ("sampler", "space", "asks"),
    [
        (Nsga2(Nsga2.Options(population_size=10)), Mixed(), 60),
        (Nsga3(Nsga3.Options(population_size=10)), Mixed(), 60),
        (CmaEs(), Numbers(), 60),
        (QuasiMonteCarlo(), Numbers(), 20),
        (QuasiMonteCarlo(QuasiMonteCarlo.Options(qmc_type="halton", scramble=True)), Cells(), 20),
        (GaussianProcess(GaussianProcess.Options(n_startup_trials=4)), Numbers(), 7),
    ],
    ids=["nsga2", "nsga3", "cma-es", "sobol", "halton", "gp"],
)
def test_one_seed_gives_the_candidates_of_direct_use(
    sampler: OptunaSampler[Any], space: SearchSpace, asks: int, goals: tuple[Goal, ...]
) -> None:
    if isinstance(sampler, CmaEs):
        goals = SINGLE
    problem = SearchProblem(space, goals, seed=3)
    mine = ours(type(sampler)(sampler.options), problem, asks)
    sampler.start(problem)
    with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
        reference = sampler.make(sampler._seed())
    assert mine == direct(reference, problem, asks)


@pytest.mark.parametrize("goals", [SINGLE, DOUBLE, BOUNDED], ids=["one", "two", "bounded"])
@pytest.mark.parametrize("options", [{}, {"multivariate": False}], ids=["default", "independent"])
def test_tpe_is_optunas_seeded_at_each_ask(options: dict[str, Any], goals: tuple[Goal, ...]) -> None:
    problem = SearchProblem(Mixed(), goals, seed=3)
    mine = ours(Tpe(Tpe.Options(**options)), problem, 40)

    class Reference(Tpe):
        """Makes Optuna's sampler without our cache."""

        def make(self, seed: int) -> BaseSampler:
            return optuna.samplers.TPESampler(seed=seed, **options)

    reference = Reference(Tpe.Options(**options))
    reference.start(problem)
    assert mine == direct(reference.make(0), problem, 40, reference)


DEFAULTS = [
    (Tpe, optuna.samplers.TPESampler),
    (GaussianProcess, optuna.samplers.GPSampler),
    (Nsga2, optuna.samplers.NSGAIISampler),
    (Nsga3, optuna.samplers.NSGAIIISampler),
    (CmaEs, optuna.samplers.CmaEsSampler),
    (QuasiMonteCarlo, optuna.samplers.QMCSampler),
]


@pytest.mark.parametrize(("ours", "theirs"), DEFAULTS, ids=lambda cls: cls.__name__)
def test_defaults_are_optunas(ours: type[OptunaSampler[Any]], theirs: type[BaseSampler]) -> None:
    import inspect

    parameters = inspect.signature(theirs.__init__).parameters
    renamed = {"crossover", "mutation"}  # names here, objects there; None is the same
    for field, info in ours.Options.model_fields.items():
        if field in renamed or field == "mutation_eta":
            continue
        assert parameters[field].default == info.default, field


def test_outcomes_become_states() -> None:
    sampler = Tpe()
    sampler.start(SearchProblem(Numbers(), BOUNDED, seed=0))
    good = {"loss": 1.0, "gain": 0.5}
    told = {
        "finished": Observation("finished", good),
        "recalled": Observation("recalled", {"loss": 2.0, "gain": 0.1}, 0.5),
        "infeasible": Observation("infeasible", {"loss": 2.0}, 0.5),
        "pruned": Observation("pruned", {"loss": 2.0}),
        "failed": Observation("failed"),
        "lost": Observation("lost"),
        "cancelled": Observation("cancelled"),
    }
    for number, observation in enumerate(told.values()):
        sampler.tell(number, sampler.ask(number), observation)
    trials = sampler._study.trials
    assert [trial.state for trial in trials] == [
        TrialState.COMPLETE,
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.FAIL,
        TrialState.FAIL,
    ]
    assert trials[0].values == [1.0, 0.5]
    assert trials[0].constraints == {"loss:max": -0.5, "gain:min": pytest.approx(-0.3)}
    assert trials[1].constraints == {"loss:max": 0.5, "gain:min": pytest.approx(0.1)}
    assert trials[2].constraints == {"violation": 0.5}
    assert trials[2].values is None


def test_an_infeasible_candidate_with_known_values_is_complete() -> None:
    sampler = Nsga2()
    sampler.start(SearchProblem(Numbers(), BOUNDED, seed=0))
    observation = Observation("infeasible", {"loss": 2.0, "gain": 0.1}, 0.5)
    sampler.tell(0, sampler.ask(0), observation)
    (trial,) = sampler._study.trials
    assert trial.state is TrialState.COMPLETE
    assert trial.constraints["loss:max"] == 0.5


def test_a_pruned_trial_tells_its_last_value_with_one_objective() -> None:
    sampler = Tpe()
    sampler.start(SearchProblem(Numbers(), SINGLE, seed=0))
    sampler.tell(0, sampler.ask(0), Observation("pruned", {"loss": 2.0}))
    sampler.tell(1, sampler.ask(1), Observation("pruned"))
    assert [trial.intermediate_values for trial in sampler._study.trials] == [{1: 2.0}, {}]


def test_infeasible_candidates_teach_tpe() -> None:
    """Half of the range is refused before launch: what is proposed moves to the other half."""
    share = []
    for seed in range(5):
        sampler = Tpe()
        sampler.start(SearchProblem(Numbers(), (Goal("loss", "minimize", maximum=1.0),), seed))
        inside = 0
        for number in range(60):
            candidate = sampler.ask(number)
            x = float(str(candidate["x"]))
            if x > -1.0:
                sampler.tell(number, candidate, Observation("infeasible", {}, x + 1.0))
            else:
                sampler.tell(number, candidate, Observation("finished", {"loss": -x - 1.0}))
                inside += number >= 30
        share.append(inside / 30)
    assert sum(share) / len(share) > 0.5  # random: a quarter


class Varying(SearchSpace):
    """Offers one name with two lists of equal length."""

    name = "varying"
    summary = "breaks a rule"

    def choices(self, choose: Choose) -> None:
        kind = choose.categorical("kind", ["a", "b"])
        choose.categorical("size", [1, 2] if kind == "a" else [3, 4])


def test_options_that_vary_are_refused() -> None:
    sampler = Nsga2()
    sampler.start(SearchProblem(Varying(), SINGLE, seed=0))
    with pytest.raises(SpaceError, match="let the name depend on them"):
        [sampler.ask(number) for number in range(20)]


def test_values_keep_their_types() -> None:
    seen: set[tuple[type, Any]] = set()
    sampler = Tpe(Tpe.Options(n_startup_trials=60))
    sampler.start(SearchProblem(Mixed(), SINGLE, seed=0))
    for number in range(60):
        candidate = sampler.ask(number)
        sampler.tell(number, candidate, Observation("finished", score(candidate)))
        if "flag" in candidate:
            seen.add((type(candidate["flag"]), candidate["flag"]))
    assert seen == {(int, 1), (bool, True), (float, 1.0), (type(None), None), (str, "1")}


@pytest.mark.parametrize(
    ("sampler", "space", "goals", "text"),
    [
        (CmaEs(), Numbers(), DOUBLE, r"one objective.*\(loss, gain\): use 'nsga2'"),
        (CmaEs(), Cells(), SINGLE, "categories only: use 'tpe'"),
        (CmaEs(), Numbers(), (Goal("loss", "minimize", maximum=1.0),), "bounds loss: use 'tpe'"),
        (Nsga3(Nsga3.Options(reference_points=((1.0, 2.0, 3.0),))), Cells(), DOUBLE, "has 3 values"),
    ],
    ids=["several-objectives", "categories", "bounds", "reference-points"],
)
def test_what_a_sampler_cannot_solve_it_refuses(
    sampler: OptunaSampler[Any], space: SearchSpace, goals: tuple[Goal, ...], text: str
) -> None:
    with pytest.raises(SpecError, match=text):
        sampler.start(SearchProblem(space, goals, seed=0))


def test_gp_names_the_packages_that_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrate.plugins.samplers.optuna_samplers.find_spec", lambda name: None)
    with pytest.raises(SpecError, match="pip install scipy torch"):
        GaussianProcess().start(SearchProblem(Numbers(), SINGLE, seed=0))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (lambda: Tpe.Options(group=True, multivariate=False), "contradicts"),
        (lambda: Nsga2.Options(population_size=2, crossover="spx"), "three parents"),
        (lambda: CmaEs.Options(with_margin=True, lr_adapt=True), "exclude each other"),
    ],
    ids=["tpe", "nsga2", "cma-es"],
)
def test_options_that_contradict_each_other_are_refused(options: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        options()


@pytest.mark.parametrize("crossover", ["uniform", "blxalpha", "sbx", "spx", "undx", "vsbx"])
@pytest.mark.parametrize("mutation", ["resample", "polynomial"])
def test_every_crossover_and_mutation_runs(crossover: str, mutation: str) -> None:
    options = Nsga2.Options.model_validate(
        {"population_size": 6, "crossover": crossover, "mutation": mutation, "mutation_prob": 0.5}
    )
    assert len(ours(Nsga2(options), SearchProblem(Numbers(), DOUBLE, seed=0), 20)) == 20


def test_optuna_is_silenced_for_us_only(caplog: pytest.LogCaptureFixture) -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    optuna.logging.enable_propagation()
    try:
        with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ours(Tpe(Tpe.Options(group=True)), SearchProblem(Mixed(), DOUBLE, seed=0), 15)
            ours(QuasiMonteCarlo(), SearchProblem(Mixed(), SINGLE, seed=0), 15)
            ours(CmaEs(CmaEs.Options(lr_adapt=True)), SearchProblem(Mixed(), SINGLE, seed=0), 15)
        assert caplog.records == []
        assert [str(one.message) for one in caught] == []
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.disable_propagation()


def test_a_job_file_is_checked_without_optuna() -> None:
    code = """
import sys
from orchestrate.core import Goal, SearchProblem
from orchestrate.plugins.samplers import samplers
from orchestrate.core.testing import ExampleSpace
for cls in samplers():
    if cls.name != "grid":
        cls().start(SearchProblem(ExampleSpace(), (Goal("loss", "minimize"),), 0))
heavy = {"optuna", "torch", "ray", "mlflow", "sqlalchemy"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
