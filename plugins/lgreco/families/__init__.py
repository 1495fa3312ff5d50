"""Families of compressors behind one interface: dense, TopK, QSGD, PowerSGD."""

from __future__ import annotations

from collections.abc import Mapping

from .base import Family, Parcel
from .dense import Dense
from .powersgd import PowerSGD
from .qsgd import QSGD
from .topk import TopK

__all__ = ["FAMILIES", "QSGD", "Dense", "Family", "Parcel", "PowerSGD", "TopK"]

FAMILIES: Mapping[str, type[Family]] = {kind.name: kind for kind in (Dense, TopK, QSGD, PowerSGD)}
