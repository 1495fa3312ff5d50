"""The final scoring: what the search chose, on the test split, once."""

# Ray's own annotations are partial.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from ..core.job import Stage
from ..core.program import Program
from ..storage.ledger import Ledger
from ..storage.models import TrialRow
from .runtime import Remit
from .trainable import seed_all
from .trial import Json, TrialOrder, WorkerTrial, describe, finite

log = logging.getLogger(__name__)


def score_on_test(
    stage: Stage,
    remit: Remit,
    chosen: Sequence[tuple[TrialRow, Mapping[str, tuple[str, str]]]],
    ledger: Ledger,
) -> None:
    """Let the stage's program score each chosen trial from its artifacts; record what it says.

    A program without a `test` of its own scores nothing. One that fails is logged: the search's
    results stand without it.
    """
    if type(stage.program).test is Program.test or not chosen:
        return
    remote: Any = ray.remote(_score).options(num_cpus=stage.resources.cpu, num_gpus=stage.resources.gpu)
    pending = {remote.remote(remit.data(), _order(row, files).data()): row for row, files in chosen}
    while pending:
        ready, _ = ray.wait(list(pending), num_returns=1)
        row = pending.pop(ready[0])
        result: Json = ray.get(ready[0])
        if "error" in result:
            log.warning(
                "trial %d could not be scored on the test split: %s",
                row.number,
                result["error"]["message"],
            )
        elif result["metrics"]:
            ledger.tested(row.id, result["metrics"])


def _order(row: TrialRow, files: Mapping[str, tuple[str, str]]) -> TrialOrder:
    return TrialOrder(
        row.id, row.number, row.candidate, row.seed, row.attempts, row.values, {"": dict(files)}
    )


def _score(remit: Json, order: Json) -> Json:
    known = Remit.of(remit)
    job = known.job()
    stage = known.stage_of(job)
    trial = WorkerTrial(
        TrialOrder(**order),
        stage,
        known.task(job, open_test=True),
        job.registry,
        known.place(),
        lambda _: None,
    )
    seed_all(trial.seed)
    try:
        return {"metrics": finite(stage.program.test(trial) or {})}
    except Exception as error:  # noqa: BLE001 - the user's code; reported with the trial's number
        return {"error": describe(error)}
