"""Records what a sampler asks and carries out the decision on each, inside the ledger's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, insert

from ..core.fingerprint import NO_PRINT, Print
from . import transitions
from .drafts import Proposal
from .models import Json, TrialRow, table_of
from .recall import (
    Decision,
    Failed,
    Infeasible,
    Launch,
    Question,
    Recall,
    RecallPolicy,
    Refuse,
    Wait,
    decide,
)
from .transitions import Ending, Trial

_INSERT = insert(table_of(TrialRow)).returning(TrialRow.number, TrialRow.id)


def record(connection: Connection, stage_id: int, context: str, proposals: Sequence[Proposal]) -> list[Trial]:
    """Insert the proposals as queued trials, and log the asks."""
    now = transitions.clock()
    rows: list[Json] = [
        {
            "stage_id": stage_id,
            "number": proposal.number,
            "state": "queued",
            "candidate": dict(proposal.candidate),
            "digest": proposal.candidate.digest,
            "seed": proposal.seed,
            "metrics": {},
            "values": dict(proposal.values),
            "keys": [[key.tier, key.digest] for key in proposal.print.keys],
            "timings": dict(proposal.timings),
            "created_at": now,
        }
        for proposal in proposals
    ]
    ids = {row.number: row.id for row in connection.execute(_INSERT, rows)}
    trials = [
        Trial(
            ids[proposal.number],
            stage_id,
            "",
            context,
            proposal.number,
            "queued",
            0,
            None,
            dict(proposal.values),
            dict(proposal.timings),
            proposal.seed,
            proposal.candidate.digest,
        )
        for proposal in proposals
    ]
    transitions.log_asks(
        connection,
        [(stage_id, trial.id, proposal.after) for trial, proposal in zip(trials, proposals, strict=True)],
    )
    return trials


def settle(
    connection: Connection,
    job_id: str,
    trials: Sequence[Trial],
    recall: RecallPolicy | None,
    begun: float,
    proposals: Sequence[Proposal] = (),
) -> list[Decision]:
    """Decide on queued trials and carry it out: they are launched, wait, or are over.

    Args:
        connection: the ledger's transaction.
        job_id: the job that asks.
        trials: what to decide on.
        recall: the stage's rules, if it recalls.
        begun: when the transaction began; recall's time is counted from it.
        proposals: what was found out about the trials, one each, where they are new.
    """
    refused: dict[int, Infeasible | Failed] = {}
    prints: dict[int, Print] = {}
    for trial, proposal in zip(trials, proposals, strict=bool(proposals)):
        prints[trial.id] = proposal.print
        if proposal.error is not None:
            refused[trial.id] = Failed(trial.id, reason_of(proposal.error), proposal.error)
        elif proposal.infeasible is not None:
            refused[trial.id] = Infeasible(trial.id, proposal.infeasible)
    questions = [
        Question(
            *(trial.id, trial.attempts + 1, prints.get(trial.id, NO_PRINT), trial.values),
            *(trial.digest, trial.seed, trial.known),
            hash_seconds=float(trial.timings.get("fingerprint", 0.0)),
            waited=trial.waited,
        )
        for trial in trials
        if trial.id not in refused
    ]
    made: dict[int, Decision] = {
        decision.trial_id: decision for decision in decide(connection, questions, recall, job_id)
    }
    decisions = [refused.get(trial.id) or made[trial.id] for trial in trials]
    pairs = list(zip(trials, decisions, strict=True))
    launched = [(trial, decision) for trial, decision in pairs if isinstance(decision, Launch)]
    # A failed examination counts as an attempt, whose row keeps the traceback.
    launched += [
        (trial, Launch(trial.id, trial.attempts + 1, decision.reason))
        for trial, decision in pairs
        if isinstance(decision, Failed)
    ]
    transitions.launch(connection, job_id, launched)
    transitions.wait(connection, [(trial, why) for trial, why in pairs if isinstance(why, Wait)])
    spent = {"recall": (perf_counter() - begun) / len(trials)}
    endings = [
        _timed(_answered(trial, decision), spent)
        for trial, decision in pairs
        if isinstance(decision, Recall | Infeasible | Refuse | Failed)
    ]
    transitions.end(connection, job_id, endings)
    return decisions


def reason_of(error: Mapping[str, Any]) -> str:
    """An error, as `scheduler.trial.describe` gives it, in a line."""
    lines = f"{error['type']}: {error['message']}".splitlines()
    more = " " + lines[1].strip() if lines[0].endswith(":") and len(lines) > 1 else ""
    return (lines[0] + more)[:500]


def _timed(ending: Ending, spent: Mapping[str, float]) -> Ending:
    return replace(ending, timings={**(ending.timings or {}), **spent})


def _answered(trial: Trial, decision: Recall | Infeasible | Refuse | Failed) -> Ending:
    if isinstance(decision, Infeasible):
        return Ending(trial, "infeasible", decision.reason)
    if isinstance(decision, Refuse):
        return Ending(trial, "failed", decision.reason, recalled_from=decision.source_id)
    if isinstance(decision, Failed):
        began = replace(trial, state="running", attempts=trial.attempts + 1)
        return Ending(began, "failed", decision.reason, error=decision.error)
    return Ending(
        trial,
        "recalled",
        decision.reason,
        decision.metrics,
        decision.values,
        recalled_from=decision.source_id,
    )
