"""A job with something of everything, all of it deterministic, for drivers that are killed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from orchestrate.core import Candidate, Choose, SearchSpace, Shape, StaticObjective, TrialContext

HERE = "python:tests.reliability.parts"


class Cells(SearchSpace):
    """Few enough candidates that some come twice."""

    def choices(self, choose: Choose) -> None:
        choose.integer("x", 0, 5)
        choose.categorical("op", ["conv", "pool"])


class Size(StaticObjective):
    """Known before any launch."""

    direction = "minimize"

    def compute(self, candidate: Candidate, space: SearchSpace, shape: Shape) -> float:
        return float(candidate["x"]) + (candidate["op"] == "conv")  # type: ignore[arg-type]


def steps(trial: TrialContext, count: int = 2, sleep: float = 0.0) -> dict[str, float]:
    """Reports and checkpoints at each step, leaves a file; one candidate always fails."""
    x, op = float(trial.candidate["x"]), trial.candidate["op"]  # type: ignore[arg-type]
    if x == 1 and op == "pool":
        raise ValueError("this one can't be trained")
    state = trial.restore() or {"step": 0, "loss": 10.0}
    loss = float(state["loss"])
    for step in range(int(state["step"]) + 1, count + 1):
        time.sleep(sleep)
        loss = loss / 2 + (x - 3) ** 2 + (op == "pool") / 4
        trial.report({"loss": loss}, step)
        trial.checkpoint({"step": step, "loss": loss})
    path = Path(f"note-{trial.seed}.txt").absolute()
    path.write_text(f"{loss}", encoding="utf-8")
    trial.save_artifact("note", path)
    path.unlink()
    return {"loss": loss}


def again(trial: TrialContext, search: str) -> dict[str, float]:
    """Reads the file that the search left for this candidate."""
    return {"loss": float(trial.artifact("note", search).read_text(encoding="utf-8"))}


def cheap(trial: TrialContext, sleep: float = 0.0) -> dict[str, float]:
    """No steps, no files."""
    time.sleep(sleep)
    return {"loss": (float(trial.candidate["x"]) - 3) ** 2}  # type: ignore[arg-type]


def everything(trials: int = 7, sampler: str = "tpe", **search: Any) -> dict[str, Any]:
    """The job file: a search with bounds, recall, failures, retries and files, and a stage that takes."""
    return {
        "name": "everything",
        "space": {"name": f"{HERE}:Cells"},
        "objectives": [
            {"metric": "loss", "direction": "minimize"},
            {"name": f"{HERE}:Size", "label": "size", "max": 4.5},
        ],
        "stages": [
            {
                "name": "search",
                "program": {"name": f"{HERE}:steps"},
                "sampler": {"name": sampler},
                "recall": {"name": "exact", "scope": "job"},
                "trials": trials,
                "concurrency": 1,
                "retry": {"failed": 1},
                **search,
            },
            {
                "name": "last",
                "program": {"name": f"{HERE}:again", "search": "search"},
                "take": {"from": "search", "best": 1},
            },
        ],
        "seed": 11,
    }


def many(trials: int, sleep: float = 0.0, **search: Any) -> dict[str, Any]:
    """The job file of a plain search with one trial at a time."""
    return {
        "name": "many",
        "space": {"name": f"{HERE}:Cells"},
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "stages": [
            {
                "name": "search",
                "program": {"name": f"{HERE}:cheap", "sleep": sleep},
                "sampler": {"name": "evolution"},
                "trials": trials,
                "concurrency": 1,
                **search,
            }
        ],
        "seed": 3,
    }
