"""Real processes joined by gloo do what threads do, and agree bit by bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import multiprocessing

from orchestrate.plugins.lgreco.families import Parcel
from orchestrate.plugins.lgreco.layer import Layer
from orchestrate.plugins.lgreco.metering import Metered
from tests.plugins.lgreco.cluster import EVERY, SHAPES, Cluster, average

LAYERS = {**SHAPES, "wide": (60, 700)}
STEPS = 3


def work(rank: int, folder: Path) -> None:
    """One process: a group of four, then two of two."""
    from orchestrate.scheduler.ranks import TorchCollective

    torch.set_num_threads(1)
    for size in (4, 2):
        group = TorchCollective(f"file://{folder}/{size}-{rank // size}", rank % size, size, gpu=False)
        torch.save({kind: steps(kind, group) for kind in EVERY}, folder / f"{size}-{rank}.pt")
        group.close()


def steps(kind, group):
    """Means, own residuals and bytes of some steps; None for the means where one is spoilt."""
    family, setting = EVERY[kind]
    layers = [Layer(name, shape) for name, shape in LAYERS.items()]
    metered, means = Metered(group), []
    for step in range(STEPS):
        gradients = Cluster(group.size, LAYERS).draw(step)[group.rank]
        if step == 1 and group.rank == 1:
            gradients[1][0, 0] = torch.nan
        parcels = [
            Parcel(layer, family.clamp(layer.shape, setting), gradient)
            for layer, gradient in zip(layers, gradients, strict=True)
        ]
        means.append(family.exchange(parcels, metered, step))
    return means, [layer.state() for layer in layers], metered.sent


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """By size of the group: what each of the processes has, by kind."""
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(work, (folder,), nprocs=4)
    return {size: [torch.load(folder / f"{size}-{rank}.pt") for rank in range(4)] for size in (4, 2)}


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("size", [2, 4])
def test_all_ranks_have_the_same_means_bit_by_bit(found, kind, size):
    first = found[size][0][kind]
    for rank in found[size][1:size]:
        means, _, sent = rank[kind]
        assert sent == first[2]
        for mine, others in zip(means, first[0], strict=True):
            for one, other in zip(mine, others, strict=True):
                assert one.numpy().tobytes() == other.numpy().tobytes()


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("size", [2, 4])
def test_they_do_what_threads_do(found, kind, size):
    family, setting = EVERY[kind]
    cluster, bytes_sent = Cluster(size, LAYERS), 0.0
    loose = 2e-2 if "half" in kind else 1e-4
    for step in range(STEPS):
        gradients = cluster.draw(step)
        if step == 1:
            gradients[1][1][0, 0] = torch.nan
        means = cluster.step(family, setting, gradients, step)
        bytes_sent += cluster.bytes
        for mean, there, gradient in zip(
            means, found[size][0][kind][0][step], average(gradients), strict=True
        ):
            assert torch.allclose(mean, there, rtol=loose, atol=loose, equal_nan=True)
            assert gradient.isnan().any() == there.isnan().any()
    for rank in range(size):
        _, states, sent = found[size][rank][kind]
        assert sent == pytest.approx(bytes_sent)
        for layer, state in zip(cluster.layers[rank], states, strict=True):
            assert layer.state().keys() == state.keys()
            if layer.residual is not None:
                assert torch.allclose(layer.residual, state["residual"], rtol=loose, atol=loose)
