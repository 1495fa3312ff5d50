from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrate.core import PluginError, Registry, Task
from orchestrate.core.task import SearchView

MODULE = '''
import torch

from orchestrate.core import PluginOptions, Shape, Split, Task


class CoinsOptions(PluginOptions):
    samples: int = 4


class Coins(Task[CoinsOptions]):
    """Heads or tails."""

    def shape(self):
        return Shape((1, 2, 2), 2)

    def split(self, name):
        count = self.options.samples
        return Split(torch.zeros(count, 1, 2, 2), torch.arange(count) % 2)

    def digest(self):
        return f"coins-{self.options.samples}"


class NoTask:
    pass
'''


@pytest.fixture
def own_module(monkeypatch: pytest.MonkeyPatch):
    Path("coins_of_mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    yield
    sys.modules.pop("coins_of_mine", None)


def test_the_built_in_tasks_are_installed():
    registry = Registry.discover()
    assert {"digits", "fashion-mnist", "image-folder"} <= set(registry.names("task"))


def test_a_job_file_is_checked_without_loading_torch_pillow_or_scikit_learn():
    code = (
        "import sys, orchestrate.plugins.tasks as t\n"
        "t.Digits().shape(); t.FashionMNIST().shape()\n"
        "assert not {'torch', 'PIL', 'sklearn'} & sys.modules.keys(), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_a_task_of_ones_own_module(own_module):
    task = Registry([]).create(Task, "python:coins_of_mine:Coins", {"samples": 6})
    assert task.summary == "Heads or tails."
    assert len(task.split("test").targets) == 6
    assert len(SearchView(task).split("train").inputs) == 6
    assert task.digest() == "coins-6"
    assert task.class_names() == ("0", "1")


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("python:coins_of_mine:Coin", "has no 'Coin'. Did you mean 'Coins'"),
        ("python:coins_of_mine:NoTask", "no subclass of Task"),
        ("python:coins_of_yours:Coins", "importing 'coins_of_yours' failed"),
        ("python:coins_of_mine", "must have the form"),
    ],
)
def test_a_wrong_reference_says_what_is_wrong(own_module, reference, says):
    with pytest.raises(PluginError, match=says):
        Registry([]).create(Task, reference)
