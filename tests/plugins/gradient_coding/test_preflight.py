"""What coding will bring, told before a job starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from orchestrate.core import Forecast
from orchestrate.plugins.gradient_coding.records import Decoded, Journal, Round
from orchestrate.plugins.gradient_coding.schemes import Uncoded
from orchestrate.plugins.gradient_coding.strategy import GradientCodingOptions, GradientCodingStrategy
from orchestrate.plugins.gradient_coding.waiting import Wait

DELAYS = {"p_slow": 0.1, "seconds": 2.0, "base": 0.2}


def earlier(path: Path, late: float, *, decode: float = 0.0, workers: int = 6, rounds: int = 60) -> Path:
    """The journal of an uncoded run in which one worker in ten was late."""
    rng = np.random.default_rng(0)
    journal = Journal()
    journal.use(Uncoded(workers), range(workers), Wait(), 0, ["here"], "asked for")
    for number in range(1, rounds + 1):
        times = 1.0 + 0.05 * rng.random(workers) + late * (rng.random(workers) < 0.1)
        record = Round(number, number, 0, seconds=float(times.max()), arrivals=times.tolist())
        record.loads = [1 / workers] * workers
        record.decoded = [Decoded(number, 0, 0.0, workers, decode)]
        journal.add(record)
    journal.write(path)
    return path


def told(scheme: dict[str, Any], *files: Path, models: int = 1, workers: int = 6) -> Forecast | None:
    strategy = GradientCodingStrategy(GradientCodingOptions.model_validate(scheme))
    return strategy.forecast(workers, models, files)


def test_an_earlier_run_tells_what_each_scheme_would_take(tmp_path: Path) -> None:
    path = earlier(tmp_path / "a.jsonl", late=9.0)
    found = told({"stragglers": 1}, path)
    assert found is not None
    assert found.choice.startswith("gc-frc")
    assert found.interval[0] <= found.gain <= found.interval[1]
    assert found.gain > 0.3
    assert {way.name for way in found.ways} >= {"uncoded", "gc-frc(s=1), as asked"}
    seconds = [way.seconds for way in found.ways]
    assert seconds == sorted(seconds)
    assert "59 rounds of an earlier run" in found.source
    assert str(path) in found.source
    assert not found.warning


def test_a_scheme_that_is_not_expected_to_pay_is_warned_of(tmp_path: Path) -> None:
    calm = earlier(tmp_path / "a.jsonl", late=0.0)
    found = told({"stragglers": 1}, calm)
    assert found is not None
    assert found.choice == "uncoded"
    assert "gc-frc(s=1), which the job asks for, is not expected to pay. `scheme: auto`" in found.warning
    for scheme in ("auto", "uncoded"):  # the one refuses by itself, the other doesn't code
        other = told({"scheme": scheme}, calm)
        assert other is not None
        assert not other.warning


def test_a_gain_below_the_master_s_own_time_is_none(tmp_path: Path) -> None:
    cheap = told({}, earlier(tmp_path / "a.jsonl", late=9.0))
    costly = told({}, earlier(tmp_path / "b.jsonl", late=9.0, decode=60.0))
    assert cheap is not None
    assert costly is not None
    assert cheap.gain > 5 * costly.gain
    assert costly.choice == "uncoded"


def test_the_newest_run_that_fits_is_taken(tmp_path: Path) -> None:
    other = earlier(tmp_path / "other.jsonl", late=9.0, workers=4)
    short = earlier(tmp_path / "short.jsonl", late=9.0, rounds=5)
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{}\n", encoding="utf-8")
    fits = earlier(tmp_path / "fits.jsonl", late=9.0)
    found = told({}, other, short, broken, fits)
    assert found is not None
    assert str(fits) in found.source
    assert told({}, other, short, broken) is None
    assert told({}) is None


def test_injected_delays_are_known_without_a_run() -> None:
    found = told({"scheme": "m-sgc", "inject": DELAYS}, models=2)
    assert found is not None
    assert found.source == "the injected delays alone"
    assert found.gain > 0.3
