"""A finished job in a real MLflow store: what is there, and that nothing is there twice."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from orchestrate.core.errors import CatalogError, SpecError
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.lineage import Drainer, register, sync
from orchestrate.storage.lineage.client import NOTE
from orchestrate.storage.lineage.drainer import NICENESS
from orchestrate.storage.lineage.links import mirrors_of
from orchestrate.storage.recall import invalidate
from tests.storage.finished_job import Written, begin, end, write_all, write_deploy, write_supernet

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    with Catalog.open(str(tmp_path / "catalog.db")) as catalog:
        yield write_all(catalog, tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def runs(store: str) -> dict[str, Run]:
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("digits-nas")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    names = Counter(str(run.info.run_name) for run in found)
    assert names["search"] == 1
    return {f"{run.data.tags.get('mlflow.parentRunId', '')}/{run.info.run_name}": run for run in found}


def snapshot(store: str) -> Any:
    client = MlflowClient(store)
    table = {
        key: (
            run.data.params,
            run.data.metrics,
            sorted(item.path for item in client.list_artifacts(run.info.run_id)),
            {name: len(client.get_metric_history(run.info.run_id, name)) for name in run.data.metrics},
            run.info.status,
        )
        for key, run in runs(store).items()
    }
    experiment = client.get_experiment_by_name("digits-nas")
    models = client.search_logged_models([experiment.experiment_id])
    return table, sorted(str(model.name) for model in models)


def test_job_stages_and_trials_are_there_with_all_that_is_known(written: Written, store: str) -> None:
    result = sync(written.catalog, store, written.job_id)
    assert result.remaining == 0, result.error
    assert written.catalog.backlog() == 0
    found = runs(store)
    job = found[f"/{written.job_id}"]
    search = found[f"{job.info.run_id}/search"]
    trials = [run for key, run in found.items() if key.startswith(f"{search.info.run_id}/")]
    launched = [row for row in written.catalog.trials(stage_id=written.stage("search")) if row.attempts]
    assert {run.info.run_name for run in trials} == {f"trial {row.number}" for row in launched}

    row = launched[0]
    run = found[f"{search.info.run_id}/trial {row.number}"]
    assert run.data.params["width"] == str(row.candidate["width"])
    assert run.data.metrics["accuracy"] == row.metrics["accuracy"]
    assert run.data.tags["orchestrate.state"] == "finished"
    history = MlflowClient(store).get_metric_history(run.info.run_id, "loss")
    assert {point.step for point in history} >= {1, 2, 3}
    statuses = {run.info.run_name: run.info.status for run in trials}
    assert statuses["trial 13"] == "FAILED"
    assert {str(run.info.status) for run in found.values()} & {"RUNNING", "SCHEDULED"} == set()

    curves = {
        name: MlflowClient(store).get_metric_history(search.info.run_id, name)
        for name in (
            "hypervolume",
            "r2",
            "igd",
            "igd_plus",
            "pc_entropy",
            "preference_coverage",
            "top_10_reward",
            "reward_percentile_50",
        )
    }
    scored = sum(
        row.state in ("finished", "recalled") for row in written.catalog.trials(stage_id=row.stage_id)
    )
    assert all(curve[-1].step == scored for curve in curves.values())
    assert (curves["igd_plus"][-1].value, curves["preference_coverage"][-1].value) == (0.0, 1.0)
    assert curves["r2"][0].value > curves["r2"][-1].value

    artifacts = {item.path for item in MlflowClient(store).list_artifacts(job.info.run_id, "report")}
    assert {"report/report.md", "report/pareto.svg", "report/history.svg", "report/lineage.svg"} <= artifacts
    assert next(iter(job.inputs.dataset_inputs)).dataset.name.startswith("digits")
    assert snapshot(store)[1]  # models of the chosen networks
    noted = [note for one in found.values() if "stage [deploy]" in (note := one.data.tags.get(NOTE, ""))]
    assert all(link in note for note in noted for link in (job.info.run_id, "/models/", "lineage.html"))
    assert noted


def trials_of_search(store: str) -> tuple[str, list[dict[str, Any]]]:
    """The note of the stage's run, and its table of trials."""
    client = MlflowClient(store)
    [search] = [run for key, run in runs(store).items() if key.endswith("/search")]
    with tempfile.TemporaryDirectory() as folder:
        path = client.download_artifacts(search.info.run_id, "trials.json", folder)
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    return search.data.tags["mlflow.note.content"], rows


def test_a_recalled_trial_names_what_it_was_recalled_from(written: Written, store: str) -> None:
    sync(written.catalog, store, written.job_id)
    note, rows = trials_of_search(store)
    source = f"{written.job_id}/search/2"
    row = rows[12]
    assert (row["state"], row["recalled from"], row["by key"]) == ("recalled", source, "exact")
    assert row["source run"] == rows[2]["run"]
    assert row["saved s"] > 0
    assert "answered 1 of" in note
    assert f"| 12 | [{source}](#/experiments/" in note
    assert row["source run"] in note
    first = next(one for one in written.catalog.trials(stage_id=written.stage("search")) if one.number == 2)
    invalidate(written.catalog.engine, "trial", str(first.id), "burnt")
    assert sync(written.catalog, store, written.job_id).remaining == 0
    note, rows = trials_of_search(store)
    assert rows[12]["invalid"] == "burnt"


def test_networks_lead_to_the_supernet_they_were_cut_from(written: Written, store: str) -> None:
    sync(written.catalog, store, written.job_id)
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("digits-nas")
    models = {str(one.name): one for one in client.search_logged_models([experiment.experiment_id])}
    supernet = models.pop("digits-nas-supernet-0")
    assert supernet.params["width"] == "1024"
    assert models
    for model in models.values():
        assert model.tags["orchestrate.supernet_model"] == supernet.model_id
        assert f"/models/{supernet.model_id}" in model.tags["mlflow.note.content"]
    run = next(run for key, run in runs(store).items() if run.info.run_id == supernet.source_run_id)
    assert "phases.svg" in {item.path for item in client.list_artifacts(run.info.run_id)}


def test_an_exported_network_is_logged_also_when_another_is_better(tmp_path: Path, store: str) -> None:
    with Catalog.open(str(tmp_path / "catalog.db")) as catalog:
        written = begin(catalog, tmp_path)
        write_supernet(written)
        write_deploy(written, lesser=True)
        end(written)
        sync(catalog, store, written.job_id)
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("digits-nas")
    models = {str(one.name): one for one in client.search_logged_models([experiment.experiment_id])}
    supernet = models["digits-nas-supernet-0"]
    assert models["digits-nas-deploy-3"].tags["orchestrate.supernet_model"] == supernet.model_id
    assert len(models) == 5


def test_delivering_everything_again_changes_nothing(written: Written, store: str) -> None:
    sync(written.catalog, store, written.job_id)
    before = snapshot(store)
    again = sync(written.catalog, store, written.job_id, afresh=True)
    assert again.delivered > 0
    assert again.remaining == 0
    assert snapshot(store) == before


def test_a_network_is_registered_once_and_loads_by_its_alias(written: Written, store: str) -> None:
    import mlflow
    import numpy as np

    with pytest.raises(CatalogError, match="lineage sync"):
        register(written.catalog, store, written.job_id, "digits")
    sync(written.catalog, store, written.job_id)
    with pytest.raises(SpecError, match="give --trial, one of 0, 1"):
        register(written.catalog, store, written.job_id, "digits")
    with pytest.raises(SpecError, match="trial 99"):
        register(written.catalog, store, written.job_id, "digits", 99)
    first = register(written.catalog, store, written.job_id, "digits", 1, "champion")
    assert (first.version, first.trial) == ("1", 1)
    assert register(written.catalog, store, written.job_id, "digits", 1).version == "1"
    assert register(written.catalog, store, written.job_id, "digits", 0, "champion").version == "2"
    client = MlflowClient(store, registry_uri=store)
    assert client.get_model_version_by_alias("digits", "champion").version == 2
    found = client.get_model_version_by_alias("digits", "champion")
    model = mlflow.pyfunc.load_model(found.source)
    assert model.predict(np.zeros((2, 1, 8, 8), np.float32)).shape == (2, 10)


def test_an_unreachable_server_keeps_everything_for_later(written: Written, store: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    backlog = written.catalog.backlog(written.job_id)
    assert backlog > 0
    result = sync(written.catalog, f"http://127.0.0.1:{port}", written.job_id, tries=2, pause=lambda _: None)
    assert result.remaining == backlog
    assert result.error
    assert sync(written.catalog, store, written.job_id).remaining == 0


def test_the_drainer_delivers_in_a_process_of_its_own(written: Written, store: str) -> None:
    drainer = Drainer(written.catalog.url, written.job_id, store)
    drainer.start()
    process = drainer._process
    drainer.start()
    assert drainer._process is process
    assert process is not None
    # Ctrl-C reaches a process group; Linux may share the processors out by session, before all priorities.
    assert os.getpgid(process.pid) == process.pid
    assert os.getsid(process.pid) == os.getsid(0)
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == NICENESS
    assert drainer.finish(patience=90) == 0
    mirrors = mirrors_of(written.catalog, written.job_id, store)
    assert mirrors is not None
    link = mirrors.url("http://127.0.0.1:5000")
    assert "/#/experiments/" in link
    assert link.endswith("workflowType=machine_learning")
    assert len(runs(store)) > 10
