"""Joining a cluster that isn't there."""

from __future__ import annotations

import socket
import time

import pytest
import ray

from orchestrate.core.errors import ClusterError
from orchestrate.scheduler.cluster import connect
from orchestrate.scheduler.settings import Settings


def test_an_address_at_which_nobody_answers_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        begun = time.monotonic()
        with pytest.raises(ClusterError, match=f"can't reach the Ray cluster at {address}"):
            connect(Settings(address=address))
    assert time.monotonic() - begun < 30
