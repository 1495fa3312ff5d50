from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.core import Registry, SpecError, enumerate_candidates, load, replay
from orchestrate.core.draw import draw_candidate
from orchestrate.core.seeds import generator
from orchestrate.core.yamlfile import read
from orchestrate.plugins.hyperparameters import Hyperparameters

EXAMPLE = """
optimizer: {categorical: [sgd, adam]}
learning_rate: {real: [1e-4, 1e-1], log: true}
momentum: {real: [0.5, 0.99], when: {optimizer: sgd}}
layers: {integer: [1, 4]}
width: {integer: [16, 256], step: 16}
bottleneck: {categorical: [4, 8], when: {layers: [3, 4]}}
"""


def space(text: str) -> Hyperparameters:
    return Hyperparameters(Hyperparameters.Options.model_validate({"choices": read(text).data}))


def test_conditions_decide_what_is_chosen() -> None:
    declared = space(EXAMPLE)
    rng = generator(0)
    seen: set[tuple[bool, bool]] = set()
    for _ in range(100):
        candidate = draw_candidate(declared, rng)
        assert ("momentum" in candidate) == (candidate["optimizer"] == "sgd")
        assert ("bottleneck" in candidate) == (candidate["layers"] in {3, 4})
        assert list(candidate)[:2] == ["optimizer", "learning_rate"]
        assert replay(declared, candidate) == candidate
        seen.add(("momentum" in candidate, "bottleneck" in candidate))
    assert len(seen) == 4
    assert declared.size() is None


def test_conditions_nest_through_inactive_parents() -> None:
    declared = space(
        """
        a: {categorical: [x, y]}
        b: {integer: [0, 2], when: {a: x}}
        c: {categorical: [true, 1, null], when: {b: [1, 2]}}
        d: {integer: [1, 3], log: true, when: {a: x, c: true}}
        """
    )
    listed = [dict(candidate) for candidate in enumerate_candidates(declared)]
    # y: 1; x and b = 0: 1; x and b in {1, 2}: c true with 3 values of d, or two other values
    assert len(listed) == 1 + 1 + 2 * (3 + 2) == declared.size()
    assert all("d" not in one for one in listed if one.get("c") is not True)


NAMES = "abcdef"


@st.composite
def declarations(draw: Any) -> dict[str, Any]:
    """Declarations of finite spaces whose conditions are all on earlier choices."""
    made: dict[str, Any] = {}
    values: dict[str, list[Any]] = {}
    for name in NAMES[: draw(st.integers(1, 6))]:
        if draw(st.booleans()):
            pool = [1, 1.0, True, "x", None]
            values[name] = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3, unique_by=repr))
            made[name] = {"categorical": values[name]}
        else:
            low, step = draw(st.integers(-2, 2)), draw(st.integers(1, 2))
            high = low + draw(st.integers(0, 4))
            values[name] = list(range(low, high + 1, step))
            made[name] = {"integer": [low, high], "step": step}
        parents = draw(st.lists(st.sampled_from(sorted(values)), max_size=2, unique=True))
        made[name]["when"] = {
            parent: draw(st.lists(st.sampled_from(values[parent]), min_size=1, max_size=2))
            for parent in parents
            if parent != name
        }
    return made


@given(declarations())
def test_size_counts_what_the_enumeration_lists(declared: dict[str, Any]) -> None:
    made = Hyperparameters(Hyperparameters.Options.model_validate({"choices": declared}))
    listed = list(enumerate_candidates(made))
    assert made.size() == len(listed) == len(set(listed))


def test_a_large_space_is_counted_at_once() -> None:
    lines = [f"n{index}: {{integer: [1, 10], when: {{n{index - 1}: [1, 2, 3]}}}}" for index in range(1, 40)]
    assert (
        space("\n".join(["n0: {integer: [1, 10]}", *lines])).size()
        == sum(7 * 3**depth for depth in range(39)) + 10 * 3**39
    )


WRONG = {
    "low above high": ("a: {real: [2, 1]}", "choices.a", "low 2.0 is above high 1.0"),
    "log from zero": ("a: {real: [0, 1], log: true}", "choices.a", "`log` needs a low above 0"),
    "log integer from zero": ("a: {integer: [0, 9], log: true}", "choices.a", "`log` needs a low above 0"),
    "log with step": ("a: {integer: [1, 9], log: true, step: 2}", "choices.a", "exclude each other"),
    "log of categories": ("a: {categorical: [1, 2], log: true}", "choices.a", "`log` is for"),
    "step of reals": ("a: {real: [0, 1], step: 2}", "choices.a", "`step` is for `integer`"),
    "nothing": ("a: {log: true}", "choices.a", "give exactly one of"),
    "two kinds": ("a: {real: [0, 1], integer: [0, 1]}", "choices.a", "not integer and real"),
    "an option twice": ("a: {categorical: [x, x]}", "choices.a", "lists an option twice"),
    "no options": (
        "a: {categorical: []}",
        "choices.a.categorical",
        "list should have at least 1 item, not 0",
    ),
    "a fraction": ("a: {integer: [0, 1.5]}", "choices.a.integer.1", "valid integer"),
    "a boolean bound": ("a: {real: [false, 1]}", "choices.a.real.0", "valid number"),
    "one bound": ("a: {integer: [3]}", "choices.a.integer.1", "missing"),
    "an infinite bound": ("a: {real: [0, .inf]}", "choices.a.real.1", "finite"),
    "an unknown key": ("a: {real: [0, 1], lgo: true}", "choices.a.lgo", "'log'"),
    "no such parent": (
        "alpha: {integer: [0, 1]}\nb: {integer: [0, 1], when: {alpa: 1}}",
        "choices.b.when.alpa",
        "'alpha'",
    ),
    "a later parent": (
        "a: {integer: [0, 1], when: {b: 1}}\nb: {integer: [0, 1]}",
        "choices.a.when.b",
        "declare it above",
    ),
    "itself": ("a: {integer: [0, 1], when: {a: 1}}", "choices.a.when.a", "itself"),
    "no option": (
        "a: {categorical: [x, y]}\nb: {integer: [0, 1], when: {a: z}}",
        "choices.b.when.a",
        r"never 'z': its options are ['x', 'y']",
    ),
    "another type": (
        "a: {categorical: [1, 2]}\nb: {integer: [0, 1], when: {a: true}}",
        "choices.b.when.a",
        "never True",
    ),
    "off the grid": (
        "a: {integer: [0, 8], step: 4}\nb: {integer: [0, 1], when: {a: [4, 6]}}",
        "choices.b.when.a",
        "never 6: it goes from 0 to 8 in steps of 4",
    ),
    "a real parent": (
        "a: {real: [0, 1]}\nb: {integer: [0, 1], when: {a: 0.5}}",
        "choices.b.when.a",
        "real-valued",
    ),
    "no value": (
        "a: {integer: [0, 1]}\nb: {integer: [0, 1], when: {a: []}}",
        "choices.b.when.a",
        "at least 1 item",
    ),
}


@pytest.mark.parametrize(("text", "path", "message"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_named_in_the_job_file(tmp_path: Any, text: str, path: str, message: str) -> None:
    choices = "\n".join(f"    {line}" for line in text.splitlines())
    file = tmp_path / "job.yaml"
    file.write_text(
        f"name: job\nspace:\n  name: hyperparameters\n  choices:\n{choices}\n"
        "objectives: [{name: accuracy}]\n"
        "stages: [{name: search, program: {name: train}, sampler: {name: random}, trials: 3}]\n"
    )
    with pytest.raises(SpecError) as caught:
        load(file, Registry.discover())
    (problem,) = caught.value.problems
    assert problem.path == f"space.{path}"
    assert message in f"{problem.message} {problem.remedy}"
    faulty = next(number for number, line in enumerate(text.splitlines()) if line[0] == path.split(".")[1][0])
    assert problem.line == 5 + faulty


def test_all_wrong_conditions_are_named_at_once() -> None:
    with pytest.raises(ValueError, match="3 validation errors"):
        space("a: {integer: [0, 1], when: {x: 1, y: 2}}\nb: {integer: [0, 1], when: {a: 5}}")
