"""Brings a database's tables to this version's form, through Alembic."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, inspect, text

from ..core.errors import CatalogError
from .engine import explained, redact
from .models import VERSION_TABLE, Base

HEAD = "0003"
"""Revision of this version's tables; a test compares it with the newest migration."""

LOCK = 0x0_0C_A7  # any fixed number: PostgreSQL's name for "someone is migrating this catalog"


def current(engine: Engine) -> str | None:
    """Revision of the database, None when it holds no catalog."""
    with explained(engine.url), engine.connect() as connection:
        if not inspect(connection).has_table(VERSION_TABLE):
            return None
        return connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 - a constant


def prepare(engine: Engine, *, create: bool) -> None:
    """Make sure that the database holds this version's tables, making them where there are none.

    Raises:
        CatalogError: it holds another version's; the text says how to go on.
    """
    revision = current(engine)
    if revision == HEAD:
        return
    if revision is None and create:
        upgrade(engine)
    elif revision is None:
        raise CatalogError(
            f"there is no catalog in {redact(engine.url)}: submit a job first, "
            "or run `orchestrate db upgrade`"
        )
    elif revision < HEAD:
        raise CatalogError(
            f"the catalog's tables are of revision {revision}, this version needs {HEAD}: let its jobs end, "
            "back it up, and run `orchestrate db upgrade`"
        )
    else:
        raise CatalogError(_too_new(revision))


def upgrade(engine: Engine) -> str:
    """Bring the tables to this version's revision, and return it. Safe when several try at once.

    Raises:
        CatalogError: they are of a newer one already.
    """
    revision = current(engine)
    if revision is not None and revision > HEAD:
        raise CatalogError(_too_new(revision))
    from alembic import command
    from alembic.config import Config

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    writer = engine.execution_options(orchestrate_writing=True)
    with explained(engine.url), writer.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        attributes: dict[str, Any] = config.attributes
        attributes.update(connection=connection, target_metadata=Base.metadata, version_table=VERSION_TABLE)
        command.upgrade(config, "head")
    return HEAD


def _too_new(revision: str) -> str:
    return (
        f"the catalog's tables are of revision {revision}, this version knows {HEAD}: "
        "install a newer Orchestrate"
    )
