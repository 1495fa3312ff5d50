"""Nothing that users can name is missing from the documentation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

import orchestrate.core
import orchestrate.core.testing
from docs import reference
from orchestrate.core import hookspecs, spec
from orchestrate.core.registry import BASES, Registry
from orchestrate.storage.models import ACTIVE_TRIAL_STATES, TERMINAL_TRIAL_STATES
from tests.docs.pages import ROOT, text

FOLDERS = ("cli", "core", "plugins", "scheduler", "storage")
HOOKS = [name for name, value in vars(hookspecs).items() if hasattr(value, "orchestrate_spec")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as a reader gets it. Building it strictly checks its links and anchors."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


def html(site: Path, page: str) -> str:
    return (site / page / "index.html").read_text()


def sections() -> list[type[BaseModel]]:
    """The models of the job file's sections."""
    return [
        value
        for value in vars(spec).values()
        if isinstance(value, type)
        and issubclass(value, BaseModel)
        and value.__module__ == spec.__name__
        and value is not spec.Section
    ]


def test_every_key_of_the_job_file(site: Path) -> None:
    page = html(site, "job-file")
    assert {model.__name__ for model in sections()} == {"JobSpec", *reference.PARTS}
    for model in sections():
        assert f"<!-- code: keys {model.__name__} -->" in text("docs/job-file.md"), model
        for row in reference.rows(model):
            assert f"<td><code>{row.key}</code></td>" in page, (model, row)


def test_every_plugin_and_its_options(site: Path) -> None:
    page = html(site, "methods")
    plugins = [entry.plugin for entry in reference.built_in(Registry.discover())]
    assert {plugin.kind for plugin in plugins} == set(BASES)
    for plugin in plugins:
        assert f'id="{reference.anchor(plugin)}"' in page, plugin
        for row in reference.rows(plugin.Options):
            assert f"<td><code>{row.key}</code></td>" in page, (plugin, row)


def test_every_schedule(site: Path) -> None:
    for name in Registry.discover().schedules:
        assert f"<td><code>{name}</code></td>" in html(site, "methods")


def test_every_hook(site: Path) -> None:
    page = html(site, "plugins")
    assert {"tasks", "trial_finished"} <= set(HOOKS)
    for name in HOOKS:
        assert f'id="orchestrate.core.hookspecs.{name}"' in page


def test_every_error(site: Path) -> None:
    for error in reference.error_classes():
        assert f"<td><code>{error.__name__}</code></td>" in html(site, "api")


def test_every_public_name(site: Path) -> None:
    page = html(site, "api")
    errors = {error.__name__ for error in reference.error_classes()}
    for module in (orchestrate.core, orchestrate.core.testing):
        for name in set(module.__all__) - errors:
            assert f'id="{module.__name__}.{name}"' in page, f"{module.__name__}.{name}"


def test_every_environment_variable() -> None:
    code = "".join(path.read_text() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    for name in set(re.findall(r"\bORCHESTRATE_[A-Z]+\b", code)):
        assert f"| `{name}` |" in text("docs/operations.md"), name


def test_every_state_of_a_trial() -> None:
    for state in (*ACTIVE_TRIAL_STATES, *TERMINAL_TRIAL_STATES):
        assert f"| `{state}` |" in text("docs/architecture.md")
        assert f">{state}</text>" in (ROOT / "docs/img/trial.svg").read_text()


def test_every_table_of_the_catalog(site: Path) -> None:
    page = html(site, "architecture")
    for name in re.findall(r"`(orchestrate_\w+)`", reference.catalog_tables()):
        assert f"<td><code>{name}</code></td>" in page


def test_a_key_without_a_description_is_refused() -> None:
    class Options(BaseModel):
        described: int = Field(1, description="It is.")
        silent: int = 2

    with pytest.raises(KeyError, match=r"Options\.silent has no description"):
        list(reference.rows(Options))
