"""How errors look in the terminal, and which exit code each stands for."""

from __future__ import annotations

from pathlib import Path

import typer

from ..core.errors import JobNotFoundError, OrchestrateError, Problem, SpecError, UnknownPluginError

MISTAKE = 2
FAILED = 1
INTERRUPTED = 130

USER_MISTAKES = (SpecError, UnknownPluginError, JobNotFoundError)


def known(error: BaseException) -> bool:
    """Whether the error was raised on purpose, so that its text is all that a person needs."""
    return isinstance(error, OrchestrateError)


def show(error: BaseException) -> int:
    """Print the error to stderr and return the exit code: 2 for the user's mistake, else 1."""
    typer.echo(message(error), err=True)
    return MISTAKE if isinstance(error, USER_MISTAKES) else FAILED


def message(error: BaseException) -> str:
    """The error's text; a job file's mistakes one by one, each with its line."""
    if not isinstance(error, SpecError) or not error.problems:
        return f"Error: {str(error).rstrip()}"
    heading = str(error).partition("\n")[0]
    lines = _lines(error.file)
    where = f"{error.file}: " if error.file else ""
    return "\n".join([f"Error: {where}{heading}", *(_bullet(problem, lines) for problem in error.problems)])


def _bullet(problem: Problem, lines: list[str]) -> str:
    place = f"line {problem.line}, " if problem.line else ""
    text = f"  • {place}{problem.path or 'the file'}: {problem.message}."
    if problem.value is not None:
        text += f" You gave {problem.value!r}."
    if problem.line and problem.line <= len(lines):
        text += f"\n      {problem.line:>4} │ {lines[problem.line - 1].rstrip()[:100]}"
    if problem.remedy:
        text += f"\n      {problem.remedy}"
    return text


def _lines(file: str | None) -> list[str]:
    try:
        return Path(file).read_text(encoding="utf-8").splitlines() if file else []
    except (OSError, UnicodeDecodeError):
        return []  # the error itself says so
