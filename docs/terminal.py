"""Makes a picture of a command's real output: `docs/terminal.py docs/img/show.svg 120 orchestrate list`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text


def picture(command: list[str], columns: int) -> str:
    """Run a command as in a terminal of that width; give its output as SVG."""
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(columns)}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    console = Console(record=True, width=columns, file=StringIO())
    console.print(Text.from_ansi(f"$ {' '.join(command)}\n{shown.rstrip()}"), soft_wrap=True)
    # No page asks another server for fonts.
    layout = re.sub(r"@font-face {{.*?}}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title="orchestrate", code_format=layout)


if __name__ == "__main__":
    target, columns, *command = sys.argv[1:]
    Path(target).write_text(picture(command, int(columns)))
