"""The command line's own kind of commands: help that ends with examples, commands in sections, plugins'
commands loaded only when called, and errors shown without a traceback.

Typer's classes are its private copy of Click's, so their parameters are typed loosely here.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import atexit
import inspect
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

GROUP = "orchestrate.commands"
PLUGIN_SECTION = "Commands of plugins"


class Command(TyperCommand):
    """A command whose epilog is a block of examples, one a line."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        write_examples(self.epilog, formatter)


class Group(TyperGroup):
    """A command with sub-commands."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        write_examples(self.epilog, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the sub-commands by section, in the order they were added."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            panel = command.rich_help_panel
            heading = panel if isinstance(panel, str) else "Commands"
            sections.setdefault(heading, []).append((name, command.get_short_help_str(limit=200)))
        width = max((len(name) for rows in sections.values() for name, _ in rows), default=0)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), text) for name, text in rows])


class Front(Group):
    """The root: knows the commands of plugins, and turns errors into messages and exit codes."""

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return own + [name for name in plugin_commands() if name not in own]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name) or plugin_commands().get(cmd_name)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take `--debug` wherever it stands: it is mostly added to the end of a command that failed."""
        if "--debug" in args:
            args = ["--debug", *(argument for argument in args if argument != "--debug")]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, TyperException):
            raise  # Typer shows its own
        except KeyboardInterrupt:
            _leave_ray_alone()
            typer.echo("\ninterrupted", err=True)
            raise typer.Exit(130) from None
        except Exception as error:
            from .mistakes import known, show

            if ctx.params.get("debug") or not known(error):
                raise
            raise typer.Exit(show(error)) from None


def _leave_ray_alone() -> None:
    """Let Ray, interrupted while it was imported, not try to shut down at exit what it never started."""
    worker = sys.modules.get("ray._private.worker")
    if worker is not None and not worker.is_initialized():
        atexit.unregister(worker.shutdown)


class PluginCommand(TyperCommand):
    """Stands for a plugin's command until it is called: nothing of the plugin is imported before."""

    def __init__(self, points: list[EntryPoint]) -> None:
        first = points[0]
        sources = sorted({point.dist.name if point.dist else "unknown" for point in points})
        super().__init__(first.name, help=f"From {' and '.join(sources)}.", rich_help_panel=PLUGIN_SECTION)
        self.points = points

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        from .results import CatalogResults

        extra.setdefault("obj", CatalogResults())  # a command's one door to jobs: see core.results
        return self.load().make_context(info_name, args, parent, **extra)

    def load(self) -> Any:
        """Import the command: a `typer.Typer`, or a function with Typer's annotations.

        Raises:
            PluginError: it can't be imported or is neither; or two distributions give its name.
        """
        from ..core.errors import PluginError
        from ..core.registry import import_from_here

        import_from_here()
        if len(self.points) > 1:
            raise PluginError(f"the command {self.name!r} has two givers: uninstall one. {self.help}")
        point = self.points[0]
        try:
            found = point.load()
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
            raise PluginError(
                f"the command {self.name!r} ({point.value}) can't be imported: {cause}"
            ) from error
        if inspect.isfunction(found):
            app = typer.Typer(add_completion=False, rich_markup_mode=None)
            app.command(self.name)(found)
            return typer.main.get_command(app)
        if not isinstance(found, typer.Typer):
            raise PluginError(
                f"the command {self.name!r}: {point.value} is neither a typer.Typer nor a function"
            )
        return typer.main.get_command(found)


@cache
def plugin_commands() -> dict[str, PluginCommand]:
    """The commands that installed plugins give (entry points of group `orchestrate.commands`), by name."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, {})[point.value] = point
    return {name: PluginCommand(list(found[name].values())) for name in sorted(found)}


def write_examples(text: str | None, formatter: Any) -> None:
    """Write the examples below a command's help, as they stand."""
    if not text:
        return
    with formatter.section("Examples"):
        for line in inspect.cleandoc(text).splitlines():
            formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
