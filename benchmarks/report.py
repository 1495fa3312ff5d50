"""Renders the last results, benchmarks/results/*.json, into docs/benchmarks.md.

The page's text is written by hand; between the comments `<!-- NAME -->` and `<!-- /NAME -->` stands what
this script makes of results/NAME.json. With --check it only says whether the page is up to date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from _record import RESULTS, Record, rows

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
SHOWN_VERSIONS = ("orchestrate-automl", "ray", "optuna", "mlflow", "torch")


def render(data: list[dict[str, Any]]) -> str:
    """Make the table of one benchmark's records, with the commands that made them, in Markdown."""
    names = {one.name for one in fields(Record)}
    records = [Record(**{key: value for key, value in entry.items() if key in names}) for entry in data]
    headings, lines = rows(records)
    first = data[0]
    runs = dict.fromkeys((entry["command"], entry["seconds"]) for entry in data)
    took = _duration(sum(seconds for _, seconds in runs))
    shown = [f"{name} {first['versions'][name]}" for name in SHOWN_VERSIONS if name in first["versions"]]
    return "\n".join(
        [
            ", ".join(f"`{command}`" for command in dict.fromkeys(command for command, _ in runs)),
            "",
            _row(headings),
            _row(["---"] * len(headings)),
            *map(_row, lines),
            "",
            f"Took {took} on {first['versions']['machine']}; {', '.join(shown)}.",
        ]
    )


def fill(page: str, results: Path) -> str:
    """Put every result where the page wants it.

    Raises:
        ValueError: a result that the page has no place for, or a place without a result.
    """
    found = {path.stem: path for path in sorted(results.glob("*.json"))}
    places = re.findall(r"<!-- /([\w-]+) -->", page)
    if sorted(found) != sorted(places):
        raise ValueError(
            f"the page has places for {', '.join(sorted(places)) or 'nothing'}, and there are results of "
            f"{', '.join(found) or 'nothing'}: write a section with <!-- NAME --> and <!-- /NAME -->, or "
            "run the benchmark"
        )
    for name, path in found.items():
        table = render(json.loads(path.read_text(encoding="utf-8")))
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        page, count = place.subn(lambda match, table=table: f"{match[1]}\n{table}\n\n{match[2]}", page)
        if count != 1:
            raise ValueError(f"the page needs exactly one <!-- {name} --> before <!-- /{name} -->")
    return page


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when out of date")
    check = parser.parse_args().check
    before = PAGE.read_text(encoding="utf-8")
    after = fill(before, RESULTS)
    if check:
        print("up to date" if before == after else f"{PAGE} is out of date: python benchmarks/report.py")
        return int(before != after)
    PAGE.write_text(after, encoding="utf-8")
    return 0


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
