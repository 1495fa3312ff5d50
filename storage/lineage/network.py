"""A network as MLflow keeps it: weights as safetensors and a JSON file that says how to build it.

This module is also the loader that MLflow calls: `mlflow.pyfunc.load_model` rebuilds the network with
the installed plugins. Nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ...core.candidate import Candidate
from ...core.errors import ArtifactError
from ...core.registry import Registry
from ...core.space import SearchSpace
from ...core.task import Shape

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

    from .client import NetworkFiles

LOADER = "orchestrate.storage.lineage.network"
WEIGHTS, RECIPE = "weights.safetensors", "network.json"


class LoadedNetwork:
    """A network that predicts on arrays: (N, C, H, W) float32 in, logits (N, classes) out."""

    def __init__(self, folder: Path) -> None:
        from ...core.training.checkpoint import load_weights

        recipe = read_recipe(folder / RECIPE)
        options = {key: value for key, value in recipe["space"].items() if key != "name"}
        registry = Registry.discover()
        plugin = registry.get("space", recipe["space"]["name"]).plugin
        space = plugin(plugin.Options.model_validate(options, context={"registry": registry}))
        assert isinstance(space, SearchSpace)
        shape = Shape(tuple(recipe["input"]), recipe["classes"])
        self.network = space.build(Candidate(recipe["candidate"]), shape)
        load_weights(self.network, folder / WEIGHTS)
        self.network.eval()

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> NDArray[np.float32]:
        """Logits for a batch of inputs; a mapping with one array counts as that array."""
        import torch

        batch = model_input
        if isinstance(model_input, Mapping):
            batch = next(iter(cast("Mapping[str, Any]", model_input).values()))
        with torch.inference_mode():
            return self.network(torch.as_tensor(np.asarray(batch, dtype=np.float32))).numpy()


def _load_pyfunc(path: str) -> LoadedNetwork:  # pyright: ignore[reportUnusedFunction]
    """MLflow's entry: the model folder, or its only data file's folder."""
    return LoadedNetwork(Path(path))


def read_recipe(path: Path) -> dict[str, Any]:
    """How a logged network is built: `space`, `candidate`, `input`, `classes`.

    Raises:
        ArtifactError: the file is missing or isn't one.
    """
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
        return {key: recipe[key] for key in ("space", "candidate", "input", "classes")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} doesn't describe a network: {error}") from error


def write_description(folder: Path, network: NetworkFiles, run_id: str, model: LoggedModel) -> None:
    """Write MLflow's `MLmodel` file: signature, loader, where it came from."""
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    single = np.dtype(np.float32)
    description = Model(
        artifact_path=model.artifact_location,
        run_id=run_id,
        signature=ModelSignature(
            inputs=Schema([TensorSpec(single, network.inputs)]),
            outputs=Schema([TensorSpec(single, network.outputs)]),
        ),
        model_id=model.model_id,
    )
    add_flavor = cast(Any, description).add_flavor  # MLflow's annotations of these are partial
    add_flavor("orchestrate", weights=WEIGHTS, recipe=RECIPE)
    cast(Any, pyfunc).add_to_model(description, loader_module=network.loader)
    cast(Any, description).save(str(folder / "MLmodel"))
