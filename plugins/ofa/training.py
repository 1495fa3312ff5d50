"""Trains a supernet phase by phase, watches what each phase does to it, and resumes where it stood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...core import TrialContext
from ...core.seeds import spawn
from ...core.training.loop import Trainer
from ...core.training.losses import cross_entropy_sum
from ...core.training.options import ScheduleOptions
from . import cost
from .learner import SupernetLearner
from .options import TrainSupernetOptions
from .phases import IN_PLACE, START, Phase, corners
from .scoring import Images, score_many
from .sorting import sort_inner, sort_outer
from .supernet import Supernet, covering, largest_at

PHASE = 3  # branch of the seed tree, beside those of the training toolkit

Weights = dict[str, Tensor]


@dataclass
class PhaseReport:
    """How a phase ended. Accuracies (0 to 1) are of re-calibrated networks, by corner."""

    name: str
    epochs: int
    passes: int
    """Forward and backward passes of sub-nets in the whole phase."""
    steps: int
    """Optimiser steps in the whole phase."""
    macs: dict[str, int]
    accuracy: dict[str, float]
    largest_change: float
    """Of the largest network's accuracy since the phase began."""
    verdict: str = "kept"
    """`kept`, `stopped` (the training ends here) or `rolled back` (and with its beginning's weights)."""
    by_resolution: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    """The corners' accuracies at the smallest, a middle and the largest resolution."""
    kept: int = 0
    """The epoch, from 1 on, whose weights these are."""

    @property
    def mean(self) -> float:
        """Over all corners and resolutions."""
        found = [value for scores in self.by_resolution.values() for value in scores.values()]
        return sum(found) / len(found)


@dataclass
class Progress:
    """Where a training stands, besides weights: plain data."""

    phase: int = 0
    epoch: int = 0
    step: int = 0
    """Epochs reported so far, over all phases."""
    over: bool = False
    reports: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    best: dict[str, Any] | None = None
    """The report of the phase's best epoch so far, with `keep: best`."""


class SupernetTraining:
    """One trial's training of a supernet.

    All randomness is keyed by the trial's seed, phase, epoch and step, so a training that is resumed
    in the middle of a phase ends with the weights of one that never stopped, bit for bit on a CPU.
    """

    def __init__(
        self,
        trial: TrialContext,
        options: TrainSupernetOptions,
        phases: Sequence[Phase],
        supernet: Supernet,
    ) -> None:
        self._trial = trial
        self._options = options
        self._phases = phases
        self.supernet = supernet
        self.images = Images.of(
            trial.task,
            trial.device,
            calibration=options.calibration_images,
            calibration_batch=options.calibration_batch,
            validation=options.validation_images,
        )
        self._corners = corners(supernet.space)
        self._needed = {phase.after for phase in phases} | {phase.options.teacher for phase in phases}
        self.progress = Progress()
        self._snapshots: dict[str, Weights] = {}
        self._began: Weights = {}
        self._best: Weights = {}

    @property
    def reports(self) -> list[PhaseReport]:
        """How the phases ended so far."""
        return [PhaseReport(**report) for report in self.progress.reports]

    def run(self) -> dict[str, float]:
        """Train what isn't trained yet; return the last phase's metrics.

        Raises:
            TrialError: the loss became NaN or infinite.
            TrialPruned: the trial is stopped early.
        """
        state = self._restore()
        if state is None:
            self._keep(START)
        while not self.progress.over and self.progress.phase < len(self._phases):
            self._phase(self._phases[self.progress.phase], state)
            state = None
        return self._summary(self.reports[-1])

    def rehearse(self) -> float:
        """Take two steps of the last phase; estimate the seconds of the whole training."""
        phase = self._phases[-1]
        trainer = self._trainer(phase, self.supernet if phase.options.teacher else None)
        each = trainer.rehearse() / (phase.options.epochs * phase.options.subnets)
        return each * sum(one.options.epochs * one.options.subnets for one in self._phases)

    def _phase(self, phase: Phase, state: Mapping[str, Any] | None) -> None:
        progress = self.progress
        if progress.epoch == 0:
            self._enter(phase)
        trainer = self._trainer(phase, self._teacher(phase))
        if state is not None and progress.epoch:
            trainer.load_state(state)
        for epoch in range(progress.epoch, phase.options.epochs):
            metrics = {**trainer.epoch(epoch), "phase": float(phase.index)}
            progress.step += 1
            ended = epoch + 1 == phase.options.epochs
            report = self._judge(phase, epoch) if ended or self._options.keep == "best" else None
            if report is not None:
                metrics.update(self._metrics(report))
            self._trial.report(metrics, progress.step)
            progress.epoch = epoch + 1
            if report is not None and self._options.keep == "best":
                report = self._contend(report)
            if report is not None and ended:
                self._leave(phase, report)
            self._checkpoint(trainer)

    def _contend(self, report: PhaseReport) -> PhaseReport:
        """Keep the weights if none before them in the phase were as good; give the best's report."""
        best = self.progress.best
        if best is None or report.mean > PhaseReport(**best).mean:
            self.progress.best, self._best = asdict(report), _copied(self.supernet)
            return report
        return PhaseReport(**best)

    def _enter(self, phase: Phase) -> None:
        """Load what the phase starts from, remember it, and sort channels."""
        former = self._phases[phase.index - 1].options.name if phase.index else START
        if phase.after != former:
            self.supernet.load_state_dict(self._snapshots[phase.after])
        self._began = _copied(self.supernet) if self._options.on_interference == "roll-back" else {}
        space, shape = self.supernet.space, self.supernet.shape
        if phase.options.sort and self._options.importance == "taylor":
            self._gather_gradients()
        for which in phase.options.sort:
            plans = covering(space, shape, phase.trained.offers)
            sort = sort_inner if which == "inner" else sort_outer
            sort(self.supernet, plans, self._options.importance)
        self.supernet.zero_grad()

    def _gather_gradients(self) -> None:
        """Leave the largest network's gradients, by as many training images as calibrate."""
        split, device = self._trial.task.split("train"), self._trial.device
        count, size = self._options.calibration_images, self._options.calibration_batch
        self.supernet.train().zero_grad()
        for start in range(0, min(count, len(split.targets)), size):
            part = slice(start, min(start + size, count))
            logits: Tensor = self.supernet(split.inputs[part].to(device))
            loss: Any = cross_entropy_sum(logits, split.targets[part].to(device))
            loss.backward()

    def _leave(self, phase: Phase, report: PhaseReport) -> None:
        self.progress.reports.append(asdict(report))
        self.progress.phase, self.progress.epoch = phase.index + 1, 0
        if self._best:
            self.supernet.load_state_dict(self._best)
            self.progress.best, self._best = None, {}
        if report.verdict == "rolled back":
            self.supernet.load_state_dict(self._began)
        self.progress.over = report.verdict != "kept"
        self._keep(phase.options.name)

    def _trainer(self, phase: Phase, teacher: Supernet | None) -> Trainer:
        options, own = self._options, phase.options
        schedule = options.schedule
        if own.warmup:
            schedule = ScheduleOptions.model_validate(
                {"name": schedule.name, **schedule.options, "warmup": own.warmup}
            )
        update = {
            "epochs": own.epochs,
            "learning_rate": own.learning_rate or options.learning_rate,
            "schedule": schedule,
        }
        training = options.model_copy(update=update)
        seed = spawn(self._trial.seed, PHASE, phase.index)
        learner = SupernetLearner(
            self._trial,
            self.supernet,
            phase,
            training,
            reduction=options.reduction,
            teacher=teacher,
            seed=seed,
        )
        return Trainer(self._trial, learner, training, self.supernet.undecayed(), seed)

    def _teacher(self, phase: Phase) -> Supernet | None:
        name = phase.options.teacher
        if name in (None, IN_PLACE):
            return None
        return frozen_teacher(self.supernet, self._snapshots[name])

    def _judge(self, phase: Phase, epoch: int) -> PhaseReport:
        """Score the corner networks after the 0-based `epoch`; compare the largest with its former self."""
        space, shape = self.supernet.space, self.supernet.shape
        by_resolution = self._corner_scores()
        accuracy = by_resolution[str(max(space.resolutions))]
        macs = {label: cost.macs(space.plan(one, shape)) for label, one in self._corners.items()}
        former = next((r for r in reversed(self.reports) if r.name == phase.after), None)
        largest = list(self._corners)[-1]
        change = accuracy[largest] - former.accuracy[largest] if former else 0.0
        verdict = "kept"
        if change < -self._options.interference_tolerance:
            verdict = {"go-on": "kept", "stop": "stopped", "roll-back": "rolled back"}[
                self._options.on_interference
            ]
        count = len(self._trial.task.split("train").targets)
        steps = phase.options.epochs * -(-count // self._options.batch_size)
        return PhaseReport(
            name=phase.options.name,
            epochs=phase.options.epochs,
            passes=steps * phase.options.subnets,
            steps=steps,
            macs=macs,
            accuracy=accuracy,
            largest_change=change,
            by_resolution=by_resolution,
            verdict=verdict,
            kept=epoch + 1,
        )

    def _corner_scores(self) -> dict[str, dict[str, float]]:
        """Accuracies by resolution and corner."""
        space, sizes = self.supernet.space, self.supernet.space.resolutions
        chosen = sorted({sizes[0], sizes[len(sizes) // 2], sizes[-1]})
        candidates = [largest_at(space, one, size) for size in chosen for one in self._corners.values()]
        scores = iter(score_many(self.supernet, candidates, self.images, memory=self._options.memory))
        return {str(size): {label: next(scores).accuracy for label in self._corners} for size in chosen}

    def _metrics(self, report: PhaseReport) -> dict[str, float]:
        corner = {f"corner/{label}": value for label, value in report.accuracy.items()}
        means = {
            f"accuracy_at/{size}": sum(found.values()) / len(found)
            for size, found in report.by_resolution.items()
        }
        several = means if len(means) > 1 else {}
        return {**corner, **several, **self._summary(report), "largest_change": report.largest_change}

    def _summary(self, report: PhaseReport) -> dict[str, float]:
        values = list(report.accuracy.values())
        return {
            "accuracy": sum(values) / len(values),
            "largest_accuracy": values[-1],
            "smallest_accuracy": values[0],
        }

    def _keep(self, name: str) -> None:
        if name in self._needed:
            self._snapshots[name] = _copied(self.supernet)

    def _checkpoint(self, trainer: Trainer) -> None:
        self._trial.checkpoint(
            {
                **trainer.state(),
                "progress": asdict(self.progress),
                "snapshots": self._snapshots,
                "began": self._began,
                "best": self._best,
            }
        )

    def _restore(self) -> Mapping[str, Any] | None:
        state = self._trial.restore()
        if state is None:
            return None
        self.progress = Progress(**state["progress"])
        self._snapshots, self._began, self._best = state["snapshots"], state["began"], state.get("best", {})
        self.supernet.load_state_dict(state["model"])
        return state


def new_supernet(trial: TrialContext) -> Supernet:
    """The supernet of the trial's space and task, freshly initialised from its seed, on its device."""
    space: Any = trial.space
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        torch.manual_seed(trial.seed)  # pyright: ignore[reportUnknownMemberType]
        return Supernet(space, trial.task.shape()).to(trial.device)


def frozen_teacher(supernet: Supernet, weights: Weights) -> Supernet:
    """A copy of the supernet with these weights, which learns nothing and, unlike it, drops nothing out."""
    space = type(supernet.space)(supernet.space.options.model_copy(update={"dropout": 0.0}))
    teacher = Supernet(space, supernet.shape).to(next(supernet.parameters()).device)
    teacher.load_state_dict(weights)
    return teacher.requires_grad_(False)


def _copied(supernet: Supernet) -> Weights:
    return {name: tensor.detach().cpu().clone() for name, tensor in supernet.state_dict().items()}
