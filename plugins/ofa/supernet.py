"""The supernet: the weights of a space's largest network, from which every sub-net's are sliced.

There is one rule: a sub-net's tensor is the leading corner of the supernet's tensor of that name, in the
sub-net's shape. Depthwise kernels alone are made smaller by learned matrices (1908.09791, section 3.2).
No state says which sub-net is "active": a forward pass names its candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call  # pyright: ignore[reportUnknownVariableType]

from ...core import ArtifactError, Candidate, Shape, Value
from ...core.training.checkpoint import load_weights, save_weights
from .base import OnceForAll
from .network import Network, build_layer
from .plan import Layer, MBConv, Norm, Plan

DEPTHWISE = "depthwise.conv.weight"


class Supernet(nn.Module):
    """All networks of a space in one set of weights.

    A backward pass of a sub-net leaves gradients that are zero outside its slices, and None in blocks
    it skips and matrices it doesn't use: an optimiser with momentum or weight decay therefore moves
    unused channels of used blocks, and leaves unused blocks as they are.

    BatchNorm's running statistics are a mixture over the sub-nets that were trained, of use to none:
    calibrate (`core.training.bn`) what is extracted before it is scored.

    Args:
        space: the space.
        shape: what its networks map.
    """

    def __init__(self, space: OnceForAll, shape: Shape) -> None:
        super().__init__()
        self.space = space
        self.shape = shape
        self.network = Network(
            space.plan(space.largest, shape), zero_last_scale=space.options.zero_last_scale
        )
        self.matrices = nn.ParameterDict(_matrices(space, self.network.plan))
        self._skeletons: dict[Layer, nn.Module] = {}

    def forward(self, images: Tensor, candidate: Mapping[str, Value] | None = None) -> Tensor:
        """Compute the logits (n, classes) of a candidate's network; of the largest by default.

        Args:
            images: (n, channels, height, width), of any size: the network scales them.
            candidate: whose network.

        Raises:
            SpaceError: the candidate isn't of the space.
        """
        skeleton = self.skeleton(self.space.plan(candidate or self.space.largest, self.shape))
        return functional_call(skeleton, self.tensors(skeleton), (images,))

    def skeleton(self, plan: Plan) -> Network:
        """The plan's network on the meta device: its structure, without weights."""
        with torch.device("meta"):
            network = Network(plan, make=self._skeleton)
        return network.train(self.training)

    def tensors(self, skeleton: Network) -> dict[str, Tensor]:
        """The sub-net's parameters and buffers, as views of the supernet's where possible."""
        own = self.own()
        members = (*skeleton.named_parameters(), *skeleton.named_buffers())
        return {name: self.slice(name, own[name], like.shape) for name, like in members}

    def own(self) -> dict[str, Tensor]:
        """The largest network's parameters and buffers."""
        return {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}

    def slice(self, name: str, tensor: Tensor, shape: torch.Size) -> Tensor:
        """Slice the tensor called `name` down to a sub-net's `shape`: the one rule there is."""
        if tensor.shape == shape:
            return tensor
        if name.endswith(DEPTHWISE):
            tensor = self._kernel(name, tensor, shape)
        return corner(tensor, shape)

    def extract(self, candidate: Mapping[str, Value]) -> Network:
        """Cut a candidate's network out, as a plain network with weights of its own.

        BatchNorm's statistics are the supernet's: calibrate it before use.
        """
        plan = self.space.plan(candidate, self.shape)
        device = next(self.parameters()).device
        with torch.device("meta"):
            network = Network(plan, make=build_layer)
        network.to_empty(device=device)
        with torch.no_grad():
            network.load_state_dict(self.tensors(self.skeleton(plan)))
        return network.train(self.training)

    def undecayed(self) -> list[nn.Parameter]:
        """Parameters that weight decay would pull away from the identity: the kernel matrices."""
        return list(self.matrices.values())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_skeletons": {}}

    def _skeleton(self, layer: Layer, norm: Norm) -> nn.Module:
        if layer not in self._skeletons:
            self._skeletons[layer] = build_layer(layer, norm)
        return self._skeletons[layer]

    def _kernel(self, name: str, tensor: Tensor, shape: torch.Size) -> Tensor:
        """Turn the largest kernels into smaller ones, step by step: (M, 1, k, k)."""
        at = name.split(".")[1]
        tensor = tensor[: shape[0]]
        sizes = [size for size in self.space.kernels(at) if shape[-1] <= size <= tensor.shape[-1]]
        for larger, smaller in zip(sizes[:0:-1], sizes[-2::-1], strict=True):
            edge = (larger - smaller) // 2
            tensor = tensor[:, :, edge : edge + smaller, edge : edge + smaller]
            key = matrix_name(at, larger, smaller)
            if key in self.matrices:
                tensor = (tensor.flatten(2) @ self.matrices[key].T).view(-1, 1, smaller, smaller)
        return tensor


def corner(tensor: Tensor, shape: torch.Size) -> Tensor:
    """The leading corner of `tensor` in `shape`: a view."""
    for dimension, size in enumerate(shape):
        if tensor.shape[dimension] != size:
            tensor = tensor.narrow(dimension, 0, size)
    return tensor


def matrix_name(at: str, larger: int, smaller: int) -> str:
    """Key of the matrix that makes kernels of block `at` smaller."""
    return f"{at}_{larger}to{smaller}"


def _matrices(space: OnceForAll, plan: Plan) -> dict[str, nn.Parameter]:
    """Identities: one for each step between kernel sizes of each block, shared by its channels."""
    if not space.options.kernel_transform:
        return {}
    found: dict[str, nn.Parameter] = {}
    for layer in plan.layers:
        sizes = space.kernels(layer.at) if isinstance(layer, MBConv) else ()
        for smaller, larger in pairwise(sizes):
            found[matrix_name(layer.at, larger, smaller)] = nn.Parameter(torch.eye(smaller**2))
    return found


def save_supernet(supernet: Supernet, path: Path) -> None:
    """Write the weights as safetensors; the space and the shape are the job's."""
    save_weights(supernet, path)


def load_supernet(
    space: OnceForAll, shape: Shape, path: Path, device: torch.device | str = "cpu"
) -> Supernet:
    """Make a supernet from what `save_supernet` wrote.

    Raises:
        ArtifactError: the file is missing, damaged, or of another space or shape.
    """
    with torch.device("meta"):
        supernet = Supernet(space, shape)
    supernet.to_empty(device=device)
    try:
        load_weights(supernet, path)
    except ArtifactError as error:
        raise ArtifactError(
            f"{error}. A supernet can be read with the space and options that it was trained with alone; "
            f"here the space is {space.name!r} ({space.options!r})"
        ) from error
    return supernet


def largest_at(space: OnceForAll, candidate: Candidate | None, resolution: int) -> Candidate:
    """The space's largest candidate (or `candidate`) at another resolution."""
    chosen = dict(candidate or space.largest)
    if len(space.resolutions) > 1:
        chosen["resolution"] = resolution
    return Candidate(chosen)


def covering(space: OnceForAll, shape: Shape, offered: Callable[[str, Value], bool]) -> list[Plan]:
    """Plans in which every inner and outer width occurs that the offered genes allow.

    Args:
        space: the space.
        shape: what its networks map.
        offered: whether a gene (by its name) may have a value.
    """
    widths = [gene for gene in space.genes if gene.kind in ("expand", "width")]
    lists = {gene.kind: gene.options for gene in widths}
    plans: list[Plan] = []
    for values in product(*lists.values()):
        wanted = dict(zip(lists, values, strict=True))
        genes = dict(space.largest)
        genes.update(
            {gene.name: wanted[gene.kind] for gene in widths if offered(gene.name, wanted[gene.kind])}
        )
        plans.append(space.plan(genes, shape))
    return plans
