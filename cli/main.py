"""The command `orchestrate`: its commands, in sections. What each does is in `commands/`.

Nothing heavy is imported before a command runs, so that help and completion answer at once.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Annotated, Any

import typer

from .commands import (
    cancel,
    db,
    doctor,
    lineage,
    list_jobs,
    logs,
    plan,
    plugins,
    recall,
    report,
    resume,
    sample,
    schema,
    show,
    status,
    submit,
    ui,
    version,
)
from .front import Command, Front

EXAMPLES = """
    orchestrate plan examples/quickstart.yaml      # what it would do
    orchestrate submit examples/quickstart.yaml    # do it
    orchestrate show                               # what came out of the newest job
    orchestrate ui                                 # the same, in MLflow
"""

app = typer.Typer(
    name="orchestrate",
    cls=Front,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RUN, LOOK, SET_UP = "Run jobs", "Look at results", "Set up"

COMMANDS: tuple[tuple[str, str, ModuleType, Callable[..., Any]], ...] = (
    ("plan", RUN, plan, plan.plan),
    ("submit", RUN, submit, submit.submit),
    ("resume", RUN, resume, resume.resume),
    ("cancel", RUN, cancel, cancel.cancel),
    ("list", LOOK, list_jobs, list_jobs.list_jobs),
    ("status", LOOK, status, status.status),
    ("show", LOOK, show, show.show),
    ("sample", LOOK, sample, sample.sample),
    ("logs", LOOK, logs, logs.logs),
    ("report", LOOK, report, report.report),
    ("ui", LOOK, ui, ui.ui),
    ("schema", SET_UP, schema, schema.schema),
    ("doctor", SET_UP, doctor, doctor.doctor),
    ("version", SET_UP, version, version.version),
)

for name, section, module, function in COMMANDS:
    app.command(name, cls=Command, epilog=module.EXAMPLES, rich_help_panel=section)(function)
app.add_typer(recall.app, name="recall", rich_help_panel=LOOK)
app.add_typer(plugins.app, name="plugins", rich_help_panel=SET_UP)
app.add_typer(lineage.app, name="lineage", rich_help_panel=SET_UP)
app.add_typer(db.app, name="db", rich_help_panel=SET_UP)


def _show_version(wanted: bool) -> None:
    if wanted:
        version.version()
        raise typer.Exit


@app.callback()
def orchestrate(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Show the version and the plugins' distributions.",
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Show tracebacks, and the warnings of other packages.", envvar="ORCHESTRATE_DEBUG"
        ),
    ] = False,
) -> None:
    """Search networks and hyperparameters on Ray, recall what was scored, keep the lineage in MLflow.

    A job is one YAML file. Exit codes: 0 done, 1 the job or a service failed, 2 a mistake in the
    file or the command, 130 interrupted.
    """
    import warnings

    if not debug:
        warnings.simplefilter("ignore")  # other packages', about their own future


def main() -> None:
    """Run the command line."""
    app(prog_name="orchestrate")
