"""The job file's model: `JobSpec` and its parts. Plain data; plugins are resolved in `job`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

DEFAULT_TASK = "digits"
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> object:
    """Turn "90s", "10m", "1.5h" or "2d" into seconds; numbers pass through."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", value)
        if match is None:
            raise ValueError("write a duration as seconds or like 90s, 10m, 1.5h, 2d")
        return float(match[1]) * UNITS[match[2]]
    return value


Duration = Annotated[
    float,
    Field(gt=0),
    BeforeValidator(parse_duration, json_schema_input_type=str | PositiveFloat),
]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\- ]*$")]


class Section(BaseModel):
    """Base of the file's sections: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PluginSpec(BaseModel):
    """A plugin by name; every other key is one of its options, checked by the plugin's own model."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(
        min_length=1, description="Name of an installed plugin, or `python:package.module:Attribute`."
    )

    @property
    def options(self) -> dict[str, Any]:
        """The plugin's options as written."""
        return dict(self.model_extra or {})


class ObjectiveSpec(PluginSpec):
    """An objective of the job: `name` of an objective plugin, or `metric` as a program reports it."""

    name: str = Field(
        min_length=1, description="Objective plugin. `metric: NAME` alone means the plugin `metric`."
    )
    label: Name | None = Field(
        default=None, description="Another name for it, when the job has two of a kind."
    )
    direction: Literal["maximize", "minimize", "none"] | None = Field(
        None,
        description="Sense; by default the objective's own. `none`: not optimised, only bounded or part of "
        "a combined objective.",
    )
    min: float | None = Field(default=None, description="Candidates below are infeasible.")
    max: float | None = Field(default=None, description="Candidates above are infeasible.")
    reference: float | None = Field(
        default=None, description="Hypervolume reference in this objective's unit."
    )

    @model_validator(mode="before")
    @classmethod
    def _metric(cls, data: Any) -> Any:
        """`{metric: f1}` is short for the plugin `metric` with its option `metric: f1`."""
        if isinstance(data, dict):
            given = cast("dict[str, Any]", data)
            return {"name": "metric", **given} if "metric" in given else given
        return data

    @model_validator(mode="after")
    def _bounded(self) -> ObjectiveSpec:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self


class ResourceSpec(Section):
    """What one worker of one trial holds while it runs."""

    cpu: float = Field(default=1, ge=0, description="CPU cores; fractions allowed.")
    gpu: float = Field(default=0, ge=0, description="GPUs; fractions share one.")


class WorkerSpec(Section):
    """Several workers a trial, and how they share the making of gradients."""

    count: int = Field(ge=2, description="Workers in each trial's group.")
    processes: PositiveInt = Field(
        default=1,
        description="Processes of each worker of a coded strategy, on one node. They share its work and add "
        "their sums up among themselves; each has the stage's `resources`.",
    )
    strategy: PluginSpec = Field(description="Parallel strategy.")


class RecallSpec(PluginSpec):
    """Recall: which fingerprint makes two candidates share a result, how far the memory reaches, and how
    long it lasts.
    """

    name: str = Field(min_length=1, description="Fingerprint plugin.")
    scope: Literal["catalog", "job"] = Field(
        default="catalog",
        description="Whose results may be recalled: any job's in the catalog, or this job's.",
    )
    evaluations: PositiveInt = Field(
        default=1,
        description="Evaluations of a class before it is answered. The answer is their mean, which a "
        "lucky draw moves less.",
    )
    standard_error: PositiveFloat | None = Field(
        default=None,
        description="Be content with fewer evaluations, two at least, once the first objective's mean has "
        "this standard error.",
    )
    forget_every: int | None = Field(
        default=None,
        ge=2,
        description="Forget a class at its k-th use, training included: a lucky draw lives no longer.",
    )
    forget_probability: float = Field(
        default=0.0, ge=0, lt=1, description="Forget a class after a hit with this probability."
    )
    max_classes: PositiveInt | None = Field(
        default=None, description="Remember so many classes; the least recently used are forgotten."
    )
    ttl: Duration | None = Field(default=None, description="Serve no result older than this, like 30d.")
    failures: Duration | None = Field(
        default=86400.0,
        description="Refuse, for so long, candidates of a class that failed by its own code; null: run them. "
        "Lost trials, and errors such as running out of memory, never count.",
    )
    audit: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of hits that are trained all the same, to see how often a merge is wrong; classes "
        "found wrong are put in quarantine.",
    )
    audit_tolerance: NonNegativeFloat | None = Field(
        default=None,
        description="Difference in the first objective beyond which an audited merge is wrong; by default "
        "three robust standard deviations of the audits' own.",
    )
    window: PositiveInt | None = Field(
        default=100,
        description="Stop hashing, and go on with equal candidates alone, when over so many trials it cost "
        "more time than it saved; null: never.",
    )
    max_hits: PositiveInt | None = Field(
        default=1000,
        description="End the stage when so many candidates in a row were answered without a training: the "
        "sampler has nothing new.",
    )
    confirm: NonNegativeInt = Field(
        default=1,
        description="Best candidates that are trained once more at the end, with another seed and without "
        "recall, so that the result reported is no lucky draw.",
    )

    @model_validator(mode="after")
    def _several(self) -> RecallSpec:
        if self.standard_error is not None and self.evaluations < 3:
            raise ValueError("`standard_error` shortens `evaluations`, which must be 3 or more then")
        return self


class TakeSpec(Section):
    """Candidates taken from an earlier stage instead of a sampler."""

    from_: str = Field(alias="from", description="Name of the earlier stage.")
    pareto: PositiveInt | None = Field(default=None, description="The best so many of its Pareto set.")
    best: PositiveInt | None = Field(default=None, description="The best so many by the first objective.")

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="after")
    def _one(self) -> TakeSpec:
        if (self.pareto is None) == (self.best is None):
            raise ValueError("give exactly one of `pareto` and `best`")
        return self


class EarlyStoppingSpec(Section):
    """Stop unpromising trials by what they report at each step."""

    name: Literal["asha", "median"] = Field(
        description="The rule: successive halving, or the median of the other trials."
    )
    objective: str | None = Field(default=None, description="Objective to compare by; by default the first.")
    max_steps: PositiveInt = Field(default=100, description="asha: steps of a full trial.")
    grace_steps: PositiveInt = Field(default=1, description="Steps before a trial may be stopped.")
    reduction_factor: float = Field(default=3, gt=1, description="asha: of so many, one goes on.")
    min_trials: PositiveInt = Field(default=3, description="median: trials to have seen before stopping any.")


class RetrySpec(Section):
    """What to do about trials that fail (the user's code) or are lost (the infrastructure)."""

    failed: NonNegativeInt = Field(default=0, description="Times a failed trial is run again.")
    lost: NonNegativeInt = Field(default=3, description="Times a lost trial is run again.")
    identical: PositiveInt | None = Field(
        default=10,
        description="Failures in a row, with the same exception at the same line, after which the job is "
        "paused; null: never.",
    )
    budget: NonNegativeInt | None = Field(
        default=None,
        description="Failed and lost trials a stage bears before the job fails; by default any number.",
    )


class StageSpec(Section):
    """One stage: a program run over candidates. Without `sampler` and `take` it is a single trial."""

    name: Name = Field(description="Name by which later stages refer to this one.")
    program: PluginSpec = Field(description="What each trial runs.")
    space: PluginSpec | None = Field(default=None, description="Another space than the job's.")
    sampler: PluginSpec | None = Field(default=None, description="What proposes candidates.")
    take: TakeSpec | None = Field(default=None, description="Take candidates from an earlier stage instead.")
    recall: RecallSpec | None = Field(
        default=None, description="Answer candidates that are known already without running them."
    )
    trials: PositiveInt | None = Field(
        default=None, description="Candidates to evaluate, recalled ones included."
    )
    trainings: PositiveInt | None = Field(
        default=None, description="Candidates to run: those answered by recall don't count."
    )
    time_budget: Duration | None = Field(
        default=None, description="Seconds, or like 10m: no trial starts after."
    )
    workers: WorkerSpec | None = Field(
        default=None, description="Several workers a trial, and how they share the making of gradients."
    )
    resources: ResourceSpec | None = Field(default=None, description="Other resources than the job's.")
    concurrency: PositiveInt | None = Field(
        default=None, description="Trials at a time; by default what fits."
    )
    batch: PositiveInt | None = Field(
        default=None, description="Candidates a launch; by default the program's, or the parallel strategy's."
    )
    early_stopping: EarlyStoppingSpec | None = Field(
        default=None, description="Stop unpromising trials by what they report."
    )
    retry: RetrySpec | None = Field(
        default=None, description="Another rule for failed and lost trials than the job's."
    )

    @model_validator(mode="after")
    def _consistent(self) -> StageSpec:
        if self.sampler and self.take:
            raise ValueError("give `sampler` or `take`, not both")
        if self.sampler and self.trials is None and self.trainings is None and self.time_budget is None:
            raise ValueError(
                "a stage with a sampler needs `trials`, `trainings` or `time_budget`, or it would never end"
            )
        if not self.sampler and (self.trials is not None or self.trainings is not None):
            raise ValueError("`trials` and `trainings` need a `sampler` to propose them")
        if self.recall and not self.sampler:
            raise ValueError("`recall` needs a `sampler`: other stages run what they are told to")
        if (self.batch or 1) > 1 and self.early_stopping and not self.workers:
            raise ValueError("a `batch` of candidates can't be stopped early")
        return self


class LineageSpec(Section):
    """What is mirrored to MLflow."""

    runs: Literal["launched", "all"] = Field(
        default="launched", description="Trials that get a run of their own; others are rows of a table."
    )
    tags: dict[str, str] = Field(default_factory=dict, description="Extra tags of the job's run.")


class JobSpec(Section):
    """A whole job file."""

    name: Name = Field(
        description="Name of the job. It begins the job's id, and names its experiment in MLflow."
    )
    task: PluginSpec | None = Field(
        default=None, description="By default `digits`, where the programs need data."
    )
    space: PluginSpec | None = Field(default=None, description="The search space. A stage may have another.")
    objectives: tuple[ObjectiveSpec, ...] = Field(
        default=(), description="What is optimised or bounded, the most important first."
    )
    stages: tuple[StageSpec, ...] = Field(min_length=1, description="What is run, one after another.")
    resources: ResourceSpec = Field(default=ResourceSpec(), description="What one worker of one trial holds.")
    retry: RetrySpec = Field(
        default=RetrySpec(), description="What to do about trials that fail or are lost."
    )
    time_budget: Duration | None = Field(default=None, description="For the whole job.")
    lineage: LineageSpec = Field(default=LineageSpec(), description="What the record in MLflow holds.")
    seed: int = Field(default=0, ge=0, lt=2**63, description="Of everything random in the job.")

    @property
    def task_name(self) -> str:
        """Name of the task plugin."""
        return self.task.name if self.task else DEFAULT_TASK
