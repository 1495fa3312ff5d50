"""The picture of decisions: which layers are compressed harder than the reference, and what it saves."""

# matplotlib's own annotations are partial.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .decision import Choice, Decision

SHOWN = 60  # decisions, the last ones
REACH = 3.0  # powers of two beyond which colours don't change


def draw(decisions: Sequence[Decision], path: Path) -> None:
    """Draw layers against decisions, coloured by size relative to the reference's; below, bytes a step."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    shown = decisions[-SHOWN:]
    names = list(dict.fromkeys(choice.layer for decision in shown for choice in decision.layers))
    cells = np.full((len(names), len(shown)), np.nan)
    for column, decision in enumerate(shown):
        for choice in decision.layers:
            cells[names.index(choice.layer), column] = np.log2(choice.bytes / choice.reference_bytes)
    figure = Figure(figsize=(11, 3 + min(0.22 * len(names), 12)), layout="constrained")
    axes = figure.subplot_mosaic([["layers"], ["bytes"]], height_ratios=(max(2.0, 0.22 * len(names)), 1.2))
    upper, lower = axes["layers"], axes["bytes"]
    image = upper.imshow(cells, aspect="auto", interpolation="nearest", cmap="RdBu", vmin=-REACH, vmax=REACH)
    bar: Any = figure.colorbar(image, ax=upper, ticks=[-3, -2, -1, 0, 1, 2, 3], pad=0.12)
    bar.ax.set_yticklabels(["1/8", "1/4", "1/2", "1", "2", "4", "8"])
    bar.set_label("bytes / reference's")
    upper.set_yticks(range(len(names)), names, fontsize=8 if len(names) < 50 else 5)
    last = {choice.layer: _setting(choice) for choice in shown[-1].layers}
    right = upper.twinx()
    right.set_ylim(upper.get_ylim())
    right.set_yticks(range(len(names)), [last.get(name, "") for name in names], fontsize=8)
    upper.set_title("Layers by decision; on the right the last one", loc="left", fontsize=10)
    steps = [str(decision.step) for decision in shown]
    every = max(1, len(steps) // 12)
    ticks = range(0, len(steps), every)
    upper.set_xticks(ticks, [steps[at] for at in ticks])
    at = np.arange(len(shown))
    for label, colour, sizes in (
        ("reference in all layers", "#9aa5b1", [one.uniform_bytes for one in shown]),
        ("chosen", "#2f6fb5", [one.bytes for one in shown]),
    ):
        lower.step(at, sizes, where="mid", color=colour, label=label)
    lower.set(xlabel="step of the decision", ylabel="bytes a step", xlim=(-0.5, len(shown) - 0.5))
    lower.set_ylim(bottom=0)
    lower.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    lower.set_xticks(ticks, [steps[at] for at in ticks])
    lower.legend(frameon=False, fontsize=8, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    figure.savefig(path)


def _setting(choice: Choice) -> str:
    """A setting in words: "powersgd 4", "topk 0.01"."""
    return f"{choice.family} {choice.setting:.3g}"
