"""Trains a candidate's network from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ...core import Evaluation, Program, TrialContext
from ...core.training.options import TrainingOptions


class Train(Program[TrainingOptions]):
    """Train on the train split and score the last epoch, not the best, on validation.

    Metrics: `accuracy` (0 to 1) and `loss` on the validation split, `train_loss`, `learning_rate`;
    reported after every epoch. Artifact: `weights` (safetensors).
    """

    name: ClassVar[str] = "train"
    summary: ClassVar[str] = "train the candidate's network from scratch"
    reports_steps: ClassVar[bool] = True
    needs_network: ClassVar[bool] = True

    @property
    def fidelity(self) -> tuple[str, int] | None:
        """Epochs, where the learning rate of an epoch doesn't depend on how many follow."""
        schedule = self.options.schedule
        return (
            ("epochs", self.options.epochs) if schedule.name == "constant" and not schedule.options else None
        )

    def run(self, trial: TrialContext) -> Evaluation:
        from ...core.training.checkpoint import keep_weights
        from ...core.training.learner import SupervisedLearner
        from ...core.training.loop import Trainer

        model = trial.build()
        metrics = Trainer(trial, SupervisedLearner(trial, model, self.options), self.options).run()
        keep_weights(trial, model)
        return Evaluation(metrics, model)

    def rehearse(self, trial: TrialContext) -> float:
        from ...core.training.learner import SupervisedLearner
        from ...core.training.loop import Trainer

        learner = SupervisedLearner(trial, trial.build(), self.options)
        return Trainer(trial, learner, self.options).rehearse()

    def test(self, trial: TrialContext) -> Mapping[str, float]:
        from ...core.training.checkpoint import load_weights
        from ...core.training.score import score

        model = trial.build()
        load_weights(model, trial.artifact("weights"))
        return score(model, trial.task.split("test"), trial.device)
