"""Probes a candidate that is a function of the space: what it gives for frozen examples, in order."""

from __future__ import annotations

from ...core.probe import FunctionProbe
from .numbers import seed_of
from .signature import Signature, token_of


def probe_function(probe: FunctionProbe, examples: int, repetitions: int) -> Signature:
    """Run the function on `repetitions` sets of `examples`, each frozen by its seed."""
    values: list[float] = []
    names: list[str] = []
    for repetition in range(repetitions):
        given = [float(value) for value in probe.run(seed_of("function", repetition) >> 65, examples)]
        values += given
        names += [f"repetition {repetition}, value {index}" for index in range(len(given))]
    constant = len(values) > 1 and len(set(values)) == 1
    token = token_of(values) or ("constant" if constant else None)
    return Signature(tuple(values), tuple(names), token)
