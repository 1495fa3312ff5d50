"""The lineage graph: data and space, stages, chosen trials, their files and scores; as SVG and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from ..models import TrialRow
from .facts import JobFacts, StageFacts
from .page import lineage_page
from .text import candidate, duration, number, shortened, size

SHOWN = 8  # chosen trials drawn; the others are counted in their stage's box
WIDTH, GAP, LINE, PAD, ROOM, MARGIN = 216, 48, 17, 12, 18, 20  # px
LETTERS = 31  # that fit into a box's line

COLOURS = {  # fill and border
    "source": ("#eef4fb", "#2f6fb5"),
    "stage": ("#f4f1fb", "#6d4fb3"),
    "trial": ("#fdf1ea", "#c2410c"),
    "file": ("#eef7f0", "#2f8f4e"),
}


@dataclass
class Node:
    """One box: a title and some lines; `details` is what the page shows on a click."""

    key: str
    column: int
    kind: str
    title: str
    lines: list[str]
    details: Mapping[str, object]
    parents: list[str] = field(default_factory=list[str])
    x: float = 0.0
    y: float = 0.0

    @property
    def height(self) -> int:
        """In px."""
        return 2 * PAD + LINE * (1 + len(self.lines))


def lineage_svg(facts: JobFacts) -> str:
    """The graph as a picture."""
    return _svg(_placed(_nodes(facts)))


def lineage_html(facts: JobFacts) -> str:
    """The graph as a page that shows all about a box when it is clicked. It loads nothing else."""
    nodes = _placed(_nodes(facts))
    return lineage_page(facts.row.name, _svg(nodes), {node.key: node.details for node in nodes})


# What is in it ------------------------------------------------------------------------------------


def _nodes(facts: JobFacts) -> list[Node]:
    nodes = _sources(facts)
    depths: dict[str, int] = {}
    for stage in facts.stages:
        parents = _parents(stage, list(depths))
        depths[stage.name] = 1 + max((depths[name] for name in parents), default=0)
        keys = [f"stage:{name}" for name in parents] or [node.key for node in nodes if node.kind == "source"]
        nodes.append(_stage(facts, stage, depths[stage.name], keys))
    if facts.answer is not None:
        column = max(depths.values()) + 1
        for trial in facts.chosen[:SHOWN]:
            nodes += _trial(facts, facts.answer, trial, column)
    return nodes


def _sources(facts: JobFacts) -> list[Node]:
    nodes: list[Node] = []
    known = facts.row.provenance
    plugins = known.get("plugins", {})
    task = known.get("task")
    if task:
        lines = [f"digest {task['digest'][:12]}…", f"input {'x'.join(map(str, task['input']))}"]
        lines.append(f"{task['classes']} classes")
        details = {**task, "plugin": plugins.get(f"task:{task['name']}", "")}
        nodes.append(Node("task", 0, "source", f"data: {task['name']}", lines, details))
    space = facts.spec.space
    if space is not None:
        origin = plugins.get(f"space:{space.name}", "")
        details = {**space.model_dump(), "plugin": origin}
        nodes.append(Node("space", 0, "source", f"space: {space.name}", [origin] if origin else [], details))
    return nodes


def _stage(facts: JobFacts, stage: StageFacts, column: int, parents: list[str]) -> Node:
    lines = [stage.spec.program.name]
    if stage.spec.sampler:
        lines.append(f"sampler {stage.spec.sampler.name}")
    counts = ", ".join(f"{count} {state}" for state, count in stage.counts.most_common(3))
    lines.append(counts or "no trials")
    hidden = len(facts.chosen) - SHOWN if stage is facts.answer else 0
    if hidden > 0:
        lines.append(f"{hidden} more chosen, not drawn")
    files: list[str] = []
    if not stage.goals:  # what later stages build upon
        made = [file for trial in stage.trials for file in facts.artifacts.get(trial.id, ())]
        lines += [f"{file.kind} ({size(file.size)})" for file in made[:3]]
        files = [f"{file.kind}: {file.uri} (SHA-256 {file.sha256})" for file in made]
    details: dict[str, object] = {
        "state": stage.row.state,
        "program": stage.spec.program.model_dump(),
        "sampler": stage.spec.sampler.model_dump() if stage.spec.sampler else None,
        "recall": stage.spec.recall.model_dump() if stage.spec.recall else None,
        "trials": dict(stage.counts),
        "files": files,
    }
    return Node(f"stage:{stage.name}", column, "stage", f"stage: {stage.name}", lines, details, parents)


def _trial(facts: JobFacts, stage: StageFacts, trial: TrialRow, column: int) -> list[Node]:
    key = f"trial:{trial.number}"
    lines = [
        f"{goal.name} {number(trial.values[goal.name])}" for goal in facts.goals if goal.name in trial.values
    ]
    if trial.recalled_from:
        lines.append(f"recalled from id {trial.recalled_from}")
    details: dict[str, object] = {
        "candidate": trial.candidate,
        "digest": trial.digest,
        "seed": trial.seed,
        "state": trial.state,
        "values": trial.values,
        "metrics": trial.metrics,
        "attempts": trial.attempts,
        "recalled from trial id": trial.recalled_from,
        "time": duration(float(trial.timings.get("run", 0.0))),
    }
    title = f"trial {trial.number}"
    nodes = [Node(key, column, "trial", title, lines[:4], details, [f"stage:{stage.name}"])]
    files = facts.files(trial)
    if files or trial.test:
        lines = [f"{file.kind} ({size(file.size)})" for file in files[:4]]
        lines += [f"test {name} {number(value)}" for name, value in list((trial.test or {}).items())[:3]]
        about: dict[str, object] = {file.kind: f"{file.uri} (SHA-256 {file.sha256})" for file in files}
        about["test"] = trial.test
        title = "files and test" if files and trial.test else "files" if files else "test"
        nodes.append(Node(f"files:{trial.number}", column + 1, "file", title, lines, about, [key]))
    else:
        nodes[0].lines.append(candidate(trial.candidate, LETTERS))
    return nodes


def _parents(stage: StageFacts, earlier: Sequence[str]) -> list[str]:
    """Earlier stages that this one takes candidates from, or that its program's options name."""
    named = [stage.spec.take.from_] if stage.spec.take else []
    named += [value for value in stage.spec.program.options.values() if isinstance(value, str)]
    return list(dict.fromkeys(name for name in named if name in earlier))


# Where it stands ----------------------------------------------------------------------------------


def _placed(nodes: list[Node]) -> list[Node]:
    """Give each box its place: columns from left to right, each centred."""
    columns: dict[int, list[Node]] = {}
    for node in nodes:
        columns.setdefault(node.column, []).append(node)
    heights = {c: sum(n.height for n in some) + ROOM * (len(some) - 1) for c, some in columns.items()}
    tallest = max(heights.values(), default=0)
    for order, column in enumerate(sorted(columns)):
        y = MARGIN + (tallest - heights[column]) / 2
        for node in columns[column]:
            node.x, node.y = MARGIN + order * (WIDTH + GAP), y
            y += node.height + ROOM
    return nodes


def _svg(nodes: Sequence[Node]) -> str:
    by_key = {node.key: node for node in nodes}
    width = max((node.x + WIDTH for node in nodes), default=0) + MARGIN
    height = max((node.y + node.height for node in nodes), default=0) + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}"',
        f' width="{width:.0f}" height="{height:.0f}" role="img" aria-label="lineage graph"',
        ' font-family="Helvetica, Arial, sans-serif" font-size="12.5">',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
    ]
    lines += [_edge(by_key[parent], node) for node in nodes for parent in node.parents if parent in by_key]
    lines += [_box(node) for node in nodes]
    return "\n".join([*lines, "</svg>"])


def _edge(start: Node, end: Node) -> str:
    x1, y1 = start.x + WIDTH, start.y + start.height / 2
    x2, y2 = end.x, end.y + end.height / 2
    bend = max(30.0, (x2 - x1) / 2)
    curve = f"M{x1:.0f} {y1:.1f}C{x1 + bend:.0f} {y1:.1f} {x2 - bend:.0f} {y2:.1f} {x2 - 5:.0f} {y2:.1f}"
    tip = f"M{x2 - 7:.0f} {y2 - 4:.1f}L{x2:.0f} {y2:.1f}L{x2 - 7:.0f} {y2 + 4:.1f}z"
    return (
        f'<path d="{curve}" fill="none" stroke="#9aa5b1" stroke-width="1.4"/><path d="{tip}" fill="#9aa5b1"/>'
    )


def _box(node: Node) -> str:
    fill, border = COLOURS[node.kind]
    x, y = node.x + PAD, node.y + PAD + 12
    texts = [f'<text x="{x:.0f}" y="{y:.0f}" font-weight="600" fill="#1b2733">{_label(node.title)}</text>']
    for index, line in enumerate(node.lines, start=1):
        texts.append(f'<text x="{x:.0f}" y="{y + LINE * index:.0f}" fill="#46535f">{_label(line)}</text>')
    return (
        f'<g data-key="{escape(node.key)}" tabindex="0"><rect x="{node.x:.0f}" y="{node.y:.1f}" '
        f'width="{WIDTH}" height="{node.height}" rx="7" fill="{fill}" stroke="{border}" '
        f'stroke-width="1.2"/>{"".join(texts)}</g>'
    )


def _label(text: str) -> str:
    return escape(shortened(text, LETTERS))
