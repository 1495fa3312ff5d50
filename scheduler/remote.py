"""Ships jobs to a cluster through Ray's Jobs API. The driver then runs on the cluster's head: it resumes
a job that was created in the catalog from here. Never Ray Client.
"""

# Ray's own annotations are partial.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import make_url

from ..core.errors import ClusterError, SpecError
from ..core.registry import PREFIX
from ..storage.catalog import Catalog
from ..storage.owner import this_process
from .cluster import Capacity, check_fit
from .driver import create
from .lease import LEASE_SECONDS
from .settings import Settings

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from ..core.job import Job

FORWARDED = ("ORCHESTRATE_HOME", "ORCHESTRATE_ARTIFACTS", "ORCHESTRATE_DATA")
"""Variables that the driver on the cluster gets as they are here."""


def submit(job: Job, text: str, settings: Settings, extra: Sequence[Path] = ()) -> str:
    """Create the job in the catalog and start its driver on the cluster. Returns the job's id.

    `extra`: files and folders that travel along. A module that the job names as `python:…` and that lies
    in the current folder does so by itself.

    Raises:
        SpecError: the settings don't work from afar, or the cluster can never hold one of the job's trials.
            Nothing was created.
        ClusterError: the cluster doesn't answer or refuses; where the job was created by then, the text
            says how to start it.
    """
    environment = _environment(settings)
    client = _client(settings)
    check_fit(job, capacity(settings))
    modules = [*_local_modules(job.spec.model_dump(mode="json")), *extra]
    ledger = create(job, text, settings)
    ledger.set_provenance(remote=_place(settings, ledger.job_id, 1))
    ledger.release()
    _start(client, ledger.job_id, 1, settings, environment, modules)
    return ledger.job_id


def resume(job_id: str, settings: Settings, extra: Sequence[Path] = ()) -> None:
    """Start another driver on the cluster for an unfinished job.

    Raises:
        SpecError: the settings don't work from afar.
        JobBusyError: a living driver owns it.
        ClusterError: the cluster doesn't answer or refuses.
    """
    client = _client(settings)
    environment = _environment(settings)
    with Catalog.open(settings.catalog_url, create=False) as catalog:
        row = catalog.job(job_id)
        number = int(row.provenance.get("remote", {}).get("start", 0)) + 1
        ledger = catalog.take_job(row.id, this_process(), LEASE_SECONDS)
        ledger.set_provenance(remote=_place(settings, row.id, number))
        ledger.release()
        modules = [*_local_modules(row.spec), *extra]
    _start(client, job_id, number, settings, environment, modules)


def capacity(settings: Settings) -> Capacity:
    """What the cluster has, as its dashboard tells it.

    Raises:
        ClusterError: the cluster doesn't answer.
    """
    from ray.util.state import list_nodes

    _client(settings)  # which tells what is wrong better than the state API
    nodes: list[Any] = list_nodes(address=settings.address, filters=[("state", "=", "ALIVE")], detail=True)
    return Capacity.of([node.resources_total or {} for node in nodes])


def state(remote: Mapping[str, Any]) -> tuple[str, str]:
    """What the Jobs API says of a driver: its state ("PENDING", "RUNNING", "FAILED", …) and a message.

    `remote` is what the job's provenance keeps of its shipment.

    Raises:
        ClusterError: the cluster doesn't answer.
    """
    client = _connect(remote["address"])
    with _explained(remote["address"]):
        info = client.get_job_info(remote["submission"])
    return info.status.value, info.message or ""


def logs(remote: Mapping[str, Any]) -> str:
    """All that the driver has printed so far.

    Raises:
        ClusterError: the cluster doesn't answer, or has forgotten the driver.
    """
    client = _connect(remote["address"])
    with _explained(remote["address"]):
        return client.get_job_logs(remote["submission"])


def follow(remote: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the driver prints, piece by piece, until it ends."""
    import asyncio

    client = _connect(remote["address"])
    loop = asyncio.new_event_loop()
    try:
        with _explained(remote["address"]):
            lines: AsyncIterator[str] = client.tail_job_logs(remote["submission"])
            while True:
                try:
                    yield loop.run_until_complete(anext(lines))
                except StopAsyncIteration:
                    return
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


# Shipping -----------------------------------------------------------------------------------------


def _place(settings: Settings, job_id: str, number: int) -> dict[str, Any]:
    return {"address": settings.address, "submission": f"{job_id}-{number}", "start": number}


def _start(
    client: JobSubmissionClient,
    job_id: str,
    number: int,
    settings: Settings,
    environment: Mapping[str, str],
    modules: Sequence[Path],
) -> None:
    command = ["orchestrate", "resume", job_id, "--address", "auto"]
    command += [word for name in settings.without for word in ("--without", name)]
    command += [] if settings.lineage else ["--no-lineage"]
    with tempfile.TemporaryDirectory(prefix="orchestrate-") as folder:
        for module in modules:
            _copy(module, Path(folder))
        try:
            with _explained(str(settings.address)):
                client.submit_job(
                    entrypoint=shlex.join(command),
                    submission_id=f"{job_id}-{number}",
                    runtime_env={"working_dir": folder, "env_vars": dict(environment)},
                    metadata={"orchestrate_job": job_id},
                )
        except ClusterError as error:
            raise ClusterError(
                f"{error} Job {job_id} is in the catalog and nothing of it runs: "
                f"`orchestrate resume {job_id} --address {settings.address}` starts it"
            ) from error


def _copy(source: Path, folder: Path) -> None:
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__", ".git", ".venv", ".orchestrate")
        shutil.copytree(source, folder / source.name, ignore=ignored)
    else:
        shutil.copy2(source, folder / source.name)


def _environment(settings: Settings) -> dict[str, str]:
    """The driver's environment: where catalog, artifacts and MLflow are, seen from the cluster."""
    if settings.catalog is None:
        raise SpecError(
            "a driver on a cluster can't reach the catalog in this folder: give --catalog postgresql://… "
            "(or $ORCHESTRATE_CATALOG), a database that both this machine and the cluster reach"
        )
    if make_url(settings.catalog_url).password:
        raise SpecError(
            "the catalog's URL has a password, and Ray would show it in its dashboard: leave it out of the "
            "URL, and set PGPASSWORD or ~/.pgpass here and on the cluster"
        )
    if not any(os.environ.get(name) for name in ("ORCHESTRATE_HOME", "ORCHESTRATE_ARTIFACTS")):
        raise SpecError(
            "say where the cluster keeps checkpoints and weights: set ORCHESTRATE_ARTIFACTS (or "
            "ORCHESTRATE_HOME) to a folder that all of its nodes mount"
        )
    given = {name: os.environ[name] for name in FORWARDED if os.environ.get(name)}
    given["ORCHESTRATE_CATALOG"] = settings.catalog_url
    if settings.tracking is not None:
        given["MLFLOW_TRACKING_URI"] = settings.tracking
    return given


def _local_modules(spec: Mapping[str, Any]) -> list[Path]:
    """Files and packages of the current folder that the job's `python:` names stand for."""
    here = Path.cwd()
    found: dict[Path, None] = {}
    for name in _names(spec):
        top = name.removeprefix(PREFIX).partition(":")[0].partition(".")[0]
        module = importlib.util.find_spec(top)
        places = [*(module.submodule_search_locations or ()), module.origin] if module else []
        if places and places[0]:
            place = Path(places[0]).resolve()
            if place.is_relative_to(here) and "site-packages" not in place.parts:
                found[place] = None
    return list(found)


def _names(data: object) -> Iterator[str]:
    if isinstance(data, str):
        if data.startswith(PREFIX):
            yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _names(value)
    elif isinstance(data, Sequence):
        for value in data:
            yield from _names(value)


# The cluster --------------------------------------------------------------------------------------


def _client(settings: Settings) -> JobSubmissionClient:
    assert settings.address is not None
    return _connect(settings.address)


def _connect(address: str) -> JobSubmissionClient:
    from ray.job_submission import JobSubmissionClient

    with _explained(address):
        return JobSubmissionClient(address)


@contextmanager
def _explained(address: str) -> Generator[None]:
    """Turn what Ray's client raises into an error that says what to do."""
    try:
        yield
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        text = str(error).strip().splitlines()
        hint = (
            "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to the cluster's token"
            if "401" in str(error) or "403" in str(error) or "token" in str(error).lower()
            else "is the address that of its dashboard (http://HEAD:8265), and does it run ray[default]?"
        )
        raise ClusterError(f"the Ray cluster at {address}: {text[0] if text else error!r}; {hint}") from error
