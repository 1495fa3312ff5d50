"""Contract of programs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from ..candidate import Candidate
from ..draw import draw_candidate
from ..errors import TestSplitError, TrialPruned
from ..program import Evaluation, Program
from ..seeds import generator
from ..space import NoSpace, SearchSpace
from ..task import Task
from .contract import ContractError, is_finite, only, require
from .plugins import check_class
from .trial import LocalTrial


def check_program(
    program: Program,
    task: Task,
    space: SearchSpace | None = None,
    candidate: Candidate | None = None,
    *,
    stages: Mapping[str, Mapping[str, Path]] | None = None,
    varying: Collection[str] = (),
) -> None:
    """Check a program by running it a few times in this process: give it few steps and little data.

    Rules: it leaves the test split alone; metrics are finite floats; the trial's seed decides the
    result, whatever torch's global seed; steps are reported in increasing order from 1, if
    `reports_steps` says that it reports; `TrialPruned` passes through; a trial that ended after
    its first report, and is run again in the same folder, comes to the same metrics.

    Args:
        program: the program, with its options.
        task: a small task.
        space: a space that it can serve; by default the one of stages that search nothing.
        candidate: the candidate to run; by default a random one.
        stages: artifacts of earlier stages that its options name, by stage and kind.
        varying: metrics that may differ between runs, such as seconds.

    Raises:
        ContractError: a rule is broken.
        SpecError: it can't serve the space or the task: pass others.
    """
    check_class(type(program))
    space = space or NoSpace()
    program.check(space, task)
    chosen = candidate if candidate is not None else draw_candidate(space, generator(0))

    def trial(folder: str, prune_at: int | None = None) -> LocalTrial:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return LocalTrial(chosen, space, task, Path(folder), seed=11, stages=stages, prune_at=prune_at)

    with TemporaryDirectory(ignore_cleanup_errors=True) as root:
        first = trial(f"{root}/first")
        metrics = _run(program, first, 1)
        _check_reports(program, first)
        _same(metrics, _run(program, trial(f"{root}/second"), 2), varying, "run twice from one seed")
        if not first.reports:
            return
        stopped = trial(f"{root}/third", prune_at=first.reports[0][0])
        with only("TrialPruned must pass through the program", "Don't catch it"):
            try:
                program.run(stopped)
            except TrialPruned:
                pass
            else:
                raise ContractError(
                    "the program went on after its trial was stopped early. "
                    "Let TrialPruned pass: catch `Exception` at most."
                )
        continued = _run(program, trial(f"{root}/third"), 3)
        _same(metrics, continued, varying, "interrupted after its first report and run again")


def _run(program: Program, trial: LocalTrial, global_seed: int) -> dict[str, float]:
    import torch

    with (
        torch.random.fork_rng(devices=[]),  # pyright: ignore[reportUnknownMemberType]
        only(f"program {program.name!r} must run", "Mend it", TestSplitError),
    ):
        torch.manual_seed(global_seed)  # pyright: ignore[reportUnknownMemberType]
        try:
            result = cast(Any, program.run(trial))
        except TestSplitError as error:
            raise ContractError(f"program {program.name!r} reads the test split: {error}.") from error
    if not isinstance(result, Evaluation):
        raise ContractError(
            f"program {program.name!r} returned a {type(result).__name__}. Return an Evaluation."
        )
    metrics = dict(result.metrics)
    for name, value in metrics.items():
        require(
            is_finite(value),
            f"metric {name!r} is {value!r}",
            "Report finite floats; raise for a run that diverged",
        )
    return metrics


def _check_reports(program: Program, trial: LocalTrial) -> None:
    steps = [step for step, _ in trial.reports]
    require(
        steps == sorted(set(steps)) and (not steps or steps[0] >= 1),
        f"program {program.name!r} reported the steps {steps}",
        "Report each step once, counting from 1",
    )
    require(
        steps or not program.reports_steps,
        f"program {program.name!r} says `reports_steps`, and reported none",
        "Call `trial.report` after each step, or leave `reports_steps` out",
    )


def _same(
    first: Mapping[str, float], second: Mapping[str, float], varying: Collection[str], how: str
) -> None:
    names = [name for name in {**first, **second} if name not in varying]
    different = [name for name in names if first.get(name) != second.get(name)]
    require(
        not different,
        f"{how}, the trial comes to another {' and '.join(different)}: "
        f"{[first.get(name) for name in different]} and {[second.get(name) for name in different]}",
        "Seed everything from `trial.seed`, checkpoint all state after each report, and name metrics "
        "that must vary in `varying`",
    )
