"""Latency tables: how long each layer takes on a device, and what a whole network then should take."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core import ArtifactError, Candidate, Shape
from ...core.training.modes import evaluating
from ...core.training.threads import threads
from .base import RESOLUTION, OnceForAll
from .network import build_layer
from .plan import GlobalPool, Layer, MaxPool, Norm, Plan
from .supernet import largest_at


@dataclass(frozen=True)
class Timing:
    """Passes of one layer, in milliseconds."""

    median: float
    mean: float
    spread: float
    """Standard deviation."""
    count: int


@dataclass(frozen=True)
class Bench:
    """How layers and networks are timed."""

    device: str = "cpu"
    batch: int = 1
    threads: int = 1
    warmup: int = 3
    repeats: int = 10

    def time(self, module: nn.Module, inputs: Tensor) -> Timing:
        """Time `module(inputs)` in eval mode, on random inputs; weights and modes stay as they are."""
        device = torch.device(self.device)
        taken: list[float] = []
        with torch.inference_mode(), evaluating(module), threads(self.threads):
            for index in range(self.warmup + self.repeats):
                _finish(device)
                begun = time.perf_counter()
                module(inputs)
                _finish(device)
                if index >= self.warmup:
                    taken.append((time.perf_counter() - begun) * 1000)
        spread = statistics.stdev(taken) if len(taken) > 1 else 0.0
        return Timing(statistics.median(taken), statistics.fmean(taken), spread, len(taken))

    def layer(self, layer: Layer, size: int, norm: Norm) -> Timing:
        """Time a layer, freshly made, on a map of side `size`."""
        channels = layer.channels if isinstance(layer, MaxPool | GlobalPool) else layer.inputs
        with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
            torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
            module = build_layer(layer, norm).to(self.device)
            inputs = torch.randn(self.batch, channels, size, size, device=self.device)
        return self.time(module, inputs)

    def network(self, network: nn.Module, plan: Plan) -> Timing:
        """Time a whole network, at its plan's resolution."""
        shape = (self.batch, plan.channels, plan.resolution, plan.resolution)
        return self.time(network, torch.randn(shape, device=self.device))

    def facts(self) -> dict[str, Any]:
        """What the times depend on."""
        name = torch.cuda.get_device_name() if self.device.startswith("cuda") else platform.machine()
        return {**asdict(self), "processor": name, "torch": torch.__version__}


@dataclass
class LatencyTable:
    """Milliseconds by layer and map. A network's latency is the sum over its layers.

    Scaling of images to the resolution isn't in it: a deployed network gets them in the right size.
    """

    rows: dict[str, Timing] = field(default_factory=dict[str, Timing])
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    def predict(self, plan: Plan) -> float:
        """Milliseconds of one pass: the sum of the layers' medians.

        Raises:
            ArtifactError: a layer isn't in the table; with its key.
        """
        return sum(self.at(layer, size) for layer, size in plan.sizes())

    def at(self, layer: Layer, size: int) -> float:
        """Milliseconds of one layer."""
        name = key(layer, size)
        if name not in self.rows:
            raise ArtifactError(
                f"the latency table has no entry {name!r}: it was made for another space or other resolutions"
            )
        return self.rows[name].median

    def write(self, path: Path) -> None:
        """Write the table as JSON."""
        rows = {name: asdict(row) for name, row in self.rows.items()}
        path.write_text(json.dumps({"facts": self.facts, "rows": rows}, indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> LatencyTable:
        """Read what `write` wrote.

        Raises:
            ArtifactError: the file is missing or damaged.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls({name: Timing(**row) for name, row in data["rows"].items()}, data["facts"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{path} is no latency table: {error!r}") from error


@dataclass
class LiveTable(LatencyTable):
    """A table that times what it lacks when it is asked for it, on this machine."""

    bench: Bench = field(default_factory=Bench)
    norm: Norm = field(default_factory=Norm)

    def at(self, layer: Layer, size: int) -> float:
        name = key(layer, size)
        if name not in self.rows:
            self.rows[name] = self.bench.layer(layer, size, self.norm)
        return self.rows[name].median


@lru_cache(maxsize=100_000)
def key(layer: Layer, size: int) -> str:
    """Name a layer on a map by what its time depends on: all but its place."""
    values = asdict(layer)
    values.pop("at")
    inside = " ".join(f"{name}={value}" for name, value in values.items())
    return f"{type(layer).__name__} {inside} map={size}"


def layers_of(space: OnceForAll, shape: Shape, resolutions: Iterable[int]) -> dict[str, tuple[Layer, int]]:
    """Every layer that occurs in the space at these resolutions, by its key."""
    kinds = [kind for kind in space.kinds if kind not in ("depth", RESOLUTION, "width")]
    lists = {gene.kind: gene.options for gene in space.genes}
    widths = [gene.name for gene in space.genes if gene.kind == "width"]
    # A layer depends on its own genes and on two neighbouring widths at most.
    pairs = list(product(lists.get("width", (None,)), repeat=2)) if widths else [(None, None)]
    found: dict[str, tuple[Layer, int]] = {}
    for resolution in resolutions:
        base = largest_at(space, None, resolution)
        for values in product(*(lists[kind] for kind in kinds)):
            wanted = dict(zip(kinds, values, strict=True))
            for pair in pairs:
                genes = {
                    name: pair[widths.index(name) % 2]
                    if name in widths
                    else wanted.get(name.rpartition(".")[2], value)
                    for name, value in base.items()
                }
                plan = space.plan(Candidate(genes), shape)
                found.update({key(layer, size): (layer, size) for layer, size in plan.sizes()})
    return found


def build_table(
    space: OnceForAll,
    shape: Shape,
    resolutions: Iterable[int],
    bench: Bench,
    known: Mapping[str, Timing] | None = None,
    progress: Callable[[int, int, Mapping[str, Timing]], None] | None = None,
) -> LatencyTable:
    """Time every layer of the space that `known` hasn't; tell `progress` after each."""
    wanted = layers_of(space, shape, resolutions)
    rows = dict(known or {})
    for name, (layer, size) in wanted.items():
        if name not in rows:
            rows[name] = bench.layer(layer, size, space.norm)
            if progress is not None:
                progress(len(rows), len(wanted), rows)
    return LatencyTable(rows, bench.facts())


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
