"""The options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from .completion import complete_job, complete_package

if TYPE_CHECKING:
    from ..scheduler.settings import Settings

JobFile: TypeAlias = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")]

JobRef: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="A job's id, the beginning of one, or its name (the newest of it).",
        autocompletion=complete_job,
    ),
]

AnyJob: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="JOB",
        help="A job's id, the beginning of one, or its name; by default the newest job.",
        show_default=False,
        autocompletion=complete_job,
    ),
]

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]

CatalogUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--catalog",
        metavar="URL",
        help="Catalog: a file, sqlite:///… or postgresql://…; by default $ORCHESTRATE_CATALOG, "
        "then .orchestrate/catalog.db here.",
        show_default=False,
    ),
]

TrackingUri: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--tracking",
        metavar="URI",
        help="MLflow tracking store or server; by default $MLFLOW_TRACKING_URI, "
        "then .orchestrate/mlflow.db here.",
        show_default=False,
    ),
]

RayAddress: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="RAY",
        help="A running Ray cluster: auto or host:port to join it, http://HEAD:8265 to send the job "
        "there; by default $RAY_ADDRESS, then Ray on this machine.",
        show_default=False,
    ),
]

Ship: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--ship",
        metavar="PATH",
        exists=True,
        help="With http://…: a file or folder that goes along (`python:` modules of this folder do so by "
        "themselves). May be repeated.",
        show_default=False,
    ),
]

Detach: TypeAlias = Annotated[
    bool, typer.Option("--detach", help="With http://…: send the job, and don't wait for it.")
]

Cpus: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--cpus",
        min=1,
        help="CPU cores that Ray may use on this machine; by default all.",
        show_default=False,
    ),
]

Without: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        metavar="NAME",
        help="Do without a plugin package (entry point or distribution). May be repeated.",
        show_default=False,
        autocompletion=complete_package,
    ),
]

Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change a value of the file, like stages.search.trials=50. May be repeated.",
        show_default=False,
    ),
]

NoLineage: TypeAlias = Annotated[
    bool,
    typer.Option("--no-lineage", help="Don't mirror to MLflow while running (`lineage sync` does it later)."),
]

Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress: print the job's id at the end.")
]


def settings(
    *,
    catalog: str | None = None,
    tracking: str | None = None,
    address: str | None = None,
    cpus: int | None = None,
    without: list[str] | None = None,
    lineage: bool = True,
) -> Settings:
    """Make the settings: what was given on the command line, else the environment's."""
    from ..scheduler.settings import Settings

    given: dict[str, Any] = {"catalog": catalog, "tracking": tracking, "address": address}
    return Settings(
        **{name: value for name, value in given.items() if value is not None},
        cpus=cpus,
        without=tuple(without or ()),
        lineage=lineage,
    )
