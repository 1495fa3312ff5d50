"""Between tensors and vectors of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from .numbers import Floats


def tensor_of(numbers: Floats, shape: Sequence[int]) -> Tensor:
    """Make a float64 tensor of its own memory."""
    made: Tensor = torch.from_numpy(numbers.copy())  # pyright: ignore[reportUnknownMemberType]
    return made.reshape(tuple(shape))


def numbers_of(tensor: Tensor) -> Floats:
    """Read a tensor's entries, as one vector of float64."""
    return tensor.detach().reshape(-1).to(torch.float64).numpy()


def flat(outputs: Any) -> Tensor:
    """Flatten tensors, and tuples, lists and maps of them, to one dimension of float64."""
    if isinstance(outputs, Tensor):
        return outputs.reshape(-1).to(torch.float64)
    parts = cast(
        Sequence[Any],
        list(cast(Mapping[Any, Any], outputs).values()) if isinstance(outputs, Mapping) else outputs,
    )
    return torch.cat([flat(part) for part in parts if part is not None])
