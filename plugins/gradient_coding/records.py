"""What happened in each round, as data: for the trial's artifacts, for a picture, and for replay.

A journal is a file of JSON lines: `use` lines name a scheme and where its rounds begin, the others
are rounds. Workers are counted from 0 in the group's order; a scheme's code positions are mapped to
workers by `place`.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ArtifactError
from .schemes import Scheme
from .stragglers.models import Pattern
from .stragglers.statistics import describe
from .waiting import Ended, Wait

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoded:
    """A gradient that was recovered: from how many vectors, how exactly, in how many seconds."""

    job: int
    model: int
    residual: float
    terms: int
    seconds: float
    exact: bool = True


@dataclass
class Round:
    """One round. Seconds count from its `start`, on the group's clock."""

    number: int
    job: int | None
    model: int | None = None
    start: float = 0.0
    seconds: float = 0.0
    fastest: float = 0.0
    window: float | None = None
    """When the wait for more than a few ended; None: too few replied to tell."""
    waited: float = 0.0
    """Seconds that the round stayed open after its window."""
    cause: str = ""
    loads: list[float] = field(default_factory=list[float])
    """By worker: the part of one job's samples that it had; 0 for one with nothing to do."""
    arrivals: list[float | None] = field(default_factory=list[float | None])
    """By worker: when its whole reply was in; None: not in this round."""
    stragglers: list[int] = field(default_factory=list[int])
    early: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    """Worker, job and slot of parts that were in before the worker's whole reply, and of use."""
    banked: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    """Worker, job and slot of late parts that were of use."""
    replaced: list[int] = field(default_factory=list[int])
    """Workers whose process was replaced, dead, silent or slow."""
    chronic: list[int] = field(default_factory=list[int])
    """Those of them that were slow all the time."""
    given_up: list[int] = field(default_factory=list[int])
    """Jobs given up before this round opened."""
    dropped: list[int] = field(default_factory=list[int])
    """Jobs given up while it was open: their learner raised, or they begin anew with fewer workers."""
    decoded: list[Decoded] = field(default_factory=list[Decoded])
    bytes: int = 0
    """Received by the master."""
    master: float = 0.0
    """Seconds in which the master published, sent and decoded."""

    @property
    def partial(self) -> list[tuple[int, int, int]]:
        """The early parts of stragglers: nothing else of their replies came in time."""
        return [part for part in self.early if part[0] in self.stragglers]

    def end(self, ended: Ended, stragglers: Iterable[int]) -> None:
        """Note how the round ended."""
        self.seconds, self.fastest, self.waited = ended.duration, ended.fastest, ended.waited
        self.window = ended.window if math.isfinite(ended.window) else None
        self.cause = self.cause or str(ended.cause)
        self.stragglers = list(stragglers)


@dataclass(frozen=True)
class Use:
    """From the round after `base` on, a scheme: its name and parameters, the seed and digest of its code, and
    its workers' places.

    `place` has the worker of each code position, without those that are gone; `nodes` the workers' nodes,
    each once.
    """

    base: int
    scheme: Mapping[str, Any]
    place: Sequence[int]
    wait: Mapping[str, Any]
    nodes: Sequence[str]
    reason: str = ""


class Journal:
    """The rounds of a session."""

    def __init__(self) -> None:
        self.entries: list[Use | Round] = []
        self._files: Sequence[Path] = ()

    @property
    def rounds(self) -> list[Round]:
        """Its rounds, in order."""
        return [entry for entry in self.entries if isinstance(entry, Round)]

    @property
    def uses(self) -> list[Use]:
        """The schemes, in order."""
        return [entry for entry in self.entries if isinstance(entry, Use)]

    def use(
        self,
        scheme: Scheme,
        place: Sequence[int],
        wait: Wait,
        base: int,
        nodes: Sequence[str],
        reason: str,
    ) -> None:
        """Note that a scheme is used from now on."""
        described = scheme.describe()
        if (code := getattr(scheme, "code", None)) is not None:
            described["code"] = code.describe()
        if (allowed := getattr(scheme, "approximation", None)) is not None:
            described["approximation"] = asdict(allowed)
        self.add(Use(base, described, list(place), asdict(wait), list(dict.fromkeys(nodes)), reason))

    def add(self, entry: Use | Round) -> None:
        """Note a round, or a scheme."""
        self.entries.append(entry)
        self._append([entry])

    def keep(self, files: Sequence[Path]) -> None:
        """Write to these files too what is noted, so far and from now on: a line at a time, so that a
        process that is killed leaves all rounds that it ended.
        """
        self._files = files
        self._append(self.entries)

    def _append(self, entries: Sequence[Use | Round]) -> None:
        text = "".join(map(_line, entries)) if self._files else ""
        try:
            for path in self._files:
                with path.open("a", encoding="utf-8") as file:
                    file.write(text)
        except OSError as error:  # a full disk must not end a training
            log.warning("rounds are no longer written down as they happen: %s", error)
            self._files = ()

    def write(self, path: Path) -> None:
        """Write the journal as JSON lines."""
        path.write_text("".join(map(_line, self.entries)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Journal:
        """Read a journal. A last line that was cut off, as by a kill, is left out.

        Raises:
            ArtifactError: it isn't one.
        """
        journal = cls()
        try:
            for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
                ((kind, data),) = json.loads(line).items()
                if kind == "use":
                    journal.entries.append(Use(**data))
                else:
                    data["decoded"] = [Decoded(**one) for one in data["decoded"]]
                    for late in ("early", "banked"):
                        data[late] = [tuple(one) for one in data.get(late, ())]
                    journal.entries.append(Round(**data))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArtifactError(f"{path} is no journal of gradient coding rounds: {error}") from error
        if not journal.rounds:
            raise ArtifactError(f"{path} holds no round of gradient coding: none had ended")
        return journal

    @property
    def pattern(self) -> Pattern:
        """Who straggled, boolean (rounds, workers)."""
        rounds = self.rounds
        masks = np.zeros((len(rounds), len(rounds[0].arrivals) if rounds else 0), dtype=bool)
        for row, record in zip(masks, rounds, strict=True):
            row[record.stragglers] = True
        return masks

    def summary(self) -> dict[str, float]:
        """Figures of the whole session, by name."""
        rounds = self.rounds
        if not rounds:
            return {}
        decoded = [one for record in rounds for one in record.decoded]
        seconds = sum(record.seconds for record in rounds)
        bubbles = sum(record.seconds for record in rounds if record.job is None)
        slots = sum(len(record.arrivals) for record in rounds)
        told = describe(self.pattern)
        chain = {"p_slow": told.chain.p_slow, "p_normal": told.chain.p_normal} if told.chain else {}
        return {
            "rounds": len(rounds),
            "present": len(self.uses[-1].place) if self.uses else 0,
            "round_seconds": seconds / len(rounds),
            "straggler_share": sum(len(record.stragglers) for record in rounds) / slots,
            "waited_share": sum(record.waited for record in rounds) / seconds if seconds else 0.0,
            "bubble_share": bubbles / seconds if seconds else 0.0,
            "banked": sum(len(record.banked) for record in rounds),
            "partial": sum(len(record.partial) for record in rounds),
            "replaced": sum(len(record.replaced) for record in rounds),
            "chronic": sum(len(record.chronic) for record in rounds),
            "longest_burst": max(told.bursts, default=0),
            **chain,
            "master_share": sum(record.master for record in rounds) / seconds if seconds else 0.0,
            "decode_ms": 1e3 * sum(one.seconds for one in decoded) / len(decoded) if decoded else 0.0,
            "largest_residual": max((one.residual for one in decoded if one.exact), default=0.0),
            "inexact": sum(not one.exact for one in decoded),
            "megabytes": sum(record.bytes for record in rounds) / 1e6,
        }


def _line(entry: Use | Round) -> str:
    kind = "use" if isinstance(entry, Use) else "round"
    return json.dumps({kind: asdict(entry)}, separators=(",", ":")) + "\n"
