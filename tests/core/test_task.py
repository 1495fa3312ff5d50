from __future__ import annotations

import pytest

from orchestrate.core.errors import TestSplitError
from orchestrate.core.task import SearchView
from tests.core.testing.examples import Blobs


def test_a_search_sees_all_but_the_test_split() -> None:
    task = Blobs()
    view = SearchView(task)
    assert view.shape() == task.shape()
    assert view.digest() == task.digest()
    assert view.class_names() == task.class_names() == ("0", "1", "2")
    assert view.split("train").targets.equal(task.split("train").targets)
    assert len(view.split("validation").inputs) == 48
    with pytest.raises(TestSplitError, match="select on 'validation'"):
        view.split("test")
    with pytest.raises(PermissionError):
        view.split("test")
