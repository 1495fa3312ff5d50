"""Where a job lives and runs: folders, catalog, tracking server, cluster. From flags and environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

HOME = ".orchestrate"


@dataclass(frozen=True)
class Settings:
    """By default everything lies under `./.orchestrate/` and Ray starts in this process.

    `ORCHESTRATE_HOME`, `ORCHESTRATE_CATALOG`, `MLFLOW_TRACKING_URI` and `RAY_ADDRESS` point elsewhere.
    """

    home: Path = field(default_factory=lambda: Path(os.environ.get("ORCHESTRATE_HOME", HOME)).absolute())
    catalog: str | None = field(default_factory=lambda: os.environ.get("ORCHESTRATE_CATALOG"))
    tracking: str | None = field(default_factory=lambda: os.environ.get("MLFLOW_TRACKING_URI"))
    address: str | None = field(default_factory=lambda: os.environ.get("RAY_ADDRESS"))
    """A running cluster: `auto` or host:port of its head to join it, http://… of its dashboard to send jobs
    there. None: Ray on this machine."""
    cpus: int | None = None
    """CPU cores that a local Ray may use; by default all."""
    without: tuple[str, ...] = ()
    lineage: bool = True
    """Whether to mirror the job to MLflow while it runs (`lineage sync` can do so later)."""

    @property
    def remote(self) -> bool:
        """Whether the driver runs on the cluster, and not here."""
        return bool(self.address) and str(self.address).startswith(("http://", "https://"))

    @property
    def catalog_url(self) -> str:
        """URL of the catalog."""
        return self.catalog or f"sqlite:///{self.home / 'catalog.db'}"

    @property
    def tracking_uri(self) -> str:
        """URI of the MLflow tracking store."""
        return self.tracking or f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """Root of the artifact store: on a cluster, a folder that every node mounts."""
        return Path(os.environ.get("ORCHESTRATE_ARTIFACTS", str(self.home / "artifacts"))).absolute()
