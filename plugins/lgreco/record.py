"""What is told of a trial's compression: figures beside its metrics, a file of decisions, and a forecast."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, variance

from ...core import Forecast
from ...core.parallel import Expected
from .decision import Decision
from .tally import Phase, Tally

ENOUGH = 20
"""Steps of a phase from which its time is told."""
NAMES = {
    Phase.DENSE: "no compression",
    Phase.UNIFORM: "the reference in all layers",
    Phase.ADAPTED: "a setting for each layer",
}


@dataclass(frozen=True)
class Record:
    """A trial's compression so far, on rank 0."""

    ranks: int
    tallies: Mapping[Phase, Tally]
    decisions: Sequence[Decision]

    def metrics(self) -> dict[str, float]:
        """Bytes that a rank sends a step now, how many times fewer that is than without compression (now,
        and over all steps), than with the reference in all layers, and the part of the allowed error used.
        """
        steps = [tally for tally in self.tallies.values() if tally.steps]
        if not steps or self.ranks == 1:
            return {}
        now = steps[-1]
        found = {
            "compression/bytes_per_step": now.sent / now.steps,
            "compression/ratio_now": now.dense / now.sent,
            "compression/ratio": sum(each.dense for each in steps) / sum(each.sent for each in steps),
        }
        if self.decisions:
            last = self.decisions[-1]
            found["compression/against_uniform"] = last.uniform_bytes / last.bytes
            if last.budget:
                found["compression/error_use"] = last.error / last.budget
        return found

    def write(self, folder: Path) -> dict[str, Path]:
        """Write the record as JSON, and where something was decided as a picture; by kind of artifact."""
        data = {
            "ranks": self.ranks,
            "phases": {phase.value: asdict(tally) for phase, tally in self.tallies.items()},
            "decisions": [asdict(decision) for decision in self.decisions],
        }
        files = {"compression": folder / "compression.json"}
        files["compression"].write_text(json.dumps(data, indent=1))
        if self.decisions:
            from .picture import draw

            files["compression-picture"] = folder / "compression.svg"
            draw(self.decisions, files["compression-picture"])
        return files

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read what `write` wrote."""
        data = json.loads(path.read_text())
        return cls(
            data["ranks"],
            {Phase(phase): Tally(**tally) for phase, tally in data["phases"].items()},
            [Decision.of(one) for one in data["decisions"]],
        )


def forecast(workers: int, earlier: Sequence[Path]) -> Forecast | None:
    """Compare the phases of the newest earlier run of so many ranks: what does a gradient take in each?

    None without a run that has been long enough in a dense phase and in another.
    """
    for path in earlier:
        record = Record.read(path)
        known = {phase: one.seconds for phase, one in record.tallies.items() if len(one.seconds) >= ENOUGH}
        if record.ranks == workers and Phase.DENSE in known and len(known) > 1:
            return _forecast(known, f"an earlier run ({path})")
    return None


def _forecast(known: Mapping[Phase, Sequence[float]], source: str) -> Forecast:
    means = {phase: fmean(seconds) for phase, seconds in known.items()}
    dense = means[Phase.DENSE]
    ranked = sorted(means, key=means.__getitem__)
    best = ranked[0] if ranked[0] is not Phase.DENSE else ranked[1]
    gain = 1 - means[best] / dense
    # The ratio of two independent means, to first order.
    spread = means[best] / dense * math.hypot(_deviation(known[best]), _deviation(known[Phase.DENSE]))
    interval = (gain - 1.96 * spread, gain + 1.96 * spread)
    pays = interval[0] > 0
    return Forecast(
        source,
        tuple(Expected(NAMES[phase], means[phase], 1 - means[phase] / dense) for phase in ranked),
        NAMES[best if pays else Phase.DENSE],
        gain,
        interval,
        "the network is the bottleneck" if pays else "gradients are sent faster than they are compressed",
        "" if pays else "compression, which the job asks for, is not expected to pay; `all-reduce` is exact",
    )


def _deviation(seconds: Sequence[float]) -> float:
    """Standard deviation of the mean, relative to it."""
    return math.sqrt(variance(seconds) / len(seconds)) / fmean(seconds)
