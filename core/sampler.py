"""Samplers propose candidates (ask) and learn from their results (tell)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from .candidate import Candidate
from .errors import SpecError
from .objective import Goal
from .plugin import Kind, OptionsT, Plugin
from .space import SearchSpace

Outcome: TypeAlias = Literal["finished", "recalled", "infeasible", "pruned", "failed", "lost", "cancelled"]
"""How a trial ended; also the terminal states of a trial in the catalog."""

Curve: TypeAlias = Sequence[tuple[int, float]]
"""Values by training step."""

Restore: TypeAlias = Literal["history", "re-ask"]


@dataclass(frozen=True)
class SearchProblem:
    """What a sampler is asked to solve.

    `goals` holds the optimised objectives first come, first in `Observation.values`' order, then the
    bounded ones. `seed` is the only source of randomness a sampler uses; `budget` the number of
    trials planned, when there is one. `exact` has a function for each goal whose value a candidate
    decides by itself (a static objective): a sampler may ask for as many of those as it likes.
    """

    space: SearchSpace
    goals: tuple[Goal, ...]
    seed: int
    budget: int | None = None
    exact: Mapping[str, Callable[[Candidate], float]] = field(
        default_factory=dict[str, Callable[[Candidate], float]]
    )
    key: Callable[[Candidate], str] | None = None
    """Names a candidate so that those known to compute the same have one name; None where the stage
    doesn't recall. Takes milliseconds for a candidate not seen before."""

    @property
    def optimised(self) -> tuple[Goal, ...]:
        """The goals with a direction, in the job file's order."""
        return tuple(goal for goal in self.goals if goal.direction is not None)


@dataclass(frozen=True)
class Observation:
    """What became of an ask.

    `values` maps goal names to numbers. It is complete for "finished" and "recalled"; for other
    outcomes it holds what is known (an infeasible candidate's static objectives; a pruned trial's
    last report). `violation` is the sum of the bounds' violations, 0 when feasible.
    """

    outcome: Outcome
    values: Mapping[str, float] = field(default_factory=dict[str, float])
    violation: float = 0.0

    @property
    def scored(self) -> bool:
        """Whether every goal has a value."""
        return self.outcome in ("finished", "recalled")


@dataclass(frozen=True)
class Suggestion:
    """A candidate for a stated preference, and what the sampler's model says of it, where it has one.

    `predicted` and `deviation` map goal names to the predicted value and its standard deviation, in
    the goal's unit; `log_probability` is the natural logarithm of the candidate's probability under
    the sampler's policy for that preference.
    """

    candidate: Candidate
    predicted: Mapping[str, float] = field(default_factory=dict[str, float])
    deviation: Mapping[str, float] = field(default_factory=dict[str, float])
    log_probability: float | None = None


class Sampler(Plugin[OptionsT]):
    """Proposes candidates, one ask at a time, from what it was told.

    One instance serves one stage, on one thread: `start`, then any interleaving of `ask(number)` with
    increasing numbers and `tell(number, …)` for asked numbers, in any order and at most once each.

    A sampler is never pickled. After a restart a new instance is rebuilt from the event log:

    - `restore = "history"`: its next ask depends only on the problem, the ask's number and the
      events so far, because it draws from `(problem.seed, number)`. Past asks arrive through
      `adopt` and past results through `tell`, in their original order; nothing is re-computed.
    - `restore = "re-ask"`: it has hidden state that advances with each ask. Past asks are executed
      again, in order, interleaved with tells, and compared with the log. If another version of it no
      longer proposes the same, a fresh instance is brought up through `adopt` and `tell` instead.
    """

    kind: ClassVar[Kind] = "sampler"
    restore: ClassVar[Restore] = "history"

    problem: SearchProblem

    @property
    def lookahead(self) -> int:
        """How many asks lose nothing by not waiting for each other's results.

        1 for a method that learns from each result, a generation for a generational one, any large
        number for one that doesn't learn.
        """
        return 1

    def start(self, problem: SearchProblem) -> None:
        """Receive the problem, once, before anything else.

        Raises:
            SpecError: this sampler can't solve such a problem (grid over a real-valued choice, a
                single-objective method given two); the text names one that can.
        """
        self.problem = problem

    @abstractmethod
    def ask(self, number: int) -> Candidate:
        """Propose the candidate of trial `number` (0-based).

        Raises:
            SpaceExhausted: nothing is left to propose; the stage ends when the running trials have.
        """

    def tell(self, number: int, candidate: Candidate, observation: Observation) -> None:
        """Learn what became of ask `number`. The default learns nothing."""

    def adopt(self, number: int, candidate: Candidate) -> None:
        """Take note of an ask that an earlier instance made.

        Called instead of `ask`, for samplers that keep track of pending candidates.
        """

    def propose_for(self, preference: Mapping[str, float], count: int) -> Sequence[Suggestion]:
        """Propose up to `count` different candidates for a stated preference, best first.

        A question, not an ask: nothing is counted, logged or learnt, and later asks are what they
        would have been. The sampler was started and has been told its stage's history. Optional; the
        default refuses.

        Args:
            preference: the weight of every optimised goal, by name: not negative, of sum 1.
            count: how many candidates are wanted; fewer come back where the space has no more that
                haven't been asked for yet.

        Raises:
            SpecError: this sampler knows nothing of preferences, or the history is too short for its
                model.
        """
        raise SpecError(f"sampler {self.name!r} can't be asked for a preference: it learns none")

    def save(self) -> bytes | None:
        """What `propose_for` would have to train again, as bytes that `load` takes; None: nothing.

        Asked for at the end of a stage, and kept with the job's artifacts. Never a pickle.
        """
        return None

    def load(self, saved: bytes) -> None:
        """Take what another instance saved. Called after the stage's history, before `propose_for`, whose
        answer it may not change: only the time that the answer takes.
        """

    def diagnostics(self) -> Mapping[str, float | Curve]:
        """Metrics of the sampler itself since the last call: a training loss, a model's error.

        Called after each ask; what comes back goes to the record of the stage, stepped by the number of
        asks. A sampler that trains once gives curves instead, with steps of their own. Values that aren't
        finite are left out. The default has none.
        """
        return {}

    @classmethod
    def serves_preferences(cls) -> bool:
        """Whether `propose_for` is written."""
        return cls.propose_for is not Sampler.propose_for


def finite(diagnostics: Mapping[str, float | Curve]) -> dict[str, float | Curve]:
    """Leave out what isn't finite."""
    kept: dict[str, float | Curve] = {}
    for name, value in diagnostics.items():
        if not isinstance(value, int | float):
            if points := [(step, one) for step, one in value if math.isfinite(one)]:
                kept[name] = points
        elif math.isfinite(value):
            kept[name] = value
    return kept
