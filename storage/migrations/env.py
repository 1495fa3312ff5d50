"""Alembic's entry: runs the scripts on the connection that `migrate` hands over, in its transaction."""

# Alembic runs this file by itself, outside any package, where pyright finds no `orchestrate`.
# pyright: reportMissingImports=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

from alembic import context

from orchestrate.storage.models import VERSION_TABLE, Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
context.run_migrations()
