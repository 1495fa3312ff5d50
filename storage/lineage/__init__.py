"""Mirrors the catalog to MLflow through the outbox: the catalog is the truth, MLflow shows it.

Importing this imports no MLflow.
"""

from __future__ import annotations

from .delivery import SyncResult, sync
from .drainer import Drainer
from .registering import Registered, register

__all__ = ["Drainer", "Registered", "SyncResult", "register", "sync"]
