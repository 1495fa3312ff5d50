"""A candidate's network as the static objectives see it: built once, without numbers if it can be.

On PyTorch's meta device tensors have a shape and no storage, so that building and running a network
takes no memory, no arithmetic and no random number. A network that can't live there (it reads a
tensor's values) is built on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, cast

from ...core import Candidate, SearchSpace, Shape, SpaceError

if TYPE_CHECKING:
    from torch import nn


@lru_cache(maxsize=4)  # a candidate's objectives are asked for in a row; a few threads may ask
def network(space: SearchSpace, candidate: Candidate, shape: Shape) -> Network:
    """The candidate's network; the same object when asked again soon."""
    return Network(space, candidate, shape)


class Network:
    """Counts of one network. What its space's `build` or its own `forward` raises passes through.

    Torch's random state is as before afterwards. (While a network is on the CPU, threads that draw
    from the default generator share it with the build, and are set back with it.)
    """

    def __init__(self, space: SearchSpace, candidate: Candidate, shape: Shape) -> None:
        self._space = space
        self._candidate = candidate
        self._shape = shape
        self._device = "meta"
        self._model: nn.Module | None = None

    @cached_property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return self._count(_parameters)

    @cached_property
    def flops(self) -> int:
        """FLOPs of one sample's forward pass; see `Flops`."""
        return self._count(self._flops)

    def _count(self, count: Callable[[nn.Module], int]) -> int:
        import torch

        if self._device == "meta":
            try:
                with torch.device("meta"):
                    return count(self._built())
            except SpaceError:
                raise
            except Exception:  # noqa: BLE001 - meta tensors refuse in many ways; the CPU has the last word
                self._device, self._model = "cpu", None
        with cast(Any, torch.random).fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(0)
            return count(self._built())

    def _built(self) -> nn.Module:
        if self._model is None:
            self._model = self._space.build(self._candidate, self._shape)
        return self._model

    def _flops(self, model: nn.Module) -> int:
        from ...core.training.count import flops

        return flops(model, self._shape.input)


def _parameters(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
