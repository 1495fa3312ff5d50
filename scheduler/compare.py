"""What recall makes of two candidates, and of trials that ran without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..core.candidate import Candidate
from ..core.errors import SpecError
from ..core.fingerprint import Key, Print
from ..core.job import Job, Stage
from ..core.task import SearchView
from ..storage.catalog import Catalog
from ..storage.models import StageRow
from ..storage.recall import Earlier, imported
from .examine import Examiner
from .recalling import namespace, only_equal, recall_policy


@dataclass(frozen=True)
class Comparison:
    """Whether two candidates of a stage share results, and by what.

    `output` is the first of the signature's numbers in which they differ beyond the tolerance, or, where
    none does, the one in which they differ most; with its difference and its tolerance.
    """

    equal: bool
    tier: str | None
    reason: str
    prints: tuple[Print, Print]
    output: int | None = None
    difference: float = 0.0
    tolerance: float = 0.0
    notes: tuple[str, ...] = ()
    """What the fingerprint itself has to say."""


def compare(stage: Stage, job: Job, a: Candidate, b: Candidate) -> Comparison:
    """Compute both prints anew, and find where they part.

    Raises:
        SpecError: one of them can't be built.
    """
    examiner = Examiner(stage, job, hashing=not only_equal(stage))
    found: list[Print] = []
    for candidate in (a, b):
        examination = examiner(candidate)
        if examination.error is not None:
            message = f"{examination.error['type']}: {examination.error['message']}"
            raise SpecError(f"the candidate {candidate.json} can't be examined: {message}")
        found.append(examination.print)
    ours, theirs = found
    output, difference, tolerance = _output(ours, theirs)
    common = [key for key in ours.keys if any(_meet(key, other) for other in theirs.keys)]
    exact = next((key for key in common if key.tier == "exact"), None)
    verified = len(ours.signature) == len(theirs.signature) and difference <= tolerance
    verified = verified and ours.token == theirs.token
    where = f"output {output} differs by {difference:.3g}, tolerance {tolerance:.3g}"
    if exact is not None:
        equal, tier, reason = True, "exact", "they are the same candidate"
    elif common and verified:
        equal, tier = True, common[0].tier
        reason = f"their {tier} keys are equal" + (f"; at most, {where}" if output is not None else "")
    elif common:
        equal, tier, reason = False, common[0].tier, f"their {common[0].tier} keys are equal, but {where}"
    elif ours.token != theirs.token:
        equal, tier = False, None
        reason = f"one is of the degenerate class {ours.token}, the other of {theirs.token}"
    elif output is not None and difference <= tolerance:
        equal, tier = False, None
        reason = f"their keys differ, though their numbers agree ({where}): the hash misses this one"
    else:
        equal, tier = False, None
        reason = where if output is not None else "no key of theirs is equal, and there are no numbers"
    assert stage.fingerprint is not None
    notes = tuple(stage.fingerprint.explain(a, b, stage.space, SearchView(job.task)))
    return Comparison(equal, tier, reason, (ours, theirs), output, difference, tolerance, notes)


def _meet(a: Key, b: Key) -> bool:
    return a.tier == b.tier and not set(a.names).isdisjoint(b.names)


def _output(ours: Print, theirs: Print) -> tuple[int | None, float, float]:
    pairs = [
        (index, abs(a - b), ours.atol + ours.rtol * abs(b))
        for index, (a, b) in enumerate(zip(ours.signature, theirs.signature, strict=False))
    ]
    if not pairs:
        return None, 0.0, 0.0
    beyond = next((pair for pair in pairs if pair[1] > pair[2]), None)
    return beyond or max(pairs, key=lambda pair: pair[1] - pair[2])


def bring_in(
    catalog: Catalog,
    job: Job,
    stage: Stage,
    earlier: Job,
    earlier_stage: Stage,
    row: StageRow,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[int, int]:
    """Hash the finished trials of an earlier stage, and make them known to the recall of `stage`.

    Returns how many trials were looked at, and how many were new.

    Raises:
        SpecError: their results aren't interchangeable; the text says in what the stages differ.
    """
    if stage.fingerprint is None or stage.spec.recall is None:
        raise SpecError(f"stage {stage.spec.name!r} doesn't recall: give it a `recall`")
    if stage.spec.recall.scope != "catalog":
        raise SpecError(f"stage {stage.spec.name!r} recalls its own job's results alone: `scope: catalog`")
    fields = namespace(stage, job)
    theirs = namespace(replace(earlier_stage, fingerprint=stage.fingerprint), earlier)
    different = [name for name in fields if fields[name] != theirs[name]]
    if different:
        raise SpecError(
            f"the results of stage {row.name!r} of job {row.job_id} aren't interchangeable with those of "
            f"stage {stage.spec.name!r}: they differ in {', '.join(different)}"
        )
    policy = recall_policy(stage, fields)
    examiner = Examiner(stage, job, hashing=not only_equal(stage))
    found: list[Earlier] = []
    rows = catalog.trials(stage_id=row.id, states=("finished",))
    for count, trial in enumerate(rows, 1):
        examination = examiner(Candidate(trial.candidate))
        if examination.error is None:
            found.append(Earlier(trial.id, examination.print))
        progress(count)
    return len(rows), imported(catalog.engine, found, policy, fields)
