"""From a candidate to its signature: which adapter probes it, and what the probe can't see."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from ...core import Candidate, PluginError, SearchSpace, Shape, Value
from ...core.probe import EstimatorProbe, FunctionProbe, NetworkProbe, Probe, Probed
from ...core.registry import imported
from .options import DEFAULTS, Adapter, FunctionalHashOptions
from .signature import Signature


@dataclass(frozen=True)
class Outcome:
    """What probing a candidate gave."""

    adapter: Adapter
    quantum: float
    residual: Mapping[str, Any]
    signature: Signature | None
    """None: the candidate crashed, and `token` says of what."""
    token: str | None


def can_probe(space: SearchSpace, options: FunctionalHashOptions) -> bool:
    """Whether candidates of the space can be run for comparison."""
    return options.probe is not None or isinstance(space, Probed) or space.builds


def probe_candidate(
    candidate: Candidate, space: SearchSpace, shape: Shape, options: FunctionalHashOptions
) -> Outcome:
    """Probe a candidate, in this process.

    Raises:
        MemoryError, OSError, ImportError: the machine is at fault, not the candidate.
        PluginError: a probe of no known type.
    """
    seen = Watched(candidate)
    probe = choose(seen, candidate, space, shape, options)
    adapter: Adapter = (
        "network"
        if isinstance(probe, NetworkProbe)
        else "function"
        if isinstance(probe, FunctionProbe)
        else "estimator"
    )
    quantum = options.quantum or DEFAULTS[adapter].quantum
    signature, token = None, None
    try:
        signature = _run(probe, adapter, shape, options)
        token = signature.token
    except (MemoryError, OSError, ImportError):
        raise
    except Exception as error:
        if "not enough memory" in str(error):  # torch's allocator raises RuntimeError
            raise MemoryError(str(error)) from error
        token = f"crash: {type(error).__name__}"
    residual = dict(probe.residual)
    if probe.residual is UNREAD:
        residual = {name: candidate[name] for name in candidate if name not in seen.read}
    return Outcome(adapter, quantum, residual, signature, token)


UNREAD: Mapping[str, Any] = {}
"""Stands for a residual that is known after the network is built: the choices that `build` didn't read."""


def choose(
    seen: Candidate, candidate: Candidate, space: SearchSpace, shape: Shape, options: FunctionalHashOptions
) -> Probe:
    """Find out how the candidate is probed: as the options say, else the space, else as its network."""
    if options.probe is not None:
        function = imported(options.probe)
        residual = {name: value for name, value in candidate.items() if name not in options.visible}
        return _of(options.probe, lambda: function(candidate), residual, shape)
    if isinstance(space, Probed):
        return space.probe(candidate, shape)
    return NetworkProbe(lambda: space.build(seen, shape), shape.input, UNREAD)


def _of(name: str, make: Callable[[], Any], residual: Mapping[str, Any], shape: Shape) -> Probe:
    """Wrap what a user's function returns."""
    made = make()
    if isinstance(made, NetworkProbe | FunctionProbe | EstimatorProbe):
        return replace(made, residual={**residual, **made.residual})
    if hasattr(made, "fit") and hasattr(made, "get_params"):
        return EstimatorProbe(make, residual)
    if hasattr(made, "named_parameters"):
        return NetworkProbe(make, shape.input, residual)
    if callable(made):
        return FunctionProbe(cast(Any, made), residual)
    raise PluginError(
        f"{name} returned a {type(made).__name__}: return a network, a scikit-learn estimator, or a "
        "function of (seed, examples) that returns numbers"
    )


def _run(probe: Probe, adapter: Adapter, shape: Shape, options: FunctionalHashOptions) -> Signature:
    examples = options.examples or DEFAULTS[adapter].examples
    repetitions = options.repetitions or DEFAULTS[adapter].repetitions
    match probe:
        case NetworkProbe():
            from .network import NetworkSettings, probe_network

            return probe_network(
                probe, NetworkSettings(options.semantics, examples, repetitions, _trace(options))
            )
        case FunctionProbe():
            from .function import probe_function

            return probe_function(probe, examples, repetitions)
        case EstimatorProbe():
            from .estimator import probe_estimator

            return probe_estimator(probe, examples, repetitions, max(2, math.prod(shape.input)))


def _trace(options: FunctionalHashOptions) -> int:
    """No trace with `fresh`: one step moves the shifts that made functions equal."""
    return options.trace if options.semantics == "trained" else 0


class Watched(Candidate):
    """A candidate that notes which of its choices are read."""

    def __init__(self, candidate: Candidate) -> None:
        super().__init__(candidate)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Value:
        self.read.add(name)
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        self.read.update(self._choices)
        return super().__iter__()

    @property
    def json(self) -> str:  # type: ignore[override]
        """The canonical JSON text, which has every choice."""
        self.read.update(self._choices)
        return Candidate(self._choices).json

    @property
    def digest(self) -> str:  # type: ignore[override]
        """The digest, which depends on every choice."""
        self.read.update(self._choices)
        return Candidate(self._choices).digest
