"""A supernet's 800 sub-nets, all scored beforehand: who finds the front in 60 trials, and by which part?

The space has conditions (Once-for-All on digits: input size; depth, kernels and expansions of two stages),
the objectives are validation accuracy and multiply-accumulates. All arms begin with the same 20 random
candidates and then propose four times ten. Beside `mogfn-al` and its peers stands `mogfn-al` with one part
changed:

- `target enumerated`: candidates are drawn exactly from the distribution that the GFlowNet is trained for.
- `no choice`: the policy's samples are proposed, one a preference, instead of those among them that
  together promise the most hypervolume.
- `both learnt`: multiply-accumulates are learnt from trials, as the peers have to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import moocore
import numpy as np
from _compare import Difference, compare, quartiles
from _nasbench import SAMPLERS
from _ofa import DIGITS, SHRINKING, SMOKE, Bench, Setting, accuracies, supernets
from _record import Record, Run, Size, each_core
from numpy.typing import NDArray

from orchestrate.core import Candidate, Goal, Observation, Sampler, SearchProblem, enumerate_candidates
from orchestrate.core.draw import draw_new
from orchestrate.core.registry import Registry
from orchestrate.core.seeds import generator
from orchestrate.plugins.mogfn import serving
from orchestrate.plugins.mogfn.al import AlOptions, Learnt, MogfnAl
from orchestrate.plugins.mogfn.conditions import Conditions
from orchestrate.plugins.mogfn.gflownet import GFlowNet
from orchestrate.plugins.mogfn.keeping import Tensors
from orchestrate.plugins.mogfn.rounds import Snapshot
from orchestrate.plugins.ofa.search import CostModel

Floats = NDArray[np.float64]

SPACE = {
    "name": "ofa-mobilenetv3",
    "preset": "tiny",
    "resolutions": [6, 8],
    "depths": [1, 2],
    "kernels": [3, 5],
    "expansions": [2, 4],
}
SETTINGS: dict[Size, Setting] = {
    "smoke": replace(SMOKE, name="sub-nets", space={**SPACE, "expansions": [2]}),
    "default": replace(DIGITS, name="sub-nets", space=SPACE),
    "full": replace(DIGITS, name="sub-nets", space=SPACE),
}
ROUNDS: dict[Size, tuple[int, int, int]] = {"smoke": (6, 4, 1), "default": (20, 10, 4), "full": (20, 10, 4)}
"""Random candidates, proposals of a round, rounds."""

# The table ---------------------------------------------------------------------------------------------


class Table:
    """All sub-nets, each with its qualities: 1 is the best of the table, 0 the worst."""

    def __init__(self, bench: Bench) -> None:
        self.space = bench.space
        candidates = list(enumerate_candidates(self.space))
        costs = CostModel(self.space, bench.shape)
        macs = np.array([float(costs.of(one).macs) for one in candidates])
        accuracy = np.array(accuracies(bench.trained(SHRINKING, 0).supernet, candidates, bench.images))
        raw = np.stack([accuracy, -np.log(macs)], axis=1)
        qualities = (raw - raw.min(axis=0)) / np.ptp(raw, axis=0)
        self.values = dict(zip(candidates, np.stack([accuracy, macs], axis=1).tolist(), strict=True))
        self.qualities: dict[Candidate, Floats] = dict(zip(candidates, qualities, strict=True))
        self._best = self._volume(candidates)

    def share(self, candidates: Sequence[Candidate]) -> float:
        """Their hypervolume over the worst corner, as a part of all sub-nets'."""
        return self._volume(candidates) / self._best

    def _volume(self, candidates: Sequence[Candidate]) -> float:
        points = np.array([self.qualities[one] for one in candidates])
        return float(moocore.hypervolume(-points, ref=np.zeros(2)))


@cache
def table(folder: Path, size: Size) -> Table:
    """Score all sub-nets, once a process."""
    return Table(Bench(SETTINGS[size], 1, folder / SETTINGS[size].name, size == "smoke"))


# The arms ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """Stands in for a GFlowNet: candidates come from its target, P(x | w, β) = R_w(x)^β / Z, not from it."""

    net: GFlowNet
    candidates: Sequence[Candidate]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.net, name)

    def sample(self, conditions: Conditions, rng: np.random.Generator) -> list[Candidate]:
        """Draw one candidate a condition."""
        rewards = self.net.rewards(self.candidates)
        log_rewards = self.net.log_scalarise(conditions.weights[:, None], rewards[None])
        noise = rng.gumbel(size=log_rewards.shape)  # the largest of log p + noise is a draw from p
        best = np.argmax(conditions.beta[:, None] * log_rewards + noise, axis=1)
        return [self.candidates[index] for index in best.tolist()]


class TargetEnumerated(MogfnAl):
    """`mogfn-al` whose policy samples its target without error."""

    def learn(self, snapshot: Snapshot, kept: Tensors | None = None) -> Learnt | None:
        learnt = super().learn(snapshot, kept)
        every = list(enumerate_candidates(self.problem.space))
        return learnt and Learnt(learnt.model, cast(GFlowNet, Drawn(learnt.net, every)))


class NoChoice(MogfnAl):
    """`mogfn-al` that proposes what its policy samples."""

    def propose(self, snapshot: Snapshot, count: int) -> Sequence[Candidate]:
        learnt = self.learnt(snapshot)
        rng = generator(self.problem.seed, snapshot.number, 1)
        weights = serving.preferences(self.problem, None, 0.0, count, rng)
        return serving.distinct(learnt.net, weights, snapshot.proposed, rng) if learnt else []


def _al(kind: type[MogfnAl]) -> Callable[[Size], Sampler]:
    def make(size: Size) -> Sampler:
        initial, batch, _ = ROUNDS[size]
        training = {"steps": 3} if size == "smoke" else {}
        options = {"initial": initial, "batch": batch, "growth": 1, "gflownet": training}
        return kind(AlOptions.model_validate(options))

    return make


def _peer(name: str, **options: Any) -> Callable[[Size], Sampler]:
    return lambda _: Registry.discover().create(Sampler, name, options)


OURS = "mogfn-al"
LEARNT = "both learnt"
ARMS: dict[str, Callable[[Size], Sampler]] = {
    OURS: _al(MogfnAl),
    "target enumerated": _al(TargetEnumerated),
    "no choice": _al(NoChoice),
    LEARNT: _al(MogfnAl),
    **{name: _peer(**options) for name, options in SAMPLERS.items()},
    "qnehvi": _peer("qnehvi", n_startup_trials=20),
}


def search(table: Table, arm: str, size: Size, seed: int) -> tuple[list[Candidate], float]:
    """Let an arm search: what it evaluated, and its own CPU seconds a trial."""
    initial, batch, rounds = ROUNDS[size]
    goals = Goal("accuracy", "maximize"), Goal("macs", "minimize")
    exact = {} if arm == LEARNT else {"macs": lambda candidate: table.values[candidate][1]}
    sampler = ARMS[arm](size)
    sampler.start(SearchProblem(table.space, goals, seed, initial + batch * rounds, exact))
    seen: set[str] = set()
    evaluated: list[Candidate] = []
    for number in range(initial):
        evaluated.append(draw_new(table.space, seen, generator(seed, number)))
        seen.add(evaluated[-1].digest)
        sampler.adopt(number, evaluated[-1])
    told = 0
    begun = time.process_time()
    for number in range(initial, initial + batch * rounds + 1, batch):
        for known in range(told, number):
            accuracy, macs = table.values[evaluated[known]]
            sampler.tell(
                known, evaluated[known], Observation("finished", {"accuracy": accuracy, "macs": macs})
            )
        told = number
        if number < initial + batch * rounds:
            evaluated += [sampler.ask(one) for one in range(number, number + batch)]
    return evaluated, (time.process_time() - begun) / (batch * rounds)


def _search_job(work: tuple[Path, str, Size, int]) -> dict[str, float]:
    folder, arm, size, seed = work
    known = table(folder, size)
    evaluated, seconds = search(known, arm, size, seed)
    return {
        "share": known.share(evaluated),
        "twice": len(evaluated) - len(set(evaluated)),
        "seconds": seconds,
    }


# Verdicts ----------------------------------------------------------------------------------------------


def records(found: Mapping[str, Sequence[Mapping[str, float]]], size: Size) -> list[Record]:
    """What the parts and the peers come to, and each beside `mogfn-al`."""
    initial, batch, rounds = ROUNDS[size]
    shares = {arm: [one["share"] for one in every] for arm, every in found.items()}

    def against(arm: str, claim: str, goal: str, holds: Callable[[Difference], bool]) -> Record:
        less = np.subtract(shares[OURS], shares[arm]).tolist()  # paired: the same first candidates
        gain = compare(less, [0.0] * len(less))
        return Record(
            claim=claim,
            metric=f"hypervolume share, mogfn-al's less that of {arm}",
            value=gain.mean,
            spread=quartiles(less),
            seeds=len(less),
            goal=goal,
            holds=holds(gain),
            note=str(gain),
            details={OURS: shares[OURS], arm: shares[arm]},
        )

    def shown(metric: str, key: str) -> Record:
        means = {arm: float(np.mean([one[key] for one in every])) for arm, every in found.items()}
        ours = [one[key] for one in found[OURS]]
        return Record(
            claim=f"{initial} random candidates, {rounds} rounds of {batch}",
            metric=metric,
            value=means.pop(OURS),
            spread=quartiles(ours),
            seeds=len(ours),
            peers=means,
        )

    return [
        shown("hypervolume, as a share of all sub-nets'", "share"),
        shown("candidates evaluated twice", "twice"),
        shown("CPU seconds of the sampler's own, a proposal", "seconds"),
        against("nsga2", "better than NSGA-II", "at least 0.05", lambda gain: gain.mean >= 0.05),
        against("qnehvi", "as good as qNEHVI", "at least -0.02", lambda gain: gain.mean >= -0.02),
        against(
            "target enumerated",
            "the GFlowNet loses nothing",
            "within 0.02",
            lambda gain: abs(gain.mean) <= 0.02,
        ),
        against("no choice", "choosing among samples pays", "interval above 0", lambda gain: gain.low > 0),
        against(LEARNT, "knowing an objective pays", "interval above 0", lambda gain: gain.low > 0),
    ]


def main() -> None:
    run = Run.from_command_line(__file__, __doc__, {"smoke": 2, "default": 10, "full": 20})
    found: dict[str, list[dict[str, float]]] = {}
    with supernets() as folder, each_core(run) as spread:
        setting = SETTINGS[run.size]
        Bench(setting, 1, folder / setting.name, run.size == "smoke").train((SHRINKING,))
        for arm in ARMS:
            work = [(folder, arm, run.size, seed) for seed in range(run.seeds)]
            found[arm] = list(spread(_search_job, work))
            print(f"{arm}: {np.mean([one['share'] for one in found[arm]]):.3f}", flush=True)
    run.publish(records(found, run.size))


if __name__ == "__main__":
    main()
