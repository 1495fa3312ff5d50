"""Contract checks: what a plugin of each kind must do, for the plugin's own tests.

```python
from orchestrate.core.testing import check_space


def test_my_space_keeps_the_contract() -> None:
    check_space(MySpace())
```

Each check raises `ContractError`, an `AssertionError`, naming the broken rule and the remedy. They
need no test framework. The built-in plugins pass the same checks.
"""

from __future__ import annotations

from .contract import ContractError
from .dispatch import check_plugin
from .fingerprints import check_fingerprint
from .groups import LocalWorkers, Meeting, ThreadCollective
from .objectives import check_objective
from .plugins import check_class
from .programs import check_program
from .samplers import check_sampler
from .spaces import ExampleSpace, check_space
from .strategies import ExampleLearner, check_parallel_strategy
from .tasks import check_task
from .trial import LocalTrial

__all__ = [
    "ContractError",
    "ExampleLearner",
    "ExampleSpace",
    "LocalTrial",
    "LocalWorkers",
    "Meeting",
    "ThreadCollective",
    "check_class",
    "check_fingerprint",
    "check_objective",
    "check_parallel_strategy",
    "check_plugin",
    "check_program",
    "check_sampler",
    "check_space",
    "check_task",
]
