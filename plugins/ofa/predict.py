"""Builds an accuracy table and a predictor from it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from ...core import Evaluation, Program, SearchSpace, Task, TrialContext
from ...core.seeds import generator
from .options import PredictOptions, check_space

PREDICTOR = "predictor.json"
"""Artifact: the predictor."""
TABLE = "accuracies.json"
"""Artifact: the accuracy table, one row a candidate."""
CHUNK = 100  # candidates scored between two reports


class PredictAccuracy(Program[PredictOptions]):
    """Score random candidates, and learn to predict accuracy from the architecture.

    Three predictors learn from the same rows: `mlp` (the paper's), `ridge` on the same encoding, and
    `macs`, a line in the logarithm of the cost. The card says, on rows that none has seen, how well
    each orders candidates (Spearman, Kendall, share of pairs) and how far it is off (RMSE); and the
    noise ceiling (`predictor.noise_ceiling`): about the correlation that perfect knowledge would reach,
    since measured accuracies are noisy.

    Metrics: `spearman`, `kendall`, `rmse`, `pairs` of the one that is used; `spearman_…` of each;
    `ceiling`. Artifacts: `predictor.json`, `accuracies.json`, `card.md`.
    """

    name: ClassVar[str] = "ofa-predict"
    summary: ClassVar[str] = "build an accuracy table of sub-nets, and a predictor with its card"
    reports_steps: ClassVar[bool] = True
    needs_network: ClassVar[bool] = True

    def check(self, space: SearchSpace, task: Task) -> None:
        check_space(self.name, space, task)

    def run(self, trial: TrialContext) -> Evaluation:
        import numpy as np

        from .predictor import make_predictor, noise_ceiling, quality

        options, shape = self.options, trial.task.shape()
        space = check_space(self.name, trial.space, trial.task)
        rows = self._table(trial)
        candidates = [row["candidate"] for row in rows]
        accuracies = np.array([row["accuracy"] for row in rows])
        held = max(2, round(options.held_out * len(rows)))
        card: dict[str, dict[str, float]] = {}
        for name in ("mlp", "ridge", "macs"):
            predictor = make_predictor(name, space, shape, options)
            predictor.fit(candidates[:-held], accuracies[:-held])
            card[name] = quality(predictor.predict(candidates[-held:]), accuracies[-held:].tolist())
        ceiling = noise_ceiling(*zip(*(row["halves"] for row in rows), strict=True))
        used = make_predictor(options.predictor, space, shape, options)
        used.fit(candidates, accuracies)
        with tempfile.TemporaryDirectory(prefix="orchestrate-") as folder:
            path = Path(folder, PREDICTOR)
            used.write(path)
            trial.save_artifact(PREDICTOR, path)
            text = Path(folder, "card.md")
            text.write_text(_card(card, ceiling, rows, held, options.predictor), encoding="utf-8")
            trial.save_artifact("card.md", text)
        return Evaluation(
            {
                **card[options.predictor],
                **{f"spearman_{name}": values["spearman"] for name, values in card.items()},
                "ceiling": ceiling,
                "candidates": float(len(rows)),
            }
        )

    def _table(self, trial: TrialContext) -> list[dict[str, Any]]:
        """Score the candidates, or those that an interrupted run hasn't yet."""
        from .evaluate import supernet_of
        from .predictor import unique_candidates
        from .scoring import Images, score_many

        options = self.options
        space = check_space(self.name, trial.space, trial.task)
        chosen = unique_candidates(space, options.candidates, generator(trial.seed))
        rows: list[dict[str, Any]] = (trial.restore() or {"rows": []})["rows"]
        supernet = supernet_of(trial, space, options.supernet)
        images = Images.of(
            trial.task,
            trial.device,
            calibration=options.calibration_images,
            calibration_batch=options.calibration_batch,
            validation=options.validation_images,
            batch=_half(trial.task, options.validation_images),
        )
        while len(rows) < len(chosen):
            part = chosen[len(rows) : len(rows) + CHUNK]
            scores = score_many(supernet, part, images, memory=options.memory)
            rows += [
                {"candidate": dict(candidate), **score.metrics, "halves": score.accuracies}
                for candidate, score in zip(part, scores, strict=True)
            ]
            trial.report({"scored": float(len(rows))}, step=-(-len(rows) // CHUNK))
            trial.checkpoint({"rows": rows})
        with tempfile.TemporaryDirectory(prefix="orchestrate-") as folder:
            path = Path(folder, TABLE)
            data = {
                "space": space.name,
                "task": trial.task.digest(),
                "split": "validation",
                "validation_images": images.scored,
                "calibration_images": sum(map(len, images.calibration)),
                "rows": rows,
            }
            path.write_text(json.dumps(data), encoding="utf-8")
            trial.save_artifact(TABLE, path)
        return rows


def _half(task: Task, limit: int | None) -> int:
    """Batches of this size cut the validation images into two halves."""
    count = len(task.split("validation").targets)
    return -(-min(count, limit or count) // 2)


def _card(
    card: dict[str, dict[str, float]], ceiling: float, rows: list[dict[str, Any]], held: int, used: str
) -> str:
    values = [row["accuracy"] for row in rows]
    table = [
        f"| {name} | {one['spearman']:.3f} | {one['kendall']:.3f} | {one['pairs']:.3f} | {one['rmse']:.4f} |"
        for name, one in card.items()
    ]
    return f"""# Accuracy predictor

{len(rows)} candidates, {held} of them held out; accuracies from {min(values):.4f} to {max(values):.4f}.
In use: `{used}`, fitted to all rows after this card was made.

| predictor | Spearman | Kendall | pairs in order | RMSE |
| --- | --- | --- | --- | --- |
{chr(10).join(table)}

Noise ceiling: {ceiling:.3f}, about what perfect knowledge would reach (from two halves of the images).
"""
