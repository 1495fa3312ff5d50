"""A job's report: Markdown with plots and a lineage graph, written from the catalog alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..artifacts import NewArtifact, describe_file
from ..catalog import Catalog
from .facts import read
from .graph import lineage_html, lineage_svg
from .markdown import report
from .page import pareto_html
from .plots import draw_history, draw_pareto, draw_preferences, draw_sampler

__all__ = ["write_report"]


def write_report(
    catalog: Catalog, job_id: str, folder: Path, *, state: str | None = None, reason: str = ""
) -> tuple[Path, list[NewArtifact]]:
    """Write the report of a job into `folder`, replacing an earlier one.

    Args:
        catalog: where the job is.
        job_id: the job's id.
        folder: made when it isn't there.
        state: the state that the job is about to end in; None: as the catalog says.
        reason: why it ends so.

    Returns:
        The path of `report.md`, and every file written as an artifact of the job, its kind like
        "report/pareto.svg". Plots are left out where there is nothing to plot.
    """
    facts = read(catalog, job_id, state, reason)
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Callable[[Path], bool]] = {
        "pareto.svg": lambda path: draw_pareto(facts, path),
        "pareto.html": lambda path: _write(path, pareto_html(facts)),
        "preferences.svg": lambda path: draw_preferences(facts, path),
        "history.svg": lambda path: draw_history(facts, path),
        "sampler.svg": lambda path: draw_sampler(facts, path),
        "lineage.svg": lambda path: _write(path, lineage_svg(facts)),
        "lineage.html": lambda path: _write(path, lineage_html(facts)),
    }
    written = [name for name, write in writers.items() if write(folder / name)]
    for name in writers.keys() - written:
        (folder / name).unlink(missing_ok=True)  # of an earlier report
    path = folder / "report.md"
    _write(path, report(facts, written))
    files = [path, *(folder / name for name in written)]
    return path, [describe_file(file, f"report/{file.name}") for file in files]


def _write(path: Path, text: str | None) -> bool:
    if text is not None:
        path.write_text(text, encoding="utf-8")
    return text is not None
