"""A program is what one trial runs: training, scoring, looking up, exporting."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .candidate import Candidate
from .errors import TrialPruned
from .parallel import Learner, local_gradient
from .plugin import Kind, OptionsT, Plugin
from .space import SearchSpace
from .task import Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from .hookspecs import Schedule
    from .interleave import Interleaver


@dataclass(frozen=True)
class Evaluation:
    """A finished trial's metrics: finite floats by name (a NaN or infinity fails the trial).

    `model` is the trained network, when there is one: measured objectives use it instead of a
    freshly built one. It never leaves the worker.
    """

    metrics: Mapping[str, float]
    model: nn.Module | None = None


class TrialContext(ABC):
    """A program's one door to the world. It reaches the catalog, MLflow and Ray through nothing else."""

    number: int
    """0-based number of the trial in its stage."""
    candidate: Candidate
    space: SearchSpace
    task: Task
    """The task. During a search its test split is closed."""
    seed: int
    """This trial's own seed, derived from the job's, the stage and the number: never from the worker."""
    device: torch.device
    interleaver: Interleaver | None = None
    """Makes this trial's gradients, together with those of trials that share its workers; set by the
    scheduler."""

    @abstractmethod
    def report(self, metrics: Mapping[str, float], step: int) -> None:
        """Report metrics after step `step` (1-based: an epoch, usually), while running.

        Raises:
            TrialPruned: the trial is stopped early. Let it pass through.
            TrialError: a metric is NaN or infinite.
        """

    @abstractmethod
    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Keep `state` (tensors, numbers, strings, and dicts and lists of them) for `restore`.

        Atomic; the latest one counts. Report a step before checkpointing it.
        """

    @abstractmethod
    def restore(self) -> dict[str, Any] | None:
        """Return the latest checkpoint of this very trial, or None on a first start."""

    @abstractmethod
    def save_artifact(self, kind: str, source: Path) -> None:
        """Keep the file `source` as this trial's artifact `kind` ("weights", "export.onnx").

        The file is copied; its SHA-256 enters the catalog with the trial's result.
        """

    @abstractmethod
    def artifact(self, kind: str, stage: str | None = None) -> Path:
        """Locate an artifact: this trial's own, or one made by an earlier `stage`; digest checked.

        Raises:
            ArtifactError: there is none, or its digest is wrong.
        """

    @abstractmethod
    def schedule(self, name: str, total_steps: int, **options: Any) -> Schedule:
        """Make the learning-rate schedule called `name`, of any installed plugin.

        Raises:
            UnknownPluginError: no such schedule.
        """

    def build(self) -> nn.Module:
        """Build the candidate's network, freshly initialised from the trial's seed, on its device."""
        import torch

        with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
            torch.manual_seed(self.seed)  # pyright: ignore[reportUnknownMemberType]
            return self.space.build(self.candidate, self.task.shape()).to(self.device)

    def gradient(self, learner: Learner, samples: Tensor) -> float:
        """Leave the mean gradient over the global `samples` in `.grad`; return their mean loss.

        `samples`: int64 (n,), indices into the train split. The trial's parallel strategy decides
        who computes it; without one it is a backward pass here.
        """
        if self.interleaver is not None:
            return self.interleaver.gradient(self.number, learner, samples)
        return local_gradient(learner, samples)


class Program(Plugin[OptionsT]):
    """What one trial runs. Stateless: everything it needs comes with the trial."""

    kind: ClassVar[Kind] = "program"
    batch: ClassVar[int] = 1
    """How many candidates to hand over in one launch. More than 1 for programs that take
    milliseconds a candidate, or serve many at once."""
    reports_steps: ClassVar[bool] = False
    """Whether it reports by step, which early stopping (ASHA, median) needs."""
    needs_network: ClassVar[bool] = False
    """Whether it builds the candidate's network, so that the space must have one."""

    unshared: ClassVar[frozenset[str]] = frozenset()
    """Metrics in which candidates that compute the same function may differ (latency, parameters,
    FLOPs): recall lets only an equal candidate take them over."""

    @property
    def fidelity(self) -> tuple[str, int] | None:
        """The option that sets the number of steps, and that number, where the first steps of a longer
        run are a shorter run: recall then answers a short run from a long one's report. None, the
        default, where they differ, as with a learning rate that falls towards the last step.
        """
        return None

    @abstractmethod
    def run(self, trial: TrialContext) -> Evaluation:
        """Run one trial. Any exception fails the trial, with its traceback recorded."""

    def run_batch(self, trials: Sequence[TrialContext]) -> Iterable[Evaluation | Exception | TrialPruned]:
        """Run several trials; give an evaluation or the exception of each, in order.

        The default calls `run` for each, so that one failure leaves the others alone: one after the
        other, or, where trials share a group of workers, by turns, a gradient at a time.
        """
        if trials and (interleaver := trials[0].interleaver) is not None:
            runs = {trial.number: (trial.seed, partial(self.run, trial)) for trial in trials}
            results = interleaver.run(runs)
            yield from (results[trial.number] for trial in trials)
            return
        for trial in trials:
            try:
                yield self.run(trial)
            except Exception as error:  # noqa: BLE001 - whatever the user's code raises is that trial's result
                yield error

    def rehearse(self, trial: TrialContext) -> float | None:
        """Try the first moments of a trial, for `orchestrate plan`: build, and run one batch.

        Returns the estimated seconds of a whole trial, or None when that can't be told. An exception is
        shown to the user as a mistake in the job. The default tries nothing.
        """
        return None

    def test(self, trial: TrialContext) -> Mapping[str, float] | None:
        """Score a chosen, finished trial on the test split, from its artifacts. None: can't be done.

        Called once, at the end, for the candidates that the search chose; `trial.task` is open.
        """
        return None

    def check(self, space: SearchSpace, task: Task) -> None:
        """Refuse, before anything starts, a space or task that this program can't serve.

        Raises:
            SpecError: with the reason and a space or task that fits.
        """
