"""The built-in tasks: handwritten digits, Fashion-MNIST, and a folder of one's own pictures."""

from __future__ import annotations

from typing import Any

from ...core import Task, hookimpl
from .digits import Digits
from .fashion_mnist import FashionMNIST
from .image_folder import ImageFolder

__all__ = ["Digits", "FashionMNIST", "ImageFolder", "tasks"]


@hookimpl
def tasks() -> list[type[Task[Any]]]:
    """Register the built-in tasks."""
    return [Digits, FashionMNIST, ImageFolder]
