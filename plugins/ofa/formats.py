"""What the export formats need installed. Imports none of it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from ...core import SpecError
from .options import Format

INSTALL = "pip install 'orchestrate-automl[onnx]'"


def check_formats(formats: Iterable[Format]) -> None:
    """Refuse formats whose packages are missing.

    Raises:
        SpecError: with the command that installs them.
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if "onnx" in formats and missing:
        raise SpecError(f"export to ONNX needs {' and '.join(missing)}: {INSTALL}")
