"""Which recorded files a trial is given: what earlier stages left, and what a chosen trial left itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from ..core.candidate import Candidate
from ..core.job import Stage
from ..storage.catalog import Catalog
from ..storage.models import StageRow, TrialRow

File: TypeAlias = tuple[str, str]
"""Path and SHA-256."""

FileTable: TypeAlias = dict[str, dict[str, File]]
"""Files by stage and kind."""


def earlier_files(
    catalog: Catalog, job_id: str, stages: Sequence[Stage], rows: Mapping[str, StageRow]
) -> Callable[[Candidate], FileTable]:
    """Files of the earlier `stages`, as a candidate's trial sees them: those of single-trial stages, and
    those of trials with its own candidate. `rows` are the job's stages by name.
    """
    fixed: FileTable = {}
    by_digest: dict[str, FileTable] = {}
    for earlier in stages:
        name = earlier.spec.name
        trials = catalog.trials(stage_id=rows[name].id)
        files: dict[int, dict[str, File]] = {}
        for artifact in catalog.artifacts(job_id):
            if artifact.trial_id is not None:
                files.setdefault(artifact.trial_id, {})[artifact.kind] = (artifact.uri, artifact.sha256)
        digests = {row.id: row.digest for row in trials}
        for row in trials:
            found = files.get(row.id, {})
            if not found and row.recalled_from and digests.get(row.recalled_from) == row.digest:
                found = files.get(row.recalled_from, {})
            if earlier.sampler is None and earlier.spec.take is None:
                fixed[name] = found
            elif found:
                by_digest.setdefault(row.digest, {})[name] = found
    return lambda candidate: {**fixed, **by_digest.get(candidate.digest, {})}


def with_files(catalog: Catalog, rows: Sequence[TrialRow]) -> list[tuple[TrialRow, Mapping[str, File]]]:
    """Trials with their own files by kind, or with those of the trial that an equal one was recalled from."""
    pairs: list[tuple[TrialRow, Mapping[str, File]]] = []
    for row in rows:
        files = catalog.artifacts_of(row.id)
        if not files and row.recalled_from is not None:
            source = catalog.trial(row.recalled_from)
            if source.digest == row.digest:  # another network's weights don't fit this one
                files = catalog.artifacts_of(source.id)
        pairs.append((row, {artifact.kind: (artifact.uri, artifact.sha256) for artifact in files}))
    return pairs
