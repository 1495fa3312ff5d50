"""Exports a network to files that need nothing of this project, and proves that they compute the same."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Generator, Iterable
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ...core.training.modes import evaluating
from .network import Network, load, save
from .options import Format


def export(network: Network, formats: Iterable[Format], folder: Path, example: Tensor) -> dict[str, Path]:
    """Write `network` in each format.

    Batches of any size (n, channels, height, width), as the task gives them, go in; logits come out.

    Args:
        network: written in eval mode.
        formats: `torch.export` writes network.pt2, `onnx` network.onnx (input `images`, output
            `logits`), `safetensors` weights.safetensors and network.json.
        folder: where to.
        example: a batch of at least two images.

    Returns:
        The files, by artifact kind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Path] = {}
    formats = list(formats)
    with evaluating(network), _quiet():
        if "safetensors" in formats:
            found["export.json"], found["export.safetensors"] = save(network, folder)
        if "torch.export" in formats or "onnx" in formats:
            exporter = cast(Any, torch.export)
            dynamic = {"images": {0: exporter.Dim("batch")}}
            program: Any = exporter.export(network, (example,), dynamic_shapes=dynamic)
            if "torch.export" in formats:
                found["export.pt2"] = folder / "network.pt2"
                exporter.save(program, found["export.pt2"])
            if "onnx" in formats:
                found["export.onnx"] = folder / "network.onnx"
                made: Any = cast(Any, torch.onnx).export(
                    network,
                    (example,),
                    input_names=["images"],
                    output_names=["logits"],
                    dynamic_shapes=dynamic,
                    dynamo=True,
                    verbose=False,
                )
                made.save(str(found["export.onnx"]))
    return found


def differences(network: Network, files: dict[str, Path], images: Tensor) -> dict[str, float]:
    """Largest absolute differences between the files' logits and the network's, by artifact kind.

    ONNX is run where `onnxruntime` is installed.
    """
    with evaluating(network), torch.no_grad(), _quiet():
        expected: Tensor = network(images)
        found: dict[str, float] = {}
        if "export.safetensors" in files:
            again = load(files["export.safetensors"].parent).to(images.device).eval()
            found["export.safetensors"] = _apart(again(images), expected)
        if "export.pt2" in files:
            program: Any = cast(Any, torch.export).load(files["export.pt2"])
            found["export.pt2"] = _apart(program.module()(images), expected)
        if "export.onnx" in files and find_spec("onnxruntime") is not None:
            import onnxruntime  # pyright: ignore[reportMissingTypeStubs]

            session: Any = cast(Any, onnxruntime).InferenceSession(
                str(files["export.onnx"]), providers=["CPUExecutionProvider"]
            )
            (logits,) = session.run(["logits"], {"images": images.cpu().numpy()})
            found["export.onnx"] = _apart(torch.as_tensor(logits), expected.cpu())
    return found


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


@contextmanager
def _quiet() -> Generator[None]:
    """Keep the exporters' own progress and warnings to themselves."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
