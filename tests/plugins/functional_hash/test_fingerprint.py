from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrate.core import Candidate, PluginError, Print
from orchestrate.plugins.automl_zero.space import AutoMLZero
from orchestrate.plugins.functional_hash.fingerprint import FunctionalHash
from orchestrate.plugins.functional_hash.options import FunctionalHashOptions
from orchestrate.plugins.hyperparameters.declaration import HyperparameterOptions
from orchestrate.plugins.hyperparameters.space import Hyperparameters
from orchestrate.plugins.nasbench.space import NasBench201, from_string
from tests.core.testing.examples import Blobs, Three
from tests.plugins.functional_hash.parts import Harmful, Perceptrons, Pipelines, pid_file

TASK = Blobs()


def hashing(**options: Any) -> FunctionalHash:
    return FunctionalHash(FunctionalHashOptions(**{"isolate": False, **options}))


def functional(found: Print) -> str | None:
    return next((key.digest for key in found.keys if key.tier == "functional"), None)


class TestResidual:
    def key(self, **choices: Any) -> str | None:
        made = {"width": 4, "padding": 0, "patience": 3, **choices}
        return functional(hashing().compute(Candidate(made), Perceptrons(), TASK))

    def test_a_choice_without_effect_in_the_network_is_seen_through(self) -> None:
        assert self.key(padding=0) == self.key(padding=2)

    def test_a_choice_that_the_network_does_not_read_must_be_equal(self) -> None:
        assert self.key(patience=3) != self.key(patience=4)

    def test_another_network_is_another_key(self) -> None:
        assert self.key(width=4) != self.key(width=8)


def test_tiers_are_what_the_space_and_the_options_allow() -> None:
    cell = from_string("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|")
    tiers = [key.tier for key in hashing().compute(cell, NasBench201(), TASK).keys]
    assert tiers == ["exact", "structural", "functional"]
    only = hashing(tiers=["structural"]).compute(cell, NasBench201(), TASK)
    assert [key.tier for key in only.keys] == ["structural"]
    blind = hashing().compute(
        Candidate(dict.fromkeys(["edge0", "edge1", "edge2", "edge3"], "none")), Three(), TASK
    )
    assert [key.tier for key in blind.keys] == ["exact"]


@pytest.mark.parametrize(("check", "tiers"), [(0.0, ["exact", "structural"]), (1.0, ["exact"])])
def test_what_is_known_at_sight(check: float, tiers: list[str]) -> None:
    cell = from_string("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|")
    keys = hashing(check=check).at_sight(cell, NasBench201())
    assert [key.tier for key in keys] == tiers
    assert keys == hashing().compute(cell, NasBench201(), TASK).keys[: len(keys)]
    assert hashing(tiers=["exact", "structural"]).at_sight(cell, NasBench201()) == ()  # the whole is as cheap


@pytest.mark.parametrize(
    "options",
    [{"semantics": "fresh"}, {"examples": 6}, {"repetitions": 2}, {"quantum": 1e-5}, {"trace": 1}],
    ids=str,
)
def test_options_are_part_of_the_key(options: dict[str, Any]) -> None:
    candidate = Candidate({"width": 4, "padding": 0, "patience": 3})
    one, two = hashing(), hashing(**options)
    keys = {functional(each.compute(candidate, Perceptrons(), TASK)) for each in (one, two)}
    assert len(keys) == 2


class TestPipelines:
    def print(self, **choices: Any) -> Print:
        made = {"scale": "none", "model": "svm", "C": 1.0, "max_iter": 100, **choices}
        return hashing().compute(Candidate(made), Pipelines(), TASK)

    def test_what_makes_no_difference(self) -> None:
        once, twice = self.print(scale="standard"), self.print(scale="twice")
        assert functional(once) == functional(twice)
        assert functional(self.print(model="tree", C=1.0)) == functional(self.print(model="tree", C=2.0))
        assert functional(self.print(model="forest")) is not None

    def test_what_makes_one(self) -> None:
        found = [
            self.print(),
            self.print(scale="standard"),
            self.print(C=1.01),
            self.print(model="tree"),
            self.print(max_iter=101),  # the residual
        ]
        assert len(set(map(functional, found))) == len(found)


class TestConfigurations:
    SPACE = Hyperparameters(
        HyperparameterOptions.model_validate(
            {
                "choices": {
                    "C": {"real": [0.1, 10]},
                    "solver": {"categorical": ["a", "b"]},
                    "epochs": {"integer": [1, 9]},
                }
            }
        )
    )
    PROBE = "python:tests.plugins.functional_hash.parts:probed"

    def key(self, visible: list[str], **choices: Any) -> str | None:
        made = Candidate({"C": 1.0, "solver": "a", "epochs": 3, **choices})
        return functional(hashing(probe=self.PROBE, visible=visible).compute(made, self.SPACE, TASK))

    def test_nothing_is_visible_by_default(self) -> None:
        assert len({self.key([]), self.key([], solver="b"), self.key([], epochs=4)}) == 3

    def test_what_is_declared_visible_is_compared_by_its_effect(self) -> None:
        visible = ["C", "solver"]
        assert self.key(visible, solver="a") == self.key(visible, solver="b")
        assert self.key(visible, C=1.0) != self.key(visible, C=1.01)
        assert self.key(visible, epochs=3) != self.key(visible, epochs=4)

    def test_a_probe_of_no_known_type(self) -> None:
        wrong = hashing(probe="python:tests.plugins.functional_hash.parts:unprobeable")
        with pytest.raises(PluginError, match="returned a int"):
            wrong.compute(Candidate({"C": 1.0}), self.SPACE, TASK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probe": "nothing"}, "must have the form"),
        ({"probe": "python:no.such:thing"}, "importing 'no.such' failed"),
        ({"visible": ["a"]}, "goes with `probe`"),
        ({"examples": 1}, "at least 2"),
        ({"tiers": []}, "at least 1"),
    ],
    ids=str,
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FunctionalHashOptions(**options)


@pytest.mark.parametrize("kind", ["nan", "inf", "zero", "raise"])
def test_degenerate_candidates_are_named(kind: str) -> None:
    found = hashing().compute(Candidate({"kind": kind, "spare": 0}), Harmful(), TASK)
    assert found.token == {"zero": "constant", "raise": "crash: ZeroDivisionError"}.get(kind, kind)
    assert (functional(found) is None) == (kind == "raise")  # a crash is nobody's score
    assert functional(found) is None or all(map(math.isfinite, found.signature))


@pytest.fixture(scope="module")
def limited() -> FunctionalHash:
    return hashing(isolate=True, seconds=30.0, memory=600)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("good", None),
        ("print", None),
        ("memory", "took over 600 MiB"),
        ("raise", ""),
        ("exit", "ended its process with code 3"),
    ],
)
def test_a_candidate_is_bounded(limited: FunctionalHash, kind: str, reason: str | None, caplog: Any) -> None:
    found = limited.compute(Candidate({"kind": kind, "spare": 0}), Harmful(), TASK)
    assert found.keys[0].tier == "exact"
    assert (functional(found) is None) == (reason is not None)
    assert (reason or "") in caplog.text


def test_a_candidate_that_hangs_is_ended_with_what_it_started(caplog: Any) -> None:
    begun = time.monotonic()
    impatient = hashing(isolate=True, seconds=1.0)
    impatient.prepare()
    found = impatient.compute(Candidate({"kind": "children", "spare": 0}), Harmful(), TASK)
    assert [key.tier for key in found.keys] == ["exact"]
    assert "took over 1 s" in caplog.text
    assert time.monotonic() - begun < 55  # it sleeps for 60; the start of the process may take long
    noted = pid_file(os.getpid())
    status = Path(f"/proc/{noted.read_text()}/stat")
    noted.unlink()
    assert not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_the_same_key_in_a_process_of_its_own(limited: FunctionalHash) -> None:
    candidate = Candidate({"width": 8, "padding": 1, "patience": 2})
    here, there = (each.compute(candidate, Perceptrons(), TASK) for each in (hashing(), limited))
    assert here == there


PROGRAM = """
import json, sys, torch
torch.set_num_threads(int(sys.argv[1]))
from orchestrate.core import Candidate
from tests.plugins.functional_hash.test_fingerprint import *
candidate = Candidate(json.loads(sys.argv[2]))
print(json.dumps([key.names for key in hashing().compute(candidate, Perceptrons(), TASK).keys]))
"""


def test_the_same_key_for_any_number_of_threads_and_hash_seed() -> None:
    threads, seed = 2, "12345"
    candidate = Candidate({"width": 8, "padding": 1, "patience": 2})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(threads), json.dumps(dict(candidate))],
        env={
            **os.environ,
            "PYTHONHASHSEED": seed,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    here = hashing().compute(candidate, Perceptrons(), TASK)
    assert json.loads(done.stdout) == [list(key.names) for key in here.keys]


def test_register_programs_in_other_words() -> None:
    space = AutoMLZero()
    base = {
        f"{component}{slot}": "none"
        for component, slots in (("setup", 3), ("predict", 4), ("learn", 6))
        for slot in range(slots)
    }
    one = base | {
        "predict1": "dot",
        "predict1.out.scalar": 1,
        "predict1.in0.vector": 0,
        "predict1.in1.vector": 1,
        "learn0": "vector_scale",
        "learn0.out.vector": 1,
        "learn0.in0.scalar": 0,
        "learn0.in1.vector": 0,
    }
    other = base | {
        "predict0": "dot",
        "predict0.out.scalar": 1,
        "predict0.in0.vector": 2,
        "predict0.in1.vector": 0,
        "predict3": "scalar_exp",
        "predict3.out.scalar": 3,
        "predict3.in0.scalar": 1,
        "learn3": "vector_scale",
        "learn3.out.vector": 2,
        "learn3.in0.scalar": 0,
        "learn3.in1.vector": 0,
    }
    first, second = (hashing().compute(Candidate(made), space, TASK) for made in (one, other))
    assert first.keys[0] != second.keys[0]
    assert first.keys[1:] == second.keys[1:]
