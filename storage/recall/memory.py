"""What is known of some classes, read in a few statements whatever their number, and changed in place.

Rows of a memory are read and written under its lock, so that of two equal candidates one leads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, false, func, insert, select, update

from ...core.fingerprint import Key, Print
from ..engine import database_time, insert_once, reading
from ..models import (
    ClaimRow,
    ClassRow,
    EvaluationRow,
    JobRow,
    NameRow,
    ReportRow,
    TrialRow,
    table_of,
)
from ..owner import known_dead

_CLASSES = table_of(ClassRow)

_COLUMNS = (
    *(ClassRow.id, ClassRow.signature, ClassRow.token, ClassRow.state, ClassRow.live, ClassRow.hits),
    *(ClassRow.since, ClassRow.floor, ClassRow.used, ClassRow.checked, ClassRow.split),
)
FIND_NAMES = (
    select(NameRow.key, *_COLUMNS)
    .join(ClassRow, ClassRow.id == NameRow.class_id)
    .where(
        NameRow.memory == bindparam("memory"),
        NameRow.key.in_(bindparam("keys", expanding=True)),
        ClassRow.state != "buried",
    )
    .order_by(NameRow.key, ClassRow.id)
)
FIND_CLASSES = select(*_COLUMNS).where(ClassRow.id.in_(bindparam("ids", expanding=True)))
FIND_CLAIMS = (
    select(
        ClaimRow.class_id,
        ClaimRow.trial_id,
        ClaimRow.job_id,
        TrialRow.state,
        JobRow.lease_owner,
        func.coalesce(JobRow.lease_expires_at > database_time(), false()).label("leased"),
    )
    .join(JobRow, JobRow.id == ClaimRow.job_id)
    .join(TrialRow, TrialRow.id == ClaimRow.trial_id)
    .where(ClaimRow.class_id.in_(bindparam("ids", expanding=True)))
    .order_by(ClaimRow.trial_id)
)
FIND_EVALUATIONS = (
    select(
        *(EvaluationRow.class_id, EvaluationRow.id, EvaluationRow.trial_id, EvaluationRow.job_id),
        *(EvaluationRow.status, EvaluationRow.metrics, EvaluationRow.values, EvaluationRow.error),
        *(EvaluationRow.steps, EvaluationRow.seconds, TrialRow.digest),
        (database_time() - EvaluationRow.at).label("age"),
    )
    .join(TrialRow, TrialRow.id == EvaluationRow.trial_id)
    .join(ClassRow, ClassRow.id == EvaluationRow.class_id)
    .where(
        EvaluationRow.class_id.in_(bindparam("ids", expanding=True)),
        EvaluationRow.id > ClassRow.floor,
        EvaluationRow.tombstone_id.is_(None),
    )
    .order_by(EvaluationRow.id)  # the first ones are served for ever, so that a resume repeats itself
)
_FIND_CURVES = select(ReportRow.trial_id, ReportRow.metrics).where(
    ReportRow.step == bindparam("step"), ReportRow.trial_id.in_(bindparam("ids", expanding=True))
)
_LATEST = select(func.max(ClassRow.used)).where(ClassRow.memory == bindparam("memory"))
_INSERT = insert(ClassRow).returning(ClassRow.id, ClassRow.used)
_STATE = ("live", "hits", "since", "floor", "used", "checked", "split")
_SAVE = (
    update(_CLASSES)
    .where(_CLASSES.c.id == bindparam("this"))
    .values({name: bindparam(name) for name in _STATE})
)


@dataclass(frozen=True)
class Claim:
    """A trial that trains the class, and whether its driver lives."""

    trial_id: int
    job_id: str
    alive: bool


@dataclass(frozen=True)
class Evaluation:
    """A result that is neither forgotten nor invalid. `curve` is its report at the step asked for."""

    id: int
    trial_id: int
    job_id: str
    status: str
    metrics: Mapping[str, float]
    values: Mapping[str, float]
    error: Mapping[str, Any] | None
    steps: int | None
    seconds: float
    digest: str
    age: float
    curve: Mapping[str, float] | None = None


@dataclass
class Known:
    """A class as it stands inside the transaction. `id` is 0 until it is written."""

    id: int = 0
    signature: Sequence[float] = ()
    token: str | None = None
    state: str = "open"
    live: bool = False
    hits: int = 0
    since: int = 0
    floor: int = 0
    used: int = 0
    checked: int = 0
    split: int = 0
    names: dict[str, str] = field(default_factory=dict[str, str])
    """Keys that lead here, as far as they were asked for, with their tiers."""
    evaluations: list[Evaluation] = field(default_factory=list[Evaluation])
    claims: list[Claim] = field(default_factory=list[Claim])

    def forget(self) -> None:
        """Drop every evaluation so far."""
        self.floor = max((one.id for one in self.evaluations), default=self.floor)
        self.since, self.live = 0, False
        self.evaluations = []


class Memory:
    """A memory under its lock, for one transaction."""

    def __init__(self, connection: Connection, name: str, job_id: str) -> None:
        self._connection = connection
        self._memory = name
        self._job_id = job_id
        self._by_key: dict[str, list[Known]] = {}
        self._by_id: dict[int, Known] = {}
        self._made: list[Known] = []
        self._new_names: list[tuple[Known, str, str]] = []
        self._changed: dict[int, Known] = {}
        lock(connection, name)
        self._clock = connection.scalar(_LATEST, {"memory": name}) or 0

    # Reading --------------------------------------------------------------------------------------

    def load(self, prints: Iterable[Print], class_ids: Iterable[int]) -> None:
        """Read the classes that the prints' keys lead to, and those of the given ids."""
        wanted = sorted({name for one in prints for key in one.keys for name in key.names})
        if wanted:
            for key, *rest in self._connection.execute(FIND_NAMES, {"memory": self._memory, "keys": wanted}):
                known = self._known(rest)
                known.names[key] = ""
                self._by_key.setdefault(key, []).append(known)
        ids = sorted(set(class_ids) - self._by_id.keys())
        if ids:
            for row in self._connection.execute(FIND_CLASSES, {"ids": ids}):
                self._known(list(row))

    def load_results(self, classes: Iterable[Known], steps: int | None) -> None:
        """Read the classes' claims and evaluations; with `steps`, longer runs' reports at that step."""
        ids = sorted({known.id for known in classes if known.id})
        if not ids:
            return
        for claim in self._connection.execute(FIND_CLAIMS, {"ids": ids}):
            # A claim of this very job stands while its trial runs: one that was queued again is decided
            # on by this driver, which must not make the two wait for each other in turn.
            own = claim.job_id == self._job_id
            alive = claim.state == "running" if own else claim.leased and not known_dead(claim.lease_owner)
            self._by_id[claim.class_id].claims.append(Claim(claim.trial_id, claim.job_id, bool(alive)))
        rows = self._connection.execute(FIND_EVALUATIONS, {"ids": ids}).all()
        curves = self._curves(rows, steps)
        for row in rows:
            self._by_id[row.class_id].evaluations.append(
                Evaluation(
                    *(row.id, row.trial_id, row.job_id, row.status, row.metrics, row.values, row.error),
                    *(row.steps, row.seconds, row.digest, row.age, curves.get(row.trial_id)),
                )
            )

    def _curves(self, rows: Sequence[Any], steps: int | None) -> dict[int, Mapping[str, float]]:
        if steps is None:
            return {}
        longer = [row.trial_id for row in rows if row.steps is not None and row.steps > steps]
        if not longer:
            return {}
        found = self._connection.execute(_FIND_CURVES, {"step": steps, "ids": longer})
        return {row.trial_id: row.metrics for row in found}

    def _known(self, columns: Sequence[Any]) -> Known:
        known = self._by_id.get(columns[0])
        if known is None:
            known = self._by_id[columns[0]] = Known(*columns)
        return known

    # Finding classes ------------------------------------------------------------------------------

    def by_id(self, class_id: int) -> Known:
        """The class of that id."""
        return self._by_id[class_id]

    def place(self, made: Print) -> tuple[Known, str]:
        """The class that a print belongs to, founded if there is none, and the tier that led to it."""
        names = list(dict.fromkeys(name for key in made.keys for name in key.names))
        for key in made.keys:
            for name in key.names:
                for known in self._by_key.get(name, ()):
                    if _agrees(key, made, known):
                        self._judge_hash(key.tier, made, known)
                        self._name(known, made, (name for name in names if name not in self._by_key))
                        return known, key.tier
        known = Known(signature=made.signature, token=made.token)
        self.use(known)
        self._made.append(known)
        self._name(known, made, names)  # even those that lead to classes it disagrees with
        return known, made.keys[0].tier

    def _name(self, known: Known, made: Print, names: Iterable[str]) -> None:
        tiers = {name: key.tier for key in made.keys for name in key.names}
        for name in list(names):
            known.names[name] = tiers[name]
            self._new_names.append((known, name, tiers[name]))
            self._by_key.setdefault(name, []).append(known)

    def _judge_hash(self, tier: str, made: Print, known: Known) -> None:
        """Count how often the functional key misses what the structural one proves equal."""
        functional = [key for key in made.keys if key.tier == "functional"]
        if tier == "structural" and functional:
            known.checked += 1
            known.split += not any(name in known.names for key in functional for name in key.names)
            self.change(known)

    # Changing -------------------------------------------------------------------------------------

    def change(self, known: Known) -> None:
        """Have the class written at the end."""
        self._changed[id(known)] = known

    def use(self, known: Known) -> None:
        """Note that the class was asked for or added to."""
        self._clock += 1
        known.used = self._clock
        self.change(known)

    def save(self) -> None:
        """Write what was founded, named and changed."""
        if self._made:
            rows = [
                {
                    "memory": self._memory,
                    "signature": list(known.signature),
                    "token": known.token,
                    "state": "open",
                    "reason": "",
                    "created_at": datetime.now(UTC),
                    **{name: getattr(known, name) for name in _STATE},
                }
                for known in self._made
            ]
            # Rows come back in any order; `used` tells them apart, since the memory is locked.
            ids = {row.used: row.id for row in self._connection.execute(_INSERT, rows)}
            for known in self._made:
                known.id = ids[known.used]
        founded = {id(known) for known in self._made}
        changes = [
            {"this": known.id, **{name: getattr(known, name) for name in _STATE}}
            for ident, known in self._changed.items()
            if ident not in founded
        ]
        if changes:
            self._connection.execute(_SAVE, changes)
        names = [
            {"memory": self._memory, "key": key, "class_id": known.id, "tier": tier}
            for known, key, tier in self._new_names
        ]
        insert_once(self._connection, table_of(NameRow), names)


def _agrees(key: Key, made: Print, known: Known) -> bool:
    """Whether a matching key stands up to the numbers behind it, where there are any. Equal candidates
    need no proof.
    """
    if key.tier == "exact" or (key.tier == "structural" and not made.signature):
        return True  # a print without numbers was made at sight, or can't be run
    if made.token != known.token or len(made.signature) != len(known.signature):
        return False
    return all(
        abs(ours - theirs) <= made.atol + made.rtol * abs(theirs)
        for ours, theirs in zip(made.signature, known.signature, strict=True)
    )


def familiar(engine: Engine, memory: str, keys: Sequence[Key]) -> bool:
    """Whether the keys lead to one class alone, and it has numbers: then no other key is needed to find it.

    Decides nothing: by the time it is asked again, under the memory's lock, the class may be buried.
    """
    names = sorted({name for key in keys for name in key.names})
    with reading(engine) as session:
        rows = session.connection().execute(FIND_NAMES, {"memory": memory, "keys": names}).all()
    return len({row.id for row in rows}) == 1 and bool(rows[0].signature)


def lock(connection: Connection, memory: str) -> None:
    """Be the only one to decide in a memory until the transaction ends (SQLite has one writer anyway)."""
    if connection.dialect.name == "postgresql":
        number = int.from_bytes(blake2b(memory.encode(), digest_size=8).digest(), "big", signed=True)
        connection.execute(select(func.pg_advisory_xact_lock(number)))
