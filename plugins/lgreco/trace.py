"""Gradients of a stage's training: some steps of one candidate, in this process."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ...core import Candidate, Job, Learner, Stage, local_gradient
from ...core.draw import draw_candidate
from ...core.errors import SpecError, TrialPruned
from ...core.seeds import generator
from ...core.testing import LocalTrial

if TYPE_CHECKING:
    from torch import Tensor


def trace(
    job: Job,
    stage: Stage,
    ranks: int,
    steps: int,
    kept: int,
    progress: Callable[[], object] = lambda: None,
) -> list[Mapping[str, Tensor]]:
    """Train a random candidate of the stage for some steps, and keep the gradients of the last ones.

    A gradient is that of one rank's share of the batch, and the step is taken by it. Nothing is
    recorded in a catalog.

    Raises:
        SpecError: the stage trains candidates of another one, or makes no gradients.
    """
    if stage.sampler is not None:
        candidate = draw_candidate(stage.space, generator(stage.problem.seed))
    elif stage.spec.take is None:
        candidate = Candidate()
    else:
        raise SpecError(f"stage {stage.spec.name} takes candidates of another stage: name one that searches")
    found: deque[Mapping[str, Tensor]] = deque(maxlen=kept)

    class Trial(LocalTrial):
        done = 0

        def gradient(self, learner: Learner, samples: Tensor) -> float:
            share = samples.tensor_split(ranks)[0]
            loss = local_gradient(learner, share if len(share) else samples)
            named = learner.model.named_parameters()
            found.append({name: each.grad.clone() for name, each in named if each.grad is not None})
            self.done += 1
            progress()
            if self.done == steps:
                raise TrialPruned("enough steps")
            return loss

    with tempfile.TemporaryDirectory(prefix="orchestrate-advise-") as folder:
        trial = Trial(
            candidate,
            stage.space,
            job.task,
            Path(folder),
            seed=stage.trial_seed(0),
            device=_device(),
            registry=job.registry,
        )
        with suppress(TrialPruned):
            stage.program.run(trial)
    if not found:
        raise SpecError(
            f"stage {stage.spec.name}: its program {stage.program.name!r} asks for no gradients, so there is "
            "nothing to compress"
        )
    return list(found)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
