"""`orchestrate status`: how a job stands, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import options as opt
from ..console import console, print_json, styled, table
from ..words import between, plural, seconds, when

if TYPE_CHECKING:
    from ...storage.catalog import Catalog
    from ...storage.models import JobRow

EXAMPLES = """
    orchestrate status
    orchestrate status quickstart
    orchestrate status quickstart --json | jq -r .next
"""


def status(job: opt.AnyJob = None, catalog: opt.CatalogUrl = None, as_json: opt.Json = False) -> None:
    """Show a job's state, its driver, its stages' progress, and what to do next."""
    from ..jobs import find, opened

    with opened(opt.settings(catalog=catalog)) as store:
        data = describe(store, find(store, job))
    if as_json:
        print_json(data)
    else:
        _print(data)


def describe(store: Catalog, row: JobRow) -> dict[str, Any]:
    """A job's standing as data."""
    from ...storage.owner import shown
    from ..jobs import over, planned

    alive = store.owned(row.id)
    backlog = store.backlog(row.id)
    stages: list[dict[str, Any]] = []
    for stage in store.stages(row.id):
        counts = store.counts(stage.id)
        stages.append(
            {
                "name": stage.name,
                "state": stage.state,
                "reason": stage.reason,
                "planned": planned(row, stage),
                "done": over(counts),
                "trials": counts,
                "seconds": between(stage.started_at, stage.ended_at),
            }
        )
    return {
        "id": row.id,
        "name": row.name,
        "state": row.state,
        "reason": row.reason,
        "driver": "alive" if alive else "none",
        "owner": shown(row.lease_owner),
        "remote": _remote(row, alive),
        "cancel_requested": row.cancel_requested,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "stages": stages,
        "lineage_backlog": backlog,
        "next": _next(row, alive, backlog),
    }


def _remote(row: JobRow, alive: bool) -> dict[str, Any] | None:
    """Where the job was sent, and what is known there of a driver that isn't (yet) to be seen here."""
    place = row.provenance.get("remote")
    if not place or alive or row.state in ("finished", "failed", "cancelled"):
        return place
    from ...core.errors import ClusterError
    from ...scheduler.remote import state

    try:
        return {**place, "state": state(place)}
    except ClusterError as error:
        return {**place, "state": ["UNKNOWN", str(error)]}


def _next(row: JobRow, alive: bool, backlog: int) -> str:
    if alive:
        return f"orchestrate logs {row.id} --follow"
    if row.state in ("created", "running", "interrupted", "paused"):
        place = row.provenance.get("remote")
        return f"orchestrate resume {row.id}" + (f" --address {place['address']}" if place else "")
    if row.state == "failed":
        return f"orchestrate logs {row.id}"
    if backlog:
        return f"orchestrate lineage sync {row.id}"
    return f"orchestrate show {row.id}"


def _print(data: dict[str, Any]) -> None:
    out = console()
    out.print("Job    ", data["id"], " ", styled(data["state"]), sep="")
    if data["reason"]:
        out.print(f"       {data['reason']}")
    running = data["state"] in ("created", "running")
    if data["driver"] == "alive":
        asked = ", asked to cancel" if data["cancel_requested"] else ""
        out.print(f"Driver alive: {data['owner']}{asked}")
    elif running and data["remote"]:
        state, message = data["remote"]["state"]
        out.print(f"Driver sent to {data['remote']['address']}, where it is {state}. {message}".rstrip())
    elif running:
        out.print(f"Driver gone (it was {data['owner']}): the job stands still until it is resumed")
    out.print(f"Times  created {when(data['created_at'])}, ended {when(data['ended_at'])}")
    stages = table("stage", "state", "done", "trials", "time", right=("done", "time"))
    for stage in data["stages"]:
        counts = ", ".join(f"{count} {state}" for state, count in stage["trials"].items())
        total = f"/{stage['planned']}" if stage["planned"] else ""
        stages.add_row(
            stage["name"],
            styled(stage["state"]),
            f"{stage['done']}{total}",
            counts or "-",
            "-" if stage["seconds"] is None else seconds(stage["seconds"]),
        )
    out.print(stages)
    if data["lineage_backlog"]:
        out.print(f"MLflow lacks {plural(data['lineage_backlog'], 'event')} of this job.")
    out.print(f"Next   {data['next']}")
