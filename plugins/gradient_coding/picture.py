"""The picture of a training's rounds: who replied, who straggled, and how long each round took."""

# matplotlib's own annotations are partial.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .records import Journal
from .stragglers.statistics import describe

SHOWN = 400  # rounds, the last ones
STATES = {
    "reply in time": "#dbe7f3",
    "straggler": "#c2410c",
    "process replaced": "#1b2733",
    "idle or gone": "#ffffff",
}
MARKS = {"late reply of use": ("o", "#ffffff"), "part of its reply in time": ("D", "#e9a23b")}
TALL = 2.0  # times what nineteen in twenty rounds take, above which a bar is cut off


def draw(journal: Journal, path: Path) -> None:
    """Draw rounds against workers, and rounds against seconds; the suffix says in which format."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    rounds = journal.rounds[-SHOWN:]
    first, n = rounds[0].number, len(rounds[0].arrivals)
    cells = np.zeros((n, len(rounds)), dtype=int)
    marks: dict[str, list[tuple[int, int]]] = {label: [] for label in MARKS}
    for column, record in enumerate(rounds):
        cells[[worker for worker, load in enumerate(record.loads) if not load], column] = 3
        cells[record.stragglers, column] = 1
        cells[record.replaced, column] = 2
        for label, parts in zip(MARKS, (record.banked, record.partial), strict=True):
            marks[label] += [(first + column, worker) for worker, _, _ in parts]
    figure = Figure(figsize=(12, 2.6 + min(0.18 * n, 6)), layout="constrained")
    axes = figure.subplot_mosaic(
        [["rounds", "bursts"], ["seconds", "bursts"]], width_ratios=(7, 1), height_ratios=(2, 1)
    )
    upper, lower = axes["rounds"], axes["seconds"]
    upper.tick_params(labelbottom=False)
    _draw_bursts(journal, axes["bursts"])
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
    upper.set(ylabel="worker")
    upper.set_title("Workers by round", loc="left")
    if n <= 32:
        upper.set_yticks(range(n))
    handles: list[Any] = [
        Patch(facecolor=colour, edgecolor="#9aa5b1", linewidth=0.4, label=state)
        for state, colour in STATES.items()
    ]
    size = min(6.0, 500 / len(rounds), 120 / n)
    for label, (shape, colour) in MARKS.items():
        style: dict[str, Any] = {
            "color": colour,
            "marker": shape,
            "linestyle": "",
            "markeredgecolor": "#1b2733",
        }
        upper.plot(
            *zip(*marks[label] or [(-1, -1)], strict=True), markersize=size, markeredgewidth=0.4, **style
        )
        handles.append(Line2D([], [], markersize=5, markeredgewidth=0.4, label=label, **style))
    upper.set(xlim=span, ylim=(n - 0.5, -0.5))
    upper.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=6,
        frameon=False,
        fontsize=8,
        columnspacing=1.0,
    )
    numbers = np.arange(first, first + len(rounds))
    seconds = np.array([record.seconds for record in rounds])
    waited = np.array([record.waited for record in rounds])
    lower.bar(numbers, seconds - waited, width=1, color="#2f6fb5", label="up to the window's end")
    lower.bar(numbers, waited, width=1, bottom=seconds - waited, color="#e9a23b", label="waited beyond it")
    lower.set(xlabel="round", ylabel="seconds", xlim=span)
    top = min(float(seconds.max()), TALL * float(np.quantile(seconds, 0.95))) or 1.0
    lower.set_ylim(0, 1.25 * top)  # room for the legend, and for the names of schemes
    for number, value in zip(numbers, seconds, strict=True):
        if value > 1.25 * top:
            lower.annotate(f" {value:.3g} s", (number + 0.5, 1.1 * top), fontsize=8, color="#2f6fb5")
    lower.legend(loc="upper right", ncols=2, frameon=False, fontsize=8)
    for use in journal.uses:
        if span[0] < use.base + 1:
            for one in (upper, lower):
                one.axvline(use.base + 0.5, color="#1b2733", linewidth=0.8, linestyle=":")
            place = (max(use.base + 0.5, span[0]), 1.0)
            lower.annotate(
                f" {use.scheme['scheme']}", place, xycoords=("data", "axes fraction"), va="bottom", fontsize=8
            )
    figure.savefig(path)


def _draw_bursts(journal: Journal, axes: Any) -> None:
    """How many rounds on end workers straggled: numbers of bursts by length."""
    found = describe(journal.pattern).bursts
    bars = axes.barh([str(length) for length in found], list(found.values()), color=STATES["straggler"])
    axes.bar_label(bars, padding=2, fontsize=8)
    axes.margins(x=0.3)
    axes.set(xticks=[], ylabel="rounds on end" if found else "", yticks=axes.get_yticks() if found else [])
    axes.set_title("Bursts" if found else "No stragglers", loc="left", fontsize=10)
    axes.invert_yaxis()
    axes.spines[["top", "right", "bottom"]].set_visible(False)
