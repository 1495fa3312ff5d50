"""What the shell offers for a half-typed argument. Anything that goes wrong means: no offer."""

from __future__ import annotations

from collections.abc import Iterator


def complete_job(incomplete: str) -> Iterator[tuple[str, str]]:
    """Ids of the catalog's newest jobs, each with its state."""
    from ..core.errors import OrchestrateError
    from ..scheduler.settings import Settings
    from ..storage.catalog import Catalog

    try:
        with Catalog.open(Settings().catalog_url, create=False) as catalog:
            rows = catalog.jobs(limit=50)
    except OrchestrateError:
        return
    for row in rows:
        if row.id.startswith(incomplete):
            yield row.id, row.state


def complete_plugin(incomplete: str) -> Iterator[tuple[str, str]]:
    """Names of the installed plugins, each with its kind and summary."""
    from ..core.errors import OrchestrateError
    from ..core.registry import Registry

    try:
        registry = Registry.discover()
    except OrchestrateError:
        return
    for entry in registry:
        if entry.plugin.name.startswith(incomplete):
            yield entry.plugin.name, f"{entry.plugin.kind}: {entry.plugin.summary}"


def complete_kind(incomplete: str) -> Iterator[str]:
    """The kinds of plugins."""
    from ..core.registry import BASES

    yield from (kind for kind in BASES if kind.startswith(incomplete))


def complete_package(incomplete: str) -> Iterator[tuple[str, str]]:
    """Entry points of plugins, each with its distribution."""
    from importlib.metadata import entry_points

    for point in entry_points(group="orchestrate.plugins"):
        if point.name.startswith(incomplete):
            yield point.name, point.dist.name if point.dist else ""
