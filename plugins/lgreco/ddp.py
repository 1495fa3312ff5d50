"""L-GreCo for a training loop of your own: a communication hook of DistributedDataParallel."""

# torch's own annotations are partial. It compares the hook's as objects, so they are no strings here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateImportUsage=false

import time
import weakref
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .compression import Compression, regrouped
from .decision import Decision
from .group import PrivateGroup
from .layer import laid_out
from .strategy import LGreco, LGrecoOptions

__all__ = ["Attached", "LGrecoOptions", "attach"]

VERSION = 1  # of `Attached.state`


def attach(
    model: DistributedDataParallel,
    options: LGrecoOptions | None = None,
    *,
    seed: int = 0,
    scaler: torch.amp.GradScaler | None = None,
    names: Iterable[tuple[str, nn.Parameter]] | None = None,
    timeout: timedelta | None = None,
) -> "Attached":
    """Compress a model's gradients from the next backward pass on. Called once, on all of its ranks.

    Each bucket is exchanged within the hook, one after the other, over a process group that is made for
    it; the rest of the training stays as it is. Steps count backward passes that synchronise.

    Args:
        model: of any bucket size, with accumulation (`no_sync`), uneven inputs (`join`), unused or
            frozen parameters.
        options: as in a job; `start` steps go uncompressed first.
        seed: keys all that is random; the same on all ranks.
        scaler: scales the losses, if any does. What is owed is kept without its factor, which changes.
        names: what parameters are called in records and checkpoints; default: `model.module`'s names.
        timeout: of the exchanges; default: torch.distributed's.

    Raises:
        TypeError: the model is no DistributedDataParallel.
        ValueError: it has sparse gradients, or a communication hook already; or ranks' arguments differ.
    """
    kinds = {kind.__name__ for kind in type(model).__mro__}
    if "DistributedDataParallel" not in kinds:
        sharded = kinds & {"FullyShardedDataParallel", "FSDPModule"}
        why = "its ranks never hold a layer's whole gradient" if sharded else "wrap the model in it first"
        raise TypeError(
            f"DistributedDataParallel's gradients are compressed, not {type(model).__name__}'s: {why}"
        )
    for name, module in model.module.named_modules():
        if getattr(module, "sparse", False) and isinstance(module, nn.Embedding | nn.EmbeddingBag):
            raise ValueError(
                f"{name} has sparse gradients, which aren't compressed: build it without `sparse`"
            )
    own = list(model.module.named_parameters())
    called = {id(each): name for name, each in (own if names is None else names)}
    if missing := [name for name, each in own if id(each) not in called]:
        raise ValueError(f"names: none for {', '.join(missing)}")
    attached = Attached(model, options or LGrecoOptions(), seed, scaler, called, timeout)
    try:
        model.register_comm_hook(None, attached.exchange)
    except RuntimeError as error:
        raise ValueError(f"the model has a communication hook already: {error}") from error
    return attached


class Attached:
    """The compression of a model's gradients on this rank. Made by `attach`."""

    def __init__(
        self,
        model: DistributedDataParallel,
        options: LGrecoOptions,
        seed: int,
        scaler: torch.amp.GradScaler | None,
        names: Mapping[int, str],
        timeout: timedelta | None,
    ) -> None:
        self._model = weakref.ref(model)  # which holds this hook where no garbage collector looks
        self._options = options
        self._seed = seed
        self._scaler = scaler
        self._names = names
        self._group = PrivateGroup(cast("dist.ProcessGroup", model.process_group), timeout)
        terms = zlib.crc32(repr(self._terms()).encode())
        given = self._group.all_gather(torch.tensor([terms], device=next(model.parameters()).device))
        if any(int(one) != terms for one in given):
            raise ValueError("attach: the ranks were given different options or seeds")
        self._compression = Compression(LGreco(options).rules(), self._group, seed)
        self._begun: float | None = None

    def exchange(self, _: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        """Answer with a bucket's means over ranks: the hook that DDP calls."""
        model = cast("DistributedDataParallel", self._model())
        if model._join_config.enable and not model._divide_by_initial_world_size:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            raise RuntimeError("join(divide_by_initial_world_size=False): means here are over all ranks")
        scale = 1.0 if self._scaler is None else self._scaler.get_scale()
        pairs = zip(bucket.parameters(), bucket.gradients(), strict=True)
        views = {self._names[id(each)]: laid_out(view, each) for each, view in pairs}
        skipping = model.find_unused_parameters or model.static_graph
        used = self._used(views) if skipping else views
        given = {name: each / scale if scale != 1 else each for name, each in used.items()}
        means = self._compression.exchange(given)
        # Not in place: the statistics of the step still look at what was given.
        whole = bucket.buffer()
        found = torch.zeros_like(whole)
        for name, mean in means.items():
            view = views[name]
            start = view.storage_offset() - whole.storage_offset()
            found.as_strided(view.shape, view.stride(), start).copy_(mean * scale if scale != 1 else mean)
        if bucket.is_last():
            self._compression.end_step(self._begun)
            self._begun = time.perf_counter()
        done = torch.futures.Future[Tensor](devices=[found.device] if found.is_cuda else None)
        done.set_result(found)
        return done

    def _used(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those that aren't zero on all ranks. DDP throws away the means of parameters that nobody used,
        so what is owed to them waits.
        """
        flags = torch.stack([each.any() for each in gradients.values()]).float()
        self._group.all_reduce(flags)
        return {name: gradients[name] for name, users in zip(gradients, flags.tolist(), strict=True) if users}

    @property
    def decisions(self) -> Sequence[Decision]:
        """What was decided so far, the same on all ranks."""
        return self._compression.decisions

    def metrics(self) -> Mapping[str, float]:
        """Figures so far: bytes a step, and how many times fewer that is than without compression."""
        return self._compression.record.metrics()

    def write(self, folder: Path) -> Mapping[str, Path]:
        """Write the decisions into a folder as data and as a picture. One rank's is enough."""
        folder.mkdir(parents=True, exist_ok=True)
        return self._compression.record.write(folder)

    # Checkpoints ----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What this rank owes, and what was decided: plain values that `torch.load` takes as they are.

        Between two steps. Each rank keeps its own: what is owed differs.
        """
        return {
            **self._terms(),
            "rank": self._group.rank,
            "ranks": self._group.size,
            "compression": self._compression.state(),
        }

    def load(self, state: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Go on from there, exactly as without a break.

        Args:
            state: what `state` gave on this rank; or all ranks' states, from a group of any size. The
                mean over ranks of what is owed stays the same.

        Raises:
            ValueError: the states are of another rank, incomplete, or of other options.
        """
        states = [state] if isinstance(state, Mapping) else sorted(state, key=lambda one: one["rank"])
        mine, theirs = self._terms(), {name: states[0].get(name) for name in self._terms()}
        if mine != theirs:
            raise ValueError(f"the state was made under {theirs}, this is {mine}")
        given, of = [one["rank"] for one in states], states[0]["ranks"]
        rank, size = self._group.rank, self._group.size
        if of == size and rank in given:
            self._compression.load(states[given.index(rank)]["compression"])
        elif given == list(range(of)):
            self._compression.load(regrouped([one["compression"] for one in states], rank))
        else:
            raise ValueError(
                f"states of ranks {given} of {of}, for rank {rank} of {size}: give this rank's own, or those "
                "of all ranks where their number has changed"
            )

    def _terms(self) -> dict[str, Any]:
        """What a state is good for."""
        return {"version": VERSION, "seed": self._seed, "options": self._options.model_dump()}
