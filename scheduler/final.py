"""What happens to the chosen candidates at the end: one more training, and the test split, once."""

# Ray's own annotations are partial.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from ..core.candidate import Candidate
from ..core.job import Stage
from ..core.objective import StaticObjective
from ..core.parallel import Learner, local_gradient
from ..core.program import Program
from ..core.seeds import seed_all, spawn
from ..storage.artifacts import NewArtifact
from ..storage.ledger import Ledger
from ..storage.models import TrialRow
from .runtime import Remit
from .trial import Json, TrialOrder, WorkerTrial, conclude, describe, finite

if TYPE_CHECKING:
    from torch import Tensor

CONFIRM = 3
"""Node of a trial's seed tree from which its second training draws."""

Inputs = Callable[[Candidate], Mapping[str, Mapping[str, tuple[str, str]]]]
"""What earlier stages left for a candidate, by stage and kind."""

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


def confirm(stage: Stage, remit: Remit, chosen: Sequence[TrialRow], ledger: Ledger, inputs: Inputs) -> None:
    """Train each chosen candidate once more, with another seed and without recall, and record its values.

    A search that recalls can end with a lucky draw that was served again and again. What fails here is
    logged: the search's results stand without it. Files are kept for candidates that have none of their own.
    """
    remote: Any = ray.remote(_train).options(num_cpus=stage.resources.cpu, num_gpus=stage.resources.gpu)
    pending: dict[Any, TrialRow] = {}
    for row in chosen:
        order = TrialOrder(
            *(row.id, row.number, row.candidate, spawn(row.seed, CONFIRM), row.attempts, _static(stage, row)),
            artifacts=inputs(Candidate(row.candidate)),
        )
        pending[remote.remote(remit.data(), order.data(), row.attempts == 0)] = row
    while pending:
        ready, _ = ray.wait(list(pending), num_returns=1)
        row = pending.pop(ready[0])
        result: Json = ray.get(ready[0])
        if result["state"] == "finished":
            files = [NewArtifact(**artifact) for artifact in result["artifacts"]]
            ledger.confirmed(row.id, result["values"], files)
        else:
            log.warning("trial %d could not be trained once more: %s", row.number, result["error"]["message"])


def _static(stage: Stage, row: TrialRow) -> dict[str, float]:
    return {
        goal.name: row.values[goal.name]
        for goal, objective in zip(stage.goals, stage.objectives, strict=True)
        if isinstance(objective, StaticObjective) and goal.name in row.values
    }


class _Again(WorkerTrial):
    """A finished trial that is run anew: it starts from nothing, in one process, and tells nobody."""

    keeps: bool = False
    """Whether its files are wanted."""

    def restore(self) -> None:
        return None

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Keep nothing: it would take the place of the trial's own."""

    def save_artifact(self, kind: str, source: Path) -> None:
        if self.keeps:
            super().save_artifact(kind, source)

    def gradient(self, learner: Learner, samples: Tensor) -> float:
        return local_gradient(learner, samples)


def _train(remit: Json, order: Json, keeps: bool) -> Json:
    known = Remit.of(remit)
    job = known.job()
    stage = known.stage_of(job)
    trial = _Again(TrialOrder(**order), stage, known.task(job), job.registry, known.place(), lambda _: None)
    trial.keeps = keeps
    seed_all(trial.seed)
    begun = time.perf_counter()
    try:
        result: Any = stage.program.run(trial)
    except Exception as error:  # noqa: BLE001 - the user's code; reported with the trial's number
        result = error
    return conclude(trial, result, stage, time.perf_counter() - begun)


def _order(row: TrialRow, files: Mapping[str, tuple[str, str]]) -> TrialOrder:
    return TrialOrder(
        row.id, row.number, row.candidate, row.seed, row.attempts, row.values, {"": dict(files)}
    )


def _score(remit: Json, order: Json) -> Json:
    stage, trial = Remit.of(remit).trial(order, open_test=True)
    seed_all(trial.seed)
    try:
        return {"metrics": finite(stage.program.test(trial) or {})}
    except Exception as error:  # noqa: BLE001 - the user's code; reported with the trial's number
        return {"error": describe(error)}
