from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest

from orchestrate.core import (
    Candidate,
    Goal,
    Observation,
    Sampler,
    SearchProblem,
    SpaceExhausted,
    SpecError,
    Suggestion,
    enumerate_candidates,
)
from orchestrate.core.draw import draw_candidate
from orchestrate.core.seeds import generator
from orchestrate.core.testing import ContractError, check_sampler
from tests.core.testing.examples import Three


class Base(Sampler):
    """A sound random sampler, to break."""

    name = "base"
    summary = "a sampler"

    def ask(self, number: int) -> Candidate:
        return draw_candidate(self.problem.space, generator(self.problem.seed, number))


class Unseeded(Base):
    """Draws from a global generator."""

    def ask(self, number: int) -> Candidate:
        return draw_candidate(self.problem.space, generator(random.getrandbits(32)))


class Hidden(Base):
    """Has a generator that moves with each ask, and says `history`."""

    def start(self, problem: SearchProblem) -> None:
        super().start(problem)
        self.rng = generator(problem.seed)

    def ask(self, number: int) -> Candidate:
        return draw_candidate(self.problem.space, self.rng)


class HiddenButDeclared(Hidden):
    """Has a generator that moves with each ask, and says so."""

    restore = "re-ask"


class Foreign(Base):
    """Proposes candidates of no space."""

    def ask(self, number: int) -> Candidate:
        return Candidate({"number": number})


class Optimist(Base):
    """Believes that every trial has a score."""

    def tell(self, number: int, candidate: Candidate, observation: Observation) -> None:
        _ = observation.values["loss"]


class Forgetful(Base):
    """Counts its asks, and forgets them at a restart."""

    def start(self, problem: SearchProblem) -> None:
        super().start(problem)
        self.asked = 0

    def ask(self, number: int) -> Candidate:
        self.asked += 1
        return draw_candidate(self.problem.space, generator(self.problem.seed, self.asked))


class Remembering(Forgetful):
    """Counts its asks, and those of an earlier instance."""

    def adopt(self, number: int, candidate: Candidate) -> None:
        self.asked += 1


class Ending(Base):
    """Ends with an error of Python's own."""

    def start(self, problem: SearchProblem) -> None:
        super().start(problem)
        self.left = enumerate_candidates(problem.space)

    def ask(self, number: int) -> Candidate:
        return next(self.left)

    def adopt(self, number: int, candidate: Candidate) -> None:
        next(self.left)


class Hesitant(Base):
    """Says that nothing is left, then proposes something."""

    def ask(self, number: int) -> Candidate:
        if self.problem.space.name == "few" and number % 2:
            raise SpaceExhausted("done, perhaps")
        return super().ask(number)


class Crashing(Base):
    """Can't even start."""

    def start(self, problem: SearchProblem) -> None:
        raise KeyError("seed")


class Swayed(Base):
    """Answers otherwise once it has what it saved."""

    loaded = False

    def save(self) -> bytes:
        return b"saved"

    def load(self, saved: bytes) -> None:
        self.loaded = True

    def propose_for(self, preference: Mapping[str, float], count: int) -> Sequence[Suggestion]:
        return [] if self.loaded else [Suggestion(Candidate())]


class Sightless(Base):
    """Looks no trial ahead."""

    @property
    def lookahead(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("sampler", "rule"),
    [
        (Unseeded(), "two runs from one seed differ"),
        (Hidden(), "after a restart by 'history'"),
        (Foreign(), "isn't of space"),
        (Optimist(), "tell must bear a trial that is 'failed'"),
        (Forgetful(), "after a restart by 'history'"),
        (Ending(), "or raise SpaceExhausted.*StopIteration"),
        (Hesitant(), "proposed something after SpaceExhausted"),
        (Crashing(), "start must accept the problem or raise SpecError"),
        (Swayed(), "answers differently after `load`"),
        (Sightless(), "lookahead is 0"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_rule_is_named(sampler: Sampler, rule: str) -> None:
    space = Three() if isinstance(sampler, Ending) else None
    with pytest.raises(ContractError, match=rule):
        check_sampler(sampler, space)


@pytest.mark.parametrize(
    "sampler", [Base(), HiddenButDeclared(), Remembering()], ids=lambda value: type(value).__name__
)
def test_sound_samplers_pass(sampler: Sampler) -> None:
    check_sampler(sampler)
    check_sampler(sampler, goals=(Goal("loss", "minimize"), Goal("gain", "maximize", minimum=0.3)))


def test_a_refusal_reaches_the_caller() -> None:
    class Choosy(Base):
        """Wants one objective."""

        def start(self, problem: SearchProblem) -> None:
            raise SpecError("give one objective")

    with pytest.raises(SpecError, match="one objective"):
        check_sampler(Choosy())
