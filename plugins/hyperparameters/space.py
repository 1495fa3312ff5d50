"""A search space declared in the job file, without a line of Python."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

from ...core import Choose, Integer, Real, SearchSpace, Value
from .declaration import HyperparameterOptions, among


class Hyperparameters(SearchSpace[HyperparameterOptions]):
    """Categorical, integer and real choices, some only under conditions on earlier ones.

    ```yaml
    space:
      name: hyperparameters
      choices:
        optimizer: {categorical: [sgd, adam]}
        learning_rate: {real: [1.0e-4, 1.0e-1], log: true}
        momentum: {real: [0.5, 0.99], when: {optimizer: sgd}}
        layers: {integer: [1, 4]}
        width: {integer: [16, 256], step: 16}
        bottleneck: {categorical: [4, 8], when: {layers: [3, 4]}}
    ```

    Choices are made in the order of the file. With several entries in `when`, all must hold; one on a
    choice that wasn't made itself doesn't, so conditions nest.
    """

    name: ClassVar[str] = "hyperparameters"
    summary: ClassVar[str] = "choices declared in the job file, with conditions"

    def __init__(self, options: HyperparameterOptions | None = None) -> None:
        super().__init__(options)
        declared = self.options.choices.items()
        self._choices = [(spec, spec.choice(name)) for name, spec in declared]

    def choices(self, choose: Choose) -> None:
        for spec, choice in self._choices:
            if not spec.active(choose.made):
                continue
            match choice:
                case Integer(name=name, low=low, high=high, step=step, log=log):
                    choose.integer(name, low, high, step=step, log=log)
                case Real(name=name, low=low, high=high, log=log):
                    choose.real(name, low, high, log=log)
                case _:
                    choose.categorical(choice.name, choice.options)

    def size(self) -> int | None:
        """Count by cases of the conditions; None with a real-valued choice.

        Values of a parent that no condition mentions lead to the same choices, and count as one case.
        """
        if any(choice.values is None for _, choice in self._choices):
            return None
        cases: dict[str, list[Value]] = {}
        last_use: dict[str, int] = {}
        for index, (spec, _) in enumerate(self._choices):
            for parent, values in spec.when.items():
                known = cases.setdefault(parent, [])
                known.extend(value for value in values if not among(value, known))
                last_use[parent] = index

        @cache
        def count(index: int, made: tuple[tuple[str, int], ...]) -> int:
            if index == len(self._choices):
                return 1
            made = tuple(entry for entry in made if last_use[entry[0]] >= index)
            spec, choice = self._choices[index]
            if not spec.active({name: cases[name][case] for name, case in made}):
                return count(index + 1, made)
            here = range(len(cases.get(choice.name, ())))
            ways = sum(count(index + 1, (*made, (choice.name, case))) for case in here)
            return ways + (len(choice.values or ()) - len(here)) * count(index + 1, made)

        return count(0, ())
