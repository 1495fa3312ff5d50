"""What a Once-for-All supernet costs: candidates scored a second, and a training step.

No training: the speed of untrained weights is that of trained ones. Processor seconds, one thread.
"""

from __future__ import annotations

import time

import numpy as np
from _compare import quartiles
from _ofa import CPU, Bench, main
from _record import Record

from orchestrate.core import Candidate
from orchestrate.plugins.ofa import cost
from orchestrate.plugins.ofa.scoring import Images, Score, calibrated, score_alone, score_many
from orchestrate.plugins.ofa.supernet import Supernet, load_supernet, save_supernet


def throughput(bench: Bench) -> list[Record]:
    """Candidates scored a second: shared work against one candidate after another."""
    counts = (6,) if bench.smoke else (100, 500)
    return [_throughput(bench, count) for count in counts]


def _throughput(bench: Bench, count: int) -> Record:
    supernet = Supernet(bench.space, bench.shape).eval()
    path = bench.folder / "untrained.safetensors"
    save_supernet(supernet, path)

    def by_itself(candidate: Candidate) -> Score:
        """What a trial by itself does: load, cut out, calibrate, score."""
        network = load_supernet(bench.space, bench.shape, path).eval()
        calibration = int(bench.setting.training["calibration_images"])
        images = Images.of(bench.task, CPU, calibration=calibration, calibration_batch=250)
        return score_alone(calibrated(network, candidate, images), images)

    by_itself(bench.space.smallest)  # the first one is slower: it allocates
    ratios: list[float] = []
    rates: list[float] = []
    for seed in range(min(bench.seeds, 3)):
        chosen = bench.draw(count, 200 + seed)
        some = slice(None, None, max(1, count // 20))
        begun = time.process_time()
        alone = [by_itself(candidate) for candidate in chosen[some]]
        single = (time.process_time() - begun) / len(alone)
        begun = time.process_time()
        together = score_many(supernet, chosen, bench.images)
        shared = (time.process_time() - begun) / count
        assert alone == together[some]
        rates.append(1 / shared)
        ratios.append(single / shared)
    return Record(
        claim=f"{bench.setting.name}: candidates scored together cost less, and score the same",
        metric=f"candidates a processor second, {count} at once",
        value=float(np.median(rates)),
        spread=quartiles(rates),
        seeds=len(rates),
        peers={"one by one": float(np.median(np.array(rates) / np.array(ratios)))},
        goal="5 times as many",
        holds=bool(np.median(ratios) >= 5),
        note=f"{np.median(ratios):.1f} times as many ({min(ratios):.1f} to {max(ratios):.1f})",
        details={"ratios": ratios},
    )


def step(bench: Bench) -> list[Record]:
    """A training step of the supernet's largest network against the same plain network."""
    supernet = Supernet(bench.space, bench.shape).train()
    network = supernet.extract(bench.space.largest).train()
    inputs = bench.task.split("train").inputs[:50]
    ratios: list[float] = []
    plain: list[float] = []
    for _ in range(3 if bench.smoke else 40):
        taken: list[float] = []
        for model in (network, supernet):
            model.zero_grad()
            begun = time.process_time()
            model(inputs).square().sum().backward()
            taken.append(time.process_time() - begun)
        plain.append(taken[0])
        ratios.append(taken[1] / taken[0])
    macs = cost.macs(bench.space.plan(bench.space.largest, bench.shape))
    return [
        Record(
            claim=f"{bench.setting.name}: slicing costs little",
            metric="time of a supernet step, in steps of the plain largest network",
            value=float(np.median(ratios)),
            spread=quartiles(ratios),
            seeds=len(ratios),
            goal="at most 1.15",
            holds=bool(np.median(ratios) <= 1.15),
            note=f"batch 50, {macs:,} multiply-accumulates, plain step {np.median(plain) * 1000:.0f} ms",
        )
    ]


if __name__ == "__main__":
    main(__file__, __doc__, {"throughput": throughput, "step": step})
