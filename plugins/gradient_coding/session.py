"""Rounds with real gradients: drives a scheme over a group of workers, for one network or several.

The master's side of gradient coding. The same code runs on a cluster and on a virtual clock, since it
knows of workers only what `WorkerGroup` offers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from ...core import Learner, LostError, Reply, TrialError, WorkerGroup
from ...core.training.replica import Publisher, Replica
from .codes.base import Floats
from .picture import draw
from .planning import Planner
from .records import Decoded, Journal, Round
from .roster import LOOK, Roster
from .rules import check_batch_norm
from .schemes import Assignment, Decoding, Part, cut
from .vectors import Layout, Vector, combine
from .waiting import Cause, Rounds
from .worker import Indices, Sent, Work, compute

JOURNAL = "rounds.jsonl"
Pause = Callable[[int, int, float], float]
"""Seconds that a worker idles before a round's work, by round, worker and load: injected delays."""


def no_pause(number: int, worker: int, load: float) -> float:  # noqa: ARG001
    """Injects no delay."""
    return 0.0


@dataclass(frozen=True)
class Setting:
    """How a session goes about it, whatever the scheme."""

    piece: int | None = None
    """Most samples a worker computes at once."""
    statistics: bool = False
    """Whether BatchNorm may train, on chunks."""
    replace_after: float = 60.0
    """Seconds of silence after which a worker is replaced, and of a missing process after which it is left
    out."""
    slow: tuple[float, int] = (0.0, 1)
    """Speed relative to the fastest worker's below which one is replaced too, and of how many tasks."""
    pause: Pause = no_pause
    seed: int = 0
    """Of the workers' places in the code."""


@dataclass
class _Job:
    model: int
    learner: Learner
    samples: Tensor
    replica: Replica
    prove: bool
    chunks: list[Indices] = field(default_factory=list[Indices])
    parts: dict[tuple[int, int], Part] = field(default_factory=dict[tuple[int, int], Part])
    """What was asked for, by code position and slot."""
    vectors: dict[tuple[int, int], Vector] = field(default_factory=dict[tuple[int, int], Vector])
    """What has come of it."""


class Session:
    """Makes gradients for models that each have one under way at most, as many as were opened.

    Args:
        group: the workers.
        planner: chooses the scheme.
        models: how many there are.
        setting: how rounds are run.
    """

    def __init__(
        self,
        group: WorkerGroup,
        planner: Planner,
        models: int = 1,
        setting: Setting | None = None,
    ) -> None:
        self.group = group
        self.setting = setting or Setting()
        self.models = models
        self.journal = Journal()
        self._planner = planner
        self._publisher = Publisher(group)
        self._roster = Roster(group, self.setting.replace_after, self.setting.slow)  # waits for them to start
        self._asked: deque[_Job] = deque()
        self._publishing = 0.0  # seconds of the master's
        self._jobs: dict[int, _Job] = {}
        self._failed: list[tuple[int, Exception]] = []
        self._dropped: list[int] = []
        self._proven: set[int] = set()
        self._base = 0  # rounds of the schemes before this one
        self._use()

    def _use(self) -> None:
        self._place, change = self._roster.settle(self.setting.seed)
        self.positions = {worker: position for position, worker in enumerate(self._place)}
        """By worker: its code position. Those that were left out have none."""
        chosen = self._planner.choose(max(1, self.models), len(self._place))
        self.scheme = chosen.scheme
        self._clock = Rounds(chosen.scheme, chosen.wait)
        nodes = [self.group.nodes[worker] for worker in self._place]
        reason = f"{change}; {chosen.reason}" if change else chosen.reason
        self.journal.use(chosen.scheme, self._place, chosen.wait, self._base, nodes, reason)

    # Asking ---------------------------------------------------------------------------------------

    def submit(self, model: int, learner: Learner, samples: Tensor) -> None:
        """Ask for the mean gradient over `samples`, int64 (n,). `advance` delivers it.

        Raises:
            TrialError: the network's BatchNorm would make it another one, or the learner can't travel.
        """
        if not self.setting.statistics:
            check_batch_norm(learner)
        begun = time.perf_counter()
        replica = self._publisher.publish(learner)
        self._publishing += time.perf_counter() - begun
        self._asked.append(_Job(model, learner, samples, replica, model not in self._proven))
        self._proven.add(model)

    def retire(self, model: int) -> None:
        """Hear that a model asks for no more gradients; one under way is given up."""
        self.models -= 1
        self._planner.retire(model)
        self._asked = deque(one for one in self._asked if one.model != model)
        for number in [number for number, job in self._jobs.items() if job.model == model]:
            self._drop(number)

    @property
    def waiting(self) -> bool:
        """Whether a gradient was asked for and not delivered."""
        return bool(self._asked or self._jobs or self._failed)

    def metrics(self) -> dict[str, float]:
        """Figures of the rounds so far."""
        return {f"workers/{name}": value for name, value in self.journal.summary().items()}

    def keep(self, folders: Sequence[Path]) -> None:
        """Write the journal to a file in each folder, round by round."""
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        self.journal.keep([folder / JOURNAL for folder in folders])

    def artifacts(self, folder: Path) -> dict[str, Path]:
        """The journal of rounds, and its picture."""
        if not self.journal.rounds:
            return {}
        journal, picture = folder / JOURNAL, folder / "rounds.svg"
        self.journal.write(journal)
        draw(self.journal, picture)
        return {"rounds": journal, "rounds-picture": picture}

    def _drop(self, number: int) -> None:
        self.scheme.discard(number)
        self._dropped.append(number)
        del self._jobs[number]

    # Rounds ---------------------------------------------------------------------------------------

    def advance(self) -> list[tuple[int, float | Exception]]:
        """Run a round. Gives the models whose gradient is in `.grad` now with the mean loss, or with
        the exception that their learner raised.

        Raises:
            LostError: a worker dies again and again.
        """
        change = self._planner.due or self._roster.changed or self.scheme.delay >= max(1, self.models)
        if change and not self._jobs:
            self._base += self.scheme.round
            self._use()
            change = False
        begun = time.perf_counter()
        new = bool(self._asked) and not change
        started = self.group.now()
        assignment = self._clock.begin(started, new)
        record = Round(self._base + assignment.round, assignment.job, start=started)
        if assignment.job is not None:
            self._issue(assignment.job, record)
        record.given_up, self._dropped = self._dropped, []
        record.loads = [0.0] * self.group.size
        for position, worker in enumerate(self._place):
            record.loads[worker] = float(assignment.loads[position])
        shares = {
            self._jobs[job].model: share for job, share in assignment.shares.items() if job in self._jobs
        }
        self._roster.replace_silent(record, started)
        works = {int(position): self._works(int(position)) for position in np.flatnonzero(assignment.working)}
        for position, parts in works.items():
            self._send(position, parts, assignment)
        record.master, self._publishing = self._publishing + time.perf_counter() - begun, 0.0
        record.arrivals = [None] * self.group.size
        while not (self._clock.may_close(self.group.now()) or self._gives_up(record)):
            reply = self.group.receive(self._patience())
            now = self.group.now()
            if reply is None:
                for worker in self._roster.replace_silent(record, now):
                    self._send_again(worker, works, assignment)
            else:
                self._file(reply, works, assignment, record, now)
        return self._close(works, shares, record)

    def _issue(self, number: int, record: Round) -> None:
        job = self._jobs[number] = self._asked.popleft()
        samples: Indices = (
            job.samples.cpu().numpy()
        )  # arrays travel faster, and without the batch around them
        job.chunks = [samples[part.start : part.stop] for part in cut(self.scheme.fractions, len(samples))]
        record.model = job.model

    def _works(self, position: int) -> list[Work]:
        return [self._work(position, part) for part in self.scheme.parts(position) if part.job in self._jobs]

    def _work(self, position: int, part: Part) -> Work:
        job = self._jobs[part.job]
        job.parts[position, part.slot] = part
        return Work(
            part.job,
            part.slot,
            job.replica,
            tuple(job.chunks[chunk] for chunk in part.chunks),
            part.coefficients,
            not {*part.coefficients} <= {0.0, 1.0},
            self.setting.piece,
            self.setting.statistics,
            job.prove,
        )

    def _send(self, position: int, works: list[Work], assignment: Assignment) -> None:
        worker = self._place[position]
        pause = self.setting.pause(self._base + assignment.round, worker, float(assignment.loads[position]))
        ticket = (self._base, assignment.round)
        self._roster.sent(worker)
        self.group.send(worker, compute, works, ticket=ticket, pause=pause)

    def _send_again(self, worker: int, works: dict[int, list[Work]], assignment: Assignment) -> None:
        position = self.positions.get(worker)
        if position in works and not self._clock.replied[position]:
            self._send(position, works[position], assignment)

    def _patience(self) -> float:
        """Seconds until there is something to decide without a reply."""
        window = self._clock.look_again
        left = LOOK if window is None else window - self.group.now()
        return min(left, LOOK) if left > 0 else LOOK

    def _file(
        self, reply: Reply, works: dict[int, list[Work]], assignment: Assignment, record: Round, now: float
    ) -> None:
        worker, position = reply.worker, self.positions.get(reply.worker)
        current = reply.ticket == (self._base, assignment.round)
        self._roster.heard(reply, now, busy=position in works and not current)
        if position is None:  # it was left out
            return
        if reply.cause == "died":
            self._roster.replace(worker, record, reply.error or "")
            self._send_again(worker, works, assignment)
        elif reply.cause == "raised":
            raise LostError(f"a worker can't run its part: {reply.error}")
        elif reply.cause is None and reply.ticket[0] == self._base:
            whole = current and reply.last
            if reply.value is not None:
                self._keep(
                    position, reply.value, None if whole else record.early if current else record.banked
                )
                record.bytes += reply.value.nbytes
            if whole:
                record.arrivals[worker] = now - record.start
                self._clock.observe(position, now)

    def _keep(self, position: int, sent: Sent, note: list[tuple[int, int, int]] | None) -> None:
        """Keep a part's vector. One that isn't the end of a whole reply is filed by itself, and noted if
        it is of use. A part that comes twice is one part.
        """
        job = self._jobs.get(sent.job)
        if job is None:
            return
        if sent.vector is None:
            self._failed.append(
                (job.model, TrialError(f"computing a part of the gradient failed: {sent.error}"))
            )
            self._drop(sent.job)
            return
        job.vectors[position, sent.slot] = sent.vector
        if note is not None and self.scheme.bank(position, job.parts[position, sent.slot]):
            note.append((self._place[position], sent.job, sent.slot))

    def _gives_up(self, record: Round) -> bool:
        """Take the jobs back if the round waits for workers whose place stays empty: they begin anew, with
        those that are left.
        """
        gone = self._roster.gone()
        if not gone:
            return False
        possible = np.ones(self.scheme.n, dtype=bool)
        lost = [self.positions[worker] for worker in gone]
        possible[lost] = self._clock.replied[lost]
        if self.scheme.feasible(possible):
            return False
        for number, job in reversed(self._jobs.items()):
            self._asked.appendleft(replace(job, parts={}, vectors={}))
            self.scheme.discard(number)
            record.dropped.append(number)
        self._jobs.clear()
        record.cause = Cause.EMPTY
        return True

    # Decoding -------------------------------------------------------------------------------------

    def _close(
        self, works: dict[int, list[Work]], shares: Mapping[int, Floats], record: Round
    ) -> list[tuple[int, float | Exception]]:
        ended = self._clock.close(self.group.now())
        late = [position for position in works if not self._clock.replied[position]]
        self.group.cancel([self._place[position] for position in late])
        record.end(ended, sorted(self._place[position] for position in np.flatnonzero(ended.stragglers)))
        begun = time.perf_counter()
        done: list[tuple[int, float | Exception]] = [*self._failed]
        self._failed.clear()
        done += [self._decode(number, record) for number in ended.decodable if number in self._jobs]
        record.master += time.perf_counter() - begun
        self._tell_planner(shares, record)
        self._roster.replace_chronic(record)
        record.dropped += self._dropped
        self._dropped = []
        self.journal.add(record)
        return done

    def _tell_planner(self, shares: Mapping[int, Floats], record: Round) -> None:
        arrivals = [record.arrivals[worker] for worker in self._place]
        seconds = np.array([np.nan if time is None else time for time in arrivals])
        decoding = sum(one.seconds for one in record.decoded)
        self._planner.record(shares, seconds, record.seconds, decoding)

    def _decode(self, number: int, record: Round) -> tuple[int, float]:
        begun = time.perf_counter()
        job = self._jobs.pop(number)
        decoding: Decoding = self.scheme.decode(number)
        terms = [(job.vectors[term.worker, term.slot], term.weight) for term in decoding.terms]
        sums = combine(terms)
        used = np.logical_or.reduce([vector.used for vector, _ in terms])
        counts = [max(changes) for changes in zip(*(vector.counts for vector, _ in terms), strict=True)]
        loss = Layout(job.learner.model).apply(sums, used, counts, len(job.samples))
        seconds = time.perf_counter() - begun
        record.decoded.append(
            Decoded(number, job.model, decoding.residual, len(terms), seconds, decoding.exact)
        )
        return job.model, loss
