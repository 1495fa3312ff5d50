"""The plan of a job: what it says, and that it makes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from orchestrate.core import SpecError, resolve
from orchestrate.core.registry import Registry
from orchestrate.scheduler.cluster import Capacity, check_fit, cluster_capacity, concurrency
from orchestrate.scheduler.driver import create
from orchestrate.scheduler.plan import earlier, forecasts, plan
from orchestrate.scheduler.settings import Settings
from orchestrate.storage.artifacts import ArtifactStore
from orchestrate.storage.catalog import Catalog
from tests.scheduler.conftest import job_data

TWO_CORES = Capacity(2, 0, 2, 0)


def network_job(**stage: object) -> dict[str, object]:
    return {
        "name": "networks",
        "space": {"name": "nasbench201", "width": 4, "depth": 1},
        "objectives": [{"name": "accuracy"}, {"name": "flops"}],
        "stages": [
            {
                "name": "search",
                "program": {"name": "train", "epochs": 2},
                "sampler": {"name": "random"},
                "trials": 10,
                **stage,
            }
        ],
    }


def test_a_plan_rehearses_one_candidate_and_estimates_the_time(tmp_path: Path) -> None:
    job = resolve(network_job(), Registry.discover())
    made = plan(job, TWO_CORES)
    stage = made.stages[0]
    assert made.ok
    assert stage.space_size == 15_625
    assert (stage.trials, stage.workers, stage.concurrency) == (10, 1, 2)
    assert stage.rehearsal is not None
    assert stage.rehearsal.seconds_per_trial is not None
    assert stage.rehearsal.values["flops"] > 0
    assert stage.seconds == pytest.approx(stage.rehearsal.seconds_per_trial * 5)
    assert {(kind, name) for kind, name, _ in made.plugins} == {
        ("task", "digits"),
        ("space", "nasbench201"),
        ("program", "train"),
        ("sampler", "random"),
        ("objective", "accuracy"),
        ("objective", "flops"),
    }
    assert list(tmp_path.iterdir()) == []


def test_a_rehearsal_shows_what_would_go_wrong() -> None:
    data = network_job()
    data["task"] = {"name": "image-folder", "root": "/nowhere", "size": 8}
    made = plan(resolve(data, Registry.discover()), TWO_CORES)
    assert not made.ok
    assert made.stages[0].rehearsal is not None
    assert "/nowhere" in made.stages[0].rehearsal.error


@pytest.mark.parametrize(
    ("resources", "workers", "wanted", "expected"),
    [
        ({"cpu": 1}, None, None, 8),
        ({"cpu": 1}, None, 3, 3),
        ({"cpu": 2}, None, None, 4),
        ({"cpu": 0.5}, None, None, 16),
        ({"cpu": 1, "gpu": 0.25}, None, None, 8),
        ({"cpu": 1, "gpu": 1}, None, None, 2),
        ({"cpu": 1}, 3, None, 2),
        ({"cpu": 0}, None, None, 16),
    ],
)
def test_concurrency_is_what_fits(
    resources: dict[str, float], workers: int | None, wanted: int | None, expected: int
) -> None:
    stage: dict[str, object] = {"resources": resources}
    if workers:
        stage["workers"] = {"count": workers, "strategy": {"name": "all-reduce"}}
    if wanted:
        stage["concurrency"] = wanted
    job = resolve(job_data("bowl", **stage), Registry.discover())
    assert concurrency(job.stages[0], Capacity(8, 2, 8, 2)) == expected


def test_what_can_never_fit_is_refused() -> None:
    workers = {"count": 3, "strategy": {"name": "all-reduce"}}
    job = resolve(job_data("bowl", workers=workers), Registry.discover())
    with pytest.raises(SpecError, match=r"3 workers of 1 cpu each.*the cluster 2"):
        check_fit(job, TWO_CORES)
    job = resolve(job_data("bowl", resources={"cpu": 3}), Registry.discover())
    with pytest.raises(SpecError, match="the largest node has 2 and the cluster 4"):
        check_fit(job, Capacity(4, 0, 2, 0))


def test_a_plan_tells_what_the_stage_s_strategy_is_expected_to_bring() -> None:
    coding = {"name": "gradient-coding", "inject": {"p_slow": 0.1, "seconds": 2.0, "base": 0.2}}
    job = resolve(job_data("bowl", workers={"count": 4, "strategy": coding}), Registry.discover())
    made = plan(job, Capacity(4, 0, 4, 0))
    forecast = made.stages[0].forecast
    assert made.stages[0].strategy == "gradient-coding"
    assert forecast is not None
    assert forecast.gain > 0.3
    assert made.data()["stages"][0]["forecast"]["choice"] == forecast.choice
    without = {"count": 4, "strategy": {"name": "gradient-coding"}}
    assert forecasts(resolve(job_data("bowl", workers=without), Registry.discover()), None) == {}


def test_earlier_runs_of_the_same_job_and_stage_are_found(
    tmp_path: Path, settings: Settings, catalog: Catalog
) -> None:
    workers = {"count": 4, "strategy": {"name": "gradient-coding"}}
    data = job_data("bowl", 1, workers=workers)
    job = resolve(data, Registry.discover())
    assert earlier(job.stages[0], job, Settings(home=tmp_path / "elsewhere")) == []
    kept: list[Path] = []
    for number, stage in enumerate(("search", "search", "other")):
        ledger = create(job, yaml.safe_dump(data), settings)
        source = tmp_path / "rounds.jsonl"
        source.write_text(f"{number}\n", encoding="utf-8")
        saved = ArtifactStore(settings.artifacts).put(source, ledger.job_id, stage, 0, "rounds")
        ledger.add_artifacts([saved])
        if stage == "search":
            kept.append(Path(saved.uri))
    assert earlier(job.stages[0], job, settings) == kept[::-1]


def test_an_island_s_processes_sit_on_one_node() -> None:
    workers = {"count": 2, "processes": 2, "strategy": {"name": "gradient-coding"}}
    job = resolve(job_data("bowl", workers=workers), Registry.discover())
    check_fit(job, Capacity(4, 0, 2, 0))
    assert concurrency(job.stages[0], Capacity(9, 0, 2, 0)) == 2
    with pytest.raises(SpecError, match="2 workers of 2 cpu each, but the largest node has 1"):
        check_fit(job, Capacity(4, 0, 1, 0))
    assert plan(job, Capacity(4, 0, 2, 0)).stages[0].cpu == 2


def test_only_coded_workers_may_be_islands() -> None:
    workers = {"count": 2, "processes": 2, "strategy": {"name": "all-reduce"}}
    with pytest.raises(SpecError, match="'all-reduce' makes one process of each worker"):
        resolve(job_data("bowl", workers=workers), Registry.discover())


def test_a_cluster_that_is_just_starting_is_given_time(monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"Alive": True, "Resources": {"CPU": 2.0}}
    found: list[list[dict[str, object]]] = [[], [{**node, "Alive": False}], [node]]
    monkeypatch.setattr("ray.nodes", lambda: found.pop(0))
    assert cluster_capacity() == TWO_CORES
