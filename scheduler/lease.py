"""Keeps the job's lease alive on a thread of its own, and hears of a cancellation there."""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Self

from ..core.errors import OrchestrateError, StaleLeaseError
from ..storage.ledger import Ledger

LEASE_SECONDS = 30.0
BEAT_SECONDS = 5.0

log = logging.getLogger(__name__)


class Heartbeat:
    """Context manager: beats until left. `cancelled` and `stale` tell what was heard."""

    def __init__(self, ledger: Ledger, beat_seconds: float = BEAT_SECONDS) -> None:
        self.cancelled = threading.Event()
        self.stale: StaleLeaseError | None = None
        self._ledger = ledger
        self._beat_seconds = beat_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="orchestrate-lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join(timeout=self._beat_seconds)

    def _beat(self) -> None:
        while not self._over.wait(self._beat_seconds):
            try:
                if self._ledger.heartbeat():
                    self.cancelled.set()
            except StaleLeaseError as error:
                self.stale = error
                return
            except OrchestrateError as error:
                log.warning("the catalog didn't answer the heartbeat (%s); trying again", error)
