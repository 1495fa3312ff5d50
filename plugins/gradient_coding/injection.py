"""Injected delays: makes some workers slow on purpose, to show and to measure what a scheme does."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from ...core import PluginOptions
from ...core.seeds import generator
from .codes.base import Floats
from .stragglers.generators import GilbertElliott
from .stragglers.profile import Profile, read

BLOCK = 1000  # rounds that are drawn at once


class InjectOptions(PluginOptions):
    """Delays that workers idle before they compute. A worker becomes slow and normal again at random
    (a Gilbert-Elliott chain), the same way in every run of the same `seed`.
    """

    p_slow: float = Field(default=0.05, ge=0, le=1, description="Chance to become slow, each round.")
    p_normal: float = Field(default=0.5, gt=0, le=1, description="Chance to become normal again.")
    seconds: PositiveFloat = Field(default=1.0, description="Delay of a slow worker.")
    base: NonNegativeFloat = Field(default=0.0, description="Delay of every worker, in seconds.")
    slope: NonNegativeFloat = Field(
        default=0.0, description="Seconds for each unit of load: for a whole job's samples."
    )
    profile: Path | None = Field(
        default=None, description="CSV of measured reply times to replay (round, worker, load, seconds)."
    )
    seed: NonNegativeInt = Field(default=0, description="Of the chain.")


class Injected:
    """Gives the delay of a round's work, by round (from 1), worker and load. Profiles start over."""

    def __init__(self, workers: int, options: InjectOptions) -> None:
        self._workers = workers
        self._options = options
        self._blocks: dict[int, Floats] = {}

    def __call__(self, number: int, worker: int, load: float) -> float:
        options = self._options
        if options.profile is not None:
            return self._replayed(number, worker, load)
        block, index = divmod(number - 1, BLOCK)
        if block not in self._blocks:
            chain = GilbertElliott(options.p_slow, options.p_normal)
            slow = chain.pattern(BLOCK, self._workers, generator(options.seed, block))
            self._blocks[block] = np.where(slow, options.seconds, 0.0)
        return options.base + options.slope * load + float(self._blocks[block][index, worker])

    def _replayed(self, number: int, worker: int, load: float) -> float:
        loads = np.full(self._profile.n, load)
        return float(self._profile.at((number - 1) % self._profile.rounds, loads)[worker])

    @cached_property
    def _profile(self) -> Profile:
        assert self._options.profile is not None
        profile = read(self._options.profile, self._options.slope or None)
        if profile.n != self._workers:
            raise ValueError(
                f"{self._options.profile} has {profile.n} workers, and the group {self._workers}"
            )
        return profile
