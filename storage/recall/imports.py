"""Makes trials that ran without recall known to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, select

from ...core.fingerprint import Print
from ..engine import writing
from ..models import EvaluationRow, StageRow, TrialRow
from .decide import open_memory, place_trials
from .decisions import RecallPolicy
from .memory import Memory
from .publish import Outcome, publish


@dataclass(frozen=True)
class Earlier:
    """A finished trial, by id, with the print it would have had."""

    trial_id: int
    print: Print


def imported(
    engine: Engine, earlier: Sequence[Earlier], policy: RecallPolicy, fields: Mapping[str, Any]
) -> int:
    """Add finished trials' results to a memory that all jobs share; those in it already stay as they are.
    `fields` is what its context is a digest of.

    Returns how many were added: a second import of the same adds none.
    """
    with writing(engine) as session:
        connection = session.connection()
        open_memory(connection, policy, "", fields)
        memory = Memory(connection, policy.context, "")
        memory.load((one.print for one in earlier), ())
        places = {one.trial_id: memory.place(one.print) for one in earlier if one.print.keys}
        memory.save()
        rows = connection.execute(
            select(TrialRow, StageRow.job_id)
            .join(StageRow, StageRow.id == TrialRow.stage_id)
            .where(TrialRow.id.in_(places), TrialRow.state == "finished")
            .order_by(TrialRow.id)
        ).all()
        present = {
            (row.class_id, row.trial_id)
            for row in connection.execute(
                select(EvaluationRow.class_id, EvaluationRow.trial_id).where(
                    EvaluationRow.trial_id.in_(places)
                )
            )
        }
        added = 0
        for row in rows:
            known = places[row.id][0]
            if (known.id, row.id) in present or not policy.shared <= row.values.keys():
                continue
            spent = sum(float(row.timings.get(part, 0.0)) for part in ("run", "measure"))
            outcome = Outcome(row.id, known.id, "finished", row.metrics, row.values, spent)
            publish(connection, row.job_id, [outcome], policy)
            added += 1
        homeless = {row.id: places[row.id] for row in rows if row.class_id is None}
        place_trials(connection, homeless)
        return added
