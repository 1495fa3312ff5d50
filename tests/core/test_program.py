from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrate.core import Candidate, Evaluation, Program, TrialContext
from orchestrate.core.testing import LocalTrial
from tests.core.testing.examples import Blobs, Networks

WIDE = Candidate({"width": 8, "activation": "relu"})


class Picky(Program):
    """Fails on odd trials."""

    name = "picky"
    summary = "fails on odd trials"

    def run(self, trial: TrialContext) -> Evaluation:
        if trial.number % 2:
            raise ValueError(f"trial {trial.number} is odd")
        return Evaluation({"number": float(trial.number)})


def trial(folder: Path, **given: Any) -> LocalTrial:
    return LocalTrial(WIDE, Networks(), Blobs(), folder, **given)


def test_a_batch_runs_one_by_one_and_a_failure_stays_alone(tmp_path: Path) -> None:
    results = list(Picky().run_batch([trial(tmp_path, number=number) for number in range(4)]))
    assert [type(result).__name__ for result in results] == ["Evaluation", "ValueError"] * 2
    assert str(results[3]) == "trial 3 is odd"


def test_building_depends_on_the_trials_seed_alone(tmp_path: Path) -> None:
    import torch

    def first(seed: int) -> torch.Tensor:
        return next(trial(tmp_path, seed=seed).build().parameters()).detach()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one = first(3)
        before = torch.get_rng_state()
        two = first(3)
        assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one, two)
    assert not torch.equal(one, first(4))


def test_no_test_is_the_default(tmp_path: Path) -> None:
    assert Picky().test(trial(tmp_path)) is None
