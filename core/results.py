"""What a plugin's command sees of jobs that have run: their parts and their files.

The command line gives each plugin command (entry point of group `orchestrate.commands`) such a view as
`typer.Context.obj`, so that it needs neither the catalog nor the store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from .job import Job


class JobResults(ABC):
    """One job, as far as it has run."""

    id: str
    """The job's id."""
    job: Job
    """Its parts, made from the job file as it was submitted."""

    @abstractmethod
    def artifact(self, kind: str, stage: str) -> Path | None:
        """Locate the artifact of a stage that is a single trial; digest checked. None: there is none.

        Raises:
            ArtifactError: it is missing from the store, or has changed.
        """


class Results(ABC):
    """The jobs of a catalog."""

    @abstractmethod
    def open(self, reference: str, catalog: str | None = None) -> JobResults:
        """Look a job up by its id, the beginning of one, or its name.

        Args:
            reference: which job.
            catalog: URL of the catalog; by default the one that all commands use.

        Raises:
            JobNotFoundError: there is none.
            SpecError: the installed plugins no longer accept its file.
        """
