"""Contract of samplers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..candidate import Candidate
from ..errors import SpaceError, SpaceExhausted, SpecError
from ..objective import Goal
from ..sampler import Observation, Sampler, SearchProblem
from ..space import Choose, SearchSpace, replay
from .contract import ContractError, only, require
from .plugins import check_class
from .spaces import ExampleSpace


@dataclass(frozen=True)
class Event:
    """One entry of a stage's log: an ask, or a tell, which has an observation."""

    number: int
    candidate: Candidate
    observation: Observation | None = None


class Few(SearchSpace):
    """Three candidates."""

    name = "few"
    summary = "three candidates"

    def choices(self, choose: Choose) -> None:
        choose.integer("n", 0, 2)


def check_sampler(
    sampler: Sampler,
    space: SearchSpace | None = None,
    goals: Sequence[Goal] = (Goal("loss", "minimize"),),
    *,
    trials: int = 30,
    further: int = 10,
) -> None:
    """Check a sampler on a simulated stage, trial by trial and with three trials at a time.

    Rules: candidates replay in the space; randomness comes from the problem's seed alone; trials may
    end in any state and any order; a fresh instance, restored from the log in the way that `restore`
    declares, makes the same next asks; what was saved changes no answer to a preference; when nothing
    is left, `ask` raises `SpaceExhausted`, and raises it again.

    Args:
        sampler: the sampler, with its options; fresh instances are made from it.
        space: a space that it can search; by default one with every type of choice.
        goals: what is optimised and bounded.
        trials: how many trials to run before the restart.
        further: how many asks to compare after it.

    Raises:
        ContractError: a rule is broken.
        SpecError: the sampler refuses the space or the goals: pass others.
    """
    check_class(type(sampler))
    require(sampler.lookahead >= 1, f"lookahead is {sampler.lookahead}", "Return at least 1")
    problem = SearchProblem(space or ExampleSpace(), tuple(goals), seed=20, budget=trials + further)
    for concurrency in (1, 3):
        _check_restart(sampler, problem, trials, further, concurrency)
    _check_exhaustion(sampler, goals)


def _check_restart(
    sampler: Sampler, problem: SearchProblem, trials: int, further_asks: int, concurrency: int
) -> None:
    later = range(trials, trials + further_asks)
    first = _started(sampler, problem)
    running: dict[int, Candidate] = {}
    log = _run(first, range(trials), running, concurrency)
    further = _run(first, later, dict(running), concurrency)

    _disturb()
    second = _started(sampler, problem)
    repeated = _run(second, range(trials), {}, concurrency)
    require(
        log == repeated,
        f"two runs from one seed differ at {_difference(log, repeated)}",
        "Draw from `core.seeds.generator(problem.seed, number)` only, never from a global generator",
    )

    restored = _started(sampler, problem)
    with only(
        f"a sampler with restore = {sampler.restore!r} must be restored from its log",
        "Let `adopt` and `tell` rebuild all that `ask` uses"
        if sampler.restore == "history"
        else 'Let `ask` depend on asks and tells only, or keep to `restore = "history"`',
    ):
        _restore(restored, log)
    continued = _run(restored, later, dict(running), concurrency)
    require(
        further == continued,
        f"after a restart by {sampler.restore!r} the stage goes on differently: "
        f"{_difference(further, continued)}",
        "With `history` draw from (problem.seed, number) and rebuild the rest in `adopt` and `tell`; "
        'if hidden state can\'t be avoided, declare `restore = "re-ask"`',
    )
    if (saved := first.save()) is not None:
        _check_saved(first, problem, [*log, *further], saved)


def _check_saved(sampler: Sampler, problem: SearchProblem, log: Sequence[Event], saved: bytes) -> None:
    wanted = {goal.name: 1 / len(problem.optimised) for goal in problem.optimised}
    alone, helped = _started(sampler, problem), _started(sampler, problem)
    for one in (alone, helped):
        _restore(one, log)
    helped.load(saved)
    require(
        alone.propose_for(wanted, 3) == helped.propose_for(wanted, 3),
        "`propose_for` answers differently after `load`",
        "Save only what the log would give again: `load` may save time, and decides nothing",
    )


def _check_exhaustion(sampler: Sampler, goals: Sequence[Goal]) -> None:
    fresh = type(sampler)(sampler.options)
    try:
        fresh.start(SearchProblem(Few(), tuple(goals), seed=0))
    except SpecError:
        return
    ended = False
    for number in range(12):
        with only(
            "in a space of three candidates `ask` must propose or raise SpaceExhausted",
            "Raise `orchestrate.core.SpaceExhausted` when nothing is left",
            SpaceExhausted,
        ):
            try:
                candidate = fresh.ask(number)
            except SpaceExhausted:
                ended = True
                continue
        require(not ended, "`ask` proposed something after SpaceExhausted", "Raise SpaceExhausted for good")
        fresh.tell(number, candidate, _observation(number, candidate, fresh.problem))


def _started(sampler: Sampler, problem: SearchProblem) -> Sampler:
    fresh = type(sampler)(sampler.options)
    with only(
        f"start must accept the problem or raise SpecError (space {problem.space.name!r})",
        "Raise SpecError with a sampler that fits",
        SpecError,
    ):
        fresh.start(problem)
    return fresh


def _run(sampler: Sampler, numbers: range, running: dict[int, Candidate], concurrency: int) -> list[Event]:
    """Ask for `numbers`, telling results out of order; leaves concurrency - 1 trials running."""
    order = random.Random(numbers.start)
    log: list[Event] = []
    for number in numbers:
        with only(f"ask({number}) must propose a candidate", "Mend `ask`", SpaceExhausted):
            try:
                candidate = sampler.ask(number)
            except SpaceExhausted:
                break
        _check_candidate(sampler, candidate)
        log.append(Event(number, candidate))
        running[number] = candidate
        while len(running) >= concurrency:
            done = order.choice(sorted(running))
            told = running.pop(done)
            observation = _observation(done, told, sampler.problem)
            with only(
                f"tell must bear a trial that is {observation.outcome!r} with the values "
                f"{dict(observation.values)}",
                "Learn from what there is: only `observation.scored` promises all values",
            ):
                sampler.tell(done, told, observation)
            log.append(Event(done, told, observation))
    return log


def _restore(sampler: Sampler, log: Sequence[Event]) -> None:
    for event in log:
        if event.observation is not None:
            sampler.tell(event.number, event.candidate, event.observation)
        elif sampler.restore == "history":
            sampler.adopt(event.number, event.candidate)
        else:
            candidate = sampler.ask(event.number)
            require(
                candidate == event.candidate,
                f"asked again, ask({event.number}) gives {candidate}, and gave {event.candidate}",
                "Seed all randomness from problem.seed",
            )


def _check_candidate(sampler: Sampler, candidate: Candidate) -> None:
    try:
        replay(sampler.problem.space, candidate)
    except SpaceError as error:
        raise ContractError(
            f"{candidate} isn't of space {sampler.problem.space.name!r}: {error}. "
            "Make candidates with `problem.space.generate(pick)`."
        ) from error


def _observation(number: int, candidate: Candidate, problem: SearchProblem) -> Observation:
    """A made-up result: mostly a score, now and then each other outcome."""
    spread = int(candidate.digest[:8], 16) / 16**8
    values = {goal.name: spread + 0.1 * index for index, goal in enumerate(problem.goals)}
    first = {problem.goals[0].name: spread}
    violation = sum(goal.violation(values[goal.name]) for goal in problem.goals)
    match number % 9:
        case 2:
            return Observation("failed")
        case 4:
            return Observation("infeasible", first, violation + 0.5)
        case 5:
            return Observation("pruned", first)
        case 7:
            return Observation("cancelled" if number % 2 else "lost")
        case 8:
            return Observation("recalled", values, violation)
        case _:
            return Observation("finished", values, violation)


def _disturb() -> None:
    """Move the global generators, which a sampler has no business with."""
    random.seed()
    np.random.seed()  # noqa: NPY002 - it is the global generator that is meant


def _difference(before: Sequence[Event], after: Sequence[Event]) -> str:
    for one, other in zip(before, after, strict=False):
        if one != other:
            return f"trial {one.number}: {one.candidate}, then {other.candidate}"
    return f"the end: {len(before)} events, then {len(after)}"
