"""Learning-rate schedules: functions that make a function from optimiser step to a factor.

Lengths are shares of the training (0.1 = a tenth of all steps), so that one option fits any number
of epochs. Every schedule takes `warmup`: the share in which the factor rises linearly, as
`final + (1 - final) (step + 1) / (W + 1)` over the first W steps, so that step W is the first at
full rate. Factors lie in [final, 1]. Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ..hookspecs import Schedule, ScheduleFactory


def constant(total_steps: int, *, warmup: float = 0.0) -> Schedule:
    """The full rate throughout, after the warm-up."""
    return _decay(total_steps, warmup, 0.0, lambda progress: 1.0)  # noqa: ARG005


def linear(total_steps: int, *, warmup: float = 0.0, final: float = 0.0) -> Schedule:
    """A straight line from 1 to `final`."""
    return _decay(total_steps, warmup, final, lambda progress: 1.0 - progress)


def cosine(total_steps: int, *, warmup: float = 0.0, final: float = 0.0) -> Schedule:
    """Half a cosine from 1 to `final` (SGDR, arXiv 1608.03983, eq. 5, without restarts)."""
    return _decay(total_steps, warmup, final, _half_cosine)


def cosine_power(
    total_steps: int, *, power: float = 2.0, warmup: float = 0.0, final: float = 0.0
) -> Schedule:
    """Cosine Power Annealing (sharpDARTS, arXiv 1903.09900).

    With c the half cosine, the factor is `final + (1 - final) (p^c - 1) / (p - 1)`. It starts at 1
    and ends at `final` for every `power` p; halfway it is 1 / (1 + sqrt(p)), so a larger p decays
    earlier. p = 1 is the limit, `cosine`. The paper uses 2 on CIFAR and 10 on ImageNet.
    """
    if power <= 0:
        raise ValueError(f"power must be above 0, got {power}; 1 is plain cosine annealing")
    log = math.log(power)

    def curve(progress: float) -> float:
        # expm1 keeps the digits that p^c - 1 loses near p = 1.
        share = _half_cosine(progress)
        return math.expm1(share * log) / math.expm1(log) if log else share

    return _decay(total_steps, warmup, final, curve)


def step(total_steps: int, *, every: float = 1 / 3, factor: float = 0.1, warmup: float = 0.0) -> Schedule:
    """Multiply the rate by `factor` after each `every` (a share) of the training."""
    if not 0 < every <= 1:
        raise ValueError(f"every is a share of the training, above 0 and at most 1; got {every}")
    count = math.ceil(1 / every - 1e-9) - 1
    milestones = [every * (index + 1) for index in range(count)]
    return multistep(total_steps, milestones=milestones, factor=factor, warmup=warmup)


def multistep(
    total_steps: int,
    *,
    milestones: Sequence[float] = (0.5, 0.75),
    factor: float = 0.1,
    warmup: float = 0.0,
) -> Schedule:
    """Multiply the rate by `factor` at each of `milestones` (shares of the training)."""
    wrong = [milestone for milestone in milestones if not 0 < milestone < 1]
    if wrong:
        raise ValueError(f"milestones are shares of the training, between 0 and 1; got {wrong}")
    if factor <= 0:
        raise ValueError(f"factor must be above 0, got {factor}")
    bounds = [round(milestone * total_steps) for milestone in milestones]
    rising = constant(total_steps, warmup=warmup)
    return lambda at: rising(at) * factor ** sum(at >= bound for bound in bounds)


SCHEDULES: Mapping[str, ScheduleFactory] = {
    "constant": constant,
    "cosine": cosine,
    "cosine-power": cosine_power,
    "linear": linear,
    "multistep": multistep,
    "step": step,
}
"""The schedules that come with Orchestrate."""


def _half_cosine(progress: float) -> float:
    return (1.0 + math.cos(math.pi * progress)) / 2.0


def _decay(total_steps: int, warmup: float, final: float, curve: Callable[[float], float]) -> Schedule:
    """Warm up, then follow `curve` (of progress, 0 to 1) down to `final`, and stay there."""
    if total_steps < 1:
        raise ValueError(f"a schedule needs at least one step, got {total_steps}")
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is a share of the training, from 0 to below 1; got {warmup}")
    if not 0 <= final <= 1:
        raise ValueError(f"final is a share of the full rate, from 0 to 1; got {final}")
    rise = min(round(warmup * total_steps), total_steps - 1)

    def schedule(at: int) -> float:
        if at < rise:
            return final + (1.0 - final) * (at + 1) / (rise + 1)
        return final + (1.0 - final) * curve(min(1.0, (at - rise) / (total_steps - rise)))

    return schedule
