"""Copies of a learner on workers: how one travels, and how it is rebuilt there.

For coded strategies, whose master alone runs the program: a worker needs the learner as it stands at
a step, whatever its author keeps in it.
"""

from __future__ import annotations

import io
import pickle
import warnings
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, TypeAlias
from uuid import uuid4

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..candidate import Candidate
from ..errors import TrialError
from ..groups import Shared, WorkerGroup
from ..parallel import Learner
from ..program import TrialContext

Key: TypeAlias = tuple[str, int]


@dataclass(frozen=True)
class Packed:
    """A tensor on its way: plain bytes, which a process of the same machine maps instead of copying."""

    data: NDArray[np.uint8]
    dtype: torch.dtype
    shape: tuple[int, ...]
    device: str
    parameter: bool
    requires_grad: bool

    @classmethod
    def of(cls, tensor: Tensor) -> Packed:
        """A copy of the tensor as it is now."""
        flat = tensor.detach().to("cpu", copy=True).contiguous().reshape(-1)
        return cls(
            flat.view(torch.uint8).numpy(),
            tensor.dtype,
            tuple(tensor.shape),
            tensor.device.type,
            isinstance(tensor, nn.Parameter),
            tensor.requires_grad,
        )

    def tensor(self, *, writable: bool) -> Tensor:
        """The tensor, on a device of the kind that it came from, where there is one."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of memory that is read-only: the caller says whether it matters
            data = torch.from_numpy(self.data)  # pyright: ignore[reportUnknownMemberType]
        flat = data.view(self.dtype) if len(data) else torch.empty(0, dtype=self.dtype)
        flat = flat.view(self.shape)
        device = self.device if self.device != "cuda" or torch.cuda.is_available() else "cpu"
        flat = flat.to(device, copy=writable)
        return nn.Parameter(flat, self.requires_grad) if self.parameter else flat


@dataclass(frozen=True)
class TrialFacts:
    """What a learner on a worker finds in place of its trial, which lives on the master."""

    number: int
    candidate: Candidate
    seed: int
    device: torch.device

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"on a worker, a learner finds of its trial number, candidate, seed and device, not {name!r}: "
            "let it read what else it needs once, where it is made"
        )


@dataclass(frozen=True)
class Replica:
    """A learner as it was when it was published. `open` rebuilds it, in any process."""

    key: Key
    body: Shared
    """The pickled learner, and the tensors of its model."""
    fixed: Mapping[Key, Shared]
    """Its other tensors."""
    live: frozenset[Key]
    """All tensors that the publisher's learners hold: a worker forgets the rest."""

    def open(self) -> Learner:
        """Rebuild the learner. The one of this process's last calls is kept, not copied."""
        found: Any = _opened.get(self.key)
        if found is None:
            data, model = self.body.get()
            found = _Unpickler(data, [packed.tensor(writable=True) for packed in model], self.fixed).load()
            for key in [key for key in _tensors if key[0] == self.key[0] and key not in self.live]:
                del _tensors[key]
            _opened[self.key] = found
            while len(_opened) > KEPT:
                del _opened[next(iter(_opened))]
        return found


_MAKERS = {
    "_make_skeleton_class": 4,
    "_make_skeleton_enum": 5,
}  # where cloudpickle's makers take a class's id

MAPPED = 2**20  # bytes from which a tensor is mapped, read-only, not copied: data, and no module's buffers

KEPT = 16  # learners that a process keeps: those of the jobs under way
_opened: dict[Key, Any] = {}
_tensors: dict[Key, Tensor] = {}


class Publisher:
    """Publishes learners, as they are now, to a group's workers.

    A learner is pickled whole each time, so whatever it holds travels: the step that it stands at, the
    sub-networks that it drew for this step. Tensors travel beside the pickle: those of its model each
    time, all others (data, a teacher's weights) once, and again after a change in place. Of a trial that
    it holds, or closes over, `TrialFacts` travel.
    """

    def __init__(self, group: WorkerGroup) -> None:
        self._group = group
        self._name = uuid4().hex
        self._count = 0
        self._fixed: dict[int, _Fixed] = {}

    def publish(self, learner: Learner) -> Replica:
        """Publish a learner.

        Raises:
            TrialError: something that it holds can't be pickled.
        """
        model = [*learner.model.parameters(), *learner.model.buffers()]
        pickler = _Pickler(self, model)
        try:
            pickler.dump(learner)  # pyright: ignore[reportUnknownMemberType]
        except Exception as error:
            raise TrialError(
                f"{type(learner).__name__} can't be sent to the workers: {error}. A learner holds its model, "
                "tensors and plain values; leave out of its pickled state (`__getstate__`) what lives in one "
                "process only: open files, locks, generators"
            ) from error
        packed = [Packed.of(tensor) for tensor in model]
        self._forget()
        body = self._group.share((pickler.text(), packed))
        live = frozenset(fixed.key for fixed in self._fixed.values())
        return Replica(self._next(), body, pickler.used, live)

    def fixed(self, tensor: Tensor) -> tuple[Key, Shared]:
        """The key of a tensor that isn't the model's; it is shared when it is new or has changed."""
        known = self._fixed.get(id(tensor))
        version = None if tensor.is_inference() else (tensor._version, tensor.requires_grad)  # noqa: SLF001 - torch's count of changes
        if known is None or known.tensor() is not tensor or known.version != version or version is None:
            known = _Fixed(weakref.ref(tensor), version, self._next(), self._group.share(Packed.of(tensor)))
            self._fixed[id(tensor)] = known
        return known.key, known.shared

    def _next(self) -> Key:
        self._count += 1
        return self._name, self._count

    def _forget(self) -> None:
        for number in [number for number, fixed in self._fixed.items() if fixed.tensor() is None]:
            del self._fixed[number]


@dataclass(frozen=True)
class _Fixed:
    tensor: weakref.ref[Tensor]
    version: tuple[int, bool] | None
    key: Key
    shared: Shared


class _Pickler(cloudpickle.Pickler):
    """Pickles a learner without its tensors."""

    def __init__(self, publisher: Publisher, model: Iterable[Tensor]) -> None:
        written = io.BytesIO()
        super().__init__(written, protocol=5)  # pyright: ignore[reportUnknownMemberType]
        self._publisher = publisher
        self._model = {id(tensor): index for index, tensor in enumerate(model)}
        self.used: dict[Key, Shared] = {}
        self.text = written.getvalue

    def persistent_id(self, obj: Any) -> tuple[str, Any] | None:
        if isinstance(obj, TrialContext):
            return "trial", (obj.number, dict(obj.candidate), obj.seed, str(obj.device))
        if isinstance(obj, ModuleType) and type(obj) is not ModuleType:
            return "module", obj.__name__  # such as torch.classes, which cloudpickle can't take for a module
        if not isinstance(obj, Tensor):
            return None
        index = self._model.get(id(obj))
        if index is not None:
            return "model", index
        key, self.used[key] = self._publisher.fixed(obj)
        return "fixed", key


class _Unpickler(pickle.Unpickler):
    """Rebuilds a learner around its tensors."""

    def __init__(self, data: bytes, model: list[Tensor], fixed: Mapping[Key, Shared]) -> None:
        super().__init__(io.BytesIO(data))
        self._model = model
        self._shared = fixed

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Find what a pickle names. A class that was defined in a function or in a script is made anew:
        cloudpickle would fill the one that it made before, which another replica uses.
        """
        found: Any = super().find_class(module_name, global_name)
        if module_name.startswith("cloudpickle") and global_name in _MAKERS:
            return partial(_untracked, found, _MAKERS[global_name])
        return found

    def persistent_load(self, pid: Any) -> Tensor | TrialFacts | ModuleType:
        kind, key = pid
        if kind == "module":
            return import_module(key)
        if kind == "trial":
            number, candidate, seed, device = key
            return TrialFacts(number, Candidate(candidate), seed, torch.device(device))
        if kind == "model":
            return self._model[int(key)]
        if key not in _tensors:
            packed: Packed = self._shared[key].get()
            _tensors[key] = packed.tensor(writable=packed.parameter or packed.data.nbytes < MAPPED)
        return _tensors[key]


def _untracked(make: Any, place: int, *given: Any) -> Any:
    return make(*given[:place], None, *given[place + 1 :])
