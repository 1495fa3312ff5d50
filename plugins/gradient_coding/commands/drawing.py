"""The picture of a comparison: the reply times, and how each scheme gets through them."""

# matplotlib's own annotations are partial.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..stragglers.profile import Profile

if TYPE_CHECKING:
    from ..selection import Report

CHOSEN, OTHER = "#c2410c", "#2f6fb5"


def draw(report: Report, times: Profile, path: Path) -> None:
    """Write the picture; the file's suffix says in which format."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.4, 1))
    image = left.imshow(times.seconds.T, aspect="auto", cmap="magma", norm=LogNorm(), interpolation="nearest")
    left.set(xlabel="round", ylabel="worker", title="Reply times")
    bar = figure.colorbar(image, ax=left, label="seconds")
    bar.ax.yaxis.set_major_formatter(ScalarFormatter())
    bar.ax.yaxis.set_minor_formatter(ScalarFormatter())
    found = report.best[::-1]
    bars = right.barh(
        [str(one.plan).replace("(", "\n(") for one in found],
        [one.seconds_per_job for one in found],
        color=[CHOSEN if one.plan == report.choice else OTHER for one in found],
    )
    right.bar_label(bars, fmt="%.3g s", padding=3)
    right.margins(x=0.15)
    right.set(xlabel="seconds a job", title="With each scheme")
    right.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
