"""Connects to the catalog's database: SQLite in a file, or a PostgreSQL server.

What the two do differently is settled here: transactions, waiting for locks, the database's clock.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, Executable, Float, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, StatementError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from ..core.crash import crash_point
from ..core.errors import CatalogError, CatalogUnavailableError

R = TypeVar("R")

log = logging.getLogger(__name__)

VARIABLE = "ORCHESTRATE_CATALOG"
DEFAULT_FILE = Path(".orchestrate", "catalog.db")
BUSY_SECONDS = 30
"""How long a transaction waits for other writers."""
PATIENCE = "orchestrate_patience"
"""Engine option: seconds for which a driver waits for a database that went away. Others don't wait."""
PAUSES = (0.1, 0.3, 1.0, 2.0)  # seconds between tries

_SECRET_OPTIONS = frozenset({"password", "sslpassword", "passfile", "sslkey"})


class database_time(FunctionElement[float]):  # noqa: N801 - it reads as the SQL function that it is
    """The database's own clock as seconds since 1970: what leases are compared with."""

    type = Float()
    inherit_cache = True


@compiles(database_time, "sqlite")
def _sqlite_time(_element: database_time, _compiler: SQLCompiler, **_options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"  # unixepoch('subsec') needs SQLite 3.42


@compiles(database_time, "postgresql")
def _postgresql_time(_element: database_time, _compiler: SQLCompiler, **_options: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


def resolve_url(url: str | None) -> URL:
    """Turn what a person gives into a URL: a URL, a plain path (SQLite), or None for the default.

    Raises:
        CatalogError: it is neither, or names another kind of database.
    """
    given = url or os.environ.get(VARIABLE) or str(DEFAULT_FILE)
    if "://" not in given:
        return URL.create("sqlite", database=str(Path(given).expanduser().absolute()))
    try:
        made = make_url(given)
    except (ArgumentError, ValueError):  # its text may hold the password, so it isn't shown
        raise CatalogError(
            f"the catalog's URL can't be read: write sqlite:///path/to/catalog.db or "
            f"postgresql://user@host/database (in {VARIABLE} or --catalog)"
        ) from None
    kind = made.get_backend_name()
    if kind in ("postgresql", "postgres"):
        return made.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise CatalogError(f"the catalog can't be kept in {kind!r}: use sqlite:///… or postgresql://…")
    if not made.database or made.database == ":memory:" or made.query.get("mode") == "memory":
        raise CatalogError("the catalog can't be kept in memory, nothing could be resumed: name a file")
    return made.set(database=str(Path(made.database).absolute()))


def redact(url: URL) -> str:
    """Show a URL without its secrets."""
    hidden = {name: "***" for name in url.query if name in _SECRET_OPTIONS}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def connect(url: URL, *, durable: bool) -> Engine:
    """Make the engine. SQLite's file is created when first used; its folder must exist.

    Args:
        url: as `resolve_url` gives it.
        durable: wait for the disk at each commit, which guards against power loss (SQLite only; without
            it a commit survives the death of any process). PostgreSQL does as it is configured to.

    Raises:
        CatalogError: the driver isn't installed.
    """
    lite = url.get_backend_name() == "sqlite"
    try:
        engine = create_engine(
            url,
            json_serializer=_json,
            hide_parameters=True,
            pool_pre_ping=not lite,
            connect_args={"timeout": BUSY_SECONDS} if lite else {"connect_timeout": 10},
        )
    except ModuleNotFoundError as error:
        raise CatalogError(
            f"{redact(url)} needs the driver {error.name!r}: pip install 'orchestrate-automl[postgres]'"
        ) from error
    if lite:
        _tune_sqlite(engine, "FULL" if durable else "NORMAL")
    return engine


def _json(value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:  # NaN isn't JSON, and PostgreSQL refuses it
        raise CatalogError(f"the catalog can't keep a value: {error}") from error


def _tune_sqlite(engine: Engine, synchronous: str) -> None:
    def opened(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # sqlite3 would begin late, and never IMMEDIATE
        cursor = connection.cursor()
        if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA synchronous={synchronous}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    def begun(connection: Connection) -> None:
        # A transaction that reads first and writes later fails at once when another wrote in between,
        # and with sqlite3's own late begin it silently overwrites: writers queue up from the start.
        writing = connection.get_execution_options().get("orchestrate_writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    event.listen(engine, "connect", opened)
    event.listen(engine, "begin", begun)


@contextmanager
def reading(engine: Engine, **options: Any) -> Generator[Session]:
    """One read transaction, with execution options; what it loads stays usable afterwards."""
    with explained(engine.url), Session(engine, expire_on_commit=False) as session:
        patiently(engine, lambda: _connect(session, engine.url, options))
        yield session


def _connect(session: Session, url: URL, options: Mapping[str, Any]) -> None:
    try:
        with explained(url):
            session.connection(execution_options=dict(options))
    except CatalogError:
        session.rollback()
        raise


@contextmanager
def writing(engine: Engine, *, point: str = "commit") -> Generator[Session]:
    """One write transaction: committed at the end, rolled back on an error. `point` names the crash
    point behind it.

    Raises:
        CatalogUnavailableError: the database didn't answer. Nothing was written.
        CatalogError: what else went wrong. Where the commit itself failed, it may have been written.
    """
    with explained(engine.url), Session(engine, expire_on_commit=False) as session:
        try:
            session.connection(execution_options={"orchestrate_writing": True})
            yield session
            session.flush()
        except DBAPIError as error:
            session.rollback()
            if passing(error):
                raise CatalogUnavailableError(_explanation(engine.url, error)) from error
            raise
        try:
            session.commit()
        except DBAPIError as error:
            said = _explanation(engine.url, error)
            raise CatalogError(f"{said} Whether the last change was written isn't known.") from error
    crash_point(point)


def patiently(engine: Engine, call: Callable[[], R], pause: Callable[[float], None] = time.sleep) -> R:
    """Call again what found the database away, for as long as the engine has patience.

    Raises:
        CatalogError: the patience is at an end, or the error isn't one that passes.
    """
    patience = float(engine.get_execution_options().get(PATIENCE, 0.0))
    begun, tries = time.monotonic(), 0
    while True:
        try:
            return call()
        except CatalogUnavailableError as error:
            if time.monotonic() - begun >= patience:
                raise
            if not tries:
                log.warning("%s Waiting for it, up to %.0f s", error, patience)
        pause(PAUSES[min(tries, len(PAUSES) - 1)])
        tries += 1


def passing(error: DBAPIError) -> bool:
    """Whether it may be over by itself: the server is away or restarts, or others hold the lock."""
    if error.connection_invalidated:
        return True
    cause = str(error.orig).lower()
    state = getattr(error.orig, "sqlstate", None) or ""
    if isinstance(error, OperationalError):
        return state[:2] in ("08", "57") or (not state and ("locked" in cause or "connect" in cause))
    return False


@contextmanager
def explained(url: URL) -> Generator[None]:
    """Turn the database's errors inside into ones that say what to do, without the URL's secrets.

    Raises:
        CatalogError: instead of SQLAlchemy's errors.
    """
    try:
        yield
    except DBAPIError as error:
        kind = CatalogUnavailableError if passing(error) else CatalogError
        raise kind(_explanation(url, error)) from error
    except StatementError as error:  # a value that has no place in its column
        if isinstance(error.orig, CatalogError):
            raise error.orig from None
        raise CatalogError(f"the catalog can't keep a value: {error.orig}") from error


def _explanation(url: URL, error: DBAPIError) -> str:
    cause = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else repr(error.orig)
    if url.password:
        cause = cause.replace(str(url.password), "***")
    return f"the catalog {redact(url)} can't be used: {cause}. {_remedy(url, cause)}"


def _remedy(url: URL, cause: str) -> str:
    if url.get_backend_name() == "postgresql":
        return "Check that the server runs and that the URL's host, user and database are right."
    if "locked" in cause:
        return f"Another process has held it for over {BUSY_SECONDS} s: see which one still runs."
    if "is full" in cause:
        return "Make room on its disk, then `orchestrate resume` the job: what was recorded is safe."
    if "not a database" in cause or "malformed" in cause:
        return f"Restore {url.database} from a copy, or name another file in {VARIABLE}."
    return f"Check that the folder of {url.database} can be written to and has room left."


def insert_once(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows that aren't there yet (by primary key or unique constraint)."""
    if rows:
        connection.execute(_insert(table, connection.dialect.name).on_conflict_do_nothing(), rows)


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert whole rows, replacing those with the same primary key."""
    if rows:
        connection.execute(_upsert(table, connection.dialect.name), rows)


def _insert(table: Table, dialect: str) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


@cache
def _upsert(table: Table, dialect: str) -> Executable:
    statement = _insert(table, dialect)
    keys = [column.name for column in table.primary_key]
    rest = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=keys, set_=rest)
