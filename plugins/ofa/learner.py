"""The learner of a supernet: a step's loss over several sub-nets, with or without a teacher."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ...core import Candidate, TrialContext
from ...core.seeds import generator
from ...core.training.learner import SupervisedLearner
from ...core.training.losses import cross_entropy_sum, distillation_sum, logit_distillation_sum
from ...core.training.options import TrainingOptions
from .phases import IN_PLACE, Phase, PhaseOptions, draw_round
from .supernet import Supernet, largest_at

ROUND = 4  # branch of the seed tree, beside those of the training toolkit


class SupernetLearner(SupervisedLearner):
    """A `core.parallel.Learner` that sums over a step's sub-nets.

    Which sub-nets a step trains, and at which resolution, is a function of seed and step, so every
    worker of a round trains the same ones. All of a step's sub-nets are in one graph: one exchange of
    gradients a step, at the cost of their activations together.

    Args:
        trial: the trial.
        supernet: what is trained.
        phase: what is drawn, and how it is taught.
        options: of the training.
        reduction: whether the sub-nets' losses are averaged or summed.
        teacher: frozen weights whose largest network teaches; for phases that name one.
        seed: keys all random numbers.
    """

    def __init__(
        self,
        trial: TrialContext,
        supernet: Supernet,
        phase: Phase,
        options: TrainingOptions,
        *,
        reduction: Literal["mean", "sum"],
        teacher: Supernet | None,
        seed: int,
    ) -> None:
        super().__init__(trial, supernet, options, seed)
        self.model: Supernet = supernet
        self._phase = phase
        self._reduction = reduction
        self._teacher = teacher.train() if teacher is not None else None

    def round(self) -> list[Candidate]:
        """The current step's sub-nets."""
        rng = generator(self._seed, ROUND, self._step)
        return draw_round(self._phase.offer, self._phase.options, self.model.shape, rng)

    def loss_sum(self, samples: Tensor) -> Tensor:
        """Sum the loss over `samples`, averaged or summed over the step's sub-nets."""
        inputs, targets = self.batch(samples)
        drawn = self.round()
        total = inputs.new_zeros(())
        with self.computing(samples):
            taught = self._lesson(inputs, drawn[0])
            for candidate in drawn:
                logits: Tensor = self.model(inputs, candidate).float()
                total = total + self._loss(logits, targets, taught)
                if taught is None and self._phase.options.teacher == IN_PLACE:
                    taught = logits.detach()
        if self._reduction == "mean":
            total = total / len(drawn)
        return self.precision.scaler.scale(total)

    def _lesson(self, inputs: Tensor, candidate: Candidate) -> Tensor | None:
        """The teacher's logits on the same images at the same resolution.

        In train mode: its BatchNorm then fits whatever resolution the step has.
        """
        if self._teacher is None:
            return None
        space = self.model.space
        largest = largest_at(space, None, space.resolution(candidate))
        with torch.no_grad():
            return self._teacher(inputs, largest).float()

    def _loss(self, logits: Tensor, targets: Tensor, taught: Tensor | None) -> Tensor:
        options: PhaseOptions = self._phase.options
        labels = cross_entropy_sum(logits, targets, self._options.label_smoothing)
        if taught is None:
            return labels
        if options.distillation == "logits":
            distilled = logit_distillation_sum(logits, taught)
        else:
            distilled = distillation_sum(logits, taught, options.temperature)
        weighted = options.distillation_weight * distilled
        return labels + weighted if options.hard_labels else weighted
