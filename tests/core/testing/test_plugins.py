from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import Field

from orchestrate.core import Choose, PluginOptions, SearchSpace
from orchestrate.core.testing import ContractError, check_class, check_plugin, check_space
from tests.core.testing.examples import Blobs, Three


class Plain(SearchSpace):
    """A space."""

    name = "plain"
    summary = "a space"

    def choices(self, choose: Choose) -> None:
        choose.categorical("a", [1, 2])


class Blank(Plain):
    """Has a blank in its name."""

    name = "two words"


class Verbose(Plain):
    """Has a summary of two lines."""

    summary = "one line\nand another"


class Undocumented(Plain):
    __doc__ = None


class Bare(PluginOptions):
    size: int = 3


class Undescribed(SearchSpace[Bare]):
    """Has an option that nobody explains."""

    name = "undescribed"
    summary = "a space"

    def choices(self, choose: Choose) -> None:
        choose.categorical("a", [1, 2])


class Positive(PluginOptions):
    size: int = Field(-1, gt=0, description="A size.")


class WrongDefault(SearchSpace[Positive]):
    """Has a default that its own rule refuses."""

    name = "wrong-default"
    summary = "a space"

    def choices(self, choose: Choose) -> None:
        choose.categorical("a", [1, 2])


class Loose:
    """Looks like options."""


class Foreign(Plain):
    """Has options of another kind."""

    Options = Loose  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("plugin", "rule"),
    [
        (Blank, "must be a word"),
        (Verbose, "must be one line"),
        (Undocumented, "no docstring"),
        (Undescribed, "'size' of Undescribed has no description"),
        (WrongDefault, "must be made without options"),
        (Foreign, "must derive from PluginOptions"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_rule_is_named(plugin: type[SearchSpace], rule: str) -> None:
    with pytest.raises(ContractError, match=rule):
        check_class(plugin)


def test_a_sound_class_passes() -> None:
    check_class(Plain)


def test_a_module_that_imports_torch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "import torch\n"
        "from orchestrate.core import NoSpace\n"
        "class Heavy(NoSpace):\n    'Imports torch.'\n    name = 'heavy'\n"
    ).replace("from orchestrate.core import NoSpace", "from orchestrate.core.space import NoSpace")
    (tmp_path / "heavy_plugin.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    import heavy_plugin  # type: ignore[import-not-found]

    with pytest.raises(ContractError, match="importable without torch"):
        check_class(heavy_plugin.Heavy)


def test_check_plugin_chooses_by_kind() -> None:
    check_plugin(Three())
    check_plugin(Blobs(), overlap=0.0)
    with pytest.raises(TypeError, match="no kind"):
        check_plugin(object())  # type: ignore[arg-type]


def test_the_checks_need_no_pytest_and_no_torch() -> None:
    code = (
        "import sys; sys.modules['pytest'] = sys.modules['torch'] = None\n"
        "import orchestrate.core.testing as testing\n"
        "testing.check_space(testing.ExampleSpace())"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_contract_error_is_an_assertion() -> None:
    with pytest.raises(AssertionError):
        check_space(Blank())
