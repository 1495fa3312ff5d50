"""Reads YAML into plain data, remembering on which line each key stands.

Safe by construction: only maps, lists and scalars are made, duplicate keys are refused, and the size
and the expansion of aliases are capped.
"""

# ruamel's own annotations are partial.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from .errors import Problem, SpecError

MAX_BYTES = 1 << 20
MAX_NODES = 50_000
CORE = "tag:yaml.org,2002:"
SCALARS = {f"{CORE}{tag}" for tag in ("null", "bool", "int", "float", "str")}

Path = tuple[str | int, ...]


@dataclass
class Document:
    """Plain data and the 1-based line of each of its paths."""

    data: Any
    lines: dict[Path, int] = field(default_factory=dict[Path, int])
    file: str | None = None

    def line(self, path: Sequence[str | int]) -> int | None:
        """Line of `path`, or of the nearest enclosing key that is in the file."""
        for length in range(len(path), -1, -1):
            found = self.lines.get(tuple(path[:length]))
            if found is not None:
                return found
        return None


def read(text: str, file: str | None = None) -> Document:
    """Parse one YAML document.

    Raises:
        SpecError: bad syntax, a duplicate key, a tag other than the plain scalars', or a text that is
            too large, in itself or once its aliases are expanded.
    """
    if len(text.encode()) > MAX_BYTES:
        raise SpecError(f"the file is larger than {MAX_BYTES} bytes: no job file is", file=file)
    yaml = YAML(typ="safe", pure=True)
    try:
        root = cast("Node | None", yaml.compose(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        what = str(error.problem or error.context or "not valid YAML")
        raise SpecError("the file is not valid YAML:", [Problem("", what, line=line)], file) from None
    except (YAMLError, RecursionError) as error:
        raise SpecError(f"the file is not valid YAML: {error}", file=file) from None
    document = Document(None, file=file)
    if root is not None:
        _Reader(yaml, document).fill(root)
    return document


class _Reader:
    def __init__(self, yaml: YAML, document: Document) -> None:
        self._document = document
        self._constructor = cast(SafeConstructor, yaml.constructor)
        self._problems: list[Problem] = []
        self._nodes = 0

    def fill(self, root: Node) -> None:
        self._document.data = self._value(root, ())
        if self._problems:
            raise SpecError("the file can't be used as a job file:", self._problems, self._document.file)

    def _value(self, node: Node, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or len(path) > 50:
            raise SpecError(
                f"the file expands to more than {MAX_NODES} values or 50 levels: its aliases (*name) "
                "multiply; write the values out",
                file=self._document.file,
            )
        self._document.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, MappingNode) and str(node.tag) == f"{CORE}map":
            return self._mapping(node, path)
        if isinstance(node, SequenceNode) and str(node.tag) == f"{CORE}seq":
            return [self._value(child, (*path, index)) for index, child in enumerate(node.value)]
        if isinstance(node, ScalarNode) and str(node.tag) in SCALARS:
            try:
                return cast(Any, self._constructor.construct_object(node))
            except ValueError:  # `!!int abc`, or more digits than Python reads
                what = str(node.tag).removeprefix(CORE)
                self._problem(node, path, f"no {what} that can be read", "Write a plain value.")
                return None
        self._problem(node, path, f"the tag {node.tag} is not allowed", "Use plain values only.")
        return None

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self._problem(key_node, path, "a key must be a plain word", "")
                continue
            key = str(key_node.value)
            here = (*path, key)
            if key == "<<":
                self._problem(key_node, here, "merge keys (<<) are not supported", "Write the keys out.")
                continue
            if key in made:
                first = self._document.lines[here]
                self._problem(key_node, here, f"the key stands twice, first on line {first}", "Remove one.")
                continue
            self._document.lines[here] = key_node.start_mark.line + 1
            made[key] = self._value(value_node, here)
        return made

    def _problem(self, node: Node, path: Path, message: str, remedy: str) -> None:
        dotted = ".".join(map(str, path))
        self._problems.append(Problem(dotted, message, remedy, line=node.start_mark.line + 1))
