"""Training state and weights on disk: written whole or not at all, read without running code."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, cast
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import (
    load_model,  # pyright: ignore[reportUnknownVariableType]
    save_model,
)
from torch import nn

from ..errors import ArtifactError

if TYPE_CHECKING:
    from ..program import TrialContext


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write tensors, numbers, strings, and dicts and lists of them, atomically.

    The file appears under its name only when it is complete and on the disk; a crash leaves the
    former one.
    """
    with _replacing(path) as temporary:
        torch.save(dict(state), temporary)


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote, onto the CPU.

    Raises:
        ArtifactError: no such file, a damaged one, or one with other objects than `save_state`'s.
    """
    if not is_zipfile(path):  # torch would try older, looser formats
        raise ArtifactError(f"can't read the training state {path}: it is missing or damaged")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:  # its own text advises to load it unsafely
        raise ArtifactError(
            f"can't read the training state {path}: it holds more than tensors, numbers, strings, "
            "and dicts and lists of them, so it isn't one of Orchestrate's"
        ) from error
    except (OSError, RuntimeError, EOFError) as error:
        raise ArtifactError(f"can't read the training state {path}: {error}") from error
    return cast("dict[str, Any]", state)


def save_weights(model: nn.Module, path: Path) -> None:
    """Write parameters and buffers as safetensors, atomically. Shared tensors are written once."""
    with _replacing(path) as temporary:
        save_model(model, str(temporary))


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill `model` with weights that `save_weights` wrote from an equal one.

    Raises:
        ArtifactError: no such file, a damaged one, or one of another network.
    """
    device = next((str(tensor.device) for tensor in model.parameters()), "cpu")
    try:
        load_model(model, str(path), device=device)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(f"can't load the weights {path}: {error}") from error


def keep_weights(trial: TrialContext, model: nn.Module, kind: str = "weights") -> None:
    """Save `model`'s weights as the trial's artifact `kind`."""
    with tempfile.TemporaryDirectory(prefix="orchestrate-") as folder:
        path = Path(folder, f"{kind}.safetensors")
        save_weights(model, path)
        trial.save_artifact(kind, path)


@contextmanager
def _replacing(path: Path) -> Generator[Path]:
    """Give a temporary name in the same folder; once written, flush it and rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)  # the rename itself
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
