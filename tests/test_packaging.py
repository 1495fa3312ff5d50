"""What is installed is what stands in the tree, and works without the tree."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("cli", "core", "plugins", "scheduler", "storage")
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())

TINY_PROGRAM = """
def train(trial):
    return {"loss": (trial.candidate["x"] - 0.25) ** 2}
"""

TINY_JOB = """
name: tiny
space:
  name: hyperparameters
  choices:
    x: {real: [0.0, 1.0]}
objectives:
  - {metric: loss, direction: minimize}
stages:
  - name: search
    program: {name: "python:tiny_program:train"}
    sampler: {name: random}
    trials: 2
seed: 1
"""


def modules() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_packages_are_the_trees_folders() -> None:
    packages = {".".join(("orchestrate", *module.parent.relative_to(ROOT).parts)) for module in modules()}
    assert PYPROJECT["tool"]["setuptools"]["packages"] == sorted(packages)


def test_each_package_has_an_init() -> None:
    assert not [m.parent for m in modules() if not (m.parent / "__init__.py").exists()]


def test_built_in_plugins_are_entry_points() -> None:
    points = PYPROJECT["project"]["entry-points"]["orchestrate.plugins"]
    folders = [init.parent.name for init in (ROOT / "plugins").glob("*/__init__.py")]
    assert points == {name: f"orchestrate.plugins.{name}" for name in folders}


def test_every_dependency_is_pinned() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    constraints = [Requirement(line) for line in lines if not line.startswith("#")]
    pinned = {canonicalize_name(c.name): str(c.specifier).removeprefix("==") for c in constraints}
    project = PYPROJECT["project"]
    for text in chain(project["dependencies"], *project["optional-dependencies"].values()):
        requirement = Requirement(text)
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, text


def test_imports_of_the_project_are_relative() -> None:
    """`import core` works where the root is on sys.path, as it is here, and nowhere else."""
    wrong: list[str] = []
    for module in modules():
        for node in ast.walk(ast.parse(module.read_bytes())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            wrong += [
                f"{module.relative_to(ROOT)}:{node.lineno} imports {name}"
                for name in names
                if name.split(".")[0] in {*FOLDERS, "orchestrate"}
            ]
    assert not wrong


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # From a copy: setuptools would leave build/ in the tree, and take stale files from there.
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that has the wheel, and this environment's dependencies.

    A path in a .pth file is only added to sys.path: the .pth files in that folder, one of which
    is the editable install's, are not read.
    """
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    own = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    Path(own, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_wheel_has_every_file(wheel: Path) -> None:
    files = {
        f"orchestrate/{path.relative_to(ROOT)}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == files


@pytest.mark.timeout(600)
def test_wheel_imports_without_the_tree(installed: Path, tmp_path: Path) -> None:
    code = "import orchestrate.core as core; print(core.__file__)"
    where = run(installed / "python", "-c", code, cwd=tmp_path).strip()
    assert Path(where).is_relative_to(installed.parent)


@pytest.mark.timeout(600)
def test_wheel_lists_plugins(installed: Path, tmp_path: Path) -> None:
    listed = run(installed / "orchestrate", "plugins", "list", "--json", cwd=tmp_path)
    assert "hyperparameters" in json.dumps(json.loads(listed))


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_wheel_runs_a_job(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny_program.py").write_text(TINY_PROGRAM)
    (tmp_path / "tiny.yaml").write_text(TINY_JOB)
    run(installed / "orchestrate", "submit", "tiny.yaml", cwd=tmp_path)
