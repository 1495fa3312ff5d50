"""One check for a plugin of whatever kind."""

from __future__ import annotations

from typing import Any

from ..fingerprint import Fingerprint
from ..objective import Objective
from ..parallel import ParallelStrategy
from ..plugin import Plugin
from ..program import Program
from ..sampler import Sampler
from ..space import SearchSpace
from ..task import Task
from .fingerprints import check_fingerprint
from .objectives import check_objective
from .programs import check_program
from .samplers import check_sampler
from .spaces import check_space
from .strategies import check_parallel_strategy
from .tasks import check_task


def check_plugin(plugin: Plugin, *arguments: Any, **options: Any) -> None:
    """Check a plugin by its kind's check, which gets the further arguments.

    A fingerprint's check needs a space and a task, a program's a task, an objective's a space.

    Raises:
        ContractError: a rule is broken.
        TypeError: no such kind, or an argument that its check needs is missing.
    """
    match plugin:
        case Task():
            check_task(plugin, *arguments, **options)
        case SearchSpace():
            check_space(plugin, *arguments, **options)
        case Sampler():
            check_sampler(plugin, *arguments, **options)
        case Objective():
            check_objective(plugin, *arguments, **options)
        case Program():
            check_program(plugin, *arguments, **options)
        case Fingerprint():
            check_fingerprint(plugin, *arguments, **options)
        case ParallelStrategy():
            check_parallel_strategy(plugin, *arguments, **options)
        case _:
            raise TypeError(f"{plugin!r} is of no kind that Orchestrate knows")
