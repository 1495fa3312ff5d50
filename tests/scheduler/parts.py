"""Spaces, objectives and programs that the scheduler's tests run, in the driver and on workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path

from orchestrate.core import (
    Cancelled,
    Candidate,
    Choose,
    Evaluation,
    Observation,
    PluginOptions,
    Program,
    Sampler,
    SearchSpace,
    Shape,
    StaticObjective,
    Suggestion,
    TrialContext,
    cancelled,
    island,
)
from orchestrate.core.draw import draw_candidate
from orchestrate.core.seeds import generator


class Square(SearchSpace):
    """Two numbers in [0, 1]."""

    def choices(self, choose: Choose) -> None:
        choose.real("x", 0, 1)
        choose.real("y", 0, 1)


class Three(SearchSpace):
    """One of three."""

    def choices(self, choose: Choose) -> None:
        choose.categorical("which", ["a", "b", "c"])


class Price(StaticObjective):
    """x, known before any launch."""

    direction = "minimize"

    def compute(self, candidate: Candidate, space: SearchSpace, shape: Shape) -> float:
        return float(candidate["x"])  # type: ignore[arg-type]


def bowl(trial: TrialContext, sleep: float = 0.0, steps: int = 3) -> dict[str, float]:
    """The distance from (0.3, 0.1), approached step by step."""
    x, y = float(trial.candidate["x"]), float(trial.candidate["y"])  # type: ignore[arg-type]
    loss = (x - 0.3) ** 2 + (y - 0.1) ** 2
    for step in range(1, steps + 1):
        time.sleep(sleep)
        trial.report({"loss": loss + 1 / step}, step)
    return {"loss": loss, "seed": float(trial.seed % 1000)}


def counted(trial: TrialContext, folder: str, sleep: float = 0.0) -> dict[str, float]:
    """Leave a file for every run."""
    which = str(trial.candidate["which"])
    Path(folder, f"{which}-{trial.number}-{os.getpid()}-{time.time_ns()}").touch()
    time.sleep(sleep)
    return {"loss": float(ord(which))}


def troubled(trial: TrialContext, folder: str) -> dict[str, float]:
    """A trial for every way to go wrong."""
    once = Path(folder, f"once-{trial.number}")
    first = not once.exists()
    once.touch()
    if trial.number == 1:
        raise ValueError("no luck")
    if trial.number == 2:
        return {"loss": float("nan")}
    if trial.number == 3 and first:
        os.kill(os.getpid(), signal.SIGKILL)
    if trial.number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    if trial.number == 5:
        return {"los": 1.0}
    if trial.number == 6 and first:
        raise ValueError("only once")
    return {"loss": float(trial.candidate["x"])}  # type: ignore[arg-type]


def resumable(trial: TrialContext, folder: str, steps: int = 6, sleep: float = 0.1) -> dict[str, float]:
    """Counts its steps across interruptions, through checkpoints."""
    import torch

    state = trial.restore() or {"step": 0, "total": torch.zeros(())}
    total = state["total"]
    for step in range(state["step"] + 1, steps + 1):
        Path(folder, f"trial-{trial.number}-step-{step}-{time.time_ns()}").touch()
        total = total + step * float(trial.candidate["x"])  # type: ignore[arg-type]
        trial.report({"loss": float(total)}, step)
        trial.checkpoint({"step": step, "total": total})
        time.sleep(sleep)
    return {"loss": float(total)}


class Batched(Program):
    """Scores many candidates at once, and says how many came together."""

    batch = 8

    def run(self, trial: TrialContext) -> Evaluation:
        return next(iter(self.run_batch([trial])))  # type: ignore[return-value]

    def run_batch(self, trials: Sequence[TrialContext]) -> Iterable[Evaluation | Exception]:
        for trial in trials:
            if trial.number == 2:
                yield ValueError("one of the batch fails")
            else:
                x = float(trial.candidate["x"])  # type: ignore[arg-type]
                yield Evaluation({"loss": x, "together": float(len(trials))})


class MakerOptions(PluginOptions):
    """Options of `Maker`."""

    text: str = "made"


class Maker(Program[MakerOptions]):
    """Leaves an artifact."""

    def run(self, trial: TrialContext) -> Evaluation:
        path = Path(f"made-{trial.seed}.txt").absolute()
        path.write_text(self.options.text, encoding="utf-8")
        trial.save_artifact("text", path)
        path.unlink()
        return Evaluation({"length": float(len(self.options.text))})


def reader(trial: TrialContext, maker: str) -> dict[str, float]:
    """Reads an earlier stage's artifact."""
    text = trial.artifact("text", maker).read_text(encoding="utf-8")
    return {"loss": float(trial.candidate["x"]), "length": float(len(text))}  # type: ignore[arg-type]


class Peeker(Program):
    """Tries to see the test split, and scores on it when it may."""

    def run(self, trial: TrialContext) -> Evaluation:
        try:
            trial.task.split("test")
        except PermissionError:
            trial.task.split("validation")
            return Evaluation({"loss": float(trial.candidate["x"])})  # type: ignore[arg-type]
        raise AssertionError("the search saw the test split")

    def test(self, trial: TrialContext) -> dict[str, float]:
        return {"images": float(len(trial.task.split("test").targets))}


def gradients(trial: TrialContext) -> dict[str, float]:
    """The mean gradient of a linear model in double precision, entry by entry."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(37, 4, generator=generator, dtype=torch.float64)
    targets = torch.randn(37, generator=generator, dtype=torch.float64)
    model = nn.Linear(4, 1).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.arange(1.0, parameter.numel() + 1).reshape(parameter.shape))

    class Linear:
        def __init__(self) -> None:
            self.model = model

        def loss_sum(self, samples: torch.Tensor) -> torch.Tensor:
            return (model(inputs[samples]).squeeze(-1) - targets[samples]).square().sum()

    loss = trial.gradient(Linear(), torch.arange(37))
    entries = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])  # type: ignore[union-attr]
    return {"loss": loss, **{f"g{index}": float(entry) for index, entry in enumerate(entries)}}


def owing(trial: TrialContext, folder: str, kill_at: int = 0) -> dict[str, float]:
    """Train by a strategy that remembers, with a checkpoint every other step; one rank dies once."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(64, 24, generator=generator)
    model = nn.Linear(24, 16)
    with torch.no_grad():
        model.weight.copy_(torch.randn(16, 24, generator=generator))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.5)

    class Linear:
        def __init__(self) -> None:
            self.model = model

        def loss_sum(self, samples: torch.Tensor) -> torch.Tensor:
            return model(inputs[samples]).square().sum()

    state = trial.restore() or {"step": 0}
    if state["step"]:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    loss = 0.0
    for step in range(state["step"] + 1, 14):
        loss = trial.gradient(Linear(), torch.arange(64))
        optimizer.step()
        trial.report({"loss": loss}, step)
        if step == kill_at and not state["step"]:
            try:
                Path(folder, "killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass  # the other rank is dying
        if step % 2 == 0:
            kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            trial.checkpoint({"step": step, **kept})
    return {"loss": loss, "weights": float(model.weight.detach().double().square().sum())}


def steady(trial: TrialContext, steps: int = 9, fail: int = -1, until_back: bool = False) -> dict[str, float]:
    """Train a linear model for some steps, or until workers that were gone are back."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(37, 4, generator=generator, dtype=torch.float64)
    targets = torch.randn(37, generator=generator, dtype=torch.float64)
    model = nn.Linear(4, 1).double()  # of the trial's own seed
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1 * float(trial.candidate["x"]))  # type: ignore[arg-type]

    class Linear:
        def __init__(self) -> None:
            self.model = model
            self.fail = trial.number == fail

        def loss_sum(self, samples: torch.Tensor) -> torch.Tensor:
            if self.fail:
                raise ValueError("no luck on a worker")
            return (model(inputs[samples]).squeeze(-1) - targets[samples]).square().sum()

    present: list[float] = []
    loss = 0.0
    for step in range(1, steps + 1):
        loss = trial.gradient(Linear(), torch.randperm(37)[:30])
        optimizer.step()
        trial.report({"loss": loss}, step)
        if until_back and trial.interleaver is not None:
            present.append(trial.interleaver.stream.metrics()["workers/present"])
            if min(present) < present[-1]:
                break
    return {"loss": loss, **{f"w{index}": entry.item() for index, entry in enumerate(model.weight[0])}}


def process(_: None) -> int:
    """The worker's process."""
    return os.getpid()


def processes(_: None) -> list[int]:
    """The processes of the worker, an island."""
    import torch

    here = island()
    assert here is not None
    return [int(pid) for pid in here.all_gather(torch.tensor([os.getpid()]))]


def attentive(seconds: float) -> float:
    """Sleep, unless the master gives up waiting."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if cancelled():
            raise Cancelled
        time.sleep(0.01)
    return seconds


def sleepy(seconds: float) -> float:
    """Sleep; a negative time raises."""
    time.sleep(seconds)
    return seconds


def deaf(seconds: float) -> Generator[str, None, float]:
    """Say that it has begun, then sleep without a look at the master."""
    yield "begun"
    time.sleep(seconds)
    return seconds


def deadly(die: bool) -> int:
    """Kill the worker, or not."""
    if die:
        os._exit(1)
    return 0


def by_parts(count: int) -> Generator[int, None, str]:
    """Answer so many times, then go on until it is given up, or 0 times and end."""
    yield from range(count)
    for _ in range(count * 1000):
        if cancelled():
            raise Cancelled
        time.sleep(0.01)
    return "all"


class Keeps(Sampler):
    """Has something worth keeping at a stage's end: how many results it was told."""

    told = 0
    loaded = b""

    def ask(self, number: int) -> Candidate:
        return draw_candidate(self.problem.space, generator(self.problem.seed, number))

    def tell(self, number: int, candidate: Candidate, observation: Observation) -> None:
        self.told += 1

    def save(self) -> bytes:
        return str(self.told).encode()

    def load(self, saved: bytes) -> None:
        self.loaded = saved

    def propose_for(self, preference: Mapping[str, float], count: int) -> Sequence[Suggestion]:
        return [Suggestion(Candidate(), {"loaded": float(self.loaded)})]
