"""The command line as a whole: speed, help, documentation, exit codes, plugins' commands."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from orchestrate.cli.front import PluginCommand, plugin_commands
from orchestrate.cli.main import app
from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "ray", "mlflow", "sqlalchemy", "optuna", "numpy")
MAIN = "import sys; from orchestrate.cli.main import main; sys.argv[0] = 'orchestrate'; main()"


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its path."""
    group = group or typer.main.get_command(app)
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


ALL = dict(commands())


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_ends_with_examples_that_fit_a_terminal(run: Run, path: tuple[str, ...]) -> None:
    shown = run(*path, "--help", COLUMNS="80")
    assert shown.code == 0
    assert "Usage: orchestrate" in shown.out
    examples = shown.out.rpartition("Examples:\n")[2].rstrip().splitlines()
    assert any(line.strip().startswith(" ".join(("orchestrate", *path))) for line in examples)
    described = shown.out.partition("Examples:")[0]
    assert max(len(line) for line in described.splitlines()) <= 80


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_says_what_it_does(path: tuple[str, ...]) -> None:
    for parameter in ALL[path].params:
        assert parameter.help, parameter.name


def test_help_imports_nothing_heavy_and_answers_at_once() -> None:
    code = f"""
import sys, typer.testing
from orchestrate.cli.main import app
runner = typer.testing.CliRunner()
for path in {list(ALL)!r}:
    assert runner.invoke(app, [*path, "--help"]).exit_code == 0, path
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    times: list[float] = []
    for _ in range(3):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", MAIN, "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - begun)
    assert statistics.median(times) < 1.5  # 0.2 s on an idle machine; torch alone would take longer


def test_every_command_and_option_is_documented() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    sections = dict(
        re.findall(r"^#{2,3} `orchestrate ?([^`]*)`\n(.*?)(?=^#{1,3} |\Z)", page, re.DOTALL | re.MULTILINE)
    )
    for path, command in ALL.items():
        section = sections.get(" ".join(path))
        assert section is not None, f"docs/cli.md has no section for orchestrate {' '.join(path)}"
        for parameter in command.params:
            names = [name for name in parameter.opts if name.startswith("--")]
            for name in names:
                assert f"`{name}" in section, f"docs/cli.md: {' '.join(path)} {name}"
    known = {" ".join(path) for path in ALL}
    assert set(sections) <= known, "docs/cli.md has a section for a command that isn't there"


def test_the_version_names_the_plugins_distributions(run: Run) -> None:
    assert "orchestrate " in run("--version").out
    assert "plugins from orchestrate-automl" in run("version").out
    assert run("--version").out == run("version").out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["plann"], "Did you mean 'plan'?"),
        (["plan"], "Missing argument"),
        (["plan", "nowhere.yaml"], "can't read the job file nowhere.yaml"),
        (["submit", "--cpus", "0", "x.yaml"], "--cpus"),
        (["plugins", "show", "nsga"], "Did you mean"),
        (["plugins", "list", "--kind", "sampla"], "Did you mean 'sampler'?"),
        (["schema", "--without", "nothing"], "no such plugin package"),
        (["list", "--state", "runing"], "Did you mean 'running'?"),
    ],
)
def test_a_mistake_is_explained_and_exits_with_2(run: Run, arguments: list[str], text: str) -> None:
    ended = run(*arguments)
    assert ended.code == 2
    assert text in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""


def test_a_missing_catalog_exits_with_1_and_debug_shows_the_traceback() -> None:
    plain = subprocess.run(
        [sys.executable, "-c", MAIN, "status"], capture_output=True, text=True, check=False
    )
    assert plain.returncode == 1
    assert plain.stderr.startswith("Error: there is no catalog at ")
    assert plain.stderr.count("\n") == 1
    debug = subprocess.run(
        [sys.executable, "-c", MAIN, "status", "--debug"], capture_output=True, text=True, check=False
    )
    assert debug.returncode == 1
    assert "Traceback" in debug.stderr


# Plugins' commands ------------------------------------------------------------------------------


def distribution(folder: Path, name: str, points: str, **modules: str) -> None:
    """An installed distribution, as far as `importlib.metadata` can tell."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text, encoding="utf-8")


COMMANDS = """
[orchestrate.commands]
greet = acme_greet:app
shout = acme_greet:shout
broken = acme_broken:app
plan = acme_greet:app
"""
GREET = '''
import sys
import typer

app = typer.Typer()

@app.command()
def hello(name: str):
    """Say hello."""
    print(f"hello {name}")

@app.command()
def bye():
    print("bye")

def shout(name: str, times: int = 1):
    """Say it loud."""
    print(f"{name.upper()} " * times)
'''


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site"
    distribution(folder, "acme", COMMANDS, acme_greet=GREET, acme_broken="import no_such_module\n")
    monkeypatch.syspath_prepend(str(folder))
    plugin_commands.cache_clear()
    yield folder
    plugin_commands.cache_clear()
    for module in ("acme_greet", "acme_broken"):
        sys.modules.pop(module, None)


def test_plugins_commands_are_listed_without_being_imported(run: Run, acme: Path) -> None:
    shown = run("--help").out
    listed = dict(
        re.findall(r"^  (\S+) +(From \S+)\.$", shown.partition("Commands of plugins:\n")[2], re.MULTILINE)
    )
    assert {listed[name] for name in ("broken", "greet", "shout")} == {"From acme"}
    assert list(listed) == sorted(listed)
    assert "acme_greet" not in sys.modules
    assert "acme_broken" not in sys.modules


def test_a_plugins_command_is_loaded_when_called(run: Run, acme: Path) -> None:
    assert run("greet", "hello", "you").out == "hello you\n"
    assert run("shout", "you", "--times", "2").out == "YOU YOU \n"
    assert "hello" in run("greet", "--help").out
    assert run("greet", "hello").code == 2


def test_a_broken_command_of_a_plugin_is_explained(run: Run, acme: Path) -> None:
    ended = run("broken")
    assert ended.code == 1
    assert "'broken' (acme_broken:app) can't be imported: ModuleNotFoundError" in ended.err


def test_own_commands_win_over_those_of_plugins(run: Run, acme: Path) -> None:
    assert "Check a job file" in run("plan", "--help").out


def test_a_command_given_twice_names_both_givers(run: Run, acme: Path) -> None:
    distribution(acme, "zenith", "[orchestrate.commands]\ngreet = zenith_greet:app\n")
    plugin_commands.cache_clear()
    ended = run("greet", "hello", "you")
    assert ended.code == 1
    assert "From acme and zenith" in ended.err
    assert isinstance(plugin_commands()["greet"], PluginCommand)


# Completion -------------------------------------------------------------------------------------


def complete(line: str) -> list[str]:
    """What bash would offer at the end of `line`."""
    environment = {
        **os.environ,
        "_ORCHESTRATE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    ended = subprocess.run(
        [sys.executable, "-c", MAIN], capture_output=True, text=True, env=environment, check=False
    )
    return ended.stdout.split()


def test_the_shell_completes_commands_jobs_and_plugins(done: str) -> None:
    assert complete("orchestrate su") == ["submit"]
    assert complete("orchestrate show made") == [done]
    assert complete("orchestrate plugins show nsg") == ["nsga2", "nsga3"]


def test_completion_is_silent_without_a_catalog() -> None:
    assert complete("orchestrate show x") == []


def test_ctrl_c_while_ray_is_imported_leaves_no_traceback() -> None:
    code = """
import atexit, sys, types
from orchestrate.cli import main
half = types.SimpleNamespace(is_initialized=lambda: False, shutdown=lambda: 1 / 0)
sys.modules["ray._private.worker"] = half
atexit.register(half.shutdown)

def stop() -> None:
    raise KeyboardInterrupt

main.app.command("stop")(stop)
sys.argv = ["orchestrate", "stop"]
main.main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "\ninterrupted\n")


def test_plan_says_when_a_program_can_not_be_tried(run: Run, tmp_path: Path) -> None:
    (tmp_path / "counted.py").write_text("def train(trial):\n    return trial.candidate['x']\n")
    (tmp_path / "job.yaml").write_text(
        "name: counted\n"
        "space: {name: hyperparameters, choices: {x: {real: [0, 1]}}}\n"
        "objectives: [{metric: value, direction: minimize}]\n"
        "stages:\n"
        "  - {name: search, program: {name: 'python:counted:train'}, sampler: {name: random}, trials: 3}\n"
    )
    planned = run("plan", "job.yaml")
    assert planned.code == 0
    assert "search: program python:counted:train isn't tried; it would run with x=" in planned.out
