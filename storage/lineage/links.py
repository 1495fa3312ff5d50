"""Where things are in MLflow: stores by name, and deep links into its UI. Imports no MLflow."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import make_url

from ..catalog import Catalog
from . import outbox

LONGEST = 500  # of the column that keeps a store's name
VIEW = "?workflowType=machine_learning"  # else the UI opens its view for language models


@dataclass(frozen=True)
class JobMirrors:
    """A job's experiment and runs in one MLflow store, by their ids there."""

    experiment_id: str
    run_id: str
    stages: Mapping[str, str]
    """Run ids by stage name."""
    trials: Mapping[int, str]
    """Run ids by the catalog's trial ids: of those trials that have a run."""
    models: Mapping[int, str]
    """Ids of logged models by the catalog's trial ids."""

    def url(self, base: str) -> str:
        """The job's run in the UI that runs at `base`."""
        return run_url(base, self.experiment_id, self.run_id)


def store_name(tracking_uri: str) -> str:
    """The tracking URI as it may be written down: without secrets, the same for the same store."""
    if tracking_uri.startswith("sqlite:") and (database := make_url(tracking_uri).database):
        return _shortened(f"sqlite:///{Path(database).absolute()}")
    without_user = re.sub(r"://[^/?#]*@", "://", tracking_uri)
    return _shortened(re.sub(r"(?<=[?&])[^=&]*password=[^&]*&?", "", without_user).rstrip("/?&"))


def artifact_root(tracking_uri: str) -> Path | None:
    """The folder for MLflow's artifacts, beside a SQLite store. Other stores decide on their own."""
    if not tracking_uri.startswith("sqlite:"):
        return None
    database = make_url(tracking_uri).database
    return Path(database).absolute().parent / "mlflow-artifacts" if database else None


def mirrors_of(catalog: Catalog, job_id: str, tracking_uri: str) -> JobMirrors | None:
    """What mirrors a job in an MLflow store, or None when nothing does yet."""
    stages = {f"stage:{row.id}": row.name for row in catalog.stages(job_id)}
    trials = [row.id for row in catalog.trials(job_id)]
    asked = [f"experiment:{job_id}", f"job:{job_id}", *stages]
    asked += [f"{kind}:{number}" for number in trials for kind in ("trial", "model")]
    found = outbox.mirrors(catalog.engine, store_name(tracking_uri), asked)
    if f"job:{job_id}" not in found or f"experiment:{job_id}" not in found:
        return None
    return JobMirrors(
        experiment_id=found[f"experiment:{job_id}"],
        run_id=found[f"job:{job_id}"],
        stages={name: found[entity] for entity, name in stages.items() if entity in found},
        trials={number: found[f"trial:{number}"] for number in trials if f"trial:{number}" in found},
        models={number: found[f"model:{number}"] for number in trials if f"model:{number}" in found},
    )


def run_url(base: str, experiment_id: str, run_id: str) -> str:
    """A run's page. With `base` "" the link works inside the UI's own Markdown."""
    return f"{base.rstrip('/')}{'/' if base else ''}#/experiments/{experiment_id}/runs/{run_id}{VIEW}"


def artifact_url(base: str, experiment_id: str, run_id: str, path: str) -> str:
    """A run's artifact, shown on the run's page."""
    page = run_url(base, experiment_id, run_id).removesuffix(VIEW)
    return f"{page}/artifacts/{quote(path)}{VIEW}"


def experiment_url(base: str, experiment_id: str) -> str:
    """An experiment's table of runs."""
    return f"{base.rstrip('/')}{'/' if base else ''}#/experiments/{experiment_id}/runs{VIEW}"


def model_url(base: str, experiment_id: str, model_id: str) -> str:
    """A logged model's page."""
    return f"{base.rstrip('/')}{'/' if base else ''}#/experiments/{experiment_id}/models/{model_id}{VIEW}"


def job_url(catalog: Catalog, job_id: str, tracking_uri: str, base: str) -> str | None:
    """The page of a job's run in the UI at `base`, or None when it isn't mirrored yet."""
    found = mirrors_of(catalog, job_id, tracking_uri)
    return found.url(base) if found else None


def _shortened(name: str) -> str:
    if len(name) <= LONGEST:
        return name
    return f"{name[:430]}…{hashlib.sha256(name.encode()).hexdigest()}"
