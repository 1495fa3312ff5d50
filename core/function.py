"""A user's plain function as a program: `python:package.module:function`.

The function takes the trial, and the remaining keys of `program:` in the job file as keyword
arguments; it returns a mapping of metrics, or a number, which is then the metric `value`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import create_model

from .errors import PluginError, TrialError
from .plugin import PluginOptions
from .program import Evaluation, Program, TrialContext


def function_program(name: str, function: Callable[..., Any]) -> type[Program]:
    """Make the program class that runs `function`.

    Raises:
        PluginError: the function doesn't take a trial as its first argument.
    """
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise PluginError(f"{name}: the function must take the trial as its first argument")
    fields: dict[str, Any] = {
        parameter.name: (
            Any if parameter.annotation is inspect.Parameter.empty else _hint(function, parameter),
            ... if parameter.default is inspect.Parameter.empty else parameter.default,
        )
        for parameter in parameters[1:]
        if parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    }
    options = create_model(f"{function.__name__}_options", __base__=PluginOptions, **fields)

    class FunctionProgram(Program):
        reports_steps = True  # it may; a function that doesn't merely is never stopped early
        Options = options

        def run(self, trial: TrialContext) -> Evaluation:
            given = {field: getattr(self.options, field) for field in fields}
            return _evaluation(name, function(trial, **given))

    FunctionProgram.name = name
    FunctionProgram.summary = (inspect.getdoc(function) or f"the function {function.__name__}").partition(
        "\n"
    )[0]
    return FunctionProgram


def _hint(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    return inspect.get_annotations(function, eval_str=True).get(parameter.name, Any)


def _evaluation(name: str, result: Any) -> Evaluation:
    if isinstance(result, Evaluation):
        return result
    if isinstance(result, int | float):
        return Evaluation({"value": float(result)})
    if isinstance(result, Mapping):
        metrics = cast(Mapping[str, Any], result)
        return Evaluation({str(key): float(metrics[key]) for key in metrics})
    raise TrialError(
        f"{name} returned a {type(result).__name__}: return a mapping of metric names to numbers, or a number"
    )
