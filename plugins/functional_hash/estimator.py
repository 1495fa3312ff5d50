"""Probes a scikit-learn estimator or pipeline: fits it to a few samples and looks at its answers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from threadpoolctl import threadpool_limits

from ...core.probe import EstimatorProbe
from .numbers import Floats, frozen, project
from .signature import Signature, squash, token_of

CLASSES = 3
FEATURES = 64


def probe_estimator(
    probe: EstimatorProbe, examples: int, repetitions: int, features: int = FEATURES
) -> Signature:
    """Fit to frozen samples, and project what it answers to them and to others.

    Labels follow the samples in part, so that neither depth nor regularisation goes unseen. Everything
    random in the estimator is seeded. Two fits, the second to the same samples with their features in
    memory the other way round, measure the noise.
    """
    values: list[float] = []
    names: list[str] = []
    noise, constant = 0.0, True
    for repetition in range(repetitions):
        inputs, targets = _samples("train", repetition, examples, features)
        others, _ = _samples("valid", repetition, examples, features)
        answers: list[Floats] = []
        for layout in (np.ascontiguousarray, np.asfortranarray):
            model = _seeded(probe.build())
            with warnings.catch_warnings(), threadpool_limits(1):
                warnings.simplefilter("ignore")
                model.fit(layout(inputs), targets if _classifies(model) else inputs[:, 0] + targets)
                answers.append(np.stack([_answers(model, inputs), _answers(model, others)]))
        numbers = np.concatenate([project(half.reshape(-1)) for half in answers[0]])
        again = np.concatenate([project(half.reshape(-1)) for half in answers[1]])
        noise = max(noise, float(np.max(np.abs(squash(numbers) - squash(again)))))
        constant = constant and bool(np.ptp(answers[0], axis=1).max() == 0)
        values += numbers.tolist()
        names += [f"repetition {repetition}, answer {index}" for index in range(len(numbers))]
    token = token_of(values) or ("constant" if constant else None)
    return Signature(tuple(values), tuple(names), token, noise)


def _samples(part: str, repetition: int, examples: int, features: int) -> tuple[Floats, Any]:
    inputs = frozen(examples * features, "estimator", part, repetition).reshape(examples, features)
    leaning = inputs[:, : min(4, features)].sum(axis=1) + frozen(examples, "label", part, repetition)
    targets = np.argsort(np.argsort(leaning)) * CLASSES // examples
    return 0.5 + 0.25 * inputs, targets


def _seeded(model: Any) -> Any:
    """Fix every `random_state` in the estimator and its parts, and keep it on one thread."""
    given = cast(Mapping[str, Any], model.get_params(deep=True))
    fixed: dict[str, Any] = {}
    for name in given:
        own = name.rpartition("__")[2]
        if own == "random_state":
            fixed[name] = 0
        elif own == "n_jobs":
            fixed[name] = None
    return model.set_params(**fixed)


def _classifies(model: Any) -> bool:
    from sklearn.base import is_regressor  # pyright: ignore[reportUnknownVariableType]

    return not is_regressor(model)


def _answers(model: Any, inputs: Floats) -> Floats:
    """What the estimator says of each sample: scores where it has some, else labels; (samples, k)."""
    for name in ("decision_function", "predict_proba", "predict", "transform"):
        method = getattr(model, name, None)
        if method is not None:
            found = np.asarray(method(inputs), dtype=np.float64)
            return found.reshape(len(inputs), -1)
    raise TypeError(
        f"{type(model).__name__} has none of decision_function, predict_proba, predict, transform"
    )
