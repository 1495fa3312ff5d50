"""The tables that are made from the code."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from docs.reference import Row, expand, rows
from docs.terminal import picture
from orchestrate.core.registry import Registry
from orchestrate.core.spec import Duration


class Inner(BaseModel):
    flip: bool = Field(False, description="Mirror.")


class Outer(BaseModel):
    count: int = Field(ge=1, lt=9, description="How many.")
    rate: float | None = Field(None, gt=0, description="A | B.")
    mode: Literal["fast", "slow"] = Field("fast", description="How.")
    budget: Duration | None = Field(None, description="How long.")
    names: tuple[str, ...] = Field((), description="Which.")
    inner: Inner = Field(default_factory=Inner, description="More.")
    by_name: dict[str, Inner] = Field(default_factory=dict, description="Each.")
    other: Annotated[str, Field(alias="from", description="Where.")] = "here"


def test_rows_say_type_bounds_and_default() -> None:
    assert list(rows(Outer)) == [
        Row("count", "whole number ≥ 1, < 9", "required", "How many."),
        Row("rate", "number > 0", "unset", "A | B."),
        Row("mode", "`fast` or `slow`", "`fast`", "How."),
        Row("budget", "seconds, or text such as `90s`, `10m`, `1.5h`, `2d`", "unset", "How long."),
        Row("names", "list of text", "unset", "Which."),
        Row("inner", "map", "unset", "More."),
        Row("inner.flip", "true or false", "`false`", "Mirror."),
        Row("by_name", "map of map", "unset", "Each."),
        Row("by_name.NAME.flip", "true or false", "`false`", "Mirror."),
        Row("from", "text", "`here`", "Where."),
    ]


def test_markers_are_replaced_and_other_comments_stay() -> None:
    page = "a\n<!-- code: keys TakeSpec -->\n<!-- note -->\nb"
    expanded = expand(page, Registry([]))
    assert "| `pareto` |" in expanded
    assert expanded.startswith("a\n| Key |")
    assert expanded.endswith("<!-- note -->\nb")


@pytest.mark.parametrize("marker", ["kees TakeSpec", "plugins nothing"])
def test_a_marker_that_means_nothing_is_an_error(marker: str) -> None:
    with pytest.raises(KeyError):
        expand(f"<!-- code: {marker} -->", Registry([]))


def test_a_picture_shows_the_output_and_fetches_nothing() -> None:
    svg = picture([sys.executable, "-c", "print('\\x1b[32mfine\\x1b[0m')"], 80)
    assert "fine" in svg
    assert "url(http" not in svg
