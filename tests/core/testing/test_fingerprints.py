from __future__ import annotations

import pytest

from orchestrate.core import Candidate, Fingerprint, Key, Print, SearchSpace, Task, digest
from orchestrate.core.testing import ContractError, check_fingerprint
from tests.core.testing.examples import Blobs, Three


class Base(Fingerprint):
    """A sound fingerprint, to break."""

    name = "base"
    summary = "a fingerprint"
    exact = True

    def compute(self, candidate: Candidate, space: SearchSpace, task: Task) -> Print:
        key = Key("exact", candidate.digest, candidate.digest[::-1])
        return Print((key,), (0.5,), atol=1e-6, rtol=1e-6, token="constant")


class Hashed(Base):
    """Uses Python's own hash, which differs between processes."""

    def compute(self, candidate: Candidate, space: SearchSpace, task: Task) -> Print:
        return Print((Key("exact", f"{hash(candidate) & 0xFFFFFFFF:08x}"),))


class Ordered(Base):
    """Depends on the order of the choices."""

    def compute(self, candidate: Candidate, space: SearchSpace, task: Task) -> Print:
        return Print((Key("exact", digest([list(item) for item in candidate.items()])),))


class Constant(Base):
    """Gives all candidates one print, and says that it is exact."""

    def compute(self, candidate: Candidate, space: SearchSpace, task: Task) -> Print:
        return Print((Key("exact", "00"),))


class Unhexed(Base):
    """Gives a digest that is none."""

    def compute(self, candidate: Candidate, space: SearchSpace, task: Task) -> Print:
        return Print((Key("exact", "a digest"),))


class NotANumber(Base):
    """Gives a signature with NaN."""

    def compute(self, candidate: Candidate, space: SearchSpace, task: Task) -> Print:
        return Print((Key("exact", candidate.digest),), (float("nan"),))


class Unshifted(Base):
    """Gives a second name that is no digest."""

    def compute(self, candidate: Candidate, space: SearchSpace, task: Task) -> Print:
        return Print((Key("functional", candidate.digest, "a digest"),))


class Intolerant(Base):
    """Gives a negative tolerance."""

    def compute(self, candidate: Candidate, space: SearchSpace, task: Task) -> Print:
        return Print((Key("exact", candidate.digest),), (0.5,), atol=-1e-6)


class Unnamed(Base):
    """Gives a degenerate class without a name."""

    def compute(self, candidate: Candidate, space: SearchSpace, task: Task) -> Print:
        return Print((Key("exact", candidate.digest),), token="")


class Failing(Base):
    """Can't compute anything."""

    def compute(self, candidate: Candidate, space: SearchSpace, task: Task) -> Print:
        raise ValueError("no network")


class Unversioned(Base):
    """Counts from nothing."""

    version = 0


@pytest.mark.parametrize(
    ("fingerprint", "rule"),
    [
        (Hashed(), "another print in another process"),
        (Ordered(), "the same choices in another order"),
        (Constant(), "different candidates share a print"),
        (Unhexed(), "gives the key"),
        (NotANumber(), "isn't finite"),
        (Unshifted(), "gives the key"),
        (Intolerant(), "gives the tolerances"),
        (Unnamed(), "an empty token"),
        (Failing(), "must compute a print.*no network"),
        (Unversioned(), "version is 0"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_rule_is_named(fingerprint: Fingerprint, rule: str) -> None:
    with pytest.raises(ContractError, match=rule):
        check_fingerprint(fingerprint, Three(), Blobs())


def test_a_sound_fingerprint_passes() -> None:
    check_fingerprint(Base(), Three(), Blobs())
