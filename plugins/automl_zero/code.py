"""Programs: three lists of instructions, read from a candidate; and their form up to names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ...core import Value
from .instructions import FEATURES, INSTRUCTIONS, LABEL, PREDICTION, Kind, Register

Component: TypeAlias = Literal["setup", "predict", "learn"]
COMPONENTS: tuple[Component, ...] = ("setup", "predict", "learn")

NOTHING = "none"
"""Stands in a slot without an instruction."""


@dataclass(frozen=True)
class Line:
    """One instruction: `output = operation(inputs, constant)`."""

    operation: str
    output: Register
    inputs: tuple[Register, ...]
    constant: float | None

    def __str__(self) -> str:
        given = [name(register) for register in self.inputs]
        given += [] if self.constant is None else [f"{self.constant:g}"]
        return f"{name(self.output)} = {self.operation}({', '.join(given)})"


@dataclass(frozen=True)
class Code:
    """A program: `setup` runs once, `predict` for each example, `learn` after it while training."""

    setup: tuple[Line, ...]
    predict: tuple[Line, ...]
    learn: tuple[Line, ...]

    def __str__(self) -> str:
        parts = [(component, getattr(self, component)) for component in COMPONENTS]
        return "\n".join(
            f"def {component}():\n" + "\n".join(f"    {line}" for line in lines or ("pass",))
            for component, lines in parts
        )


def name(register: Register) -> str:
    """Write a register as the paper does: s1, v0, m0."""
    return f"{register[0][0]}{register[1]}"


def read(choices: Mapping[str, Value]) -> Code:
    """Read the program that a candidate of the space describes."""
    lines: dict[str, list[Line]] = {component: [] for component in COMPONENTS}
    for component in COMPONENTS:
        slot = 0
        while (operation := choices.get(f"{component}{slot}")) is not None:
            if operation != NOTHING:
                lines[component].append(_line(choices, f"{component}{slot}", str(operation)))
            slot += 1
    return Code(*(tuple(lines[component]) for component in COMPONENTS))


def _line(choices: Mapping[str, Value], slot: str, operation: str) -> Line:
    instruction = INSTRUCTIONS[operation]

    def register(role: str, kind: Kind) -> Register:
        number = choices[f"{slot}.{role}.{kind}"]
        assert isinstance(number, int)
        return kind, number

    constant = choices[f"{slot}.constant"] if instruction.constant else None
    assert constant is None or isinstance(constant, float)
    inputs = tuple(register(f"in{index}", kind) for index, kind in enumerate(instruction.inputs))
    return Line(operation, register("out", instruction.output), inputs, constant)


def live(code: Code) -> Code:
    """Drop instructions that can't reach a prediction.

    Registers keep their values from example to example, so what `learn` leaves is read by the next
    `predict`, and each of the two by itself, too; liveness is iterated until it stands.
    """
    # Between examples features and label are overwritten, and the prediction is read.
    carried: set[Register] = set()
    while True:
        after_predict = _before(code.learn, set(carried)) | carried | {PREDICTION}
        before = _before(code.predict, after_predict) - {FEATURES, LABEL}
        if before <= carried:
            break
        carried |= before
    return Code(
        _kept(code.setup, carried),
        _kept(code.predict, after_predict),
        _kept(code.learn, carried),
    )


def _before(lines: Sequence[Line], needed: set[Register]) -> set[Register]:
    for line in reversed(lines):
        if line.output in needed:
            needed = (needed - {line.output}) | set(line.inputs)
    return needed


def _kept(lines: Sequence[Line], needed: set[Register]) -> tuple[Line, ...]:
    kept: list[Line] = []
    for line in reversed(lines):
        if line.output in needed:
            needed = (needed - {line.output}) | set(line.inputs)
            kept.append(line)
        elif INSTRUCTIONS[line.operation].random:
            kept.append(line)  # it moves the generator on for those after it
    return tuple(reversed(kept))


def canonical(code: Code) -> Any:
    """Give the program's form without dead lines, names of registers and order of operands."""
    kept = live(code)
    names: dict[Register, str] = {LABEL: "label", PREDICTION: "prediction", FEATURES: "features"}

    def named(register: Register) -> str:
        return names.setdefault(register, f"{register[0]}{len(names)}")

    form: list[list[Any]] = []
    for component in COMPONENTS:
        lines: list[Any] = []
        for line in getattr(kept, component):
            if INSTRUCTIONS[line.operation].commutes:
                known_first = sorted(line.inputs, key=lambda one: (one not in names, one))
                inputs = sorted(map(named, known_first))
            else:
                inputs = [named(register) for register in line.inputs]
            lines.append([line.operation, named(line.output), inputs, line.constant])
        form.append(lines)
    return form
