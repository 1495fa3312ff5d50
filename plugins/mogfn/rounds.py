"""A sampler that proposes in rounds, each a pure function of what was known when it began.

So a sampler is restored from the log alone: `adopt` counts where rounds begin, and only the round that
was under way is computed again.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from pydantic import Field

from ...core import Candidate, Observation, PluginOptions, Sampler, SearchProblem, SpecError
from ...core.draw import draw_new
from ...core.sampler import Curve
from ...core.seeds import generator
from .aliases import Aliases, AliasRule
from .conditions import Cover
from .options import TrainingOptions

if TYPE_CHECKING:
    from .keeping import Tensors


class RoundOptions(PluginOptions):
    """What the samplers of this folder share."""

    initial: int = Field(default=20, ge=0, description="Random candidates before the first round.")
    batch: int = Field(
        default=8, ge=1, description="Proposals a round, none waiting for the others' results."
    )
    preference: dict[str, float] | None = Field(
        default=None,
        description="Weights of objectives, by name, that proposals are to serve; by default they "
        "spread over all preferences.",
    )
    spread: float = Field(default=0.2, ge=0, le=1, description="How far proposals stray from `preference`.")
    cover: Cover = Field(
        default="lattice",
        description="How preferences of proposals are spread: `lattice` has the corners; `k-means`, centres "
        "of clusters of random ones, is for four objectives and more, where a lattice lies on the rim.",
    )
    bounds: dict[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="Range of an objective's values, by name; by default what was seen.",
    )
    log: tuple[str, ...] = Field(default=(), description="Objectives that count by their logarithm.")
    aliases: AliasRule = Field(
        default="separate",
        description="Candidates that the space says are the same (`canonical`): each counts for itself; or "
        "`merge`, only one is proposed; or `correct`, the policy, too, makes them together as often as it "
        "should, on spaces of up to 50,000 candidates.",
    )
    gflownet: TrainingOptions = Field(default=TrainingOptions(), description="The GFlowNet and its training.")


RoundsT = TypeVar("RoundsT", bound=RoundOptions, covariant=True)  # noqa: PLC0105
LearntT = TypeVar("LearntT")


@dataclass(frozen=True)
class Told:
    """A candidate and what became of it."""

    candidate: Candidate
    observation: Observation


@dataclass(frozen=True)
class Snapshot:
    """What is known when a round begins: `number` is that of its first ask."""

    number: int
    told: Sequence[Told]
    pending: Sequence[Candidate]
    proposed: frozenset[str]
    """Names of all candidates proposed so far (see `Aliases`)."""


class RoundSampler(Sampler[RoundsT], Generic[RoundsT, LearntT]):
    """Keeps the log and the rounds; a subclass learns from what is known, and makes a round's proposals.

    A preference stated at the end is served with what the last round learnt.
    """

    restore: ClassVar = "history"

    @property
    def lookahead(self) -> int:
        """What is left of the round, or of the random beginning."""
        if not hasattr(self, "problem"):
            return self.options.batch
        asked = len(self._told) + len(self._pending)
        if asked < self.initial:
            return self.initial - asked
        if self._round is None or self._used >= self.size(self._round.number):
            return self.size(asked)
        return self.size(self._round.number) - self._used

    def start(self, problem: SearchProblem) -> None:
        super().start(problem)
        names = [goal.name for goal in problem.optimised]
        options = self.options
        for option, given in (
            ("preference", options.preference or {}),
            ("bounds", options.bounds),
            ("log", options.log),
        ):
            for name in given:
                if name not in names:
                    raise SpecError(
                        f"sampler {self.name!r}: option {option!r} names {name!r}, which is no optimised "
                        f"objective of this job ({', '.join(names)})"
                    )
        alpha = options.gflownet.alpha
        if isinstance(alpha, tuple) and len(alpha) != self.objectives:
            raise SpecError(
                f"sampler {self.name!r}: alpha has {len(alpha)} numbers for {self.objectives} objectives"
            )
        self.aliases = Aliases(problem.space, options.aliases)
        self._told: list[Told] = []
        self._pending: dict[int, Candidate] = {}
        self._proposed: set[str] = set()
        self._round: Snapshot | None = None
        self._used = 0
        self._queue: list[Candidate] | None = None
        self._learnt: tuple[tuple[int, int], LearntT | None] | None = None
        self._metrics: dict[str, float | Curve] = {}

    @property
    def objectives(self) -> int:
        """How many rewards a candidate has."""
        return len(self.problem.optimised)

    @property
    def proposed(self) -> Collection[str]:
        """Names of all candidates asked for so far."""
        return self._proposed

    @property
    def initial(self) -> int:
        """How many candidates are random before the first round."""
        return self.options.initial

    def size(self, number: int) -> int:
        """How many proposals the round has that begins with this ask."""
        return self.options.batch

    @abstractmethod
    def learn(self, snapshot: Snapshot, kept: Tensors | None = None) -> LearntT | None:
        """Train on what a snapshot knows; None where that is too little.

        What `kept` holds isn't trained again: the result is the same.
        """

    @abstractmethod
    def tensors(self, learnt: LearntT) -> Tensors:
        """What `learn` takes from `kept`."""

    @abstractmethod
    def propose(self, snapshot: Snapshot, count: int) -> Sequence[Candidate]:
        """Propose up to `count` different candidates, none of them proposed before."""

    def ask(self, number: int) -> Candidate:
        self._enter(number)
        candidate: Candidate | None = None
        if self._round is not None:
            if self._queue is None:
                self._queue = list(self.propose(self._round, self.size(self._round.number)))
            fresh = (one for one in self._queue[self._used :] if self.aliases.name(one) not in self._proposed)
            candidate = next(fresh, None)
        if candidate is None:
            rng = generator(self.problem.seed, number, 0)
            candidate = draw_new(self.problem.space, self._proposed, rng, self.aliases.name)
        self._note(number, candidate)
        return candidate

    def adopt(self, number: int, candidate: Candidate) -> None:
        self._enter(number)
        self._note(number, candidate)

    def tell(self, number: int, candidate: Candidate, observation: Observation) -> None:
        self._pending.pop(number, None)
        self._told.append(Told(candidate, observation))

    def diagnostics(self) -> Mapping[str, float | Curve]:
        metrics, self._metrics = self._metrics, {}
        return metrics

    def learnt(self, snapshot: Snapshot) -> LearntT | None:
        """What a snapshot teaches; trained once for the latest one."""
        known = snapshot.number, len(snapshot.told)
        if self._learnt is None or self._learnt[0] != known:
            self._learnt = known, self.learn(snapshot)
        return self._learnt[1]

    def latest(self) -> Snapshot:
        """What the last round knew; before the first, what is known now."""
        return self._round or self.snapshot(len(self._told) + len(self._pending))

    def save(self) -> bytes | None:
        known, learnt = self._learnt or (None, None)
        if known is None or learnt is None:
            return None
        from .keeping import to_bytes

        return to_bytes(known, self.tensors(learnt))

    def load(self, saved: bytes) -> None:
        from .keeping import from_bytes

        known, tensors = from_bytes(saved)
        snapshot = self.latest()
        if known == (snapshot.number, len(snapshot.told)):  # else it is of another time: train anew
            self._learnt = known, self.learn(snapshot, tensors)

    def snapshot(self, number: int) -> Snapshot:
        """What is known now."""
        pending = tuple(self._pending.values())
        return Snapshot(number, tuple(self._told), pending, frozenset(self._proposed))

    def record(self, **metrics: float | Curve) -> None:
        """Note metrics for `diagnostics`."""
        self._metrics.update(metrics)

    def _enter(self, number: int) -> None:
        """Begin a round where one is due."""
        if number < self.initial:
            return
        if self._round is None or self._used >= self.size(self._round.number):
            self._round, self._queue, self._used = self.snapshot(number), None, 0

    def _note(self, number: int, candidate: Candidate) -> None:
        self._pending[number] = candidate
        self._proposed.add(self.aliases.name(candidate))
        self._used += self._round is not None
