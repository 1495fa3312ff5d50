"""Optuna's samplers behind our contract: one in-memory study, driven by ask and tell.

Their defaults and semantics stay as they are. Ours is how they restart: see `OptunaSampler`.
Optuna is imported when the first candidate is asked for, not when a job file is checked.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

from ...core import (
    Candidate,
    Categorical,
    Choice,
    Integer,
    Observation,
    Sampler,
    SearchProblem,
    SpaceError,
    SpecError,
    Value,
)
from ...core.plugin import OptionsT
from ...core.seeds import spawn

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import Trial


class OptunaSampler(Sampler[OptionsT]):
    """A sampler of Optuna's. A subclass says how to make it.

    With `restore = "history"` every ask gets a freshly made Optuna sampler, seeded from the ask's
    number: nothing can hide in one, so a study rebuilt from the log continues exactly. With
    "re-ask" one sampler serves the whole stage, since a population, a sequence or a fit lives in it.

    Bounds become Optuna's constraints, one a bound, signed (at most 0 is feasible), on every trial
    whose goals are all known. Outcomes: finished and recalled trials are COMPLETE; an infeasible
    one is COMPLETE if its goals are all known, else PRUNED, with its violation as the constraint;
    a pruned one is PRUNED, with its last value as the report of step 1 if there is a single
    objective; failed, lost and cancelled ones are FAIL, which Optuna's samplers ignore.
    """

    several_objectives: ClassVar[bool] = True
    learns_bounds: ClassVar[bool] = True

    @abstractmethod
    def make(self, seed: int) -> BaseSampler:
        """Make Optuna's sampler. `seed` has 32 bits."""

    def start(self, problem: SearchProblem) -> None:
        super().start(problem)
        if len(problem.optimised) > 1 and not self.several_objectives:
            names = ", ".join(goal.name for goal in problem.optimised)
            raise SpecError(
                f"sampler {self.name!r} optimises one objective, and the job has "
                f"{len(problem.optimised)} ({names}): use 'nsga2' or 'tpe', or make all but one "
                "mere bounds (`direction: none`)"
            )
        bounded = [goal.name for goal in problem.goals if (goal.minimum, goal.maximum) != (None, None)]
        if bounded and not self.learns_bounds:
            raise SpecError(
                f"sampler {self.name!r} can't learn from bounds, and the job bounds "
                f"{', '.join(bounded)}: use 'tpe', 'nsga2' or 'gp'"
            )
        self._trials: dict[int, Trial] = {}
        self._options: dict[str, tuple[Value, ...]] = {}

    def ask(self, number: int) -> Candidate:
        with _quiet():
            if self.restore == "history":
                self._study.sampler = self.make(self._seed(number))
            trial = self._study.ask()
            self._trials[number] = trial
            return self.problem.space.generate(partial(self._suggest, trial))

    def adopt(self, number: int, candidate: Candidate) -> None:
        from optuna.samplers import RandomSampler

        fixed: dict[str, Value] = {}

        def pick(choice: Choice) -> Value:
            value = candidate[choice.name]
            fixed[choice.name] = _index(choice, value) if isinstance(choice, Categorical) else value
            return value

        self.problem.space.generate(pick)
        with _quiet():
            # Every parameter is fixed, nothing is drawn. A sampler with hidden state counts the ask.
            if self.restore == "history":
                self._study.sampler = RandomSampler(seed=0)
            self._study.enqueue_trial(fixed)
            trial = self._study.ask()
            if self.restore == "re-ask":
                _ = trial.relative_params  # the sampler draws, and marks the trial as one of a generation's
            self._trials[number] = trial
            self.problem.space.generate(partial(self._suggest, trial))

    def tell(self, number: int, candidate: Candidate, observation: Observation) -> None:
        from optuna.trial import TrialState

        trial = self._trials.pop(number)
        optimised = self.problem.optimised
        values = observation.values
        complete = all(goal.name in values for goal in self.problem.goals)
        with _quiet():
            if observation.scored or (observation.outcome == "infeasible" and complete):
                self._constrain(trial, values)
                told = [values[goal.name] for goal in optimised]
                self._study.tell(trial, told, TrialState.COMPLETE)
            elif observation.outcome == "infeasible":
                trial.set_constraint("violation", observation.violation)
                self._study.tell(trial, state=TrialState.PRUNED)
            elif observation.outcome == "pruned":
                if len(optimised) == 1 and optimised[0].name in values:
                    trial.report(values[optimised[0].name], step=1)
                self._study.tell(trial, state=TrialState.PRUNED)
            else:
                self._study.tell(trial, state=TrialState.FAIL)

    def _constrain(self, trial: Trial, values: Mapping[str, float]) -> None:
        for goal in self.problem.goals:
            value = values[goal.name]
            if goal.minimum is not None:
                trial.set_constraint(f"{goal.name}:min", goal.minimum - value)
            if goal.maximum is not None:
                trial.set_constraint(f"{goal.name}:max", value - goal.maximum)

    @cached_property
    def _study(self) -> Study:
        import optuna

        directions: list[Any] = [goal.direction for goal in self.problem.optimised]
        with _quiet():
            return optuna.create_study(
                storage=_storage(), sampler=self.make(self._seed()), directions=directions
            )

    def _seed(self, *path: int) -> int:
        return spawn(self.problem.seed, *path) & 0xFFFF_FFFF

    def _suggest(self, trial: Trial, choice: Choice) -> Value:
        if isinstance(choice, Categorical):
            # Optuna looks values up by ==, and so can't tell 1 from True: it gets their indices.
            if self._options.setdefault(choice.name, choice.options) != choice.options:
                raise SpaceError(
                    f"choice {choice.name!r} offers {list(choice.options)} here and "
                    f"{list(self._options[choice.name])} elsewhere: where options depend on "
                    "earlier choices, let the name depend on them too"
                )
            return choice.options[int(trial.suggest_categorical(choice.name, range(len(choice.options))))]
        if isinstance(choice, Integer):
            high = choice.high - (choice.high - choice.low) % choice.step
            return int(trial.suggest_int(choice.name, choice.low, high, step=choice.step, log=choice.log))
        return float(trial.suggest_float(choice.name, choice.low, choice.high, log=choice.log))


def _index(choice: Categorical, value: Value) -> int:
    return next(
        index
        for index, option in enumerate(choice.options)
        if type(option) is type(value) and option == value
    )


def _storage() -> Any:
    from optuna.storages import InMemoryStorage

    class Storage(InMemoryStorage):
        """Keeps no copy of the jointly sampled parameters of a running trial.

        They are for other processes, which may see a trial half made. Here a trial's parameters are
        complete before the next ask, and the copy would also hold parameters of branches that the
        candidate doesn't take, which no log can bring back.
        """

        def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
            if ":relative_params:" not in key:
                super().set_trial_system_attr(trial_id, key, value)

    return Storage()


@contextmanager
def _quiet() -> Generator[None]:
    """Silence what Optuna has to say about itself, for the length of one call."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
