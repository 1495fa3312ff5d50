"""`orchestrate stragglers simulate`, as its user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrate.cli.main import app
from orchestrate.plugins.gradient_coding.stragglers.profile import read

RUN = CliRunner()
SMALL = ["--gilbert-elliott", "0.05", "0.8", "--workers", "12", "--rounds", "32", "--models", "2"]


def simulate(*arguments: str, code: int = 0) -> str:
    done = RUN.invoke(app, ["stragglers", "simulate", *arguments])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def test_table() -> None:
    text = simulate(*SMALL)
    for word in ("backup (inexact)", "gc-frc", "sr-sgc", "m-sgc", "uncoded", "is predicted to save"):
        assert word in text


def test_json_and_plot_and_profile(tmp_path: Path) -> None:
    csv, picture = tmp_path / "profile.csv", tmp_path / "plots" / "schemes.png"
    first = json.loads(simulate(*SMALL, "--json", "--save", str(csv), "--plot", str(picture), "--slope", "2"))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert read(csv, 2.0).rounds == 32
    again = json.loads(simulate(str(csv), "--slope", "2", "--models", "2", "--json"))
    assert again["schemes"] == first["schemes"]
    assert again["choice"] == first["choice"]
    times = [one["seconds_per_job"] for one in first["schemes"]]
    assert times == sorted(times)
    assert first["interval95"][0] <= first["gain"] <= first["interval95"][1]


def test_schemes_can_be_chosen() -> None:
    data = json.loads(simulate(*SMALL, "--scheme", "gc", "--json"))
    assert {one["scheme"] for one in data["schemes"]} == {"gc", "uncoded"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give either a PROFILE.csv or --gilbert-elliott"),
        (["missing.csv"], "missing.csv: can't be read"),
        (["--gilbert-elliott", "2", "0.5"], "two probabilities"),
        ([*SMALL, "--scheme", "gc-fcr"], "Did you mean 'gc-frc'"),
        ([*SMALL, "--plot", "schemes.gif"], "ends in .png, .svg or .pdf"),
        ([*SMALL[:-2], "--rounds", "16", "--models", "20"], "too few to judge"),
    ],
)
def test_mistakes(arguments: list[str], says: str) -> None:
    assert says in simulate(*arguments, code=2)
