"""Spaces whose candidates are hard to compare, or do harm, for tests in this process and in others."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrate.core import Candidate, Choose, EstimatorProbe, FunctionProbe, SearchSpace, Shape

if TYPE_CHECKING:
    from torch import nn

SHAPE = Shape((1, 8, 8), 3)


class Perceptrons(SearchSpace):
    """Networks, with a choice that `build` reads and one that it doesn't."""

    name = "perceptrons"
    summary = "networks with a hidden choice"

    def choices(self, choose: Choose) -> None:
        choose.categorical("width", [4, 8])
        choose.categorical("padding", [0, 1, 2])
        choose.integer("patience", 1, 10)

    def build(self, candidate: Candidate, shape: Shape) -> nn.Module:
        from torch import nn

        width, padding = candidate["width"], candidate["padding"]
        assert isinstance(width, int)
        assert isinstance(padding, int)
        identities = [nn.Identity() for _ in range(padding)]  # read, and without effect
        return nn.Sequential(nn.Flatten(), *identities, nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 3))


def pid_file(parent: int) -> Path:
    """Where a candidate that was probed for process `parent` says whom it started."""
    return Path(tempfile.gettempdir(), f"orchestrate-test-{parent}.pid")


def harm(name: str) -> Callable[[int, int], Sequence[float]]:
    def run(seed: int, examples: int) -> Sequence[float]:
        match name:
            case "hang":
                time.sleep(60)
            case "memory":
                _ = [bytearray(2**20) for _ in range(100_000)]
            case "children":
                child = subprocess.Popen(["sleep", "60"])
                pid_file(os.getppid()).write_text(str(child.pid))
                time.sleep(60)
            case "exit":
                os._exit(3)
            case "raise":
                raise ZeroDivisionError
            case "print":
                print("x" * 100_000)
            case "nan":
                return [float("nan"), 1.0]
            case "inf":
                return [1.0, float("inf")]
            case "zero":
                return [0.0] * examples
            case _:
                pass
        return [float(seed % 97), float(examples)]

    return run


class Harmful(SearchSpace):
    """Candidates that hang, crash, or take all memory when they are run."""

    name = "harmful"
    summary = "candidates that do harm"

    def choices(self, choose: Choose) -> None:
        kinds = ["good", "hang", "children", "memory", "exit", "raise", "print", "nan", "inf", "zero"]
        choose.categorical("kind", kinds)
        choose.integer("spare", 0, 1)

    def probe(self, candidate: Candidate, shape: Shape) -> FunctionProbe:
        return FunctionProbe(harm(str(candidate["kind"])))


class Pipelines(SearchSpace):
    """Pipelines of scikit-learn, some of which are the same."""

    name = "pipelines"
    summary = "pipelines"

    def choices(self, choose: Choose) -> None:
        choose.categorical("scale", ["none", "standard", "twice"])
        choose.categorical("model", ["svm", "tree", "forest"])
        choose.real("C", 0.1, 10.0)
        choose.integer("max_iter", 100, 200)

    def probe(self, candidate: Candidate, shape: Shape) -> EstimatorProbe:
        return EstimatorProbe(lambda: pipeline(candidate), {"max_iter": candidate["max_iter"]})


def pipeline(candidate: Candidate) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    scalers = [StandardScaler() for _ in range(["none", "standard", "twice"].index(str(candidate["scale"])))]
    models = {
        "svm": lambda: SVC(C=candidate["C"]),
        "tree": lambda: DecisionTreeClassifier(max_depth=3),
        "forest": lambda: RandomForestClassifier(5, n_jobs=2),
    }
    return make_pipeline(*scalers, models[str(candidate["model"])]())


def probed(candidate: Candidate) -> Any:
    """For the option `probe`."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=candidate["C"])


def unprobeable(candidate: Candidate) -> Any:
    """For the option `probe`, and wrong."""
    return 3
