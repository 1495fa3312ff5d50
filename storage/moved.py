"""Lets a project's folder be moved or copied: files are known by their whole paths, which then change."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import delete, func, make_url, select, update

from ..core.errors import CatalogError
from .catalog import Catalog
from .engine import reading, upsert, writing
from .models import ArtifactRow, MirrorRow, table_of

log = logging.getLogger(__name__)

_ARTIFACTS, _MIRRORS = table_of(ArtifactRow), table_of(MirrorRow)
_KEPT = ("artifacts", "reports")  # folders of files in the catalog, below the home
_STORE = "mlflow.db"
_OF_MLFLOW = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def follow(catalog: Catalog, home: Path) -> Path | None:
    """Where the files of a SQLite catalog lie under `home` now, write their paths anew: in the catalog,
    and in the MLflow store there. Returns the former home, or None when nothing was moved.
    """
    former = _former(catalog, home) if catalog.path is not None else None
    if former is None:
        return None
    try:
        _rewrite_mlflow(former, home)
        _rewrite_catalog(catalog, former, home)
    except (CatalogError, sqlite3.Error) as error:
        log.warning("the project was moved here from %s, and its paths can't be mended: %s", former, error)
        return None
    return former


def _former(catalog: Catalog, home: Path) -> Path | None:
    with reading(catalog.engine) as session:
        # Each move reaches all rows, so the oldest one tells.
        oldest = session.scalar(select(ArtifactRow.uri).order_by(ArtifactRow.id).limit(1))
        stores = list(session.scalars(select(MirrorRow.tracking_uri).distinct()))
    parts = Path(oldest).parts if oldest and not Path(oldest).is_relative_to(home) else ()
    for index, part in enumerate(parts):
        if part in _KEPT and home.joinpath(*parts[index:]).is_file():
            former = Path(*parts[:index])
            return None if _same(former, home) else former
    for store in stores:
        known = Path(make_url(store).database or "") if store.startswith("sqlite:") else home / _STORE
        if known.name == _STORE and known.parent != home and not known.exists() and (home / _STORE).exists():
            return known.parent
    return None


def _same(former: Path, home: Path) -> bool:
    """Whether both lead to one folder (through a link)."""
    return former.exists() and former.samefile(home)


def _rewrite_mlflow(former: Path, home: Path) -> None:
    if not (home / _STORE).exists():
        return
    old, new = f"{former.as_uri()}/", f"{home.as_uri()}/"
    with closing(sqlite3.connect(home / _STORE)) as connection, connection:
        for table, column in _OF_MLFLOW:
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608
                (new, len(old) + 1, len(old), old),
            )


def _rewrite_catalog(catalog: Catalog, former: Path, home: Path) -> None:
    from .lineage.links import store_name

    was, now = (store_name(f"sqlite:///{folder / _STORE}") for folder in (former, home))
    old, uri = f"{former}/", _ARTIFACTS.c.uri
    with writing(catalog.engine) as session:
        connection = session.connection()
        connection.execute(
            update(_ARTIFACTS)
            .where(func.substr(uri, 1, len(old)) == old)
            .values(uri=f"{home}/" + func.substr(uri, len(old) + 1))
        )
        rows = connection.execute(select(_MIRRORS).where(_MIRRORS.c.tracking_uri == was)).mappings()
        upsert(connection, _MIRRORS, [{**row, "tracking_uri": now} for row in rows])
        connection.execute(delete(_MIRRORS).where(_MIRRORS.c.tracking_uri == was))
