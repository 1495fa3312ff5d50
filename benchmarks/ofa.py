"""Once-for-All, scaled down: what progressive shrinking, re-calibration and sorting are worth.

Real data, small networks: handwritten digits (8x8), and with --full Fashion-MNIST. Four ways to train a
supernet, at equal sub-net passes; the distilled scratch arm's teacher comes on top. ofa_serving.py
measures what is done with a supernet, ofa_speed.py what it costs.
"""

from __future__ import annotations

import numpy as np
from _compare import compare, quartiles
from _ofa import FEWEST, FULL, SHRINKING, Bench, accuracies, main
from _record import Record

from orchestrate.plugins.ofa.phases import corners
from orchestrate.plugins.ofa.sorting import sort_inner

ARMS = (SHRINKING, "warm-start", "scratch-distilled", "scratch")


def arms(bench: Bench) -> list[Record]:
    """The four arms' random and corner networks."""
    kinds = (
        f"mean of {bench.setting.random} random sub-nets",
        "mean of the 8 corner nets",
        "the largest network",
    )
    found: dict[str, dict[str, list[float]]] = {kind: {arm: [] for arm in ARMS} for kind in kinds}
    spent: dict[str, dict[str, float]] = {}
    for seed in range(bench.seeds):
        random, corner = bench.draw(bench.setting.random, seed), list(corners(bench.space).values())
        for arm in ARMS:
            trained = bench.trained(arm, seed)
            spent[arm] = {"subnet_passes": trained.passes, "optimiser_steps": trained.steps}
            scores = accuracies(trained.supernet, [*random, *corner], bench.test)
            values = (np.mean(scores[: len(random)]), np.mean(scores[len(random) :]), scores[-1])
            for kind, value in zip(kinds, values, strict=True):
                found[kind][arm].append(float(value))
    return [_compared(bench, kind, found[kind], spent) for kind in kinds]


def _compared(
    bench: Bench, kind: str, found: dict[str, list[float]], spent: dict[str, dict[str, float]]
) -> Record:
    ours = np.array(found[SHRINKING])
    gains = {arm: compare((ours - found[arm]).tolist(), [0.0] * bench.seeds) for arm in ARMS[1:]}
    several = bench.seeds >= FEWEST
    told = [
        f"over {arm} {one.mean:+.4f}" + (f" ({one.low:+.4f} to {one.high:+.4f})" if several else "")
        for arm, one in gains.items()
    ]
    return Record(
        claim=f"{bench.setting.name}: progressive shrinking beats training everything from scratch",
        metric=f"test accuracy, {kind}",
        value=float(ours.mean()),
        spread=quartiles(ours.tolist()),
        seeds=bench.seeds,
        peers={arm: float(np.mean(found[arm])) for arm in ARMS[1:]},
        goal="above scratch" if several else "",
        holds=gains["scratch"].low > 0 if several else None,
        note=f"gain{', 95 %' if several else ''}: {', '.join(told)}",
        details={"accuracies": found, "spent": spent},
    )


def calibration(bench: Bench) -> list[Record]:
    """What BatchNorm re-calibration is worth."""
    on: list[float] = []
    off: list[float] = []
    full: list[float] = []
    for seed in range(bench.seeds):
        supernet = bench.trained(SHRINKING, seed).supernet
        chosen = bench.draw(bench.setting.random, seed)
        on.append(float(np.mean(accuracies(supernet, chosen, bench.test))))
        off.append(float(np.mean(accuracies(supernet, chosen, bench.test, calibrate=False))))
        plain, largest = bench.trained(FULL, seed).supernet, bench.space.largest
        one, other = (accuracies(plain, [largest], bench.test, calibrate=way)[0] for way in (True, False))
        full.append(one - other)
    gains = np.array(on) - np.array(off)
    return [
        Record(
            claim=f"{bench.setting.name}: sub-nets need re-calibrated BatchNorm statistics",
            metric=f"test accuracy, mean of {bench.setting.random} random sub-nets",
            value=float(np.mean(on)),
            spread=quartiles(on),
            seeds=bench.seeds,
            peers={"as trained": float(np.mean(off))},
            goal="at least 0.1 above",
            holds=bool(gains.min() >= 0.1),
            note=f"gain {gains.min():+.3f} to {gains.max():+.3f}; of the full net trained alone "
            f"{min(full):+.3f} to {max(full):+.3f}",
            details={"calibrated": on, "as trained": off, "gain of the full net": full},
        )
    ]


def sorting(bench: Bench) -> list[Record]:
    """The full net cut to its narrowest, before any width was trained, sorted and not."""
    plain: list[float] = []
    ordered: list[float] = []
    space = bench.space
    narrow = space.corner(lambda kind: kind != "expand")
    for seed in range(bench.seeds):
        supernet = bench.trained(FULL, seed).supernet
        plain += accuracies(supernet, [narrow], bench.test)
        sort_inner(supernet, [space.plan(space.largest, bench.shape)])
        ordered += accuracies(supernet, [narrow], bench.test)
    gain = np.array(ordered) - np.array(plain)
    return [
        Record(
            claim=f"{bench.setting.name}: sorted channels survive cutting better",
            metric="test accuracy of the full net at its smallest expansion",
            value=float(np.mean(ordered)),
            spread=quartiles(ordered),
            seeds=bench.seeds,
            peers={"as trained": float(np.mean(plain))},
            goal="above unsorted",
            holds=bool(gain.mean() > 0),
            note=f"gain {gain.mean():+.3f} ({gain.min():+.3f} to {gain.max():+.3f})",
            details={"sorted": ordered, "unsorted": plain},
        )
    ]


if __name__ == "__main__":
    parts = {"arms": arms, "calibration": calibration, "sorting": sorting}
    main(__file__, __doc__, parts, (*ARMS, FULL))
