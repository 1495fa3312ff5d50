"""A training loop of one's own: real processes with DistributedDataParallel over gloo."""

from __future__ import annotations

import datetime as dt
import functools
import json
from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing, nn
from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook as theirs
from torch.nn.parallel import DistributedDataParallel

from orchestrate.plugins.lgreco.ddp import attach
from orchestrate.plugins.lgreco.strategy import LGrecoOptions

DENSE = {"start": 10**6}
# With one sample a rank a linear layer's mean gradient over four has rank 4, or 8 where it is used twice.
EXACT = {"mode": "uniform", "rank": 12, "start": 1, "minimum": 64, "also": []}
LOSSY = {"family": "topk", "density": 0.05, "start": 2, "period": 4, "window": 2, "minimum": 64}
MIXED = {**LOSSY, "family": "powersgd", "rank": 2, "also": ["topk", "qsgd", "dense"]}
FED_BACK = {**LOSSY, "family": "powersgd", "rank": 2, "also": ["topk"]}
RANDOM = {**LOSSY, "family": "qsgd", "also": ["powersgd"]}

# Ways to use DDP: arguments of its own, of the network, and of the loop.
WAYS = {
    "plain": {},
    "small buckets": {"ddp": {"bucket_cap_mb": 0.02}},
    "static graph": {"ddp": {"static_graph": True, "bucket_cap_mb": 0.02}},
    "unused": {"ddp": {"find_unused_parameters": True, "bucket_cap_mb": 0.02}, "skips": True},
    "bucket views": {"ddp": {"gradient_as_bucket_view": True, "bucket_cap_mb": 0.02}},
    "accumulation": {"accumulate": 2},
    "frozen": {"net": {"frozen": True}},
    "tied": {"net": {"tied": True}},
    "channels last": {"net": {"channels": True}, "ddp": {"gradient_as_bucket_view": True}},
    "uneven": {"uneven": True, "ddp": {"bucket_cap_mb": 0.02}},
    "scaled": {"scale": 1024.0},
}


class Net(nn.Module):
    """Linear layers, of which one can be passed by, frozen, or tied to another."""

    def __init__(self, *, frozen=False, tied=False, channels=False):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(40, 72)
        self.optional = nn.Linear(72, 72)
        self.second = nn.Linear(72, 72)
        self.last = nn.Linear(72, 40)
        self.filter = nn.Conv2d(4, 8, 3, padding=1, bias=False) if channels else None
        if channels:
            self.to(memory_format=torch.channels_last)
        self.optional.requires_grad_(not frozen)
        if tied:
            self.second.weight = self.optional.weight

    def forward(self, x, skip):
        if self.filter is not None:
            image = x[:, :36].view(-1, 4, 3, 3).contiguous(memory_format=torch.channels_last)
            x = x + self.filter(image).sum((1, 2, 3))[:, None]
        x = self.first(x).tanh()
        x = x if skip else self.optional(x).tanh()
        return self.last(self.second(x).tanh())


def build(way, group=None):
    return DistributedDataParallel(Net(**way.get("net", {})), process_group=group, **way.get("ddp", {}))


def train(model, way, first, last, lr=0.1):
    """Train by one batch a step; gives each step's gradients."""
    rank, found = dist.get_rank(model.process_group), []
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    if way.get("uneven"):
        last -= 2 * rank
    with model.join() if way.get("uneven") else nullcontext():
        for step in range(first, last):
            optimizer.zero_grad()
            parts = way.get("accumulate", 1)
            for part in range(parts):
                rng = torch.Generator().manual_seed(1000 * step + 10 * part + rank)
                x, y = torch.randn(2, way.get("batch", 1), 40, generator=rng)
                skip = way.get("skips") and (step % 3 == 1 or (step % 3 == 2 and rank == 0))
                with model.no_sync() if part + 1 < parts else nullcontext():
                    loss = (model(x, skip) - y).square().mean() / parts * way.get("scale", 1.0)
                    loss.backward()
            for each in model.parameters():
                if each.grad is not None and way.get("scale"):
                    each.grad /= way["scale"]
            found.append(
                {n: p.grad.clone() for n, p in model.module.named_parameters() if p.grad is not None}
            )
            optimizer.step()
    return found


def weights(model):
    return {name: each.detach().clone() for name, each in model.module.named_parameters()}


def total(steps):
    found = {}
    for step in steps:
        for name, each in step.items():
            found[name] = found.get(name, 0) + each
    return found


class Scaler:
    """As much of a GradScaler as is asked: the factor."""

    def __init__(self, scale):
        self.scale = scale

    def get_scale(self):
        return self.scale


def compress(model, options, way=None, **more):
    scale = (way or {}).get("scale")
    return attach(model, LGrecoOptions(**options), scaler=Scaler(scale) if scale else None, **more)


# What the processes do -----------------------------------------------------------------------------


def a_way(way, folder):
    """Without a hook; with one that sends all; with one that is exact; and with a lossy one, at rest."""
    plain = build(way)
    train(plain, way, 0, 8)
    found = {"plain": weights(plain)}
    for name, options in (("dense", DENSE), ("exact", EXACT)):
        model = build(way)
        compress(model, options, way)
        train(model, way, 0, 8)
        found[name] = weights(model)
    way = {**way, "batch": 8}
    found["true"] = total(train(build(way), way, 0, 12, lr=0))
    model = build(way)
    attached = compress(model, FED_BACK, way)
    steps = train(model, way, 0, 12, lr=0)
    found |= {"steps": steps, "sent": total(steps), "decisions": len(attached.decisions)}
    found["owed"] = {
        name: state.get("residual") for name, state in attached.state()["compression"]["layers"].items()
    }
    return found


def many_buckets(folder):
    way = {"ddp": {"bucket_cap_mb": 0.005}, "batch": 8}
    model = build(way)
    attached = compress(model, MIXED)
    train(model, way, 0, 60)
    sizes = model._get_ddp_logging_data()["rebuilt_bucket_sizes"]
    files = attached.write(folder / f"record-{dist.get_rank()}")
    return {
        "record": json.loads(files["compression"].read_text()),
        "picture": files["compression-picture"].exists(),
        "weights": weights(model),
        "buckets": len(sizes.split(",")),
        "metrics": attached.metrics(),
        "decisions": attached.decisions,
    }


def resumed(options, cut, folder):
    way = {**WAYS["small buckets"], "batch": 8}
    whole = build(way)
    kept = compress(whole, options, seed=5)
    train(whole, way, 0, cut)
    path = folder / f"checkpoint-{dist.get_rank()}.pt"
    torch.save({"model": whole.module.state_dict(), "compression": kept.state()}, path)
    train(whole, way, cut, 13)
    state = torch.load(path)
    model = build(way)
    model.module.load_state_dict(state["model"])
    attached = compress(model, options, seed=5)
    attached.load(state["compression"])
    train(model, way, cut, 13)
    choices = [
        [(each.layer, each.family, each.setting) for decision in one.decisions for each in decision.layers]
        for one in (kept, attached)
    ]
    return {"whole": weights(whole), "resumed": weights(model), "choices": choices}


def regrouped(folder):
    """Four ranks, then two of them: the mean of what is owed, before and after."""
    halves = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    way = {**WAYS["small buckets"], "batch": 8}
    model = build(way)
    attached = compress(model, FED_BACK)
    train(model, way, 0, 9, lr=0)
    states = [None] * 4
    dist.all_gather_object(states, attached.state())
    group = halves[dist.get_rank() // 2]
    fewer = build(way, group)
    again = compress(fewer, FED_BACK)
    errors = refusals(lambda: again.load(states[:2]), lambda: again.load(states[3]))
    again.load(states)
    before = again.state()
    true = total(train(build(way, group), way, 9, 12, lr=0))
    sent = total(train(fewer, way, 9, 12, lr=0))
    return {
        "old": [one["compression"]["layers"] for one in states],
        "new": before["compression"]["layers"],
        "step": before["compression"]["step"],
        "owed": {name: one.get("residual") for name, one in again.state()["compression"]["layers"].items()},
        "true": true,
        "sent": sent,
        "errors": errors,
    }


def beside_torch(folder):
    """Our uniform PowerSGD and torch's, from the same Q, in one bucket."""
    way = {"batch": 8}
    options = {"mode": "uniform", "rank": 4, "start": 2, "minimum": 64, "also": []}
    model = build(way)
    ours = compress(model, options)
    bases = {
        name: torch.randn(each[0].numel(), 4, generator=torch.Generator().manual_seed(len(name)))
        for name, each in model.module.named_parameters()
        if each.ndim == 2
    }
    train(model, way, 0, 2)
    state = ours.state()
    shapes = {name: list(each.shape) for name, each in model.module.named_parameters() if name in bases}
    state["compression"] |= {
        "layers": {name: {"basis": base.clone()} for name, base in bases.items()},
        "shapes": shapes,
    }
    ours.load(state)
    mine = train(model, way, 2, 10)

    peer = build(way)
    names = {id(each): name for name, each in peer.module.named_parameters()}
    torchs = theirs.PowerSGDState(None, 4, 2, use_error_feedback=True, warm_start=True)

    def hook(state, bucket):
        assert bucket.index() == 0
        assert bucket.is_last()
        if state.iter == state.start_powerSGD_iter:
            groups = {}  # torch puts layers of a shape together
            for each in bucket.parameters():
                if each.ndim == 2:
                    groups.setdefault(each.shape, []).append(names[id(each)])
            order = [name for group in groups.values() for name in group]
            state.q_memory_dict[0] = torch.cat([bases[name].reshape(-1) for name in order])
            state.p_memory_dict[0] = torch.empty(sum(4 * shapes[name][0] for name in order))
        return theirs.powerSGD_hook(state, bucket)

    peer.register_comm_hook(torchs, hook)
    peers = train(peer, way, 0, 10)[2:]
    return {"ours": mine, "theirs": peers}


def refusals(*calls):
    found = []
    for call in calls:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - its words are looked at
            found.append(f"{type(error).__name__}: {error}")
        else:
            found.append("")
    return found


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(4, 4, sparse=True)


def refused(folder):
    twice, hooked, other = build({}), build({}), build({})
    attached = compress(twice, LOSSY)
    hooked.register_comm_hook(None, lambda state, bucket: None)
    unequal = build({})
    compress(unequal, LOSSY)

    def uneven():
        with unequal.join(divide_by_initial_world_size=False):
            unequal(torch.randn(2, 40), False).sum().backward()

    return {
        "errors": refusals(
            lambda: attach(Net()),
            lambda: attach(twice),
            lambda: attach(hooked),
            lambda: attach(DistributedDataParallel(Sparse())),
            lambda: attach(other, names=[("first", other.module.first.weight)]),
            lambda: compress(build({}), {**LOSSY, "density": 0.1}).load(attached.state()),
            uneven,
            lambda: attach(build({}), seed=dist.get_rank()),
        )
    }


def late(folder):
    """A rank that stays away: the others are told, and don't wait for ever."""
    model = build({})
    compress(model, LOSSY, timeout=dt.timedelta(seconds=2))
    train(model, {}, 0, 2)
    error = ""
    if dist.get_rank() != 0:
        loss = model(torch.randn(2, 40), False).sum()
        error = refusals(loss.backward)[0]
    dist.barrier()  # by the group of the whole, which nobody has touched
    return {"error": error}


def overflow(folder):
    """A factor that halves after a step with an infinite gradient; what is owed keeps its units."""
    way = {"batch": 8}
    model, steady = build(way), build(way)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    attached = attach(model, LGrecoOptions(**LOSSY), scaler=scaler)
    other = attach(steady, LGrecoOptions(**LOSSY))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scales = []
    for step in range(10):
        rng = torch.Generator().manual_seed(100 * step + dist.get_rank())
        x = torch.randn(8, 40, generator=rng)
        spoilt = torch.inf if step == 5 and dist.get_rank() == 1 else 1.0
        optimizer.zero_grad()
        scaler.scale(model(x, False).square().mean() * spoilt).backward()
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
        steady.zero_grad()
        (steady(x, False).square().mean() * spoilt).backward()
    layers = [one.state()["compression"]["layers"] for one in (attached, other)]
    return {"scales": scales, "layers": layers}


CASES = {
    **{f"way: {name}": lambda folder, way=way: a_way(way, folder) for name, way in WAYS.items()},
    "many buckets": many_buckets,
    "resumed": lambda folder: resumed(MIXED, 7, folder),
    "resumed, random": lambda folder: resumed(RANDOM, 5, folder),
    "regrouped": regrouped,
    "beside torch": beside_torch,
    "refused": refused,
    "overflow": overflow,
    "late": late,
}
# In each number of processes, which take seconds to start.
PLAN = {
    2: [name for name in CASES if name not in {"many buckets", "regrouped"}],
    4: [
        "way: small buckets",
        "way: unused",
        "way: uneven",
        "many buckets",
        "resumed",
        "regrouped",
        "beside torch",
        "late",
    ],
}
WAYS_OF = [(size, name.removeprefix("way: ")) for size in PLAN for name in PLAN[size] if name[:3] == "way"]


def work(rank, size, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", dt.timedelta(seconds=60), size, rank)
    for name in PLAN[size]:
        torch.save(CASES[name](folder), folder / f"{name}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each rank has found, by the number of processes and the case."""

    @functools.cache
    def all_cases(size):
        folder = tmp_path_factory.mktemp("ddp")
        multiprocessing.spawn(work, (size, folder), nprocs=size)
        return folder

    def one(size, case):
        folder = all_cases(size)
        return [torch.load(folder / f"{case}-{rank}.pt", weights_only=False) for rank in range(size)]

    return one


def equal(mine, other):
    return mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)


def close(mine, other):
    assert mine.keys() == other.keys()
    for name in mine:
        torch.testing.assert_close(mine[name], other[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "way"), WAYS_OF)
def test_what_loses_nothing_trains_as_without_a_hook(found, size, way):
    for one in found(size, f"way: {way}"):
        close(one["dense"], one["plain"])
        close(one["exact"], one["plain"])


@pytest.mark.parametrize(("size", "way"), WAYS_OF)
def test_all_ranks_have_the_same_gradients_and_lose_none(found, size, way):
    """Sent and owed, in the mean over ranks, are what there was; whatever DDP does with its buckets."""
    ranks = found(size, f"way: {way}")
    first = ranks[0]  # of uneven ranks the one that goes on longest
    assert first["decisions"] == 2
    for other in ranks[1:]:
        assert all(equal(one, same) for one, same in zip(other["steps"], first["steps"], strict=False))
    for name, true in first["true"].items():
        owed = [one["owed"].get(name) for one in ranks]
        mean = sum(torch.zeros(()) if one is None else one for one in owed) / size
        torch.testing.assert_close(first["sent"][name] + mean, true, rtol=1e-4, atol=1e-5)
    assert max(0 if one is None else float(one.norm()) for one in first["owed"].values()) > 0.01


def test_many_small_buckets(found):
    first, *others = found(4, "many buckets")
    assert first["buckets"] > 3
    for other in others:
        assert equal(other["weights"], first["weights"])
        assert [one.layers for one in other["decisions"]] == [one.layers for one in first["decisions"]]
    assert first["metrics"]["compression/ratio_now"] > 2
    assert len(first["decisions"]) == 14
    assert len(first["record"]["decisions"]) == 14
    assert first["record"]["phases"]["adapted"]["steps"] == 60 - 2 - 4
    assert first["picture"]


@pytest.mark.parametrize(("size", "case"), [(2, "resumed"), (2, "resumed, random"), (4, "resumed")])
def test_resumed_is_uninterrupted(found, size, case):
    for one in found(size, case):
        assert one["choices"][0] == one["choices"][1] != []
        if size == 2:
            assert equal(one["resumed"], one["whole"])
        else:  # DDP's first bucket is another, and with it the order in which more than two ranks are added
            close(one["resumed"], one["whole"])


def test_another_number_of_ranks_owes_the_same(found):
    ranks = found(4, "regrouped")
    for half in (ranks[:2], ranks[2:]):
        first = half[0]
        assert first["step"] == 9
        for name in first["new"]:
            old = sum(layers[name]["residual"] for layers in first["old"]) / 4
            new = sum(one["new"][name]["residual"] for one in half) / 2
            torch.testing.assert_close(new, old)
            owed = sum(one["owed"][name] if one["owed"][name] is not None else 0 for one in half) / 2
            torch.testing.assert_close(
                first["sent"][name] + owed, first["true"][name] + old, rtol=1e-4, atol=1e-5
            )
        incomplete, foreign = first["errors"]
        assert "states of ranks [0, 1] of 4" in incomplete
        assert "those of all ranks" in foreign


@pytest.mark.parametrize("size", PLAN)
def test_uniform_powersgd_is_torch_s(found, size):
    """It feeds back a rank's error against the mean, we against its own part: in the mean over ranks,
    which is all that is sent, that is the same.
    """
    for one in found(size, "beside torch"):
        for ours, peers in zip(one["ours"], one["theirs"], strict=True):
            for name, peer in peers.items():
                assert (ours[name] - peer).norm() < 1e-4 * peer.norm()


def test_what_is_refused(found):
    for one in found(2, "refused"):
        module, twice, hooked, sparse, names, options, uneven, seeds = one["errors"]
        assert module.startswith("TypeError")
        assert "wrap the model" in module
        assert "has a communication hook already" in twice
        assert "has a communication hook already" in hooked
        assert "words has sparse gradients" in sparse
        assert "none for" in names
        assert "optional.weight" in names
        assert "'density': 0.05" in options
        assert "divide_by_initial_world_size=False" in uneven
        assert "different options or seeds" in seeds


def test_a_model_that_is_sharded():
    class FSDPModule(nn.Module):
        pass

    with pytest.raises(TypeError, match="never hold a layer's whole gradient"):
        attach(FSDPModule())


def test_the_factor_of_a_loss_may_change(found):
    for one in found(2, "overflow"):
        assert one["scales"] == [1024.0] * 5 + [512.0] * 5
        scaled, plain = one["layers"]
        for name, state in plain.items():
            torch.testing.assert_close(scaled[name], state)


@pytest.mark.parametrize("size", PLAN)
def test_nobody_waits_for_ever(found, size):
    for one in found(size, "late")[1:]:
        assert one["error"].startswith("RuntimeError")
