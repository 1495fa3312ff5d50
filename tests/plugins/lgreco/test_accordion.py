"""Accordion's rule."""

import math

import pytest

from orchestrate.plugins.lgreco.accordion import Accordion


@pytest.mark.parametrize(
    ("threshold", "expected"), [(0.5, [0.5, 0.5, 2.0, 0.5, 2.0]), (0.1, [0.5, 2.0, 2.0, 2.0, 2.0])]
)
def test_a_norm_that_changes_by_half_is_critical(threshold, expected):
    rule = Accordion(threshold=threshold)
    assert [rule.multiple(now, 4.0) for now in (4.0, 2.1, 2.0, 5.9, 6.0)] == expected


def test_what_can_not_be_told_is_critical():
    rule = Accordion(gentle=3.0, aggressive=0.25)
    cases = [(1.0, None), (0.0, 0.0), (1.0, 0.0), (1.0, math.nan), (math.nan, 1.0), (1.0, math.inf)]
    assert [rule.multiple(now, before) for now, before in cases] == [3.0] * len(cases)
