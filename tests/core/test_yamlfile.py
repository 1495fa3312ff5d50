from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrate.core import SpecError
from orchestrate.core.yamlfile import MAX_BYTES, read

WORDS = st.text(st.characters(codec="ascii", categories=["L", "N"]))
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.text(st.characters(codec="ascii", categories=["L", "N"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(codec="ascii", categories=["L"]), min_size=1), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_json_is_read_as_what_it_says(data: object) -> None:
    """JSON is YAML, and its reader is another program."""
    import json

    assert read(json.dumps(data)).data == data


def test_types_are_yamls_core_types() -> None:
    text = "a: 1e-4\nb: yes\nc: 0x10\nd: '5'\ne: ~\nf: [1.5, true]\ng: 1_000\n1: x\n"
    data = read(text).data
    assert data["a"] == 1e-4
    assert data["b"] == "yes"
    assert data["c"] == 16
    assert data["d"] == "5"
    assert data["e"] is None
    assert data["f"] == [1.5, True]
    assert data["1"] == "x"


def test_every_path_has_its_line() -> None:
    document = read("name: x\nstages:\n  - name: a\n    trials: 3\n  - name: b\n")
    assert document.line(("name",)) == 1
    assert document.line(("stages", 0, "trials")) == 4
    assert document.line(("stages", 1, "name")) == 5
    assert document.line(("stages", 1, "sampler", "name")) == 5  # the nearest that is there
    assert document.line(("nowhere",)) == 1


def test_an_empty_file_is_nothing() -> None:
    assert read("").data is None
    assert read("# only a comment\n").data is None


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "stands twice, first on line 1", 3),
        ("a:\n  - b: 1\n    b: 2\n", "stands twice, first on line 2", 3),
        ("a: [1, 2\nb: 3\n", "not valid YAML", None),
        ("a: b: c\n", "not valid YAML", 1),
        ("a: *missing\n", "not valid YAML", 1),
        ("a: 1\n---\nb: 2\n", "not valid YAML", None),
        ("a: \x00\n", "not valid YAML", None),
        ("a: !!python/object/apply:os.system ['true']\n", "is not allowed", 1),
        ("a: !!python/object:os.system {}\n", "is not allowed", 1),
        ("a: !!python/name:os.system\n", "is not allowed", 1),
        ("a: !mine 3\n", "tag !mine is not allowed", 1),
        ("a: !!binary aGVsbG8=\n", "is not allowed", 1),
        ("a: !!set {x, y}\n", "is not allowed", 1),
        ("a: !!int abc\n", "no int that can be read", 1),
        ("a: 2020-01-01\n", "is not allowed", 1),
        ("? [a, b]\n: 1\n", "a key must be a plain word", 1),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "merge keys", 3),
    ],
)
def test_what_no_job_file_has_is_refused(text: str, message: str, line: int | None) -> None:
    with pytest.raises(SpecError) as caught:
        read(text, "job.yaml")
    assert message in str(caught.value)
    assert "job.yaml" in str(caught.value) or caught.value.file == "job.yaml"
    if line is not None:
        assert caught.value.problems[0].line == line


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        read("a: 1\na: 2\nb: !x 1\nc: 2\nc: 3\n")
    assert [problem.line for problem in caught.value.problems] == [2, 3, 5]


def test_aliases_are_followed_once_in_a_while() -> None:
    assert read("a: &x [1, 2]\nb: *x\n").data == {"a": [1, 2], "b": [1, 2]}


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(SpecError, match=r"its aliases .* multiply"):
        read("\n".join(lines))


def test_a_loop_of_aliases_is_refused() -> None:
    with pytest.raises(SpecError, match="50 levels"):
        read("a: &a [*a]\n")


@pytest.mark.parametrize("text", ["[" * 60 + "]" * 60, "[" * 700, "{a: " * 60 + "1" + "}" * 60])
def test_deep_nesting_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        read(text)


def test_a_huge_file_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(SpecError, match="larger than"):
        read("a: " + "x" * MAX_BYTES)


def test_a_huge_number_is_refused() -> None:
    with pytest.raises(SpecError):
        read("a: " + "9" * 10_000)
