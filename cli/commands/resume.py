"""`orchestrate resume`: runs an unfinished job on."""

from __future__ import annotations

import typer

from .. import options as opt

EXAMPLES = """
    orchestrate resume quickstart-x7k2mp
    orchestrate resume quickstart --address auto
    orchestrate resume quickstart --address http://head:8265 --detach
"""


def resume(
    job: opt.JobRef,
    without: opt.Without = None,
    catalog: opt.CatalogUrl = None,
    tracking: opt.TrackingUri = None,
    address: opt.RayAddress = None,
    ship: opt.Ship = None,
    detach: opt.Detach = False,
    cpus: opt.Cpus = None,
    no_lineage: opt.NoLineage = False,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Continue a job that was interrupted, paused, failed, or whose driver died.

    Finished trials stay finished; interrupted ones go on from their last checkpoint. A driver that
    was killed holds its job for up to 30 seconds more.
    """
    from ...core.registry import Registry, import_from_here
    from ...scheduler import driver, remote
    from ..jobs import opened
    from ..running import run

    import_from_here()
    settings = opt.settings(
        catalog=catalog,
        tracking=tracking,
        address=address,
        cpus=cpus,
        without=without,
        lineage=not no_lineage,
    )
    with opened(settings) as store:
        job_id = store.job(job).id
    if settings.remote:
        from ..away import run_away

        remote.resume(job_id, settings, ship or ())
        raise typer.Exit(run_away(job_id, settings, detach=detach, as_json=as_json, quiet=quiet))
    registry = Registry.discover(settings.without)
    code = run(
        lambda: driver.resume(job_id, settings, registry), registry, settings, as_json=as_json, quiet=quiet
    )
    raise typer.Exit(code)
