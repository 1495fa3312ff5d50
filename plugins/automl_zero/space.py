"""The space of register programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveInt, model_validator

from ...core import Candidate, Choose, FunctionProbe, PluginOptions, SearchSpace, Shape
from .code import COMPONENTS, NOTHING, canonical, read
from .instructions import INSTRUCTIONS
from .problems import Problem

if TYPE_CHECKING:
    from .machine import Sizes


class AutoMLZeroOptions(PluginOptions):
    """Options of `automl-zero`."""

    problem: Problem = Field("linear-regression", description="What the programs are to learn.")
    features: int = Field(4, ge=1, description="Length of the vectors: features of an example.")
    scalars: int = Field(4, ge=2, description="Scalar registers; s0 is the label, s1 the prediction.")
    vectors: PositiveInt = Field(3, description="Vector registers; v0 has the example's features.")
    matrices: int = Field(1, ge=0, description="Matrix registers.")
    setup: int = Field(3, ge=0, description="Slots for instructions that run once.")
    predict: PositiveInt = Field(4, description="Slots for instructions that make a prediction.")
    learn: int = Field(6, ge=0, description="Slots for instructions that learn from an example.")
    operations: tuple[str, ...] = Field(
        tuple(INSTRUCTIONS), min_length=1, description="Operations to choose from; by default all."
    )

    @model_validator(mode="after")
    def _known(self) -> AutoMLZeroOptions:
        unknown = sorted(set(self.operations) - set(INSTRUCTIONS))
        if unknown:
            raise ValueError(
                f"no operation is called {', '.join(unknown)}: known are {', '.join(INSTRUCTIONS)}"
            )
        return self


class AutoMLZero(SearchSpace[AutoMLZeroOptions]):
    """Programs for a register machine that learn: AutoML-Zero's space, made small.

    A program is three lists of instructions: `setup` runs once, `predict` for each example, `learn`
    after it while training. A slot may stay empty. Most programs are full of instructions that do
    nothing, and the same program can be written in thousands of ways, which is what functional hashing
    is for.

    Real et al., "AutoML-Zero: Evolving Machine Learning Algorithms From Scratch", arXiv 2003.03384.
    """

    name: ClassVar[str] = "automl-zero"
    summary: ClassVar[str] = "programs for a register machine that learn (AutoML-Zero)"

    def choices(self, choose: Choose) -> None:
        options = self.options
        counts = {"scalar": options.scalars, "vector": options.vectors, "matrix": options.matrices}
        offered = [
            name
            for name in options.operations
            if all(counts[kind] for kind in (INSTRUCTIONS[name].output, *INSTRUCTIONS[name].inputs))
        ]
        for component in COMPONENTS:
            for slot in range(getattr(options, component)):
                at = f"{component}{slot}"
                operation = choose.categorical(at, [NOTHING, *offered])
                if operation == NOTHING:
                    continue
                instruction = INSTRUCTIONS[operation]
                kind = instruction.output
                choose.integer(f"{at}.out.{kind}", 0, counts[kind] - 1)
                for index, kind in enumerate(instruction.inputs):
                    choose.integer(f"{at}.in{index}.{kind}", 0, counts[kind] - 1)
                if instruction.constant:
                    choose.real(f"{at}.constant", -1.0, 1.0)

    def size(self) -> None:
        """Infinitely many: some instructions have a constant."""

    def canonical(self, candidate: Candidate) -> Any:
        return canonical(read(candidate))

    def probe(self, candidate: Candidate, shape: Shape) -> FunctionProbe:
        """Compare programs by what they predict while they learn from random examples, and afterwards."""
        return FunctionProbe(lambda seed, examples: self._emitted(candidate, seed, examples))

    def sizes(self) -> Sizes:
        """The machine's memory."""
        from .machine import Sizes

        options = self.options
        return Sizes(options.scalars, options.vectors, options.matrices, options.features)

    def _emitted(self, candidate: Candidate, seed: int, examples: int) -> Sequence[float]:
        from ...core.seeds import generator
        from .machine import Data, run

        rng = generator(seed)
        binary = self.options.problem == "digits"

        def drawn() -> Data:
            inputs = rng.standard_normal((1, examples, self.options.features))
            labels = rng.standard_normal((1, examples))
            return Data(inputs, (labels > 0).astype(float) if binary else labels)

        code = read(candidate)
        seen, answers = run(code, self.sizes(), drawn(), drawn(), seed=seed, squash=binary)
        return [*seen[0].tolist(), *answers[0].tolist()]
