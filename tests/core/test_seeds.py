from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from orchestrate.core.seeds import generator, spawn

PATHS = st.lists(st.integers(0, 1000), max_size=3).map(tuple)


@given(st.integers(0, 2**63 - 1), PATHS, PATHS)
def test_paths_have_seeds_of_their_own(seed: int, one: tuple[int, ...], other: tuple[int, ...]) -> None:
    assert spawn(seed, *one) == spawn(seed, *one)
    assert 0 <= spawn(seed, *one) < 2**63
    assert (spawn(seed, *one) == spawn(seed, *other)) == (one == other)
    assert (generator(seed, *one).random() == generator(seed, *other).random()) == (one == other)


def test_seeds_are_pinned() -> None:
    """A resumed job must find the seeds that an earlier version gave its trials."""
    assert spawn(7, 0, 1, 3) == PINNED_SEED
    assert generator(7, 3).integers(10**9) == PINNED_DRAW


PINNED_SEED = 3588353657575357819
PINNED_DRAW = 479537206


def test_torch_is_seeded_by_whoever_imports_it_first() -> None:
    """A program may import torch when its trial was seeded already, and that import costs a second."""
    script = (
        "import sys; from orchestrate.core.seeds import seed_all; seed_all(3); seed_all(7);"
        "assert 'torch' not in sys.modules; import torch; late = torch.rand(4);"
        "seed_all(7); assert late.equal(torch.rand(4))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
