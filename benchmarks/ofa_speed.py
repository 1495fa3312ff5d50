"""What a Once-for-All supernet costs: candidates scored a second, and a training step.

One candidate after another is the loop that one would write: cut out, calibrate, score; supernet and
images stay in memory. No training: the speed of untrained weights is that of trained ones. Processor
seconds, one thread.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from _compare import quartiles
from _ofa import Bench, main
from _record import Record
from torch.profiler import ProfilerActivity, profile

from orchestrate.core import Candidate
from orchestrate.plugins.ofa import cost
from orchestrate.plugins.ofa.scoring import Images, Score, calibrated, score_alone, score_many
from orchestrate.plugins.ofa.supernet import Supernet

PRODUCTS = ("aten::mkldnn_convolution", "aten::_slow_conv2d_forward", "aten::addmm", "aten::mm")
"""What torch's profiler calls convolutions and matrix products."""


def throughput(bench: Bench) -> list[Record]:
    """Candidates scored a second: shared work against one candidate after another."""
    counts = (6,) if bench.smoke else (100, 500)
    return [_throughput(bench, count) for count in counts]


def _throughput(bench: Bench, count: int) -> Record:
    supernet, images = Supernet(bench.space, bench.shape).eval(), bench.images

    def by_itself(candidate: Candidate) -> Score:
        """One turn of a loop over candidates."""
        return score_alone(calibrated(supernet, candidate, images), images)

    score_many(supernet, [bench.space.smallest, bench.space.largest], images)
    by_itself(bench.space.smallest)  # the first ones are slower: they allocate
    ratios: list[float] = []
    rates: list[float] = []
    for seed in range(min(bench.seeds, 3)):
        chosen = bench.draw(count, 200 + seed)
        some = slice(None, None, max(1, count // 20))
        begun = time.process_time()
        alone = [by_itself(candidate) for candidate in chosen[some]]
        single = (time.process_time() - begun) / len(alone)
        begun = time.process_time()
        together = score_many(supernet, chosen, images)
        shared = (time.process_time() - begun) / count
        assert alone == together[some]
        rates.append(1 / shared)
        ratios.append(single / shared)
    part = _convolutions(supernet, chosen[:100], images)
    return Record(
        claim=f"{bench.setting.name}: candidates scored together cost less, and score the same",
        metric=f"candidates a processor second, {count} at once",
        value=float(np.median(rates)),
        spread=quartiles(rates),
        seeds=len(rates),
        peers={"one by one": float(np.median(np.array(rates) / np.array(ratios)))},
        goal="5 times as many",
        holds=bool(np.median(ratios) >= 5),
        note=f"{np.median(ratios):.1f} times as many ({min(ratios):.1f} to {max(ratios):.1f}); {part:.0%} "
        f"of the time is in convolutions; if all else were free, {np.median(ratios) / part:.1f} times",
        details={"ratios": ratios, "convolutions": part},
    )


def _convolutions(supernet: Supernet, chosen: Sequence[Candidate], images: Images) -> float:
    """Share of shared scoring's time that convolutions and matrix products take."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        score_many(supernet, chosen, images)
    spent = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    return sum(time for key, time in spent.items() if key in PRODUCTS) / sum(spent.values())


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
