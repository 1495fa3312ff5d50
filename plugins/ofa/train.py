"""Trains a supernet."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from ...core import Evaluation, Program, SearchSpace, Task, TrialContext
from .base import OnceForAll
from .options import TrainSupernetOptions, check_space
from .phases import Phase, method_phases, resolve

if TYPE_CHECKING:
    from .training import PhaseReport, SupernetTraining

SUPERNET = "supernet"
"""Artifact: the weights (safetensors)."""


class TrainSupernet(Program[TrainSupernetOptions]):
    """Train a supernet, phase by phase (progressive shrinking and others), and watch the largest network.

    Reports `train_loss` and `learning_rate` each epoch; at a phase's end the validation accuracies of
    the eight corner networks (`corner/…`), their mean (`accuracy`), `largest_accuracy`,
    `smallest_accuracy`, and `largest_change`; `accuracy_at/…` is the corners' mean at the smallest, a
    middle and the largest resolution. Artifacts: `supernet` (safetensors); `weights` of its
    largest network, calibrated, which `candidate` describes; `phases.json`, and `phases.svg` (accuracy
    against multiply-accumulates after each phase).
    """

    name: ClassVar[str] = "ofa-train"
    summary: ClassVar[str] = "train a Once-for-All supernet, phase by phase"
    reports_steps: ClassVar[bool] = True
    needs_network: ClassVar[bool] = True

    def check(self, space: SearchSpace, task: Task) -> None:
        self.phases(check_space(self.name, space, task))

    def phases(self, space: OnceForAll) -> list[Phase]:
        """The phases, in their places.

        Raises:
            SpecError: they don't fit together, or not the space.
        """
        options = self.options
        phases = options.phases or method_phases(space, options.method, options.epochs, options.learning_rate)
        lengths = {gene.kind: len(gene.options) for gene in space.genes}
        trained = {kind: lengths.get(kind, 1) if n == "all" else n for kind, n in options.trained.items()}
        return resolve(space, phases, trained)

    def run(self, trial: TrialContext) -> Evaluation:
        training = self._training(trial)
        metrics = training.run()
        _save(trial, training)
        passes = sum(report.passes for report in training.reports)
        return Evaluation({**metrics, "subnet_passes": float(passes)})

    def rehearse(self, trial: TrialContext) -> float:
        from .training import SupernetTraining, new_supernet

        space = check_space(self.name, trial.space, trial.task)
        return SupernetTraining(trial, self.options, self.phases(space), new_supernet(trial)).rehearse()

    def _training(self, trial: TrialContext) -> SupernetTraining:
        from .supernet import load_supernet
        from .training import SupernetTraining, new_supernet

        space = check_space(self.name, trial.space, trial.task)
        if self.options.supernet is None:
            supernet = new_supernet(trial)
        else:
            path = trial.artifact(SUPERNET, self.options.supernet)
            supernet = load_supernet(space, trial.task.shape(), path, trial.device)
        return SupernetTraining(trial, self.options, self.phases(space), supernet)


def _save(trial: TrialContext, training: SupernetTraining) -> None:
    from ...core.training.checkpoint import keep_weights
    from .scoring import calibrated
    from .supernet import save_supernet

    with tempfile.TemporaryDirectory(prefix="orchestrate-") as folder:
        weights = Path(folder, "supernet.safetensors")
        save_supernet(training.supernet, weights)
        trial.save_artifact(SUPERNET, weights)
        largest = training.supernet.space.largest
        keep_weights(trial, calibrated(training.supernet, largest, training.images))
        candidate = Path(folder, "candidate.json")
        candidate.write_text(largest.json, encoding="utf-8")
        trial.save_artifact("candidate", candidate)
        phases = Path(folder, "phases.json")
        phases.write_text(json.dumps(training.progress.reports, indent=1), encoding="utf-8")
        trial.save_artifact("phases.json", phases)
        picture = Path(folder, "phases.svg")
        plot_phases(training.reports, picture)
        trial.save_artifact("phases.svg", picture)


def plot_phases(reports: Sequence[PhaseReport], path: Path) -> None:
    """Draw the corner networks' accuracy against their multiply-accumulates, one line a phase."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = cast(Any, figure).subplots()
    for report in reports:
        points = sorted((report.macs[label], report.accuracy[label]) for label in report.macs)
        axes.plot(*zip(*points, strict=True), marker="o", label=report.name)
    axes.set_xscale("log")
    axes.set_xlabel("multiply-accumulates")
    axes.set_ylabel("validation accuracy")
    axes.set_title("Corner networks after each phase")
    axes.legend()
    cast(Any, figure).savefig(path)
