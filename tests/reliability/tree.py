"""What MLflow shows of a job, without what differs from one run of it to the next: ids, times, attempts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from mlflow.tracking import MlflowClient

TIMES = ("time", "seconds", "progress", "cost")
SAME = ("orchestrate.state", "orchestrate.seed", "orchestrate.digest")


def tree(store: str, job_id: str, server: str | None = None) -> dict[str, Any]:
    """Runs by their path, with status, params, points of metrics, artifacts and lasting tags.

    A run that is there twice, or a point logged twice, shows. Files that a server keeps, it lists.
    """
    client, files = MlflowClient(store), MlflowClient(server or store)
    found: list[Any] = []
    for experiment in client.search_experiments():
        found += client.search_runs(
            [experiment.experiment_id], f"tags.`orchestrate.job_id` = '{job_id}'", max_results=5000
        )
    names = {run.info.run_id: run for run in found}

    def path(run: Any) -> str:
        parent = names.get(run.data.tags.get("mlflow.parentRunId", ""))
        name = str(run.info.run_name).replace(job_id, "job")
        return f"{path(parent)}/{name}" if parent else name

    twice = [name for name, count in Counter(map(path, found)).items() if count > 1]
    assert not twice, f"there twice: {twice}"
    return {
        path(run): {
            "status": run.info.status,
            "params": {k: v for k, v in run.data.params.items() if job_id not in v},
            "points": {
                name: sorted(
                    (point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)
                )
                for name in run.data.metrics
                if not name.startswith(TIMES) and not name.endswith("_seconds")
            },
            "artifacts": sorted(item.path for item in files.list_artifacts(run.info.run_id)),
            "tags": {name: run.data.tags.get(name) for name in SAME},
        }
        for run in found
    }
