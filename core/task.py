"""A task: data in fixed splits, and what a score on it means."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, TypeAlias

from .errors import TestSplitError
from .plugin import Kind, OptionsT, Plugin

if TYPE_CHECKING:
    from torch import Tensor

SplitName: TypeAlias = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Shape:
    """What a network for a task maps: `input` is (channels, height, width), `classes` the logits."""

    input: tuple[int, ...]
    classes: int


class Split(NamedTuple):
    """One split, in a fixed order: `inputs` float32 (N, C, H, W), `targets` int64 (N,)."""

    inputs: Tensor
    targets: Tensor


class Task(Plugin[OptionsT]):
    """Data in train, validation and test splits, fixed by the task's own seed option.

    The same options give the same splits on every machine; `digest` proves it. Everything a search
    does sees train and validation only: the scheduler hands programs a task that refuses "test".
    """

    kind: ClassVar[Kind] = "task"

    @abstractmethod
    def shape(self) -> Shape:
        """Shape of one input and number of classes. Cheap: called before anything is run."""

    @abstractmethod
    def split(self, name: SplitName) -> Split:
        """Load a split. Called often: keep what was loaded.

        Raises:
            DataError: the data isn't there; the text says how to get it.
        """

    @abstractmethod
    def digest(self) -> str:
        """Content digest (hex) of all three splits: changes when and only when the data does."""

    def class_names(self) -> tuple[str, ...]:
        """The classes' names, in label order."""
        return tuple(str(label) for label in range(self.shape().classes))


class SearchView(Task):
    """A task as a search sees it: everything but the test split."""

    name: ClassVar[str] = "search-view"
    summary: ClassVar[str] = "a task without its test split"

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._task = task

    def shape(self) -> Shape:
        return self._task.shape()

    def split(self, name: SplitName) -> Split:
        if name == "test":
            raise TestSplitError(
                "the test split is closed during a search: select on 'validation'; Orchestrate scores "
                "the chosen candidates on 'test' once, at the end (Program.test)"
            )
        return self._task.split(name)

    def digest(self) -> str:
        return self._task.digest()

    def class_names(self) -> tuple[str, ...]:
        return self._task.class_names()
