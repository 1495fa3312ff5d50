"""Options of a GFlowNet and its training."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from ...core import PluginOptions
from .conditions import BetaOptions, Cover
from .scalarise import Scalarisation

BackwardName: TypeAlias = Literal["uniform", "learned", "maxent", "gsql"]


class TrainingOptions(PluginOptions):
    """How a GFlowNet is built and trained."""

    loss: Literal["tb", "db", "subtb", "vargrad"] = Field(
        default="tb",
        description="Trajectory balance, detailed balance, sub-trajectory balance, or the variance of "
        "the log partition function, which needs no Z.",
    )
    decay: float = Field(default=0.9, gt=0, le=1, description="λ of sub-trajectory balance.")
    penalty: Literal["square", "absolute", "huber", "log-cosh"] = Field(
        default="square", description="What a residual costs."
    )
    backward: BackwardName = Field(
        default="uniform",
        description="Backward policy, where several ways lead to a candidate. `maxent` takes each way as "
        "often, so that walks are as varied as they can be; `gsql` is the same with other state flows, for "
        "`db` and `subtb`.",
    )
    scalarisation: Scalarisation = Field(
        default="weighted-sum",
        description="How a preference makes one reward of several; `augmented-tchebycheff` reaches concave "
        "parts of a front, too. `goal` asks for rewards in the preference's direction instead "
        "(goal-conditioned GFlowNets).",
    )
    preferences: Literal["dirichlet", "reachable"] | Cover = Field(
        default="dirichlet",
        description="What is trained on: preferences of any kind, or only so many fixed ones that cover all "
        "(`lattice`, `k-means`); or, of goals, rarely such as turn out to be missed (`reachable`).",
    )
    fixed: int = Field(default=64, ge=1, description="How many fixed preferences there are, or few more.")
    alpha: float | tuple[float, ...] = Field(
        default=1.0, description="Preferences are drawn from Dirichlet(alpha): a number, or one an objective."
    )
    encoding: Literal["raw", "thermometer", "both"] = Field(
        default="both", description="How preference and β are shown to the networks."
    )
    bins: int = Field(default=16, ge=1, description="Bins of a thermometer.")
    conditioning: Literal["shift", "film"] = Field(
        default="shift",
        description="What preference and β do to a state's features: shift them, or multiply them, too "
        "(FiLM).",
    )
    beta: BetaOptions = Field(default=BetaOptions(), description="Inverse temperature.")
    steps: int = Field(default=1000, ge=1, description="Training steps.")
    batch: int = Field(default=64, ge=1, description="Trajectories a step.")
    group: int = Field(default=4, ge=1, description="Trajectories of a step that share a condition.")
    exploration: float = Field(
        default=0.05, ge=0, lt=1, description="Share of actions drawn uniformly while training."
    )
    tempering: float = Field(
        default=1.0,
        gt=0,
        description="Temperature of the policy while training: above 1, its actions are drawn more evenly.",
    )
    annealing: bool = Field(
        default=False, description="Let exploration and tempering fade away as training goes on."
    )
    local_search: int = Field(
        default=0,
        ge=0,
        description="How many times half of each new walk is taken back and made again, and the better "
        "candidate is kept (local search GFlowNets).",
    )
    replay: float = Field(
        default=0.5, ge=0, le=1, description="Share of a batch that is walked back from known candidates."
    )
    memory: int = Field(default=10_000, ge=1, description="How many candidates the replay memory holds.")
    apart: int = Field(
        default=0,
        ge=0,
        description="A diverse memory: of two candidates that differ in fewer choices, one that is no better "
        "in any objective isn't kept. 0: the latest are kept, whatever they are.",
    )
    learning_rate: float = Field(default=3e-3, gt=0, description="Of the policy; halved every quarter.")
    z_factor: float = Field(default=10.0, gt=0, description="How much faster log Z learns.")
    clip: float = Field(default=10.0, gt=0, description="Largest norm of a gradient.")
    width: int = Field(default=128, ge=1, description="Width of the policy's layers.")
    depth: int = Field(default=3, ge=1, description="Number of the policy's layers.")
    average: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Decay of an average of the weights, which proposals then come from.",
    )

    @model_validator(mode="after")
    def _fits(self) -> TrainingOptions:
        if self.batch % self.group:
            raise ValueError(f"batch {self.batch} is no multiple of group {self.group}")
        if self.loss == "vargrad" and self.group < 2:
            raise ValueError("vargrad compares trajectories of one condition: set group to 2 or more")
        if self.loss == "vargrad" and self.scalarisation == "goal":
            raise ValueError("vargrad needs walks that share a condition, and goals are moved one by one")
        if self.preferences == "reachable" and self.scalarisation != "goal":
            raise ValueError("preferences 'reachable' are for scalarisation 'goal': no other can be missed")
        alphas = self.alpha if isinstance(self.alpha, tuple) else (self.alpha,)
        if not alphas or min(alphas) <= 0:
            raise ValueError("alpha has to be above 0")
        return self
