"""A project whose folder was moved or copied is what it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestrate.storage.catalog import Catalog
from orchestrate.storage.lineage import register, sync
from orchestrate.storage.lineage.links import mirrors_of
from orchestrate.storage.moved import follow
from tests.storage.finished_job import write_all


def tracking(home: Path) -> str:
    return f"sqlite:///{home / 'mlflow.db'}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished job's home, all of it in MLflow, and the job's id."""
    home = tmp_path_factory.mktemp("first") / ".orchestrate"
    with Catalog.open(f"sqlite:///{home / 'catalog.db'}") as catalog:
        job = write_all(catalog, home).ledger.job_id
        assert not sync(catalog, tracking(home)).remaining
    return home, job


@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
def test_files_and_mlflow_are_found_at_the_new_place(
    project: tuple[Path, str], tmp_path: Path, copied: bool
) -> None:
    first, job = project
    home = tmp_path / "a new place" / ".orchestrate"
    shutil.copytree(first, home)
    away = first.with_name("away")
    if not copied:
        first.rename(away)
    try:
        with Catalog.open(f"sqlite:///{home / 'catalog.db'}") as catalog:
            assert follow(catalog, home) == first
            assert follow(catalog, home) is None  # once is enough
            files = catalog.artifacts(job)
            assert files
            assert all(Path(file.uri).is_relative_to(home) and Path(file.uri).is_file() for file in files)
            mirrors = mirrors_of(catalog, job, tracking(home))
            assert mirrors is not None
            register(catalog, tracking(home), job, "moved", _number(catalog, min(mirrors.models)), "champion")
        assert _model_lies_under(home)
    finally:
        if not copied:
            away.rename(first)


def _number(catalog: Catalog, trial_id: int) -> int:
    return catalog.trial(trial_id).number


def _model_lies_under(home: Path) -> bool:
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    client = MlflowClient(tracking(home), tracking(home))
    version = client.get_model_version_by_alias("moved", "champion")
    assert version.source is not None
    found = Path(download_artifacts(artifact_uri=version.source, tracking_uri=tracking(home)))
    return (found / "MLmodel").is_file() and found.is_relative_to(home)


def test_a_project_without_files_is_followed_by_its_mirrors(tmp_path: Path) -> None:
    from tests.storage.conftest import draft

    first, home = tmp_path / "first", tmp_path / "second"
    with Catalog.open(f"sqlite:///{first / 'catalog.db'}") as catalog:
        ledger = catalog.create_job(draft(), "me", 30.0)
        ledger.start_job()
        sync(catalog, tracking(first))
    first.rename(home)
    with Catalog.open(f"sqlite:///{home / 'catalog.db'}") as catalog:
        assert mirrors_of(catalog, ledger.job_id, tracking(home)) is None
        assert follow(catalog, home) == first
        assert mirrors_of(catalog, ledger.job_id, tracking(home)) is not None


def test_a_link_to_a_project_is_no_move(project: tuple[Path, str], tmp_path: Path) -> None:
    first, job = project
    link = tmp_path / "link"
    link.symlink_to(first)
    with Catalog.open(f"sqlite:///{link / 'catalog.db'}") as catalog:
        assert follow(catalog, link) is None
        assert all(Path(file.uri).is_relative_to(first) for file in catalog.artifacts(job))


def test_files_that_lie_elsewhere_on_purpose_stay_as_they_are(
    project: tuple[Path, str], tmp_path: Path
) -> None:
    first, job = project
    with Catalog.open(f"sqlite:///{first / 'catalog.db'}") as catalog:
        before = [file.uri for file in catalog.artifacts(job)]
        assert follow(catalog, tmp_path / "another home") is None
        assert [file.uri for file in catalog.artifacts(job)] == before
