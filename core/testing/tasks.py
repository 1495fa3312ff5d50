"""Contract of tasks."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING

from ..task import Split, SplitName, Task
from .contract import only, require
from .plugins import check_class

if TYPE_CHECKING:
    from torch import Tensor

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def check_task(task: Task, *, overlap: float = 0.01) -> None:
    """Check a task. Loads its data twice.

    Rules: `shape` is (channels, height, width) and the number of classes; each split has float32
    inputs of that shape and int64 targets within the classes, finite, not empty; a second instance
    with the same options gives the same splits and the same hexadecimal `digest`, whatever torch's
    seed; one class name a class; the splits are disjoint.

    Args:
        task: the task, with its options.
        overlap: part of a held-out split that may also be in another split, since collections of
            images contain duplicates.

    Raises:
        ContractError: a rule is broken.
        DataError: the data isn't there.
    """
    from ..errors import DataError

    check_class(type(task))
    again = type(task)(task.options)
    with only(f"task {task.name!r} must load its splits", "Mend `split`", DataError):
        splits: dict[SplitName, Split] = {name: task.split(name) for name in SPLITS}
        repeated = _under_another_seed(again)
    for name in SPLITS:
        _check_split(task, name, splits[name])
        require(
            splits[name].inputs.equal(repeated[name].inputs)
            and splits[name].targets.equal(repeated[name].targets),
            f"the {name!r} split differs between two instances with the same options",
            "Fix the splits by an option `seed` and a generator of your own",
        )
    digests = (task.digest(), again.digest())
    require(
        digests[0] == digests[1] and re.fullmatch(r"[0-9a-f]{16,}", digests[0]),
        f"digest() must be one hexadecimal text, and is {digests[0]!r} and {digests[1]!r}",
        "Hash the bytes of all three splits, in order",
    )
    names, classes = task.class_names(), task.shape().classes
    require(
        len(names) == len(set(names)) == classes,
        f"class_names() gives {len(set(names))} names for {classes} classes",
        "Give each class its own",
    )
    _check_disjoint(splits, overlap)


def _under_another_seed(task: Task) -> dict[SplitName, Split]:
    import torch

    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        torch.manual_seed(987654321)  # pyright: ignore[reportUnknownMemberType]
        return {name: task.split(name) for name in SPLITS}


def _check_split(task: Task, name: SplitName, split: Split) -> None:
    import torch

    shape, (inputs, targets) = task.shape(), split
    require(
        len(shape.input) == 3 and min(shape.input) >= 1 and shape.classes >= 2,
        f"shape() is {shape}",
        "Give input (channels, height, width) and two classes or more",
    )
    require(
        inputs.dtype == torch.float32 and tuple(inputs.shape[1:]) == shape.input and len(inputs) > 0,
        f"inputs of {name!r} are {inputs.dtype} {tuple(inputs.shape)}",
        f"Give float32 (N, {', '.join(map(str, shape.input))}) as shape() says, N > 0",
    )
    require(
        targets.dtype == torch.int64 and tuple(targets.shape) == (len(inputs),),
        f"targets of {name!r} are {targets.dtype} {tuple(targets.shape)}",
        f"Give int64 ({len(inputs)},), one an input",
    )
    require(torch.isfinite(inputs).all(), f"inputs of {name!r} aren't finite", "Clean the data")
    require(
        int(targets.min()) >= 0 and int(targets.max()) < shape.classes,
        f"targets of {name!r} go from {int(targets.min())} to {int(targets.max())}",
        f"Number the classes from 0 to {shape.classes - 1}",
    )


def _check_disjoint(splits: dict[SplitName, Split], overlap: float) -> None:
    rows = {name: _rows(split.inputs) for name, split in splits.items()}
    for held, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        known = set(rows[other])
        shared = sum(row in known for row in rows[held]) / len(rows[held])
        require(
            shared <= overlap,
            f"{shared:.1%} of {held!r} is also in {other!r}",
            "Split by one permutation; pass `overlap` if the data itself has duplicates",
        )


def _rows(inputs: Tensor) -> list[bytes]:
    flat = inputs.reshape(len(inputs), -1).numpy()
    return [blake2b(row.tobytes(), digest_size=16).digest() for row in flat]
