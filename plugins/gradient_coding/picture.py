"""The picture of a training's rounds: who replied, who straggled, and how long each round took."""

# matplotlib's own annotations are partial.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from pathlib import Path

import numpy as np

from .records import Journal

SHOWN = 400  # rounds, the last ones
STATES = {
    "reply in time": "#dbe7f3",
    "straggler": "#c2410c",
    "late reply that was of use": "#e9a23b",
    "process replaced": "#1b2733",
}


def draw(journal: Journal, path: Path) -> None:
    """Draw rounds against workers, and rounds against seconds; the suffix says in which format."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rounds = journal.rounds[-SHOWN:]
    first, n = rounds[0].number, len(rounds[0].arrivals)
    cells = np.zeros((n, len(rounds)), dtype=int)
    for column, record in enumerate(rounds):
        cells[record.stragglers, column] = 1
        cells[[worker for worker, _, _ in record.banked], column] = 2
        cells[record.replaced, column] = 3
    figure = Figure(figsize=(11, 2.6 + min(0.18 * n, 6)), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    span = (first - 0.5, first + len(rounds) - 0.5)
    upper.imshow(
        cells,
        aspect="auto",
        interpolation="nearest",
        cmap=ListedColormap(list(STATES.values())),
        vmin=0,
        vmax=len(STATES) - 1,
        extent=(*span, n - 0.5, -0.5),
    )
    upper.set(ylabel="worker", title="Workers by round")
    if n <= 32:
        upper.set_yticks(range(n))
    handles = [Patch(facecolor=colour, label=state) for state, colour in STATES.items()]
    upper.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False, fontsize=8
    )
    numbers = np.arange(first, first + len(rounds))
    seconds = np.array([record.seconds for record in rounds])
    waited = np.array([record.waited for record in rounds])
    lower.bar(numbers, seconds - waited, width=1, color="#2f6fb5", label="up to the window's end")
    lower.bar(numbers, waited, width=1, bottom=seconds - waited, color="#e9a23b", label="waited beyond it")
    lower.set(xlabel="round", ylabel="seconds", xlim=span)
    lower.legend(loc="upper right", frameon=False, fontsize=8)
    for use in journal.uses:
        if span[0] < use.base + 1:
            for axes in (upper, lower):
                axes.axvline(use.base + 0.5, color="#1b2733", linewidth=0.8, linestyle=":")
            lower.annotate(
                str(use.scheme["scheme"]), (use.base + 0.7, lower.get_ylim()[1]), va="top", fontsize=8
            )
    figure.savefig(path)
