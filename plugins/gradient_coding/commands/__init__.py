"""`orchestrate stragglers`: what stragglers cost, and which scheme would help."""

from __future__ import annotations

import typer

from .replay import EXAMPLES as REPLAY_EXAMPLES
from .replay import replay
from .simulate import EXAMPLES, simulate

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def stragglers() -> None:
    """See what stragglers cost, and which scheme would help against them."""


app.command("simulate", epilog=EXAMPLES)(simulate)
app.command("replay", epilog=REPLAY_EXAMPLES)(replay)
