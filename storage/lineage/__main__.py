"""The process beside a job: `python -m orchestrate.storage.lineage --job ID`.

Ends when the job has ended, or its driver is gone (standard input ends), and all is delivered.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import sys

from ..catalog import Catalog
from .delivery import follow
from .drainer import TRACKING

RUNNING = ("created", "running")
PATIENCE_SECONDS = 300.0  # as the driver has


def main() -> int:
    """Deliver; the exit status says whether everything was delivered."""
    parser = argparse.ArgumentParser(prog="python -m orchestrate.storage.lineage", description=__doc__)
    parser.add_argument("--job", required=True, help="the job's id")
    job_id = parser.parse_args().job
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    with Catalog.open(create=False, patience=PATIENCE_SECONDS) as catalog:

        def over() -> bool:
            return _abandoned() or catalog.job(job_id).state not in RUNNING

        return 0 if follow(catalog, job_id, os.environ[TRACKING], over) else 1


def _abandoned() -> bool:
    """Whether the driver closed the pipe, or died."""
    readable, _, _ = select.select([0], [], [], 0)
    return bool(readable) and not os.read(0, 64)


if __name__ == "__main__":
    sys.exit(main())
