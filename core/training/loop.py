"""The training loop: epochs of gradient steps, each with a score, a report and a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from torch import nn
from torch.nn.utils import clip_grad_norm_

from ..errors import TrialError
from ..parallel import Learner
from ..program import TrialContext
from .data import batches, steps_per_epoch
from .optimizers import make_optimizer, set_learning_rate
from .options import TrainingOptions
from .precision import Precision
from .score import score


class EpochLearner(Learner, Protocol):
    """A learner that the loop tells where it is. `SupervisedLearner` is one."""

    @property
    def precision(self) -> Precision:
        """The precision of its forward pass, whose loss scale its sums carry."""
        ...

    def __len__(self) -> int:
        """Number of training samples."""
        ...

    def begin(self, epoch: int, step: int) -> None:
        """Hear the 0-based epoch, and step since the first epoch, of the sums asked for next."""
        ...


class Trainer:
    """Trains a learner's network for a trial.

    Gradients come from `trial.gradient`, so that the trial's parallel strategy makes them. After
    each epoch the network is scored on the validation split, the metrics are reported with the
    epoch's number as step, and a checkpoint is left. A trial that has one goes on from there: no
    generator's state is carried, since all random numbers are keyed by epoch and step, and on a CPU
    the result is that of an uninterrupted run, bit for bit.

    A program with another outer loop (several phases, another score) calls `epoch` itself, and puts
    `state` into its own checkpoints.

    Args:
        trial: the trial.
        learner: what is trained.
        options: how.
        undecayed: parameters that never get weight decay.
        seed: keys the order of the samples; by default the trial's own.
    """

    def __init__(
        self,
        trial: TrialContext,
        learner: EpochLearner,
        options: TrainingOptions,
        undecayed: Iterable[nn.Parameter] = (),
        seed: int | None = None,
    ) -> None:
        self._seed = trial.seed if seed is None else seed
        self._trial = trial
        self._learner = learner
        self._options = options
        self._steps = steps_per_epoch(len(learner), options.batch_size)
        self._optimizer = make_optimizer(learner.model, options, undecayed)
        self._schedule = trial.schedule(
            options.schedule.name, options.epochs * self._steps, **options.schedule.options
        )

    def run(self) -> dict[str, float]:
        """Train, or finish an interrupted training.

        Returns:
            The last epoch's metrics: `accuracy` and `loss` (validation), `train_loss` (the epoch's
            mean), `learning_rate` (of its last step).

        Raises:
            TrialError: the loss became NaN or infinite.
            TrialPruned: the trial is stopped early.
        """
        validation = self._trial.task.split("validation")
        start, metrics = self._restore()
        for epoch in range(start, self._options.epochs):
            trained = self.epoch(epoch)
            metrics = {**score(self._learner.model, validation, self._trial.device), **trained}
            self._trial.report(metrics, step=epoch + 1)
            self._trial.checkpoint({"epoch": epoch + 1, "metrics": metrics, **self.state()})
        return metrics

    def rehearse(self) -> float:
        """Take two steps, and estimate the seconds of the whole training from the second."""
        self._learner.model.train()
        samples = next(iter(batches(self._seed, 0, len(self._learner), self._options.batch_size)))
        seconds = 0.0
        for step in range(2):  # the first one is slower than all others: it allocates
            begun = time.perf_counter()
            self._learner.begin(0, step)
            self._step(samples)
            seconds = time.perf_counter() - begun
        return seconds * self._steps * self._options.epochs

    def epoch(self, epoch: int) -> dict[str, float]:
        """Train for the 0-based `epoch`; return `train_loss` and `learning_rate`.

        Raises:
            TrialError: the loss became NaN or infinite.
        """
        self._learner.model.train()
        total, rate = 0.0, 0.0
        order = batches(self._seed, epoch, len(self._learner), self._options.batch_size)
        for index, samples in enumerate(order):
            step = epoch * self._steps + index
            rate = self._options.learning_rate * self._schedule(step)
            set_learning_rate(self._optimizer, rate)
            self._learner.begin(epoch, step)
            loss = self._step(samples)
            if not math.isfinite(loss):
                raise TrialError(
                    f"the training loss is {loss} in epoch {epoch + 1}, step {index + 1} of "
                    f"{self._steps}, at rate {rate:g}: lower `learning_rate`, or set `clip`"
                )
            total += loss * len(samples)
        return {"train_loss": total / len(self._learner), "learning_rate": rate}

    def _step(self, samples: Any) -> float:
        scaler = self._learner.precision.scaler
        loss = self._trial.gradient(self._learner, samples) / scaler.get_scale()
        scaler.unscale_(self._optimizer)
        if self._options.clip is not None:
            clip_grad_norm_(self._learner.model.parameters(), self._options.clip)
        scaler.step(self._optimizer)
        scaler.update()
        return loss

    def state(self) -> dict[str, Any]:
        """Weights and the optimiser's state, for a checkpoint."""
        return {
            "model": self._learner.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._learner.precision.scaler.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._learner.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._learner.precision.scaler.load_state_dict(state["scaler"])

    def _restore(self) -> tuple[int, dict[str, float]]:
        state = self._trial.restore()
        if state is None:
            return 0, {}
        self.load_state(state)
        return state["epoch"], state["metrics"]
