"""Trains a small classifier with a candidate's loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from ...core import Evaluation, Program, SearchSpace, SpecError, Task, TrialContext
from ...core.training.options import TrainingOptions
from .space import SymbolicLoss

if TYPE_CHECKING:
    from .learner import SymbolicLearner


class TrainWithLoss(Program[TrainingOptions]):
    """Train the space's classifier with the candidate as loss, and score it by accuracy.

    Metrics as those of `train`: `accuracy` (0 to 1) and `loss` (cross entropy) on the validation split,
    `train_loss` (the candidate's), `learning_rate`. A loss that becomes NaN fails the trial.
    """

    name: ClassVar[str] = "symbolic-loss"
    summary: ClassVar[str] = "train a classifier with a candidate of the space symbolic-loss"
    reports_steps: ClassVar[bool] = True
    needs_network: ClassVar[bool] = True

    def check(self, space: SearchSpace, task: Task) -> None:
        if not isinstance(space, SymbolicLoss):
            raise SpecError(
                f"program 'symbolic-loss' runs candidates of the space symbolic-loss, not {space.name!r}"
            )

    def run(self, trial: TrialContext) -> Evaluation:
        from ...core.training.checkpoint import keep_weights
        from ...core.training.loop import Trainer

        learner = self._learner(trial)
        metrics = Trainer(trial, learner, self.options).run()
        keep_weights(trial, learner.model)
        return Evaluation(metrics, learner.model)

    def rehearse(self, trial: TrialContext) -> float:
        from ...core.training.loop import Trainer

        return Trainer(trial, self._learner(trial), self.options).rehearse()

    def test(self, trial: TrialContext) -> Mapping[str, float]:
        from ...core.training.checkpoint import load_weights
        from ...core.training.score import score

        model = trial.build()
        load_weights(model, trial.artifact("weights"))
        return score(model, trial.task.split("test"), trial.device)

    def _learner(self, trial: TrialContext) -> SymbolicLearner:
        from .learner import SymbolicLearner

        return SymbolicLearner(trial, trial.build(), self.options)
