"""The parallel strategy `gradient-coding`: its options, and what they make of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal
from weakref import WeakKeyDictionary

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ...core import CodedStrategy, Forecast, Learner, PluginOptions, SpecError, WorkerGroup
from .codes import Code, CyclicMDS, RandomCyclic
from .injection import Injected, InjectOptions
from .planning import Auto, Fixed, Planner
from .schemes import GradientCoding, Scheme
from .schemes.coding import Approximation
from .selection import Plan, create
from .waiting import Rule, Wait

if TYPE_CHECKING:
    from torch import Tensor

    from .session import Session


class ApproximateOptions(PluginOptions):
    """When the exact gradient may be given up. Off unless given."""

    patience: PositiveFloat = Field(
        default=4.0, description="Not before 1 + patience times the fastest worker's time."
    )
    deviation: PositiveFloat = Field(
        default=0.1, description="Largest mean squared deviation of the chunks' coefficients from 1."
    )
    budget: PositiveInt = Field(default=10, description="Most inexact gradients of a launch.")


class QuarantineOptions(PluginOptions):
    """When a worker is no straggler by chance any more."""

    score: float = Field(
        default=0.2, gt=0, lt=1, description="Speed relative to the fastest worker's that is too low."
    )
    tasks: PositiveInt = Field(default=10, description="Tasks of each worker that are judged.")


class GradientCodingOptions(PluginOptions):
    """Options of `gradient-coding`."""

    scheme: Literal["auto", "uncoded", "gc-frc", "gc", "gc-partial", "sr-sgc", "m-sgc"] = Field(
        default="gc-frc",
        description="Coding scheme; `auto` measures and chooses. `sr-sgc` and `m-sgc` train several "
        "candidates at once (`batch`).",
    )
    stragglers: NonNegativeInt = Field(
        default=1,
        description="Stragglers a round that `gc-frc`, `gc` and `gc-partial` bear, s; a sample is computed "
        "s + 1 times.",
    )
    partitions: PositiveInt | None = Field(
        default=None,
        description="p of `gc-partial`: partitions of a worker, of which all but s + 1 are its own; default: "
        "s + 3.",
    )
    burst: PositiveInt = Field(default=1, description="B of `sr-sgc` and `m-sgc`: rounds a worker is slow.")
    window: PositiveInt = Field(
        default=2, description="W of `sr-sgc` and `m-sgc`: rounds that their straggler model looks at."
    )
    distinct: NonNegativeInt = Field(
        default=1, description="Lambda of `sr-sgc` and `m-sgc`: different stragglers in a window."
    )
    code: Literal["random", "mds"] = Field(
        default="random", description="Cyclic code of `gc`: random and well conditioned, or deterministic."
    )
    probe: PositiveInt = Field(default=12, description="Rounds of each of the probes of `auto`.")
    reselect: PositiveInt = Field(default=80, description="Rounds after which `auto` decides anew.")
    wait: Rule = Field(
        default=Rule.FEASIBLE, description="What a round waits for after its window (see the method's page)."
    )
    mu: NonNegativeFloat | None = Field(
        default=None,
        description="A round stays open for 1 + mu times the fastest worker's time at least. Default: 0 for "
        "uncoded, gc-frc and gc, which close as soon as they decode, and 1 for the others.",
    )
    quantile: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the workers whose slowest counts as the fastest."
    )
    approximate: ApproximateOptions | None = Field(
        default=None, description="Let `gc-frc` and `gc` make inexact gradients rather than wait for long."
    )
    seed: NonNegativeInt = Field(
        default=0, description="Draws the random code, and which worker takes which place in a code."
    )
    batch_norm: Literal["refuse", "per-chunk"] = Field(
        default="refuse",
        description="BatchNorm in training mode: an error, or normalised over each chunk (not exact).",
    )
    piece: PositiveInt | None = Field(
        default=None, description="Most samples a worker computes at once; default: a whole chunk."
    )
    replace_after: PositiveFloat = Field(
        default=60.0,
        description="Seconds of silence after which a worker's process is replaced, and without a process "
        "after which the others go on without it.",
    )
    quarantine: QuarantineOptions | None = Field(
        default=QuarantineOptions(),
        description="When a worker that is slow all the time gets a fresh process, and places apart from "
        "others like it; null: never.",
    )
    inject: InjectOptions | None = Field(
        default=None, description="Delays to inject, for demonstrations and measurements."
    )


class GradientCodingStrategy(CodedStrategy[GradientCodingOptions]):
    """The gradient of the whole batch, without waiting for stragglers.

    Workers hold overlapping parts of the batch and send sums of partial gradients, from which the
    master recovers the exact sum although some replies are missing (Tandon et al., 2017). With
    `sr-sgc` and `m-sgc` several candidates train by turns on the same workers, so that a late reply
    has some rounds to be made good (Krishnan et al., 2023).
    """

    name: ClassVar[str] = "gradient-coding"
    summary: ClassVar[str] = "exact gradients from redundant workers, without waiting for stragglers"
    evidence: ClassVar[str | None] = "rounds"

    def __init__(self, options: GradientCodingOptions | None = None) -> None:
        super().__init__(options)
        self._sessions: WeakKeyDictionary[WorkerGroup, Session] = WeakKeyDictionary()

    @property
    def models(self) -> int:
        """Delay of the scheme, in rounds, and one: with fewer, workers would have to wait."""
        options = self.options
        delay = {"sr-sgc": options.burst, "m-sgc": options.window - 2 + options.burst}
        return delay.get(options.scheme, 0) + 1

    def check(self, workers: int, models: int) -> None:
        """Refuse a scheme that so many workers, or candidates trained at once, can't have.

        Raises:
            SpecError: there is none, or the workers would wait.
        """
        if models < self.models:
            raise SpecError(
                f"scheme {self.options.scheme!r} with these parameters makes a gradient in up to "
                f"{self.models} rounds, so {self.models} candidates or more train at once, and here it is "
                f"{models}: set `batch: {self.models}` in a stage that searches, or take scheme gc"
            )
        try:
            self.scheme(workers, models)
        except ValueError as error:
            raise SpecError(f"no {self.options.scheme} for {workers} workers: {error}") from error

    def forecast(self, workers: int, models: int, earlier: Sequence[Path]) -> Forecast | None:
        """Replay the reply times of the newest earlier run, or the injected delays, under every scheme."""
        from . import preflight

        options = self.options
        known = preflight.measured(earlier, workers, models - 1)
        if known is None and options.inject is not None:
            injected = Injected(workers, options.inject)
            known = preflight.made_up(injected, workers, options.inject.slope)
        if known is None:
            return None
        asked = None
        if options.scheme != "auto":
            asked = Plan(options.scheme, self._parameters(options.scheme), self._wait())
        return preflight.forecast(known, models, asked)

    def gradient(self, learner: Learner, samples: Tensor, group: WorkerGroup) -> float:
        """Leave the mean gradient over `samples` in `.grad`; returns the mean loss.

        Raises:
            TrialError: the learner breaks a rule that exactness rests on, or raises itself.
            LostError: workers die again and again.
        """
        session = self._sessions.get(group)
        if session is None:
            session = self._sessions[group] = self.open(group, 1)
        session.submit(0, learner, samples)
        while True:
            for _, result in session.advance():
                if isinstance(result, Exception):
                    raise result
                return result

    def open(self, group: WorkerGroup, models: int) -> Session:
        """Begin a session for `models` networks."""
        from .session import Session, Setting, no_pause

        options = self.options
        setting = Setting(
            piece=options.piece,
            statistics=options.batch_norm == "per-chunk",
            replace_after=options.replace_after,
            slow=(options.quarantine.score, options.quarantine.tasks) if options.quarantine else (0.0, 1),
            pause=Injected(group.size, options.inject) if options.inject else no_pause,
            seed=options.seed,
        )
        planner: Planner
        if options.scheme == "auto":
            planner = Auto(group.size, models, options.probe, options.reselect)
        else:
            planner = Fixed(self._at_most, self._wait())
        return Session(group, planner, models, setting)

    def scheme(self, n: int, models: int) -> Scheme:
        """The scheme for `n` workers and `models` networks.

        With too few networks for the delay of the one that was asked for, as at the end of a stage, it
        is `gc-frc`.

        Raises:
            ValueError: there is no such scheme for so many workers.
        """
        options = self.options
        if options.scheme in ("gc", "gc-frc"):
            return GradientCoding(n, options.stragglers, self._code(n), self._approximation())
        name = options.scheme if models >= self.models and options.scheme != "auto" else "gc-frc"
        return create(name, n, self._parameters(name))

    def _at_most(self, n: int, models: int) -> Scheme:
        """The scheme, or where so few workers are left that there is none the most that `gc-frc` bears."""
        try:
            return self.scheme(n, models)
        except ValueError:
            return GradientCoding(n, min(self.options.stragglers, n - 1))

    def _parameters(self, scheme: str) -> dict[str, int]:
        options = self.options
        if scheme in ("sr-sgc", "m-sgc"):
            return {"B": options.burst, "W": options.window, "lambda": options.distinct}
        if scheme == "gc-partial":
            return {"s": options.stragglers, "p": options.partitions or options.stragglers + 3}
        return {} if scheme == "uncoded" else {"s": options.stragglers}

    def _wait(self) -> Wait:
        options = self.options
        mu = options.mu if options.mu is not None else float(self.models > 1)
        patience = options.approximate.patience if options.approximate else inf
        return Wait(options.wait, mu, options.quantile, patience)

    def _code(self, n: int) -> Code | None:
        if self.options.scheme != "gc":
            return None
        if self.options.code == "random":
            return RandomCyclic(n, self.options.stragglers, self.options.seed)
        code = CyclicMDS(n, self.options.stragglers)
        code.row(0)  # refuses complex coefficients
        return code

    def _approximation(self) -> Approximation | None:
        allowed = self.options.approximate
        return Approximation(allowed.deviation, allowed.budget) if allowed else None
