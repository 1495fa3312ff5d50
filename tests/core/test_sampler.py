"""What a sampler tells of itself."""

from __future__ import annotations

import math

from orchestrate.core.sampler import finite


def test_what_is_not_finite_is_left_out() -> None:
    told = {
        "loss": 1.5,
        "error": math.nan,
        "curve": [(10, 2.0), (20, math.inf), (30, 1.0)],
        "nothing": [(10, math.nan)],
    }
    assert finite(told) == {"loss": 1.5, "curve": [(10, 2.0), (30, 1.0)]}
