import pytest
import torch

from orchestrate.core import ArtifactError
from orchestrate.core.parallel import Forgetful
from orchestrate.core.testing import Meeting
from orchestrate.core.training.shards import ShardedCheckpoint

CPU = torch.device("cpu")


class Owing(Forgetful):
    """A session with a state of its own on each rank."""

    def __init__(self, owed):
        self.owed = torch.tensor([owed])

    def state(self):
        return {"owed": self.owed}

    def load(self, state):
        self.owed = state["owed"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_each_rank_finds_its_own_part_again(tmp_path):
    def first(group):
        session = Owing(float(group.rank))
        checkpoint = ShardedCheckpoint(tmp_path, session, group)
        assert checkpoint.load() is None
        checkpoint.save({"epoch": 1}, CPU)
        session.owed += 10
        checkpoint.save({"epoch": 2}, CPU)

    def second(group):
        session = Owing(-1.0)
        checkpoint = ShardedCheckpoint(tmp_path, session, group, attempt=1)
        state = checkpoint.load()
        found = session.owed
        checkpoint.save({"epoch": 3}, CPU)
        return state, float(found)

    Meeting(3).run(first)
    assert names(tmp_path) == ["checkpoint.pt", "shard-0-2-0.pt", "shard-0-2-1.pt", "shard-0-2-2.pt"]
    found = Meeting(3).run(second)
    assert found == [({"epoch": 2}, 10.0), ({"epoch": 2}, 11.0), ({"epoch": 2}, 12.0)]
    assert names(tmp_path) == ["checkpoint.pt", "shard-1-3-0.pt", "shard-1-3-1.pt", "shard-1-3-2.pt"]


def test_a_crash_before_the_main_file_leaves_the_checkpoint_before(tmp_path):
    class Crash(Exception):
        pass

    class Dying:
        """A rank that dies when all files of ranks are written."""

        def __init__(self, group):
            self.rank, self.size, self._group = group.rank, group.size, group

        def all_reduce(self, tensor):
            self._group.all_reduce(tensor)
            raise Crash

    def work(group):
        session = Owing(float(group.rank))
        ShardedCheckpoint(tmp_path, session, group).save({"epoch": 1}, CPU)
        group.all_reduce(torch.zeros(1))  # rank 0 has written the main file
        dying = ShardedCheckpoint(tmp_path, session, Dying(group), attempt=1)
        dying.load()
        session.owed += 5
        with pytest.raises(Crash):
            dying.save({"epoch": 2}, CPU)
        group.all_reduce(torch.zeros(1))
        fresh = Owing(-1.0)
        return ShardedCheckpoint(tmp_path, fresh, group, attempt=2).load(), float(fresh.owed)

    assert Meeting(2).run(work) == [({"epoch": 1}, 0.0), ({"epoch": 1}, 1.0)]


def test_a_missing_part_is_no_fresh_start(tmp_path):
    def work(group):
        ShardedCheckpoint(tmp_path, Owing(1.0), group).save({"epoch": 1}, CPU)

    Meeting(2).run(work)
    (tmp_path / "shard-0-1-1.pt").unlink()

    def again(group):
        return ShardedCheckpoint(tmp_path, Owing(0.0), group).load()

    with pytest.raises(ArtifactError, match=r"shard-0-1-1\.pt"):
        Meeting(2).run(again)


def test_without_a_state_of_ranks_there_is_one_file(tmp_path):
    def work(group):
        checkpoint = ShardedCheckpoint(tmp_path, Forgetful(None, group), group)
        checkpoint.save({"epoch": 1}, CPU)
        group.all_reduce(torch.zeros(1))
        return checkpoint.load()

    assert Meeting(2).run(work) == [{"epoch": 1}] * 2
    assert names(tmp_path) == ["checkpoint.pt"]
    alone = ShardedCheckpoint(tmp_path, None, None)
    alone.save({"epoch": 5}, CPU)
    assert alone.load() == {"epoch": 5}
