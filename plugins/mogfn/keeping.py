"""What was trained, as bytes (safetensors), so that nobody has to train it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from safetensors.torch import load, save
from torch import Tensor

Tensors: TypeAlias = Mapping[str, Tensor]

KNOWN = "known"
"""Of what it was learnt: the number of the round's first ask, and how many results there were."""


def to_bytes(known: tuple[int, int], tensors: Tensors) -> bytes:
    """Write tensors, and of what they were learnt."""
    plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    return save({KNOWN: torch.tensor(known), **plain})


def from_bytes(data: bytes) -> tuple[tuple[int, int], Tensors]:
    """Read what `to_bytes` wrote."""
    tensors = load(data)
    known = tensors.pop(KNOWN)
    return (int(known[0]), int(known[1])), tensors


def under(name: str, tensors: Tensors) -> dict[str, Tensor]:
    """Tensors under a common name."""
    return {f"{name}/{key}": tensor for key, tensor in tensors.items()}


def below(name: str, tensors: Tensors) -> dict[str, Tensor]:
    """The tensors that `under` put there."""
    return {key.removeprefix(f"{name}/"): one for key, one in tensors.items() if key.startswith(f"{name}/")}
