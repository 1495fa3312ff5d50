"""What a plugin's command gets to see of the catalog."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrate.cli.results import CatalogResults
from orchestrate.core.errors import ArtifactError, JobNotFoundError
from orchestrate.storage.catalog import Catalog
from tests.storage.finished_job import begin, write_supernet


def test_a_job_and_the_files_of_its_single_trials(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    stages = [{"name": "supernet", "program": {"name": "train", "epochs": 1}}]
    with Catalog.open(url) as catalog:
        written = begin(catalog, tmp_path, stages=stages, space={"name": "nasbench201"}, objectives=[])
        write_supernet(written)
    found = CatalogResults().open(written.job_id, url)
    assert found.id == written.job_id
    assert [stage.program.name for stage in found.job.stages] == ["train"]
    path = found.artifact("supernet", "supernet")
    assert path is not None
    assert path.read_bytes().startswith(b"weights of a supernet")
    assert found.artifact("nothing", "supernet") is None
    assert found.artifact("supernet", "elsewhere") is None
    path.write_bytes(b"changed")
    with pytest.raises(ArtifactError, match="has changed"):
        found.artifact("supernet", "supernet")
    with pytest.raises(JobNotFoundError):
        CatalogResults().open("nobody", url)
