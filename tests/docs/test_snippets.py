"""What the documentation shows works: job files, Python, commands, links."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrate.core import Evaluation, JobSpec, Shape, Task, load, resolve
from orchestrate.core.draw import draw_candidate
from orchestrate.core.job import Stage
from orchestrate.core.registry import Registry, Source
from orchestrate.core.seeds import generator
from orchestrate.core.spec import StageSpec
from orchestrate.core.testing import LocalTrial, check_plugin
from tests.docs.pages import PAGES, ROOT, Block, blocks, links, text

JOBS = [block for page in PAGES for block in blocks(page, "yaml")]

# What a fragment of a job file stands in.
REST = """
name: rest
task: {name: digits}
space: {name: nasbench201, width: 8, depth: 1}
objectives: [{name: accuracy}, {name: flops}]
stages:
  - name: search
    program: {name: train}
    sampler: {name: random}
    trials: 4
"""


@pytest.fixture
def page_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that modules are imported from, and forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(tmp_path)):
            del sys.modules[name]


def write_files(page: str, folder: Path) -> list[str]:
    """Write the files that a page shows; give the modules that a reader would install."""
    modules: list[str] = []
    for block in [*blocks(page, "python"), *blocks(page, "yaml")]:
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
            if block.language == "python" and path.parts[-2] != "tests":
                modules.append(block.title.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    importlib.invalidate_caches()
    return modules


def registry_with(modules: list[str]) -> Registry:
    """The installed plugins and those that a page shows."""
    registry = Registry.discover()
    for name in modules:
        module = importlib.import_module(name)
        if any(hasattr(value, "orchestrate_impl") for value in vars(module).values()):
            registry._load(Source(name, name, name, "0"), lambda module=module: module)
    assert not registry.failures, registry.failures
    return registry


# Job files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", JOBS, ids=str)
def test_job_file_is_right(block: Block, page_folder: Path) -> None:
    registry = registry_with(write_files(block.page, page_folder))
    if "\nstages:" in block.text:
        path = page_folder / "job.yaml"
        path.write_text(block.text)
        job = load(path, registry)
    else:
        job = resolve(completed(yaml.safe_load(block.text)), registry)
    for stage in job.stages:
        if stage.spec.program.name.startswith("python:"):
            assert run(stage, job.task, page_folder).metrics


def completed(fragment: dict[str, Any]) -> dict[str, Any]:
    """A job file around a fragment: of the job, or of a stage."""
    data = yaml.safe_load(REST)
    if set(fragment) <= set(JobSpec.model_fields):
        return {**data, **fragment}
    assert set(fragment) <= set(StageSpec.model_fields), f"no part of a job file: {sorted(fragment)}"
    data["stages"][0] |= fragment
    return data


def run(stage: Stage, task: Task, folder: Path) -> Evaluation:
    """Run a stage's program on one random candidate."""
    candidate = draw_candidate(stage.space, generator(0))
    return stage.program.run(LocalTrial(candidate, stage.space, task, folder))


# Python -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_runs(page: str, page_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for module in write_files(page, page_folder):
        importlib.import_module(module)
    namespace: dict[str, Any] = {}
    for block in blocks(page, "python"):
        if not block.title:
            exec(compile(block.text, str(block), "exec"), namespace)


def test_the_readmes_plugin_keeps_its_contract(page_folder: Path) -> None:
    registry = registry_with(write_files("README.md", page_folder))
    found = [entry.plugin for entry in registry if entry.source.distribution == "int8_bytes"]
    space = registry.get("space", "nasbench201").plugin
    small = space(space.Options(width=2, depth=1))
    assert [plugin.name for plugin in found] == ["int8-bytes"]
    check_plugin(found[0](), small, Shape((1, 8, 8), 10), candidates=1)


# Commands -----------------------------------------------------------------------------------------


def commands(page: str) -> Iterator[list[str]]:
    """Every call of `orchestrate` on a page, in blocks and in running text."""
    for block in [*blocks(page, "sh"), *blocks(page, "")]:
        for line in block.text.splitlines():
            words = shlex.split(line, comments=True)
            yield words[: words.index("|")] if "|" in words else words
    for call in re.findall(r"`(orchestrate [^`…]+)`", text(page)):
        yield shlex.split(call)


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page: str) -> None:
    from typer.main import get_command

    from orchestrate.cli.front import PluginCommand
    from orchestrate.cli.main import app

    root: Any = get_command(app)
    for words in commands(page):
        if words[:1] != ["orchestrate"]:
            continue
        command, path = root, words[1:]
        while path and hasattr(command, "commands") and not path[0].startswith("-"):
            found: Any = command.get_command(None, path[0])
            assert found is not None, f"{page}: no such command: {' '.join(words)}"
            command, path = found.load() if isinstance(found, PluginCommand) else found, path[1:]
        known = {"--help", *(name for parameter in command.params for name in parameter.opts)}
        given = {word.partition("=")[0] for word in path if word.startswith("-")}
        assert given <= known, f"{page}: {' '.join(words)}: no option {sorted(given - known)}"


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"\bmake (\w+)(?=[`\s])(?= *[`#\n])", text(page))}
    assert named <= targets
    assert {"demo", "test"} <= named


# Links --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in links(page):
        target = link.partition("#")[0]
        if target and "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page}: no {link}"


def test_this_machine_is_not_named() -> None:
    for page in PAGES:
        assert str(ROOT) not in text(page)
