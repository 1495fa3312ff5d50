"""`orchestrate report`: writes a job's report, as far as the job is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import options as opt
from ..console import print_json

EXAMPLES = """
    orchestrate report
    orchestrate report quickstart --open
    orchestrate report quickstart --output /tmp/quickstart
"""


def report(
    job: opt.AnyJob = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Where to write it; by default the job's folder under .orchestrate/reports.",
            show_default=False,
        ),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    catalog: opt.CatalogUrl = None,
    as_json: opt.Json = False,
) -> None:
    """Write a job's report (Pareto front, progress, lineage graph) and print its path."""
    from ...storage.report import write_report
    from ..jobs import find, opened

    settings = opt.settings(catalog=catalog)
    with opened(settings) as store:
        row = find(store, job)
        folder = output.absolute() if output else settings.home / "reports" / row.id
        path, files = write_report(store, row.id, folder, state=row.state, reason=row.reason)
    if as_json:
        print_json({"id": row.id, "report": path, "files": sorted(file.kind for file in files)})
    else:
        typer.echo(path)
    if open_it:
        typer.launch(path.as_uri())
