"""`orchestrate db`: the catalog's tables."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import options as opt
from ..console import print_json
from ..front import Command, Group
from ..words import plural

EXAMPLES = """
    orchestrate db check
    orchestrate db upgrade --catalog postgresql://me@db/runs
"""
UPGRADE_EXAMPLES = """
    orchestrate db upgrade
    orchestrate db upgrade --catalog postgresql://me@db/runs
"""
CHECK_EXAMPLES = """
    orchestrate db check
    orchestrate db check --json | jq -r '.[].problem'
    orchestrate db check --files
"""

app = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None, epilog=EXAMPLES)


@app.callback()
def db() -> None:
    """Make, upgrade or check the catalog's tables."""


@app.command(cls=Command, epilog=UPGRADE_EXAMPLES)
def upgrade(catalog: opt.CatalogUrl = None) -> None:
    """Make the catalog, or bring its tables to this version's form. Back it up before."""
    from ...storage.catalog import Catalog
    from ...storage.engine import redact
    from ...storage.migrate import current
    from ...storage.migrate import upgrade as bring_up

    with Catalog(opt.settings(catalog=catalog).catalog_url) as store:
        if store.path is not None:
            store.path.parent.mkdir(parents=True, exist_ok=True)
        before = current(store.engine)
        after = bring_up(store.engine)
        where = redact(store.engine.url)
    typer.echo(f"{where} was at {before or 'nothing'}, is at {after}")


@app.command(cls=Command, epilog=CHECK_EXAMPLES)
def check(
    files: Annotated[
        bool, typer.Option("--files", help="Read every recorded file and compare its digest.")
    ] = False,
    catalog: opt.CatalogUrl = None,
    as_json: opt.Json = False,
) -> None:
    """Look for what must not be in the catalog. Mends nothing; exit code 1 when something is found."""
    from ...storage.artifacts import ArtifactStore
    from ...storage.check import check as examine
    from ..jobs import opened

    settings = opt.settings(catalog=catalog)
    with opened(settings) as store:
        findings = examine(store, ArtifactStore(settings.artifacts) if files else None)
    if as_json:
        print_json([{"where": finding.where, "problem": finding.problem} for finding in findings])
    else:
        for finding in findings:
            typer.echo(finding)
        typer.echo(plural(len(findings), "finding") if findings else "The catalog is sound.")
    raise typer.Exit(1 if findings else 0)
