"""A program of one's own: a classifier of scikit-learn, with what the job file's choices say.

`examples/hyperparameters.yaml` names it as `python:examples.classifier:fit`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from orchestrate.core import Candidate, TrialContext


def fit(trial: TrialContext, pixels: float = 1.0) -> dict[str, float]:
    """Fit on the train split, score on validation. `pixels`: share of the pixels that is kept."""
    made = dict(trial.candidate)
    train, validation = trial.task.split("train"), trial.task.split("validation")
    kept = slice(0, max(1, round(pixels * train.inputs[0].numel())))
    model = classifier(str(made.pop("model")), made, trial.seed % 2**32)
    model.fit(train.inputs.flatten(1).numpy()[:, kept], train.targets.numpy())
    guessed = model.predict(validation.inputs.flatten(1).numpy()[:, kept])
    return {"accuracy": float(np.mean(guessed == validation.targets.numpy()))}


def probe(candidate: Candidate) -> Any:
    """What `recall: {name: functional-hash, probe: …}` compares: the classifier, before it is fitted."""
    made = dict(candidate)
    return classifier(str(made.pop("model")), made, seed=0)


def classifier(name: str, choices: dict[str, Any], seed: int) -> Any:
    """Make the classifier `name` with the choices that were made for it."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    if name == "svm":
        return SVC(**choices)
    if name == "forest":
        return RandomForestClassifier(**choices, random_state=seed)
    return KNeighborsClassifier(**choices)
