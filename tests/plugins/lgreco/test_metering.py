"""Counted bytes are those of a ring."""

from __future__ import annotations

import torch

from orchestrate.core.testing import Meeting
from orchestrate.plugins.lgreco.metering import Metered


def test_what_each_rank_sends():
    def work(group):
        metered = Metered(group)
        metered.all_reduce(total := torch.ones(30) * group.rank)
        reduced = metered.sent
        gathered = metered.all_gather(torch.full((7,), group.rank, dtype=torch.uint8))
        return metered.rank, metered.size, total[0], len(gathered), reduced, metered.sent, metered.calls

    found = Meeting(3).run(work)
    assert found == [(rank, 3, 3.0, 3, 160.0, 174.0, 2) for rank in range(3)]
    assert Meeting(1).run(work) == [(0, 1, 0.0, 1, 0.0, 0.0, 2)]
