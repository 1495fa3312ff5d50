"""What a rank remembers of one parameter between steps, whichever family compresses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Layer:
    """A parameter's record on one rank, known by the parameter's name.

    `residual`, fp32 of the parameter's shape, is what was left out of the messages so far (error
    feedback): it differs from rank to rank, and outlives changes of setting and of family. `basis`,
    (rest, r), is PowerSGD's Q after the last step, the same on all ranks. Both are replaced, never
    changed in place, so `state` is a snapshot that `load` goes back to.
    """

    name: str
    shape: tuple[int, ...]
    residual: Tensor | None = None
    basis: Tensor | None = None

    def compensated(self, gradient: Tensor) -> Tensor:
        """The gradient in fp32 with what was left out of earlier ones added: what is compressed."""
        single = gradient.detach().float()
        return single if self.residual is None else single + self.residual.to(single.device)

    def state(self) -> dict[str, Tensor]:
        """The record as plain tensors."""
        found = {"residual": self.residual, "basis": self.basis}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises:
            ValueError: the residual is of another shape.
        """
        residual = state.get("residual")
        if residual is not None and tuple(residual.shape) != self.shape:
            raise ValueError(
                f"the residual of {self.name!r} has shape {tuple(residual.shape)}, the parameter {self.shape}"
            )
        self.residual, self.basis = residual, state.get("basis")


def as_matrix(tensor: Tensor) -> Tensor:
    """View a parameter or its gradient as (out, rest); a vector has one column."""
    return tensor.reshape(tensor.shape[0] if tensor.ndim else 1, -1)


def laid_out(view: Tensor, parameter: Tensor) -> Tensor:
    """A gradient in its parameter's strides, as DDP stores it; a bucket's views are told as contiguous."""
    extent = 1 + sum((n - 1) * step for n, step in zip(parameter.shape, parameter.stride(), strict=True))
    dense = extent == parameter.numel()
    return view.as_strided(parameter.shape, parameter.stride(), view.storage_offset()) if dense else view


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Shape (out, rest) of the matrix view."""
    out = shape[0] if shape else 1
    rest = 1
    for size in shape[1:]:
        rest *= size
    return out, rest


def regrouped(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The state for every rank of a group of another size, from all ranks' of the old one.

    What is still to be sent stays the same: the mean over the new ranks is that over the old ones.
    """
    found = dict(states[0])
    residuals = [state["residual"] for state in states if "residual" in state]
    if residuals:
        found["residual"] = torch.stack(residuals).sum(0) / len(states)
    return found
