"""Every error that Orchestrate raises on purpose.

The class says what the caller does about it; the text says what happened, where, the nearest valid
name and the remedy, and is shown to people as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


class OrchestrateError(Exception):
    """Base of all errors raised on purpose."""


@dataclass(frozen=True)
class Problem:
    """One mistake in a job file.

    `path` is the dotted path of the key (`stages.0.sampler.name`), `line` its 1-based line when known.
    """

    path: str
    message: str
    remedy: str = ""
    line: int | None = None
    value: object = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        shown = "" if self.value is None else f" (got {_shorten(self.value)})"
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{where}{self.path or 'file'}: {self.message}{shown}.{remedy}"


class SpecError(OrchestrateError, ValueError):
    """The job file or a command's arguments are wrong: mend them. Nothing has been started."""

    def __init__(self, message: str, problems: Sequence[Problem] = (), file: str | None = None) -> None:
        self.problems = tuple(problems)
        self.file = file
        lines = [
            message if self.problems or not file else f"{file}: {message}",
            *(f"  {file + ', ' if file else ''}{problem}" for problem in self.problems),
        ]
        super().__init__("\n".join(lines))


class SpaceError(OrchestrateError, ValueError):
    """A search space offers or receives a choice that breaks its own rules: mend the space or sampler."""


class SpaceExhausted(OrchestrateError, StopIteration):
    """A sampler has nothing left to propose: the stage ends here, successfully."""


class PluginError(OrchestrateError, RuntimeError):
    """A plugin can't be loaded or breaks its contract: mend it, or block it with `--without NAME`."""


class UnknownPluginError(PluginError, LookupError):
    """No plugin of that kind has that name: correct the name or install the plugin."""


class TrialError(OrchestrateError, RuntimeError):
    """The user's code failed in this trial: the trial is over, the job goes on."""


class LostError(OrchestrateError, RuntimeError):
    """The infrastructure lost this trial (process, node): run it again elsewhere."""


class TrialPruned(BaseException):
    """Thrown into a program, out of `report`, when its trial is stopped early. Let it pass.

    No `Exception`, so that a program's own `except Exception` doesn't swallow it.
    """


class DataError(OrchestrateError, RuntimeError):
    """A task's data is missing or unusable: the text says how to get it."""


class TestSplitError(OrchestrateError, PermissionError):
    """A program asked for the test split during the search. Only the final scoring may see it."""

    __test__ = False  # not a test case, whatever pytest makes of the name


class CatalogError(OrchestrateError, RuntimeError):
    """The catalog can't be read or written as asked."""


class CatalogUnavailableError(CatalogError, ConnectionError):
    """The catalog's database doesn't answer, and nothing was written: try again later."""


class JobNotFoundError(CatalogError, LookupError):
    """No job in the catalog answers to that name."""


class JobBusyError(CatalogError):
    """Another living driver owns the job: wait for it, or cancel it."""


class StaleLeaseError(CatalogError):
    """This driver lost the job to another one: stop at once, write nothing more."""


class ArtifactError(OrchestrateError, OSError):
    """An artifact is missing or its digest doesn't match what the catalog recorded."""


class ClusterError(OrchestrateError, ConnectionError):
    """The Ray cluster can't be reached or can't hold the job."""


def near_misses(name: str, known: Iterable[str]) -> str:
    """Say which of the `known` names were probably meant, and list them all."""
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.6)
    meant = f"Did you mean {' or '.join(repr(match) for match in close)}? " if close else ""
    return f"{meant}Known: {', '.join(names) if names else 'none'}."


def _shorten(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
