"""The outbox's reading side: what is still to be mirrored, and what mirrors what.

The ledger writes the outbox in its own transactions; whoever delivers a row acknowledges it here, together
with the ids that the delivery made.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from sqlalchemy import Engine, bindparam, func, select, text, update

from ..catalog import Catalog
from ..engine import explained, reading, upsert, writing
from ..models import MirrorRow, OutboxRow, table_of

_OUTBOX = table_of(OutboxRow)
_DONE = (
    update(_OUTBOX)
    .where(_OUTBOX.c.id == bindparam("row"))
    .values(done_at=bindparam("now"), seconds=bindparam("took"))
)
_LOCK_SPACE = 0x0CA7  # PostgreSQL's advisory locks are named by two numbers


def pending(engine: Engine, job_id: str, limit: int, skip: Sequence[int] = ()) -> list[OutboxRow]:
    """The oldest undelivered rows of a job."""
    query = select(OutboxRow).where(OutboxRow.job_id == job_id, OutboxRow.done_at.is_(None))
    if skip:
        query = query.where(OutboxRow.id.not_in(skip))
    with reading(engine) as session:
        return list(session.scalars(query.order_by(OutboxRow.id).limit(limit)))


def jobs_with_backlog(engine: Engine) -> list[str]:
    """Ids of the jobs that have undelivered rows, the one waiting longest first."""
    query = select(OutboxRow.job_id).where(OutboxRow.done_at.is_(None))
    with reading(engine) as session:
        return list(session.scalars(query.group_by(OutboxRow.job_id).order_by(func.min(OutboxRow.id))))


def acknowledge(engine: Engine, took: Mapping[int, float], store: str, mirrors: Mapping[str, str]) -> None:
    """Mark rows as delivered, with the seconds that each took, and remember which id in the MLflow store
    mirrors which entity.
    """
    if not took and not mirrors:
        return
    rows = [
        {"tracking_uri": store, "entity": entity, "mirror_id": mirror} for entity, mirror in mirrors.items()
    ]
    with writing(engine) as session:
        if took:
            done = {"now": datetime.now(UTC)}
            rows_done = [{"row": number, "took": seconds, **done} for number, seconds in took.items()]
            session.connection().execute(_DONE, rows_done)
        upsert(session.connection(), table_of(MirrorRow), rows)


def reopen(engine: Engine, job_id: str) -> None:
    """Count everything of a job as undelivered again: for another MLflow store, or one that was lost."""
    with writing(engine) as session:
        session.execute(update(OutboxRow).where(OutboxRow.job_id == job_id).values(done_at=None))


def mirrors(engine: Engine, store: str, entities: Sequence[str] | None = None) -> dict[str, str]:
    """Ids in an MLflow store by entity: all of them, or those asked for."""
    query = select(MirrorRow.entity, MirrorRow.mirror_id).where(MirrorRow.tracking_uri == store)
    found: dict[str, str] = {}
    with reading(engine) as session:
        if entities is None:
            return {row[0]: row[1] for row in session.execute(query)}
        for start in range(0, len(entities), 500):
            some = query.where(MirrorRow.entity.in_(entities[start : start + 500]))
            found.update({row[0]: row[1] for row in session.execute(some)})
    return found


@contextmanager
def exclusive(catalog: Catalog, job_id: str) -> Generator[bool]:
    """Try to be the only process that delivers the job. Gives whether it is; the system frees the right
    when the process dies, so that nothing is ever left locked.
    """
    if catalog.path is not None:
        file = _locked(catalog.path.with_name(f"{catalog.path.name}.lineage-{job_id}"))
        try:
            yield file is not None
        finally:
            if file is not None:
                Path(file.name).unlink(missing_ok=True)  # while it is locked: see _locked
                file.close()
        return
    key = {"space": _LOCK_SPACE, "job": zlib.crc32(job_id.encode()) - 2**31}
    with explained(catalog.engine.url), catalog.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")  # hold no transaction open
        mine = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:space, :job)"), key))
        try:
            yield mine
        finally:
            if mine:
                connection.execute(text("SELECT pg_advisory_unlock(:space, :job)"), key)


def _locked(path: Path) -> IO[bytes] | None:
    """The file `path`, locked; None when another process has it."""
    while True:
        file = path.open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                return file
        except BlockingIOError:
            file.close()
            return None
        except FileNotFoundError:
            pass
        file.close()  # its former holder removed it between our two steps
