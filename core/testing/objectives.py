"""Contract of objectives."""

from __future__ import annotations

from ..draw import draw_candidate
from ..objective import CombinedObjective, MeasuredObjective, Objective, ReportedObjective, StaticObjective
from ..seeds import generator
from ..space import SearchSpace
from ..task import Shape
from .contract import is_finite, only, require
from .plugins import check_class


def check_objective(
    objective: Objective, space: SearchSpace, shape: Shape | None = None, *, candidates: int = 3
) -> None:
    """Check an objective.

    Rules: it is static, reported, measured or combined; values are finite floats; a static one is
    deterministic; a measured one leaves the network's parameters and mode as they were.

    Args:
        objective: the objective, with its options.
        space: a space whose candidates it can judge; one that builds networks, if it needs them.
        shape: the input that networks are built for; 1 x 28 x 28 with 10 classes by default.
        candidates: how many candidates to judge.

    Raises:
        ContractError: a rule is broken.
    """
    check_class(type(objective))
    name = objective.name
    direction = getattr(objective, "direction", None)
    require(
        direction in {"maximize", "minimize"} or isinstance(objective, ReportedObjective),
        f"objective {name!r} has the direction {direction!r}",
        'Give the class `direction: ClassVar[Direction] = "minimize"` or "maximize"',
    )
    shape = shape or Shape((1, 28, 28), 10)
    if isinstance(objective, ReportedObjective):
        require(objective.metric, f"objective {name!r} reads no metric", "Return the metric's key")
        return
    if isinstance(objective, CombinedObjective):
        _check_combined(objective)
        return
    require(
        isinstance(objective, StaticObjective | MeasuredObjective),
        f"objective {name!r} is neither static nor reported nor measured nor combined",
        "Subclass StaticObjective, ReportedObjective, MeasuredObjective or CombinedObjective",
    )
    for index in range(candidates):
        candidate = draw_candidate(space, generator(0, index))
        with only(f"objective {name!r} must judge {candidate}", "Mend it"):
            if isinstance(objective, StaticObjective):
                value = objective.compute(candidate, space, shape)
                require(
                    objective.compute(candidate, space, shape) == value,
                    f"static objective {name!r} gives two values for {candidate}",
                    "Compute it from the candidate alone, or make it a measured objective",
                )
            else:
                assert isinstance(objective, MeasuredObjective)
                value = _measured(objective, space, shape, index)
        require(
            is_finite(value),
            f"objective {name!r} gives {value!r} for {candidate}",
            "Return a finite float",
        )


def _check_combined(objective: CombinedObjective) -> None:
    require(objective.parts, f"objective {objective.name!r} combines nothing", "Return the parts' labels")
    for value in (0.0, 0.25, -3.0, 1e6):
        values = dict.fromkeys(objective.parts, value)
        with only(f"objective {objective.name!r} must combine {values}", "Mend it"):
            combined = objective.combine({**values, "another": 7.0})
        require(
            is_finite(combined) and objective.combine(values) == combined,
            f"objective {objective.name!r} gives {combined!r} for {values}",
            "Return a finite float, computed from the parts alone",
        )


def _measured(objective: MeasuredObjective, space: SearchSpace, shape: Shape, index: int) -> float:
    import torch

    candidate = draw_candidate(space, generator(0, index))
    model = space.build(candidate, shape).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    value = objective.measure(model, shape, torch.device("cpu"))
    after = model.state_dict()
    require(
        not model.training and all(torch.equal(before[name], after[name]) for name in before),
        f"measuring {objective.name!r} changed the network",
        "Measure in eval mode, under torch.no_grad, and leave the parameters alone",
    )
    return value
