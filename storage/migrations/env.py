"""Alembic's entry: runs the scripts on the connection that `migrate` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

# Alembic runs this file by itself, outside any package: what it needs comes as attributes.
context.configure(**context.config.attributes, render_as_batch=True)
context.run_migrations()
