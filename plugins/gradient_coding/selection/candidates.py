"""The schemes and parameters that a selection compares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from ..codes import RandomCyclic
from ..codes.counting import Counting
from ..schemes import (
    BackupWorkers,
    GradientCoding,
    Multiplexed,
    PartialCoding,
    Scheme,
    SelectiveRepetition,
    Uncoded,
)
from ..waiting import Rule, Wait

SCHEMES = ("uncoded", "backup", "gc", "gc-frc", "gc-partial", "sr-sgc", "m-sgc")
CODED = ("gc-frc", "sr-sgc", "m-sgc")
"""What is chosen from by default: exact, with coefficients of 0 and 1."""

WINDOWS = (0.0, 0.125, 0.25, 0.5, 1.0)
"""Values of mu that are tried."""

PARTITIONS = (1, 2, 4)
"""Uncoded partitions of a worker that are tried for `gc-partial`, p - s - 1."""

MOST_LOAD = 0.5
"""No scheme is tried that has a worker compute more of a job than this."""


@dataclass(frozen=True)
class Plan:
    """A scheme, its parameters by the papers' names, and how its rounds wait."""

    scheme: str
    parameters: Mapping[str, int] = field(default_factory=dict[str, int])
    wait: Wait = field(default_factory=Wait)

    def make(self, n: int, *, simulated: bool = False) -> Scheme:
        """Make the scheme for n workers; `simulated` spares the coefficients of cyclic codes."""
        return create(self.scheme, n, self.parameters, simulated=simulated)

    def describe(self) -> dict[str, Any]:
        """What to record."""
        return {"scheme": self.scheme, **self.parameters, "wait": str(self.wait.rule), "mu": self.wait.mu}

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"{self.scheme}({shown})" if shown else self.scheme


def create(
    scheme: str, n: int, parameters: Mapping[str, int], *, seed: int = 0, simulated: bool = False
) -> Scheme:
    """Make a scheme by name: one of `SCHEMES`, with the parameters s; s and p; spares; or B, W and lambda.

    `seed` makes the coefficients of `gc`, the only one here with a cyclic code.

    Raises:
        ValueError: an unknown name, or parameters for which there is no such scheme.
    """
    given = dict(parameters)
    if scheme == "uncoded":
        return Uncoded(n)
    if scheme == "backup":
        return BackupWorkers(n, given["spares"])
    if scheme == "gc":
        code = Counting(n, given["s"]) if simulated else RandomCyclic(n, given["s"], seed)
        return GradientCoding(n, given["s"], code)
    if scheme == "gc-frc":
        return GradientCoding(n, given["s"])
    if scheme == "gc-partial":
        return PartialCoding(n, given["s"], given["p"])
    if scheme == "sr-sgc":
        return SelectiveRepetition(n, given["B"], given["W"], given["lambda"])
    if scheme == "m-sgc":
        return Multiplexed(n, given["B"], given["W"], given["lambda"])
    raise ValueError(f"no scheme {scheme!r}: known are {', '.join(SCHEMES)}")


def families(
    n: int,
    most_delay: int,
    schemes: Sequence[str] = ("gc-frc", "sr-sgc", "m-sgc"),
    rule: Rule = Rule.FEASIBLE,
) -> Iterator[list[Plan]]:
    """Families of plans, each with everything fixed but one parameter, which grows: s or lambda.

    `most_delay` is T at most: one less than the number of models that train interleaved.
    """
    wait = Wait(rule)
    for scheme in schemes:
        if scheme == "uncoded":
            yield [Plan(scheme, {}, wait)]
        elif scheme == "backup":
            yield [Plan(scheme, {"spares": spares}, wait) for spares in _ladder(n)]
        elif scheme in ("gc", "gc-frc"):
            yield [Plan(scheme, {"s": s}, wait) for s in _ladder(n)]
        elif scheme == "gc-partial":
            for more in PARTITIONS:
                yield [Plan(scheme, {"s": s, "p": s + 1 + more}, wait) for s in _ladder(n)]
        else:
            for B, W in _windows(scheme, most_delay):
                shape = {"B": B, "W": W}
                plans = [Plan(scheme, {**shape, "lambda": lam}, wait) for lam in _lambdas(scheme, n, B, W)]
                if plans:
                    yield plans


def probes(n: int) -> list[Plan]:
    """Plans whose rounds, some of each, make a profile: everybody is waited for, and loads differ."""
    patient = Wait(mu=inf)
    sizes = [size for size in (2, 4) if n // size]
    return [Plan("uncoded", {}, patient), *(Plan("gc-frc", {"s": size - 1}, patient) for size in sizes)]


def windows(plan: Plan, mus: Sequence[float] = WINDOWS) -> list[Plan]:
    """The plan with each window; uncoded waits for everybody anyhow."""
    if plan.scheme == "uncoded":
        return [plan]
    return [replace(plan, wait=replace(plan.wait, mu=mu)) for mu in mus]


def _windows(scheme: str, most_delay: int) -> Iterator[tuple[int, int]]:
    """Pairs (B, W) whose delay is allowed."""
    for B in range(1, most_delay + 1):
        if scheme == "m-sgc":
            for W in range(2, most_delay + 3 - B):  # T = W - 2 + B
                yield B, W
        else:
            for x in range(1, 5):  # T = B for any W
                yield B, x * B + 1


def _ladder(n: int) -> list[int]:
    """S from 1 up, one for each number of groups: the largest that has it."""
    sizes = sorted({n // (n // size) for size in range(2, max(3, int(n * MOST_LOAD) + 1)) if size <= n})
    return [size - 1 for size in sizes]


def _lambdas(scheme: str, n: int, B: int, W: int) -> list[int]:
    """Values of lambda, one for each load."""
    if scheme == "m-sgc":
        return [*_ladder(n), n] if n > 1 else [n]
    total = W - 1 + B
    # the largest lambda with ceil(B lambda / (W - 1 + B)) = s
    return sorted({min(n, s * total // B) for s in _ladder(n) if s * total // B >= 1})
