"""Rounds with real gradients: drives a scheme over a group of workers, for one network or several.

The master's side of gradient coding. The same code runs on a cluster and on a virtual clock, since it
knows of workers only what `WorkerGroup` offers.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage] - the base of all

from ...core import Learner, LostError, Reply, TrialError, WorkerGroup
from ...core.training.replica import Publisher, Replica
from .picture import draw
from .planning import Planner
from .quarantine import Finding, Quarantine
from .records import Decoded, Journal, Round
from .schemes import Assignment, Decoding, Part, cut
from .vectors import Layout, Vector, combine
from .waiting import Rounds
from .worker import Indices, Sent, Work, compute

JOURNAL = "rounds.jsonl"
LOOK = 1.0  # seconds between looks at workers that stay silent
LONGER = 10  # times the usual patience, with workers of which none has replied yet
DEATHS = 5  # of one worker in a row, after which it isn't the worker that is ill

log = logging.getLogger(__name__)

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
    """Seconds of silence after which a worker is replaced."""
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
        self._quarantine = Quarantine(group.size, *self.setting.slow)
        self._apart = False  # chronic stragglers are to get other places
        self._begun: list[float | None] = [None] * group.size  # by worker: when what it does was sent
        self._found: list[Finding] = []
        self._asked: deque[_Job] = deque()
        self._publishing = 0.0  # seconds of the master's
        self._jobs: dict[int, _Job] = {}
        self._failed: list[tuple[int, Exception]] = []
        self._dropped: list[int] = []
        self._proven: set[int] = set()
        self._deaths = [0] * group.size
        self._slowest = 0.0  # seconds that a whole reply took at most
        self._base = 0  # rounds of the schemes before this one
        self._use()  # waits for the workers to start
        self._heard = [group.now()] * group.size

    def _use(self) -> None:
        self._place = arrange(self.group.nodes, self.setting.seed, self._quarantine.chronic)  # by position
        self.positions: list[int] = np.argsort(self._place).tolist()
        """By worker: its code position."""
        self._apart = False
        chosen = self._planner.choose(max(1, self.models))
        self.scheme = chosen.scheme
        self._clock = Rounds(chosen.scheme, chosen.wait)
        self.journal.use(chosen.scheme, self._place, chosen.wait, self._base, self.group.nodes, chosen.reason)

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
        change = self._planner.due or self._apart or self.scheme.delay >= max(1, self.models)
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
        record.loads = [float(assignment.loads[position]) for position in self.positions]
        self._replace_silent(record, started)
        works = {int(position): self._works(int(position)) for position in np.flatnonzero(assignment.working)}
        for position, parts in works.items():
            self._send(position, parts, assignment)
        record.master, self._publishing = self._publishing + time.perf_counter() - begun, 0.0
        record.arrivals = [None] * self.group.size
        while not self._clock.may_close(self.group.now()):
            reply = self.group.receive(self._patience())
            now = self.group.now()
            if reply is None:
                for worker in self._replace_silent(record, now):
                    self._send_again(worker, works, assignment)
            else:
                self._file(reply, works, assignment, record, now)
        return self._close(works, assignment, record)

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
        if self._begun[worker] is None:
            self._begun[worker] = self.group.now()
        self.group.send(worker, compute, works, ticket=ticket, pause=pause)

    def _send_again(self, worker: int, works: dict[int, list[Work]], assignment: Assignment) -> None:
        position = self.positions[worker]
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
        worker, position = reply.worker, self.positions[reply.worker]
        self._heard[worker] = now
        current = reply.ticket == (self._base, assignment.round)
        if reply.last and (begun := self._begun[worker]) is not None:
            self._begun[worker] = now if position in works and not current else None  # what waited begins
            if reply.cause != "died" and (found := self._quarantine.record(worker, now - begun)):
                self._found.append(found)
        if reply.cause == "died":
            self._replace(worker, record, reply.error or "")
            self._send_again(worker, works, assignment)
        elif reply.cause == "raised":
            raise LostError(f"a worker can't run its part: {reply.error}")
        elif reply.cause is None and reply.ticket[0] == self._base:
            self._deaths[worker] = 0
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

    # Workers that are gone ------------------------------------------------------------------------

    def _replace(self, worker: int, record: Round, why: str, *, needed: bool = True) -> None:
        self._deaths[worker] += 1
        if needed and self._deaths[worker] > DEATHS:
            raise LostError(f"worker {worker} died {DEATHS} times in a row: {why}")
        self._renew(worker, record)

    def _renew(self, worker: int, record: Round) -> None:
        record.replaced.append(worker)
        self._heard[worker] = self.group.now()
        self._begun[worker] = None
        self.group.replace(worker)

    def _replace_chronic(self, record: Round) -> None:
        """Replace workers that are slow all the time; those that stay so get places apart."""
        for found in self._found:
            log.warning("gradient coding: %s; its process is replaced", found)
            self._renew(found.worker, record)
            record.chronic.append(found.worker)
            self._apart = self._apart or found.before > 0
        self._found.clear()

    def _replace_silent(self, record: Round, now: float) -> list[int]:
        """Replace workers that owe a reply and were silent for longer than others need, and then some;
        where all are silent, for far longer, since the work may just take that long.
        """
        arrivals = [time for time in record.arrivals if time is not None]
        self._slowest = max([self._slowest, *arrivals])
        others = bool(arrivals) or max(self._heard) >= now - self._slowest - LOOK
        limit = (self.setting.replace_after + 2 * self._slowest) * (1 if others else LONGER)
        silent = [
            worker
            for worker, begun in enumerate(self._begun)
            if begun is not None and now - max(begun, self._heard[worker]) > limit
        ]
        needed = now - record.start > limit  # the round waits for it: the code can't do without
        for worker in silent:
            why = f"it was silent for {now - self._heard[worker]:.0f} s"
            self._replace(worker, record, why, needed=needed)
        return silent

    # Decoding -------------------------------------------------------------------------------------

    def _close(
        self, works: dict[int, list[Work]], assignment: Assignment, record: Round
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
        self._tell_planner(assignment, record)
        self._replace_chronic(record)
        record.dropped, self._dropped = self._dropped, []
        self.journal.add(record)
        return done

    def _tell_planner(self, assignment: Assignment, record: Round) -> None:
        arrivals = [record.arrivals[worker] for worker in self._place]
        seconds = np.array([np.nan if time is None else time for time in arrivals])
        decoding = sum(one.seconds for one in record.decoded)
        self._planner.record(assignment.loads, seconds, record.seconds, decoding)

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


def arrange(nodes: Sequence[str], seed: int, chronic: Sequence[int] = ()) -> list[int]:
    """Give the worker of each code position: neighbours on different nodes, in an order of `seed`, and
    chronic stragglers as far apart as can be.

    A slow node is then no run of neighbours, which would take all members of one group.
    """
    generator = np.random.default_rng(seed)
    rows = [
        [int(worker) for worker in generator.permutation(np.flatnonzero(np.asarray(nodes) == node))]
        for node in dict.fromkeys(nodes)
    ]
    rows.sort(key=len, reverse=True)
    place = [row[rank] for rank in range(len(rows[0])) for row in rows if rank < len(row)]
    others = [worker for worker in place if worker not in chronic]
    for rank, worker in enumerate(sorted(chronic)):
        others.insert(rank * len(place) // len(chronic), worker)
    return others


def check_batch_norm(learner: Learner) -> None:
    """Refuse a network whose gradient depends on how a batch is cut.

    Raises:
        TrialError: it has BatchNorm in training mode.
    """
    modules: list[tuple[str, nn.Module]] = list(learner.model.named_modules())  # pyright: ignore[reportUnknownArgumentType]
    for name, module in modules:
        if isinstance(module, _BatchNorm) and module.training:
            raise TrialError(
                f"layer {name!r} is a {type(module).__name__} in training mode: it normalises over what "
                "one worker computes at once, so that the gradient would not be that of the whole batch. "
                "Take GroupNorm, freeze the layer (`eval()`), or set the strategy's `batch_norm: per-chunk`, "
                "which normalises over each chunk and averages the running statistics"
            )
