"""Once-for-All (1908.09791): a supernet whose sub-networks serve as they are cut out of it."""

from __future__ import annotations

from collections.abc import Sequence

from ...core import Program, SearchSpace, hookimpl
from .evaluate import EvaluateSubnet
from .mobile import OfaMobileNetV3, OfaProxyless
from .plain import PlainNetworks
from .predict import PredictAccuracy
from .profile import ProfileLatency
from .resnet import OfaResNet50D
from .specialize import SpecializeSubnet
from .train import TrainSupernet


@hookimpl
def search_spaces() -> Sequence[type[SearchSpace]]:
    """The spaces."""
    return [OfaMobileNetV3, OfaProxyless, OfaResNet50D, PlainNetworks]


@hookimpl
def programs() -> Sequence[type[Program]]:
    """The programs."""
    return [TrainSupernet, EvaluateSubnet, PredictAccuracy, ProfileLatency, SpecializeSubnet]
