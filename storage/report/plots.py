"""The report's plots as SVG: the Pareto front, which of it serves which preference, and the progress."""

# matplotlib's own annotations are partial.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.objective import Goal
from ...core.pareto import feasible
from ..models import TrialRow
from .facts import JobFacts, StageFacts
from .quality import choices_by_preference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, GRID = "#1b2733", "#5d6b7a", "#e6eaee"
FRONT, TRIAL, EARLIER, BROKEN = "#c2410c", "#2f6fb5", "#b6c2cf", "#9aa5b1"
TRUE = "_true"
LABELLED = 12  # front points that get their trial's number

STYLE = {
    "axes.edgecolor": "#b8c2cc",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 10,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "orchestrate",  # the same trials give the same file
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
}


def draw_pareto(facts: JobFacts, path: Path) -> bool:
    """Draw every scored trial and the chosen ones, over the first two goals; with a single goal, over
    the trial's number. Returns whether there was anything to draw.
    """
    answer, goals = facts.answer, facts.optimised
    if answer is None or not goals or not any(stage.scored for stage in facts.stages):
        return False

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        if len(goals) == 1:
            _over_numbers(axes, answer, goals[0])
        else:
            _over_goals(axes, facts, answer)
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        # Below the axes: inside, it would hide points.
        figure.legend(loc="outside lower left", ncols=4, fontsize=9, handletextpad=0.3)

    _save(draw, (7.6, 5.0), path)
    return True


def draw_preferences(facts: JobFacts, path: Path) -> bool:
    """Draw which trials serve which preferences, over the first two goals: the colour is the weight of the
    goal on the y axis, the size how many preferences a trial is best for. Returns whether there was
    anything to draw: two optimised goals, and a feasible trial.
    """
    answer, goals = facts.answer, facts.optimised
    chosen = choices_by_preference(answer.scored, answer.goals) if answer and len(goals) > 1 else []
    if answer is None or not chosen:
        return False
    x, y = facts.axes
    column = goals.index(y)
    trials = {trial.id: trial for _, trial in chosen}
    weights = {key: [float(w[column]) for w, trial in chosen if trial.id == key] for key in trials}

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        _scatter(axes, answer.scored, x, y, "scored", EARLIER, "o", True, 14)
        drawn = axes.scatter(
            [trial.values[x.name] for trial in trials.values()],
            [trial.values[y.name] for trial in trials.values()],
            s=[30 + 12 * len(weights[key]) for key in trials],
            c=[sum(weights[key]) / len(weights[key]) for key in trials],
            cmap="viridis",
            vmin=0,
            vmax=1,
            edgecolors="white",
            linewidths=0.8,
        )
        figure.colorbar(drawn, ax=axes, label=f"weight of {y.name}, mean of the preferences served")
        for trial in list(trials.values())[:LABELLED]:
            axes.annotate(
                str(trial.number),
                (trial.values[x.name], trial.values[y.name]),
                xytext=(6, 6),
                textcoords="offset points",
                fontsize=8,
                color=INK,
            )
        axes.set_xlabel(_axis(x))
        axes.set_ylabel(_axis(y))
        axes.set_title(f"{len(trials)} trials serve {len(chosen)} preferences; larger: more of them")
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)

    _save(draw, (7.6, 5.0), path)
    return True


def draw_history(facts: JobFacts, path: Path) -> bool:
    """Draw the hypervolume and each goal's best value over the scored trials. Returns whether there was
    anything to draw.
    """
    stage = facts.search
    if stage is None or not stage.progress or not stage.progress[-1].best:
        return False
    steps, goals = stage.progress, facts.optimised
    curves: list[tuple[str, list[tuple[int, float]], str]] = []
    if steps[-1].hypervolume is not None:
        volume = [(step.count, step.hypervolume or 0.0) for step in steps]
        curves.append(("Hypervolume (higher is better)", volume, FRONT))
    for goal in goals:
        best = [(step.count, step.best[goal.name]) for step in steps if goal.name in step.best]
        sense = "highest" if goal.direction == "maximize" else "lowest"
        curves.append((f"{goal.name}: {sense} so far", best, TRIAL))

    def draw(figure: Figure) -> None:
        every = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (title, points, colour) in zip(every, curves, strict=True):
            counts, values = zip(*points, strict=True)
            axes.step(
                [*counts, steps[-1].count], [*values, values[-1]], where="post", color=colour, linewidth=1.8
            )
            axes.set_title(title)
            axes.grid(color=GRID, linewidth=0.8)
            axes.margins(y=0.12)
        every[-1].set_xlabel(f"scored trials of stage {stage.name}")

    _save(draw, (7.6, 0.8 + 1.8 * len(curves)), path)
    return True


def draw_sampler(facts: JobFacts, path: Path) -> bool:
    """Draw the sampler's own metrics (a training loss, log Z, a model's error) over the number of asks, or
    over its training's steps, one panel for the metrics that share what stands before the first slash; bars
    where each is known but once. A metric "NAME_true" is a dashed line: what NAME should be. Returns whether
    there were any.
    """
    stage = facts.search
    if stage is None or not stage.diagnostics:
        return False
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for name, points in stage.diagnostics.items():
        curves.setdefault(name.partition("/")[0], {})[name] = points

    def draw(figure: Figure) -> None:
        every = figure.subplots(len(curves), 1, squeeze=False)[:, 0]
        for axes, (title, group) in zip(every, curves.items(), strict=True):
            axes.set_title(title)
            axes.grid(color=GRID, linewidth=0.8)
            axes.set_axisbelow(True)
            if all(len(points) == 1 for points in group.values()):
                labels = [name.removeprefix(f"{title}/") for name in group]
                drawn = axes.barh(labels, [points[0][1] for points in group.values()], 0.6, color=TRIAL)
                axes.bar_label(drawn, fmt="%.3g", padding=3, fontsize=8)
                axes.invert_yaxis()
                axes.margins(x=0.1)
                continue
            axes.set_xlabel(
                "training steps" if group.keys() & stage.trained else f"asks of stage {stage.name}"
            )
            colours: dict[str, str] = {}
            for name, points in sorted(group.items(), key=lambda item: item[0].endswith(TRUE)):
                asks, values = zip(*points, strict=True)
                label, of = name.removeprefix(f"{title}/"), name.removesuffix(TRUE)
                if of != name and of in colours:
                    axes.axhline(values[-1], linewidth=1, linestyle="--", color=colours[of])
                    continue
                (line,) = axes.plot(asks, values, linewidth=1.5, marker="o", markersize=2.5, label=label)
                colours[name] = line.get_color()
            if len(group) > 1:
                axes.legend(fontsize=8, ncols=4)

    _save(draw, (7.6, 0.8 + 2.0 * len(curves)), path)
    return True


def _over_goals(axes: Axes, facts: JobFacts, answer: StageFacts) -> None:
    x, y = facts.axes
    goals = facts.optimised
    front = {trial.id for trial in answer.front}
    for stage in facts.stages:
        own = stage is answer
        rest = [trial for trial in stage.scored if trial.id not in front]
        kept = [trial for trial in rest if feasible(trial.values, stage.goals)]
        name = "" if own else f" ({stage.name})"
        for state, marker, filled in (("finished", "o", True), ("recalled", "o", False)):
            points = [trial for trial in kept if trial.state == state]
            colour = TRIAL if own else EARLIER
            _scatter(axes, points, x, y, f"{state}{name}", colour, marker, filled)
        broken = [trial for trial in rest if not feasible(trial.values, stage.goals)]
        _scatter(axes, broken, x, y, f"out of bounds{name}", BROKEN, "x", True)
    if len(goals) == 2:
        ordered = sorted(answer.front, key=lambda trial: trial.values[x.name])
        xs = [trial.values[x.name] for trial in ordered]
        where = "post" if x.direction == "minimize" else "pre"
        axes.step(xs, [t.values[y.name] for t in ordered], where=where, color=FRONT, linewidth=1.2, alpha=0.7)
    _scatter(axes, answer.front, x, y, "Pareto front", FRONT, "o", True, 46)
    for trial in answer.front[:LABELLED]:
        axes.annotate(
            str(trial.number),
            (trial.values[x.name], trial.values[y.name]),
            xytext=(5, 5),
            textcoords="offset points",
            fontsize=8,
            color=FRONT,
        )
    axes.set_xlabel(_axis(x))
    axes.set_ylabel(_axis(y))
    if len(goals) > 2:
        axes.set_title(f"The first two of {len(goals)} goals; the front is that of all")


def _over_numbers(axes: Axes, stage: StageFacts, goal: Goal) -> None:
    ordered = sorted(stage.scored, key=lambda trial: trial.number)
    kept = [trial for trial in ordered if feasible(trial.values, stage.goals)]
    for state, filled in (("finished", True), ("recalled", False)):
        some = [trial for trial in kept if trial.state == state]
        if some:
            axes.scatter(
                [trial.number for trial in some],
                [trial.values[goal.name] for trial in some],
                s=20,
                facecolors=TRIAL if filled else "none",
                edgecolors=TRIAL,
                label=state,
            )
    pick = max if goal.direction == "maximize" else min
    best: list[float] = []
    for trial in kept:
        value = trial.values[goal.name]
        best.append(pick(best[-1], value) if best else value)
    if kept:
        numbers = [trial.number for trial in kept]
        axes.step(numbers, best, where="post", color=FRONT, linewidth=1.6, label="best so far")
    axes.set_xlabel(f"trial of stage {stage.name}")
    axes.set_ylabel(_axis(goal))


def _scatter(
    axes: Axes,
    trials: Sequence[TrialRow],
    x: Goal,
    y: Goal,
    label: str,
    colour: str,
    marker: str,
    filled: bool,
    size: float = 22,
) -> None:
    if not trials:
        return
    xs, ys = ([trial.values[goal.name] for trial in trials] for goal in (x, y))
    if marker == "x":
        axes.scatter(xs, ys, s=size, c=colour, marker=marker, linewidths=1, label=label)
        return
    axes.scatter(
        xs,
        ys,
        s=size,
        facecolors=colour if filled else "white",
        edgecolors=colour,
        linewidths=1.1,
        label=label,
    )


def _axis(goal: Goal) -> str:
    return f"{goal.name} ({'higher' if goal.direction == 'maximize' else 'lower'} is better)"


def _save(draw: Callable[[Figure], None], inches: tuple[float, float], path: Path) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):  # pyright: ignore[reportArgumentType]
        figure = Figure(figsize=inches, layout="constrained", facecolor="white")
        draw(figure)
        figure.savefig(path, format="svg", metadata={"Date": None})
