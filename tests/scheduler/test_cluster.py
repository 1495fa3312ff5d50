"""Several Ray nodes on this machine: trials spread over them, and one of them dies."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.cluster_utils import Cluster
from ray.util import placement_group_table

from orchestrate.core import TrialEvent, hookimpl, resolve
from orchestrate.core.registry import Registry
from orchestrate.plugins.gradient_coding.records import Journal
from orchestrate.plugins.gradient_coding.replay import replay
from orchestrate.scheduler.driver import submit
from orchestrate.scheduler.settings import Settings
from orchestrate.storage.catalog import Catalog
from tests.scheduler.conftest import assert_steady, job_data

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ROOT = str(Path(__file__).parents[2])


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[Cluster]:
    ray.shutdown()
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([ROOT, *before.split(os.pathsep)])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    os.environ["PYTHONPATH"] = before


def run(
    cluster: Cluster, tmp_path: Path, data: dict[str, Any], *listeners: object
) -> tuple[Any, list[Any], Catalog]:
    settings = Settings(home=tmp_path / "home", address=cluster.address, lineage=False)
    job = resolve(data, Registry.discover())
    for listener in listeners:
        job.registry.listen(listener)
    outcome = submit(job, yaml.safe_dump(data), settings)
    catalog = Catalog.open(settings.catalog_url)
    return outcome, catalog.trials(outcome.job_id), catalog


def test_a_trials_workers_spread_over_nodes_and_agree(three_nodes: Cluster, tmp_path: Path) -> None:
    workers = {"count": 3, "strategy": {"name": "all-reduce"}}
    outcome, rows, _ = run(three_nodes, tmp_path, job_data("gradients", 2, workers=workers))
    assert outcome.state == "finished", outcome.reason
    alone = run(three_nodes, tmp_path, job_data("gradients", 1))[1]
    for row in rows:
        assert row.metrics == pytest.approx(alone[0].metrics, abs=1e-10, rel=1e-10)


def test_coded_workers_spread_over_nodes_and_agree(three_nodes: Cluster, tmp_path: Path) -> None:
    workers = {"count": 3, "strategy": {"name": "gradient-coding", "stragglers": 1}}
    outcome, rows, catalog = run(three_nodes, tmp_path, job_data("steady", 2, workers=workers, batch=2))
    assert outcome.state == "finished", outcome.reason
    alone = run(three_nodes, tmp_path, job_data("steady", 2))[1]
    for row, other in zip(rows, alone, strict=True):
        shared = {name: row.metrics[name] for name in other.metrics}
        assert shared == pytest.approx(other.metrics, abs=1e-10, rel=1e-10)
    (journal,) = (file for file in catalog.artifacts_of(rows[0].id) if file.kind == "rounds")
    assert len(Journal.read(Path(journal.uri)).uses[0].nodes) == 3


def test_a_dead_node_loses_no_trial(three_nodes: Cluster, tmp_path: Path) -> None:
    steps = tmp_path / "steps"
    steps.mkdir()
    victim = next(iter(three_nodes.worker_nodes))

    class Killer:
        @hookimpl
        def trial_finished(self, event: TrialEvent) -> None:
            if event.number == 1:
                three_nodes.remove_node(victim, allow_graceful=False)

    data = job_data(f"resumable {{folder: {steps}, steps: 8, sleep: 0.2}}", 9)
    outcome, rows, catalog = run(three_nodes, tmp_path, data, Killer())
    assert outcome.state == "finished", outcome.reason
    assert Counter(row.state for row in rows) == {"finished": 9}
    ends = Counter(attempt.state for row in rows for attempt in catalog.attempts(row.id))
    assert ends["lost"] >= 1
    assert ends["finished"] == 9
    for row in rows:
        assert row.metrics["loss"] == pytest.approx(sum(range(1, 9)) * row.candidate["x"], rel=1e-6)


class Operator:
    """Takes a node with workers away, and gives another one when the rest go on without."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._left = 2

    @hookimpl
    def trial_reported(self, event: TrialEvent, metrics: Mapping[str, float], step: int) -> None:
        if self._left == 2 and step >= 5:
            (group,) = (one for one in placement_group_table().values() if one["state"] == "CREATED")
            lost = {group["bundles_to_node_id"][index] for index in (1, 2)}
            victim = next(one for one in self._cluster.worker_nodes if one.node_id in lost)
            self._cluster.remove_node(victim, allow_graceful=False)
            self._left = 1
        elif self._left == 1 and metrics["workers/present"] == 2:
            with chdir(ROOT):  # here it is a folder of the job's, which its processes would outlive
                self._cluster.add_node(num_cpus=1)
            self._left = 0


def test_coded_workers_go_on_without_a_node_until_there_is_another(
    three_nodes: Cluster, tmp_path: Path
) -> None:
    while len(three_nodes.worker_nodes) < 2:
        three_nodes.add_node(num_cpus=1)
    coding = {"name": "gradient-coding", "scheme": "uncoded", "replace_after": 8, "inject": {"base": 0.2}}
    data = job_data("steady {steps: 900, until_back: true}", 1, workers={"count": 3, "strategy": coding})
    outcome, (row,), catalog = run(three_nodes, tmp_path, data, Operator(three_nodes))
    assert outcome.state == "finished", outcome.reason
    assert [attempt.state for attempt in catalog.attempts(row.id)] == ["finished"]
    (file,) = (file for file in catalog.artifacts_of(row.id) if file.kind == "rounds")
    journal = Journal.read(Path(file.uri))
    assert [len(use.place) for use in journal.uses] == [3, 2, 3]
    assert not [step.difference for step in replay(journal) if step.difference]
    assert_steady(row, tmp_path, sum(len(record.decoded) for record in journal.rounds))
