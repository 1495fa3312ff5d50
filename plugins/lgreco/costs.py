"""What a setting costs in time: bytes over the measured link, and the work of encoding and decoding.

In place of bytes it lets a plan weigh families against each other, and leave gradients dense where the
link is fast. All ranks must plan with the same figures, so what each measures is gathered, and the
slowest counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import nnls  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from ...core import Collective
from .families.base import CollectiveName, Family, Parcel
from .layer import Layer
from .menu import Menu
from .metering import all_gather_bytes, all_reduce_bytes
from .planner import Floats, Indices

Clock = Callable[[], float]

SIZES = (2**12, 2**16, 2**20, 2**22)
"""Bytes of the messages by which a link is measured."""


@dataclass(frozen=True)
class Link:
    """A collective's time: `latency` seconds a message, and `per_byte` seconds a byte that a rank sends."""

    latency: float
    per_byte: float

    def seconds(self, sent: float, messages: int = 1) -> float:
        """Expected time of so many messages that send so many bytes together."""
        return self.latency * messages + self.per_byte * sent


def fit(sent: ArrayLike, seconds: ArrayLike) -> Link:
    """The link that explains best what messages took: relative least squares, neither part below zero.

    Args:
        sent: bytes that a rank sent in each message (n,), at least two different.
        seconds: that they took (n,), above zero.

    Raises:
        ValueError: there are fewer than two sizes.
    """
    size, took = np.asarray(sent, dtype=np.float64), np.asarray(seconds, dtype=np.float64)
    if len(np.unique(size)) < 2:
        raise ValueError("a link is measured by messages of two sizes at least")
    # Relative, or the longest message alone would settle both parts; scaled, since they are far apart.
    columns = np.stack([np.ones_like(size), size], 1) / took[:, None]
    scale = columns.max(0)
    found = cast("Floats", nnls(columns / scale, np.ones_like(size))[0])
    return Link(*(found / scale).tolist())


def measure(
    group: Collective,
    *,
    sizes: Sequence[int] = SIZES,
    repeats: int = 5,
    device: torch.device | str = "cpu",
    clock: Clock = time.perf_counter,
) -> Mapping[CollectiveName, Link]:
    """Time both collectives by messages of these sizes, in bytes. Called on all ranks at once.

    The median of each size's repeats counts, on the slowest rank, so all ranks have the same links.
    """
    if group.size == 1:
        return {"all_reduce": Link(0.0, 0.0), "all_gather": Link(0.0, 0.0)}
    messages = [torch.zeros(size // 4, device=device) for size in sizes]
    times = torch.empty(2, len(sizes), repeats, dtype=torch.float64)
    for repeat in range(-1, repeats):  # the first warms up
        for index, message in enumerate(messages):
            for kind, send in enumerate((group.all_reduce, group.all_gather)):
                begun = clock()
                send(message)
                _wait(message)
                times[kind, index, repeat] = clock() - begun
    taken = slowest(group, times.median(2).values.numpy(), device)
    return {
        "all_reduce": fit([all_reduce_bytes(one.nbytes, group.size) for one in messages], taken[0]),
        "all_gather": fit([all_gather_bytes(one.nbytes, group.size) for one in messages], taken[1]),
    }


def slowest(group: Collective, seconds: ArrayLike, device: torch.device | str = "cpu") -> Floats:
    """The largest of the ranks' figures, each by itself: the same on all ranks."""
    mine = torch.as_tensor(np.asarray(seconds), dtype=torch.float64, device=device)
    return torch.stack(group.all_gather(mine)).amax(0).cpu().numpy()


def compute_seconds(
    family: Family,
    shape: Sequence[int],
    settings: Sequence[float],
    ranks: int,
    *,
    points: int = 3,
    repeats: int = 3,
    device: torch.device | str = "cpu",
    clock: Clock = time.perf_counter,
) -> Floats:
    """Seconds that encoding and decoding a layer takes (K,), measured on this rank without a network.

    Some of the settings are timed, from the first to the last: the least of some repeats, after one to
    warm up. Between them time is interpolated in bytes.
    """
    group = Loopback(ranks)
    gradient = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)).to(device)
    sizes = [family.wire_bytes(shape, setting, ranks) for setting in settings]
    chosen = sorted({round(float(at)) for at in np.linspace(0, len(settings) - 1, points)})
    taken: list[float] = []
    for index in chosen:
        layer = Layer("", tuple(shape))
        times: list[float] = []
        for repeat in range(1 + repeats):
            begun = clock()
            family.exchange([Parcel(layer, settings[index], gradient)], group, repeat)
            _wait(gradient)
            times.append(clock() - begun)
        taken.append(min(times[1:]))
    return np.interp(sizes, [sizes[index] for index in chosen], taken)


def microseconds(
    family: Family,
    shape: Sequence[int],
    settings: Sequence[float],
    ranks: int,
    link: Link,
    compute: ArrayLike,
) -> Indices:
    """Costs of a layer's settings for a plan (K,): whole microseconds on the link and at work, rounded up.

    `link` is of the family's `collective`; `compute` is (K,), of `compute_seconds`, as all ranks have
    agreed on it. A message's latency is no layer's: all of a family share it.
    """
    wire = [family.wire_bytes(shape, setting, ranks) * link.per_byte for setting in settings]
    return np.ceil((np.asarray(wire) + np.asarray(compute, dtype=np.float64)) * 1e6).astype(np.int64)


class Timed:
    """What menus cost in microseconds on this group: links, where none are given, and work are measured as
    they are first needed.

    All ranks ask for the same menus in the same order, and get the same answers.
    """

    def __init__(
        self, group: Collective, device: torch.device, links: Mapping[CollectiveName, Link] | None = None
    ) -> None:
        self._group = group
        self._device = device
        self._links = links or {}
        self._known: dict[tuple[int, ...], list[float]] = {}

    def __call__(self, menu: Menu) -> list[float]:
        """Costs of a menu's entries (K,), in whole microseconds."""
        if not self._links:
            self._links = measure(self._group, device=self._device)
        if menu.shape not in self._known:
            found: list[float] = []
            for family, settings in menu.runs:
                ranks = self._group.size
                work = compute_seconds(family, menu.shape, settings, ranks, device=self._device)
                agreed = slowest(self._group, work, self._device)
                link = self._links[family.collective]
                found += microseconds(family, menu.shape, settings, ranks, link, agreed).tolist()
            self._known[menu.shape] = found
        return self._known[menu.shape]


class Loopback:
    """A group whose other ranks send what this one does, at once: what is left is work."""

    rank = 0

    def __init__(self, size: int) -> None:
        self.size = size

    def all_reduce(self, tensor: Tensor) -> None:
        """The sum of as many alike."""
        tensor.mul_(self.size)

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensor, from every rank."""
        return [tensor] * self.size

    def all_to_all(self, tensor: Tensor) -> Tensor:
        """What it is given."""
        return tensor


def _wait(tensor: Tensor) -> None:
    """Let the device end what it was given."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
