"""Objectives that are metrics of the program's own: accuracy, loss, or any other by its name."""

from __future__ import annotations

from pydantic import Field

from ...core import PluginOptions, ReportedObjective


class Accuracy(ReportedObjective):
    """The metric `accuracy`: fraction of validation samples classified rightly, in [0, 1]."""

    name = "accuracy"
    summary = "validation accuracy, in [0, 1]"
    direction = "maximize"

    @property
    def metric(self) -> str:
        return "accuracy"


class Loss(ReportedObjective):
    """The metric `loss`: the program's validation loss, a mean over samples."""

    name = "loss"
    summary = "validation loss"
    direction = "minimize"

    @property
    def metric(self) -> str:
        return "loss"


class MetricOptions(PluginOptions):
    """Options of `metric`."""

    metric: str = Field(min_length=1, description="Name of the metric, as the program reports it.")


class Metric(ReportedObjective[MetricOptions]):
    """Any metric that the program reports. It has no sense of its own: the job file gives one."""

    name = "metric"
    summary = "any metric the program reports; say `direction`"

    @property
    def metric(self) -> str:
        return self.options.metric
