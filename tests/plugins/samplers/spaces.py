"""Spaces, problems and simulated stages that the sampler tests share."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orchestrate.core import Candidate, Choose, Goal, Observation, Sampler, SearchProblem, SearchSpace

SINGLE = (Goal("loss", "minimize"),)
DOUBLE = (Goal("loss", "minimize"), Goal("gain", "maximize"))
BOUNDED = (Goal("loss", "minimize", maximum=1.5), Goal("gain", "maximize", minimum=0.2))


class Mixed(SearchSpace):
    """Every type of choice, a branch, and integer bounds that move."""

    name = "mixed"
    summary = "every type of choice"

    def choices(self, choose: Choose) -> None:
        kind = choose.categorical("kind", ["conv", "pool", "skip"])
        depth = choose.integer("depth", 1, 4)
        choose.real("rate", 1e-4, 1e-1, log=True)
        choose.real("x", -2.0, 2.0)
        choose.integer("width", 8, 64, log=True)
        if kind == "conv":
            choose.integer("kernel", 3, 8, step=2)
            choose.categorical("flag", [1, True, 1.0, None, "1"])
        if kind != "skip":
            choose.integer("group", 0, depth)


class Numbers(SearchSpace):
    """Numbers only, and no branch."""

    name = "numbers"
    summary = "numbers only"

    def choices(self, choose: Choose) -> None:
        choose.real("x", -2.0, 2.0)
        choose.real("y", 1e-3, 1.0, log=True)
        choose.integer("n", 0, 9)


class Cells(SearchSpace):
    """Categories only: 3 ** 5 candidates."""

    name = "cells"
    summary = "categories only"

    def choices(self, choose: Choose) -> None:
        for index in range(5):
            choose.categorical(f"edge{index}", ["none", "skip", "conv"])


def score(candidate: Candidate) -> dict[str, float]:
    """A smooth score of any candidate of these spaces."""
    total = 0.0
    for name, value in sorted(candidate.items()):
        if isinstance(value, int | float):
            total += abs(float(value) - 1.0) / (1.0 + abs(float(value)))
        else:
            total += 0.1 * len(str(value)) + 0.01 * len(name)
    return {"loss": total, "gain": 1.0 / (1.0 + (total - 2.0) ** 2) + 0.05 * len(candidate)}


def observe(number: int, candidate: Candidate, problem: SearchProblem) -> Observation:
    """What a simulated trial comes to: mostly a score, sometimes each other outcome."""
    values = {goal.name: score(candidate)[goal.name] for goal in problem.goals}
    violation = sum(goal.violation(values[goal.name]) for goal in problem.goals)
    first = problem.goals[0].name
    match number % 11:
        case 3:
            return Observation("failed")
        case 5:
            return Observation("pruned", {first: values[first]})
        case 7:
            return Observation("infeasible", {first: values[first]}, violation + 0.5)
        case 8:
            return Observation("lost" if number % 2 else "cancelled")
        case 9:
            return Observation("recalled", values, violation)
        case _:
            return Observation("finished", values, violation)


@dataclass(frozen=True)
class Event:
    """One entry of a stage's log; an ask has no observation."""

    number: int
    candidate: Candidate
    observation: Observation | None = None


def search(
    sampler: Sampler,
    asks: int,
    *,
    first: int = 0,
    pending: int = 0,
    concurrency: int = 1,
    running: dict[int, Candidate] | None = None,
    judge: Callable[[int, Candidate, SearchProblem], Observation] = observe,
) -> Iterator[Event]:
    """Run `asks` trials from number `first`, told out of order; leave `pending` of them running."""
    order = random.Random(1000 + first)
    running = {} if running is None else running
    for number in range(first, first + asks):
        candidate = sampler.ask(number)
        running[number] = candidate
        yield Event(number, candidate)
        while len(running) >= concurrency and (number + 1 < first + asks or len(running) > pending):
            done = order.choice(sorted(running))
            told = running.pop(done)
            observation = judge(done, told, sampler.problem)
            sampler.tell(done, told, observation)
            yield Event(done, told, observation)


def restore(sampler: Sampler, log: list[Event]) -> None:
    """Rebuild a started sampler's state from a log, in the way it declares."""
    for event in log:
        if event.observation is not None:
            sampler.tell(event.number, event.candidate, event.observation)
        elif sampler.restore == "history":
            sampler.adopt(event.number, event.candidate)
        else:
            assert sampler.ask(event.number) == event.candidate
