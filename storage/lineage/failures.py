"""What an error of MLflow's means for the delivery: try again, leave that write, or leave that run."""

from __future__ import annotations

from sqlalchemy.exc import SQLAlchemyError

from ...core.errors import OrchestrateError

LATER = frozenset(
    {
        "INTERNAL_ERROR",  # whatever went wrong on the way to a server or a database
        "TEMPORARILY_UNAVAILABLE",
        "REQUEST_LIMIT_EXCEEDED",
        "DEADLINE_EXCEEDED",
        "CANCELLED",
        "ABORTED",
        "RESOURCE_EXHAUSTED",
        "UNAUTHENTICATED",  # someone will mend the account
        "PERMISSION_DENIED",
    }
)


class RefusedError(OrchestrateError, ValueError):
    """MLflow refuses this write and always will: leave it, go on with the others."""


class UnreachableError(OrchestrateError, ConnectionError):
    """MLflow can't be reached or can't do it now: try again later."""


class DeletedError(OrchestrateError, LookupError):
    """A person deleted this run in MLflow: leave it alone."""


def code_of(error: BaseException) -> str:
    """MLflow's code of an error; "" for errors that aren't MLflow's."""
    return str(getattr(error, "error_code", "") or "")


def classified(error: Exception) -> OrchestrateError | None:
    """What an error means for the delivery, or None for one that isn't MLflow's doing."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, UnreachableError | RefusedError | DeletedError):
        return error
    first = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    if isinstance(error, MlflowException):
        code = code_of(error)
        if code in LATER:
            return UnreachableError(first)
        if code == "INVALID_PARAMETER_VALUE" and "must be in the 'active' state" in str(error):
            return DeletedError(first)
        return RefusedError(f"{code}: {first}")
    # The network's errors, those of an artifact folder, and what MLflow lets through of its database's.
    if isinstance(error, OSError | SQLAlchemyError):
        return UnreachableError(first)
    return None


def passing(error: Exception) -> bool:
    """Whether the same request may succeed a moment later."""
    return isinstance(classified(error), UnreachableError)
