"""The learner of ordinary supervised training: cross entropy on a task's train split."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..program import TrialContext
from ..seeds import spawn
from .data import augment, levels, mixed
from .losses import cross_entropy_sum
from .options import TrainingOptions
from .precision import Precision

CHUNK = 2  # branch of a trial's seed tree, beside those of `data`


class SupervisedLearner:
    """A `core.parallel.Learner` whose sum depends on seed, step and samples alone.

    Random layers (dropout, drop path) draw from a generator seeded by (trial, step, chunk), so that
    whoever computes a chunk of samples computes the same, now or after a restart.

    Args:
        trial: the trial.
        model: what is trained.
        options: how.
        seed: keys the random numbers; by default the trial's own.
    """

    def __init__(
        self, trial: TrialContext, model: nn.Module, options: TrainingOptions, seed: int | None = None
    ) -> None:
        split = trial.task.split("train")
        self.model = model
        self.precision = Precision(trial.device, options.amp)
        self._inputs = split.inputs.to(trial.device)
        self._targets = split.targets.to(trial.device)
        self._levels = levels(self._inputs) if options.augment.recolours else None
        self._classes = trial.task.shape().classes
        self._device = trial.device
        self._seed = trial.seed if seed is None else seed
        self._options = options
        self._epoch = self._step = 0

    def __len__(self) -> int:
        return len(self._targets)

    def begin(self, epoch: int, step: int) -> None:
        """Key the next sums' random numbers: 0-based epoch, and step since the first epoch."""
        self._epoch, self._step = epoch, step

    def loss_sum(self, samples: Tensor) -> Tensor:
        """Sum the loss over `samples`, times the loss scale (see `Precision`)."""
        inputs, targets = self.batch(samples)
        with self.computing(samples):
            logits: Tensor = self.model(inputs)
        return self.precision.scaler.scale(self.compare(logits.float(), targets))

    def compare(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Sum the loss of `logits` (n, classes) against `batch`'s targets. Override it for another loss."""
        return cross_entropy_sum(logits, targets, self._options.label_smoothing)

    def batch(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """The samples' inputs, changed at random as the options say, and their targets.

        Targets are int64 (n,); or float (n, classes), the classes' probabilities, where samples are mixed.
        """
        at = samples.to(self._device)
        if not self._options.mixup:
            return self._changed(at), self._targets[at]
        partners, shares = mixed(at, len(self), seed=self._seed, epoch=self._epoch, alpha=self._options.mixup)
        images = [self._changed(who) for who in (at, partners)]
        labels = [functional.one_hot(self._targets[who], self._classes) for who in (at, partners)]
        return (
            torch.lerp(images[1], images[0], shares[:, None, None, None]),
            torch.lerp(labels[1].to(shares), labels[0].to(shares), shares[:, None]),
        )

    def _changed(self, at: Tensor) -> Tensor:
        """The samples' inputs, changed at random."""
        return augment(
            self._inputs[at],
            at,
            seed=self._seed,
            epoch=self._epoch,
            options=self._options.augment,
            levels=self._levels,
        )

    @contextmanager
    def computing(self, samples: Tensor) -> Generator[None]:
        """Precision and random numbers of a forward pass over `samples`."""
        chunk = int(samples[0]) if len(samples) else 0
        key = spawn(self._seed, CHUNK, self._step, chunk)
        with seeded(key, self._device), self.precision.autocast():
            yield


@contextmanager
def seeded(key: int, device: torch.device) -> Generator[None]:
    """Seed torch's default generators for the length of a block, and put them back after it."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # pyright: ignore[reportUnknownMemberType]
        torch.manual_seed(key)  # pyright: ignore[reportUnknownMemberType]
        yield
