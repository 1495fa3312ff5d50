"""Several trials on one pool of workers: their programs take turns, one gradient at a time.

A program asks for a gradient and goes on when it has it. Meanwhile, others ask for theirs, so that a
strategy which needs several rounds for a gradient keeps its workers busy (Krishnan et al., 2023).
Programs know nothing of it: each runs in a greenlet of its own.
"""

from __future__ import annotations

import contextvars
import random
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import greenlet

from .errors import TrialPruned
from .parallel import GradientStream, Learner
from .seeds import seed_all

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


class Interleaver:
    """Hands trials' wishes for gradients to a stream. Made once a launch.

    A trial is known by a number of its own. Outside of `run`, `gradient` simply waits for the result.
    """

    def __init__(self, stream: GradientStream) -> None:
        self.stream = stream
        self._members: dict[int, greenlet.greenlet] = {}

    def gradient(self, model: int, learner: Learner, samples: Tensor) -> float:
        """Have the mean gradient over `samples` left in `.grad`; returns the mean loss."""
        self.stream.submit(model, learner, samples)
        current = greenlet.getcurrent()
        if self._members.get(model) is current:
            assert current.parent is not None
            return current.parent.switch()
        while True:
            for done, result in self.stream.advance():
                assert done == model
                if isinstance(result, Exception):
                    raise result
                return result

    def run(self, runs: Mapping[int, tuple[int, Callable[[], T]]]) -> dict[int, T | Exception | TrialPruned]:
        """Run functions, by the number of their trial and each with a seed, until all have ended.

        Each finds the global generators of random numbers as if it were alone. Gives what they
        return or raise. An exception of the stream's own, or one thrown in from outside, ends them all.
        """
        results: dict[int, T | Exception | TrialPruned] = {}
        generators: dict[int, Any] = {}

        def member(number: int, seed: int, function: Callable[[], T]) -> None:
            seed_all(seed)
            try:
                results[number] = function()
            except (Exception, TrialPruned) as error:  # noqa: BLE001 - whatever its code raises is its result
                results[number] = error

        def turn(number: int, act: Callable[[], Any]) -> None:
            with _borrowed(generators, number):
                act()
            if self._members[number].dead:
                del self._members[number]
                self.stream.retire(number)

        try:
            for number, (seed, function) in runs.items():
                made = greenlet.greenlet(member)
                made.gr_context = contextvars.copy_context()
                self._members[number] = made
                turn(number, partial(made.switch, number, seed, function))
            while self._members:
                for number, result in self.stream.advance():
                    turn(number, partial(_resume, self._members[number], result))
        finally:
            members, self._members = self._members, {}
            for made in members.values():  # something went wrong: let their `finally` blocks run
                made.throw(greenlet.GreenletExit)
        return results


def _resume(member: greenlet.greenlet, result: float | Exception) -> None:
    if isinstance(result, Exception):
        member.throw(result)
    else:
        member.switch(result)


@contextmanager
def _borrowed(kept: dict[int, Any], number: int) -> Generator[None]:
    """Put a member's generators in place of the global ones for a while."""
    before = _states()
    if number in kept:
        _put(kept[number])
    try:
        yield
    finally:
        kept[number] = _states()
        _put(before)


def _states() -> Sequence[Any]:
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    return (
        random.getstate(),
        numpy and numpy.random.get_state(),
        torch and torch.get_rng_state(),
    )


def _put(states: Sequence[Any]) -> None:
    mine, numpys, torchs = states
    random.setstate(mine)
    if numpys is not None:
        sys.modules["numpy"].random.set_state(numpys)
    if torchs is not None:
        sys.modules["torch"].set_rng_state(torchs)
