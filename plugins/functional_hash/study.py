"""How coarse may the grid be? Candidates of a space are probed once, and rounded to many grids."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ...core import Candidate, SearchSpace, Task, digest
from ...core.draw import draw_candidate
from ...core.probe import Canonical
from ...core.seeds import generator
from .fingerprint import SAFETY, FunctionalHash, context
from .probing import Outcome
from .signature import keyed
from .worker import OutOfLimits

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

QUANTA = tuple(10.0**exponent for exponent in range(-13, 1))


@dataclass(frozen=True)
class Study:
    """What probing some candidates of a space found."""

    candidates: int
    """Different ones that were drawn."""
    probed: int
    """Of these, how many have outputs to compare."""
    structural: int | None
    """Different canonical forms, where the space has some."""
    keys: dict[float, int]
    """Different functional keys by quantum."""
    quantum: float
    """The quantum in use."""
    noise: float
    """Largest uncertainty of a candidate's outputs."""
    values: int
    """Most values in a signature."""
    tokens: dict[str, int]
    """Candidates by degenerate class."""
    seconds: float
    """Median of a probe."""

    @property
    def smallest(self) -> float:
        """The smallest quantum that the noise allows."""
        return SAFETY * self.values * self.noise

    @property
    def plateau(self) -> tuple[float, float]:
        """The quanta around the one in use that give as many keys."""
        grid = sorted(self.keys)
        here = min(grid, key=lambda quantum: abs(quantum - self.quantum))
        low = high = grid.index(here)
        while low > 0 and self.keys[grid[low - 1]] == self.keys[here]:
            low -= 1
        while high + 1 < len(grid) and self.keys[grid[high + 1]] == self.keys[here]:
            high += 1
        return grid[low], grid[high]

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        keys = {f"{quantum:g}": count for quantum, count in self.keys.items()}
        return {**asdict(self), "keys": keys, "smallest_quantum": self.smallest, "plateau": self.plateau}


def study(
    hashing: FunctionalHash,
    space: SearchSpace,
    task: Task,
    candidates: int,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Study:
    """Probe random candidates, and count the keys that each quantum would give.

    Args:
        hashing: with the options to be studied.
        space: where candidates are drawn.
        task: gives the shape of inputs.
        candidates: how many draws.
        seed: of the draws.
        progress: called after each.
    """
    drawn: dict[Candidate, Outcome | None] = {}
    seconds: list[float] = []
    for index in range(candidates):
        candidate = draw_candidate(space, generator(seed, index))
        if candidate not in drawn:
            begun = time.perf_counter()
            try:
                drawn[candidate] = hashing.probe(candidate, space, task)
            except OutOfLimits:
                drawn[candidate] = None
            seconds.append(time.perf_counter() - begun)
        progress()
    found = [outcome for outcome in drawn.values() if outcome is not None]
    usable = [outcome for outcome in found if outcome.signature is not None]
    tokens = [outcome.token for outcome in found if outcome.token is not None]
    forms = (
        len({digest(["canonical", space.canonical(candidate)]) for candidate in drawn})
        if isinstance(space, Canonical)
        else None
    )
    return Study(
        len(drawn),
        len(usable),
        forms,
        {quantum: _keys(usable, hashing, quantum) for quantum in QUANTA},
        usable[0].quantum if usable else 0.0,
        max((outcome.signature.noise for outcome in usable if outcome.signature), default=0.0),
        max((len(outcome.signature.values) for outcome in usable if outcome.signature), default=0),
        {token: tokens.count(token) for token in sorted(set(tokens))},
        statistics.median(seconds),
    )


def _keys(outcomes: Sequence[Outcome], hashing: FunctionalHash, quantum: float) -> int:
    return len(
        {
            keyed(context(outcome, hashing.options), outcome.signature.values, quantum)[0]
            for outcome in outcomes
            if outcome.signature is not None
        }
    )


def plot(found: Study, space: str) -> Figure:
    """Candidates a key over the quantum, with the quantum in use and what the noise allows."""
    from plotly import graph_objects as go  # pyright: ignore[reportMissingTypeStubs]

    figure: Any = go.Figure()
    quanta = list(found.keys)
    shared = [found.probed / max(1, count) for count in found.keys.values()]
    figure.add_scatter(x=quanta, y=shared, mode="lines+markers", name="functional")
    if found.structural is not None:
        figure.add_hline(y=found.candidates / found.structural, line_dash="dot", annotation_text="structural")
    figure.add_vline(x=found.quantum, line_dash="dash", annotation_text="in use")
    if found.smallest > 0:
        figure.add_vline(x=found.smallest, line_color="red", annotation_text="smallest above the noise")
    figure.update_xaxes(type="log", title="quantum")
    figure.update_yaxes(type="log", title="candidates a key")
    figure.update_layout(title=f"{found.probed:,} candidates of {space}, by the grid they are rounded to")
    return figure
