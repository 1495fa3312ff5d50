"""Gives a chosen trial's network a name in MLflow's model registry, when somebody asks for it."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import CatalogError, SpecError
from ..catalog import Catalog
from .links import artifact_root, mirrors_of, model_url


@dataclass(frozen=True)
class Registered:
    """A version of a registered model. `page` is the path of the logged model's page in the UI."""

    name: str
    version: str
    alias: str | None
    trial: int
    page: str


def register(
    catalog: Catalog,
    tracking_uri: str,
    job_id: str,
    name: str,
    number: int | None = None,
    alias: str | None = None,
) -> Registered:
    """Register a logged network as a version of the model `name`. Doing so again makes no further version.

    Args:
        catalog: where the job is.
        tracking_uri: the MLflow store, which is the registry too.
        job_id: the job.
        name: name of the registered model, made unless there is one.
        number: the trial's number; may be left out where only one network was logged.
        alias: an alias, such as `champion`, that points at this version from now on.

    Raises:
        CatalogError: MLflow has nothing of the job, or no network of it.
        SpecError: the trial has no network there, or there are several to choose from.
    """
    mirrors = mirrors_of(catalog, job_id, tracking_uri)
    if mirrors is None or not mirrors.models:
        raise CatalogError(
            f"MLflow has no network of job {job_id}: `orchestrate lineage sync {job_id}` sends it; "
            "only networks of chosen trials whose program kept weights are logged"
        )
    models = {catalog.trial(trial_id).number: model for trial_id, model in mirrors.models.items()}
    known = ", ".join(map(str, sorted(models)))
    if number is None and len(models) > 1:
        raise SpecError(f"job {job_id} has several networks: give --trial, one of {known}")
    chosen = number if number is not None else next(iter(models))
    if chosen not in models:
        raise SpecError(f"trial {chosen} of job {job_id} has no network in MLflow; these have: {known}")
    from .client import Recorder

    recorder = Recorder(tracking_uri, artifact_root(tracking_uri))
    version = recorder.register(name, models[chosen], alias)
    return Registered(name, version, alias, chosen, model_url("", mirrors.experiment_id, models[chosen]))
