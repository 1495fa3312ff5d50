"""Advice from gradients without compression, as a function and as a command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from orchestrate.cli.main import app
from orchestrate.core.testing import Meeting
from orchestrate.plugins.lgreco.advice import FAMILIES, advise
from orchestrate.plugins.lgreco.compression import Compression
from orchestrate.plugins.lgreco.costs import Link
from orchestrate.plugins.lgreco.strategy import LGreco, LGrecoOptions

RNG = torch.Generator().manual_seed(0)
GRADIENTS = {
    "low": torch.randn(64, 2, generator=RNG) @ torch.randn(2, 96, generator=RNG)
    + 0.05 * torch.randn(64, 96, generator=RNG),
    "sparse": torch.randn(48, 40, generator=RNG) * (torch.rand(48, 40, generator=RNG) < 0.02),
    "noise": 0.2 * torch.randn(16, 12, 3, 3, generator=RNG),
    "bias": torch.randn(64, generator=RNG),
}
PLAIN = 2 * 2 / 3 * 4 * 64  # bytes of the bias


@pytest.mark.parametrize("options", FAMILIES, ids=lambda one: one.family)
def test_it_tells_what_a_group_would_decide_and_send(options):
    def work(group):
        rules = LGreco(options.model_copy(update={"start": 0, "period": 1, "window": 1})).rules()
        compression = Compression(rules, group, 0)
        compression.exchange(GRADIENTS)
        sent = compression.tallies[compression.phase].sent
        compression.end_step()
        return sent, compression.decisions[0]

    sent, decision = Meeting(3).run(work)[0]
    advice = advise(GRADIENTS, 3, options=[options], alphas=[1.0])[0]
    assert advice.uniform.bytes == pytest.approx(sent)
    assert advice.chosen.bytes == pytest.approx(decision.bytes + PLAIN)
    assert [one.setting for one in advice.decision.layers] == [one.setting for one in decision.layers]
    assert advice.dense.bytes == pytest.approx(
        2 * 2 / 3 * 4 * sum(each.numel() for each in GRADIENTS.values())
    )
    assert advice.chosen.seconds is None


def test_more_error_is_fewer_bytes():
    found = advise(GRADIENTS, 3)
    assert [(one.family, one.alpha) for one in found] == [
        (name, alpha) for name in ("powersgd", "topk", "qsgd") for alpha in (0.5, 1.0, 2.0)
    ]
    for half, same, double in zip(*[iter(found)] * 3, strict=True):
        assert half.chosen.bytes >= same.chosen.bytes >= double.chosen.bytes
        assert same.chosen.bytes <= same.uniform.bytes
        assert half.chosen_error <= 0.5 * half.uniform_error + 1e-9
        assert same.chosen_error <= same.uniform_error + 1e-9 < 1
        assert half.pays


def test_the_link_decides_what_pays():
    slow = advise(GRADIENTS, 3, alphas=[1.0], link=Link(1e-5, 1e-4))
    assert all(one.pays for one in slow)
    for one in slow:
        assert one.chosen.seconds == pytest.approx(1e-4 * one.chosen.bytes, rel=0.1)
    fast = advise(GRADIENTS, 3, alphas=[1.0], link=Link(1e-9, 1e-15))
    assert not any(one.pays for one in fast)
    by_time = LGrecoOptions(objective="time")
    for link in (Link(1e-5, 1e-4), Link(1e-9, 1e-15)):
        timed, bare = (
            advise(GRADIENTS, 3, options=[one], alphas=[1.0], link=link)[0]
            for one in (by_time, LGrecoOptions())
        )
        assert timed.uniform.seconds is not None
        if link.per_byte < 1e-9:
            assert {one.family for one in timed.decision.layers} == {"dense"}
        assert timed.chosen.bytes >= bare.chosen.bytes


def test_steps_are_averaged():
    noisy = [
        {name: each + sign * 5 * torch.ones_like(each) for name, each in GRADIENTS.items()}
        for sign in (-1, 1)
    ]
    one, other = advise(noisy, 4, alphas=[1.0]), advise(GRADIENTS, 4, alphas=[1.0])
    assert [a.chosen for a in one] == [b.chosen for b in other]


def test_nothing_to_compress_and_nothing_given():
    assert advise({"bias": torch.ones(5000)}, 4) == []
    for gradients, ranks in (({}, 4), ([], 4), (GRADIENTS, 1)):
        with pytest.raises(ValueError, match="two ranks"):
            advise(gradients, ranks)


JOB = """
name: advised
task: {name: digits}
space: {name: nasbench201, width: 24, depth: 1}
objectives: [{name: accuracy}]
stages:
  - name: search
    program: {name: train, epochs: 1}
    sampler: {name: random}
    trials: 2
    workers: {count: 3, strategy: {name: l-greco, rank: 2}}
seed: 3
"""


@pytest.fixture
def job(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return path


def command(*arguments, code=0):
    done = CliRunner().invoke(app, ["compression", "advise", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def test_command(job):
    text = command(job, "--steps", 3)
    for word in ("Stage search, 3 workers", "powersgd, rank 2", "topk, density 0.01", "left out"):
        assert word in text
    found = json.loads(command(job, "--steps", 3, "--json", "--workers", 4, "--gigabits", 1e-5))
    assert found["workers"] == 4
    assert len(found["advice"]) == 9
    assert all(one["pays"] and one["chosen"]["seconds"] > 0 for one in found["advice"])
    assert found["advice"][0]["setting"] == 2


def test_mistakes(job):
    assert "Did you mean 'search'" in command(job, "--stage", "serch", code=2)
    job.write_text(JOB.replace("width: 24", "width: 2"))
    assert "too small to compress" in command(job, "--steps", 1, code=2)
    hypergrid = Path(__file__).parents[3] / "examples" / "hypergrid.yaml"
    assert "asks for no gradients" in command(hypergrid, code=2)


def test_a_program_in_the_current_folder(job, monkeypatch):
    """Found as by `orchestrate submit`, whatever command the plugin gives."""
    monkeypatch.chdir(job.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (job.parent / "advised_here.py").write_text("def fit(trial):\n    return {'accuracy': 1.0}\n")
    job.write_text(
        JOB.replace("{name: accuracy}", "{metric: accuracy, direction: maximize}")
        .replace("{name: train, epochs: 1}", '{name: "python:advised_here:fit"}')
        .replace(
            "space: {name: nasbench201, width: 24, depth: 1}",
            "space: {name: hyperparameters, choices: {x: {real: [0, 1]}}}",
        )
        .replace("    workers: {count: 3, strategy: {name: l-greco, rank: 2}}\n", "")
    )
    assert "asks for no gradients" in command(job, code=2)
