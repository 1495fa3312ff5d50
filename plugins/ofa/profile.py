"""Measures a latency table on the trial's device, and how well its sums agree with whole networks."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ...core import Evaluation, Program, SearchSpace, SpecError, Task, TrialContext
from ...core.draw import draw_candidate
from ...core.seeds import generator
from .base import OnceForAll
from .options import ProfileOptions, check_space

if TYPE_CHECKING:
    from .latency import Timing

LATENCIES = "latencies.json"
"""Artifact: the table."""
EVERY = 50  # layers measured between two checkpoints


class ProfileLatency(Program[ProfileOptions]):
    """Time every layer that occurs in the space, by itself, on the device that the stage gets.

    A network's latency is then a sum, known without building it. How far such sums can be trusted is
    measured too: random whole networks against their sums. Metrics: `rows`, `additivity_error` (mean
    relative difference), `additivity_bias` (mean relative surplus of the sum), `additivity_spearman`.
    Artifacts: `latencies.json` (with batch, threads, device), `additivity.md`.
    """

    name: ClassVar[str] = "ofa-profile"
    summary: ClassVar[str] = "measure a latency table of the space's blocks on this device"
    reports_steps: ClassVar[bool] = True
    needs_network: ClassVar[bool] = True

    def check(self, space: SearchSpace, task: Task) -> None:
        self._resolutions(check_space(self.name, space, task))

    def _resolutions(self, space: OnceForAll) -> tuple[int, ...]:
        wanted = self.options.resolutions or space.resolutions
        if unknown := [one for one in wanted if one not in space.resolutions]:
            raise SpecError(f"resolutions {unknown} aren't the space's: {list(space.resolutions)}")
        return wanted

    def run(self, trial: TrialContext) -> Evaluation:
        from .latency import Bench, Timing, build_table

        options, shape = self.options, trial.task.shape()
        space = check_space(self.name, trial.space, trial.task)
        bench = Bench(str(trial.device), options.batch_size, options.threads, options.warmup, options.repeats)
        state = trial.restore() or {"rows": {}, "step": 0}
        known = {name: Timing(**row) for name, row in state["rows"].items()}
        step: int = state["step"]

        def keep(done: int, total: int, rows: Mapping[str, Timing]) -> None:
            nonlocal step
            if done % EVERY == 0 or done == total:
                step += 1
                trial.report({"rows": float(done)}, step)
                trial.checkpoint({"rows": {name: vars(row) for name, row in rows.items()}, "step": step})

        table = build_table(space, shape, self._resolutions(space), bench, known, keep)
        rng = generator(trial.seed)
        pairs: list[tuple[float, float]] = []
        while len(pairs) < options.networks:
            candidate = draw_candidate(space, rng)
            if space.resolution(candidate) in self._resolutions(space):
                network = space.build(candidate, shape).to(trial.device)
                plan = space.plan(candidate, shape)
                pairs.append((table.predict(plan), bench.network(network, plan).median))
        with tempfile.TemporaryDirectory(prefix="orchestrate-") as folder:
            path = Path(folder, LATENCIES)
            table.write(path)
            trial.save_artifact(LATENCIES, path)
            metrics = _additivity(pairs)
            text = Path(folder, "additivity.md")
            text.write_text(_report(pairs, metrics, table.facts), encoding="utf-8")
            trial.save_artifact("additivity.md", text)
        return Evaluation({"rows": float(len(table.rows)), **metrics})


def _additivity(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    import numpy as np

    from .predictor import quality

    sums, whole = np.array(pairs).T
    relative = (sums - whole) / whole
    return {
        "additivity_error": float(np.abs(relative).mean()),
        "additivity_bias": float(relative.mean()),
        "additivity_spearman": quality(sums.tolist(), whole.tolist())["spearman"],
    }


def _report(
    pairs: Sequence[tuple[float, float]], metrics: Mapping[str, float], facts: Mapping[str, object]
) -> str:
    table = [f"| {total:.3f} | {whole:.3f} | {total / whole - 1:+.1%} |" for total, whole in pairs]
    return f"""# Latency table

{", ".join(f"{name} {value}" for name, value in facts.items())}.

Sums are off by {metrics["additivity_error"]:.1%} on average (bias {metrics["additivity_bias"]:+.1%});
their rank correlation with whole networks is {metrics["additivity_spearman"]:.3f}.

| sum (ms) | whole network (ms) | difference |
| --- | --- | --- |
{chr(10).join(table)}
"""
