"""The migrations make what the models say, on both databases, however many processes begin at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from orchestrate.core.errors import CatalogError
from orchestrate.storage import migrate
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.engine import connect, resolve_url
from orchestrate.storage.models import PREFIX, VERSION_TABLE, Base


def test_the_migrated_tables_are_the_models(catalog: Catalog) -> None:
    with catalog.engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True},
        )
        assert compare_metadata(context, Base.metadata) == []


def test_indexes_and_keys_have_the_same_names(catalog: Catalog, tmp_path: Path) -> None:
    """`compare_metadata` doesn't look at primary keys, nor at what indexes are partial."""
    engine = connect(resolve_url(str(tmp_path / "models.db")), durable=False)
    Base.metadata.create_all(engine)
    for table in Base.metadata.tables:
        wanted, found = inspect(engine), inspect(catalog.engine)
        assert found.get_pk_constraint(table)["name"] == wanted.get_pk_constraint(table)["name"]
        names = {
            inspector: {
                index["name"]
                for index in inspector.get_indexes(table)
                if not index.get("duplicates_constraint")
            }
            for inspector in (wanted, found)
        }
        assert names[found] == names[wanted]
    engine.dispose()


def test_the_head_is_the_newest_script() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [migrate.HEAD]
    revisions = [revision.revision for revision in script.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)  # "newer" is decided by comparing them as text


def test_every_table_carries_the_prefix(catalog: Catalog) -> None:
    names = set(inspect(catalog.engine).get_table_names())
    assert names == set(Base.metadata.tables) | {VERSION_TABLE}
    assert all(name.startswith(PREFIX) for name in names)


def test_strangers_tables_are_left_alone(url: str) -> None:
    """Optuna and MLflow keep an `alembic_version` of their own in a shared database."""
    engine = connect(resolve_url(url), durable=False)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))
    engine.dispose()
    with Catalog.open(url) as catalog, catalog.engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "theirs"


def test_upgrading_is_repeatable_and_never_goes_back(catalog: Catalog) -> None:
    assert migrate.current(catalog.engine) == migrate.upgrade(catalog.engine) == migrate.HEAD
    with catalog.engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(CatalogError, match="install a newer Orchestrate"):
        migrate.upgrade(catalog.engine)


def test_a_fresh_catalog_takes_no_time_worth_speaking_of(tmp_path: Path) -> None:
    Catalog.open(str(tmp_path / "first.db")).close()  # Alembic is imported by now
    best = 1e9
    for number in range(3):
        begun = time.process_time()
        Catalog.open(str(tmp_path / f"{number}.db")).close()
        best = min(best, time.process_time() - begun)
    assert best < 0.5
