"""`core.results` over the catalog: what plugin commands are given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..core.results import JobResults, Results


class CatalogResults(Results):
    """Opens the catalog when it is asked for a job, and no earlier."""

    def open(self, reference: str, catalog: str | None = None) -> JobResults:
        from . import options
        from .jobs import opened

        with opened(options.settings(catalog=catalog)) as store:
            row = store.job(reference)
            files: dict[tuple[str, str], tuple[str, str]] = {}
            for stage in store.stages(row.id):
                trials = store.trials(stage_id=stage.id)
                if len(trials) == 1:
                    for file in store.artifacts_of(trials[0].id):
                        files[stage.name, file.kind] = (file.uri, file.sha256)
        return _CatalogJob(row.id, row.spec, files)


class _CatalogJob(JobResults):
    def __init__(self, job_id: str, spec: object, files: Mapping[tuple[str, str], tuple[str, str]]) -> None:
        from ..core.registry import Registry, import_from_here
        from ..core.resolver import resolve

        import_from_here()
        self.id = job_id
        self.job = resolve(spec, Registry.discover())
        self._files = files

    def artifact(self, kind: str, stage: str) -> Path | None:
        from ..storage.artifacts import ArtifactStore

        found = self._files.get((stage, kind))
        return ArtifactStore(Path()).verify(*found) if found else None
