"""The documentation as data: pages with their includes, fenced blocks, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
)

# In Python blocks the form of three lines: to a formatter the other is an expression.
_INCLUDE = re.compile(r'^--8<--(?: "([^"]+)"|\n(.+)\n--8<--)$', re.MULTILINE)
_FENCE = re.compile(r"^```(?P<head>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it stands for, and its text."""

    page: str
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.title or self.text.partition(chr(10))[0]}"


@cache
def text(page: str) -> str:
    """A page with what it includes."""
    return _INCLUDE.sub(
        lambda found: (ROOT / (found[1] or found[2])).read_text().rstrip("\n"), (ROOT / page).read_text()
    )


def blocks(page: str, language: str) -> list[Block]:
    """A page's fenced blocks in a language."""
    found: list[Block] = []
    for fence in _FENCE.finditer(text(page)):
        name, _, rest = fence["head"].partition(" ")
        title = _TITLE.search(rest)
        if name == language:
            found.append(Block(page, name, title[1] if title else "", fence["text"]))
    return found


def links(page: str) -> Iterator[str]:
    """Targets of a page's links and pictures, those in code left out."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text(page)))
    return (found[1] for found in _LINK.finditer(prose))
