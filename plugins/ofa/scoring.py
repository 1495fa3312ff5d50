"""Scores sub-nets with inherited weights: re-calibrated, many at a time.

Candidates that begin with the same layers share those layers' work, calibration included: the layers of
all candidates form a tree, which is walked once. A candidate's score is bit for bit that of its network
extracted, calibrated and scored alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from ...core import Candidate, Task, Value
from ...core.training.bn import Tally, recalibrate
from ...core.training.losses import cross_entropy_sum
from ...core.training.modes import evaluating
from .cost import FLOAT
from .network import Network, build_layer, resized
from .plan import Layer, Plan, side_after
from .supernet import Supernet

ORDER = 0  # seed of the choice of images: fixed, so that all scores are of the same ones
BATCH = 250
"""Images of a scored batch: few enough for a layer's maps to stay in a processor's cache."""


@dataclass(frozen=True)
class Images:
    """What scores are made from, at the task's own resolution and on the device.

    `calibration`: batches of training images; `inputs`, `targets`: batches of validation images.
    """

    calibration: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]
    targets: tuple[Tensor, ...]

    @classmethod
    def of(
        cls,
        task: Task,
        device: torch.device,
        *,
        calibration: int,
        calibration_batch: int,
        validation: int | None = None,
        batch: int = BATCH,
    ) -> Images:
        """Take them from a task: the first so many of a fixed order of each split."""
        train, held = task.split("train"), task.split("validation")
        generator = torch.Generator().manual_seed(ORDER)
        chosen = torch.randperm(len(train.targets), generator=generator)[:calibration]
        scored = torch.sort(torch.randperm(len(held.targets), generator=generator)[:validation]).values
        return cls(
            _cut(train.inputs[chosen].to(device), calibration_batch),
            _cut(held.inputs[scored].to(device), batch),
            _cut(held.targets[scored].to(device), batch),
        )

    @property
    def scored(self) -> int:
        """Validation images."""
        return sum(map(len, self.targets))

    @property
    def count(self) -> int:
        """Images carried from layer to layer."""
        return sum(map(len, self.calibration)) + sum(map(len, self.inputs))


def _cut(tensor: Tensor, size: int) -> tuple[Tensor, ...]:
    return tuple(tensor[start : start + size] for start in range(0, len(tensor), size))


def calibrated(supernet: Supernet, candidate: Mapping[str, Value], images: Images) -> Network:
    """Extract a candidate's network and set BatchNorm's statistics; in eval mode."""
    network = supernet.extract(candidate).eval()
    recalibrate(network, images.calibration)
    return network


@dataclass(frozen=True)
class Score:
    """What a network answered, batch by batch of the validation images."""

    correct: tuple[int, ...]
    loss: tuple[float, ...]
    """Sums of cross entropies, in nats."""
    counts: tuple[int, ...]

    @classmethod
    def of(cls, logits: Sequence[Tensor], targets: Sequence[Tensor]) -> Score:
        """Compare logits with targets."""
        pairs = list(zip(logits, targets, strict=True))
        return cls(
            tuple(int((batch.argmax(dim=1) == truth).sum()) for batch, truth in pairs),
            tuple(float(cross_entropy_sum(batch, truth)) for batch, truth in pairs),
            tuple(len(truth) for _, truth in pairs),
        )

    @property
    def accuracy(self) -> float:
        """Share of correct answers, 0 to 1."""
        return sum(self.correct) / sum(self.counts)

    @property
    def accuracies(self) -> list[float]:
        """The same for each batch."""
        return [correct / count for correct, count in zip(self.correct, self.counts, strict=True)]

    @property
    def metrics(self) -> dict[str, float]:
        """`accuracy` and `loss` (mean, nats)."""
        return {"accuracy": self.accuracy, "loss": sum(self.loss) / sum(self.counts)}


def score_alone(network: nn.Module, images: Images) -> Score:
    """Score a network in eval mode."""
    with torch.inference_mode(), evaluating(network):
        return Score.of([network(batch) for batch in images.inputs], images.targets)


def score_many(
    supernet: Supernet,
    candidates: Sequence[Candidate],
    images: Images,
    *,
    calibrate: bool = True,
    memory: float = 4.0,
) -> list[Score]:
    """Score candidates, in order.

    Args:
        supernet: whose weights they inherit.
        candidates: any number; the more at once, the more work they share.
        images: to calibrate and to score with.
        calibrate: whether to re-calibrate BatchNorm; without, scores say little.
        memory: gibibytes that shared activations may take; above, candidates are scored one by one.
    """
    plans = [supernet.space.plan(candidate, supernet.shape) for candidate in candidates]
    _keep_freed_memory()
    with torch.inference_mode():
        if _carried(supernet.network.plan) * images.count * FLOAT <= memory * 2**30:
            found = dict(_Tree(supernet, plans, images, calibrate).walk())
            return [found[index] for index in range(len(plans))]
        scores: list[Score] = []
        for candidate in candidates:
            network = supernet.extract(candidate).eval()
            if calibrate:
                recalibrate(network, images.calibration)
            scores.append(score_alone(network, images))
        return scores


@cache
def _keep_freed_memory() -> None:
    """Let glibc keep memory that is freed, instead of fetching it again page by page.

    It does so for blocks smaller than the largest one that it saw freed, up to 32 MiB. A walk's maps are
    of about 1 MiB: without this a tenth to a third of the time goes to page faults.
    """
    torch.empty(30 * 2**20, dtype=torch.uint8)


def _carried(plan: Plan) -> int:
    """Activations of one image that the walk's branches hold at most: every layer's output."""
    total = plan.channels * plan.resolution**2
    for layer, size in plan.sizes():
        width = getattr(layer, "outputs", 0) or getattr(layer, "channels", 0)
        total += width * side_after(layer, size) ** 2
    return total


class _Tree:
    """All candidates' layers, walked depth first."""

    def __init__(self, supernet: Supernet, plans: Sequence[Plan], images: Images, calibrate: bool) -> None:
        self._supernet = supernet
        self._plans = plans
        self._images = images
        self._calibrate = calibrate
        self._own = supernet.own()
        self._steps: dict[Layer, _Step] = {}

    def walk(self) -> Iterator[tuple[int, Score]]:
        """Yield each plan's number and score."""
        for resolution, members in self._groups(range(len(self._plans)), -1):
            assert isinstance(resolution, int)
            calibration = [resized(batch, resolution) for batch in self._images.calibration]
            inputs = [resized(batch, resolution) for batch in self._images.inputs]
            yield from self._below(members, 0, calibration, inputs)

    def _below(
        self, members: Sequence[int], depth: int, calibration: Sequence[Tensor], inputs: Sequence[Tensor]
    ) -> Iterator[tuple[int, Score]]:
        ended = [index for index in members if len(self._plans[index].layers) == depth]
        if ended:
            score = Score.of(inputs, self._images.targets)
            yield from ((index, score) for index in ended)
        going = [index for index in members if len(self._plans[index].layers) > depth]
        for layer, sharing in self._groups(going, depth):
            assert not isinstance(layer, int)
            step = self._step(layer)
            passed = step.calibrated(calibration) if self._calibrate else []
            yield from self._below(sharing, depth + 1, passed, [step.module(batch) for batch in inputs])

    def _groups(self, members: Iterable[int], depth: int) -> list[tuple[Layer | int, list[int]]]:
        """Members by their layer at `depth`, or by their resolution at -1."""
        groups: dict[Layer | int, list[int]] = {}
        for member in members:
            plan = self._plans[member]
            groups.setdefault(plan.layers[depth] if depth >= 0 else plan.resolution, []).append(member)
        return list(groups.items())

    def _step(self, layer: Layer) -> _Step:
        """The layer on its slice of the supernet's weights; made once.

        Statistics are its own, and set anew wherever it stands in the tree.
        """
        if layer not in self._steps:
            with torch.device("meta"):
                module = build_layer(layer, self._supernet.network.plan.norm)
            state: dict[str, Tensor] = {}
            for name, like in module.state_dict().items():
                whole = f"layers.{layer.at}.{name}"
                sliced = self._supernet.slice(whole, self._own[whole], like.shape).detach()
                state[name] = sliced.contiguous()
            module.load_state_dict(state, assign=True)
            self._steps[layer] = _Step(module.eval())
        return self._steps[layer]


class _Step:
    """A layer's module, and its normalisations."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._norms: list[_Norm] = []
        for parent in list(module.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.BatchNorm2d):
                    self._norms.append(_Norm(child))
                    setattr(parent, name, self._norms[-1])

    def calibrated(self, batches: Sequence[Tensor]) -> list[Tensor]:
        """Set the statistics by these batches; give what comes out of them."""
        for norm in self._norms:
            norm.gather()
        passed = [self.module(batch) for batch in batches]
        for norm in self._norms:
            norm.settle()
        return passed


class _Norm(nn.Module):
    """BatchNorm in eval mode; between `gather` and `settle` as `core.training.bn.calibrating` runs it.

    A call costs less than one of torch's module. Its statistics are copies: the supernet's stay as they are.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        state = norm.state_dict()
        self._affine: tuple[Tensor, Tensor] = (state["weight"], state["bias"])
        # In a list, since to set a module's attribute takes longer than to add up a batch.
        self._tally: list[Tally] = []
        self._statistics: list[Tensor] = [
            state["running_mean"].clone(),
            state["running_var"].clone(),
        ]
        self._eps = norm.eps

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise (n, C, h, w)."""
        mean, variance = self._statistics
        outputs = torch.batch_norm(
            inputs, *self._affine, mean, variance, bool(self._tally), 1.0, self._eps, True
        )
        for tally in self._tally:
            tally.add(mean, variance, inputs)
        return outputs

    def gather(self) -> None:
        """Normalise with each batch's own statistics from here on, and add them up."""
        self._tally.append(Tally())

    def settle(self) -> None:
        """Take the averages as statistics."""
        self._statistics[:] = self._tally.pop().averages()
