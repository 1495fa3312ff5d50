"""`orchestrate version`: whose code runs here."""

from __future__ import annotations

from typing import Any

import typer

from .. import options as opt
from ..console import print_json

EXAMPLES = """
    orchestrate version
    orchestrate --version
    orchestrate version --json
"""


def version(as_json: opt.Json = False) -> None:
    """Show the version, and the distributions that plugins come from."""
    data = versions()
    if as_json:
        print_json(data)
        return
    typer.echo(f"orchestrate {data['orchestrate']} (Python {data['python']})")
    for name, number in data["plugins"].items():
        typer.echo(f"plugins from {name} {number}")


def versions() -> dict[str, Any]:
    """Versions, from the installed distributions' metadata alone: nothing is imported."""
    import platform
    from importlib.metadata import PackageNotFoundError, entry_points
    from importlib.metadata import version as version_of

    try:
        own = version_of("orchestrate-automl")
    except PackageNotFoundError:
        own = "not installed"
    points = [*entry_points(group="orchestrate.plugins"), *entry_points(group="orchestrate.commands")]
    sources = {point.dist.name: point.dist.version for point in points if point.dist}
    return {"orchestrate": own, "python": platform.python_version(), "plugins": dict(sorted(sources.items()))}
