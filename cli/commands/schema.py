"""`orchestrate schema`: what an editor needs to complete a job file."""

from __future__ import annotations

from .. import options as opt
from ..console import print_json

EXAMPLES = """
    orchestrate schema > .orchestrate/job.schema.json
    orchestrate schema | jq '."$defs" | keys'

    The first line of a job file then tells the editor (yaml-language-server):
    # yaml-language-server: $schema=.orchestrate/job.schema.json
"""


def schema(without: opt.Without = None) -> None:
    """Print the JSON Schema of the job file, with the options of every installed plugin."""
    from ...core.registry import Registry
    from ...core.schema import job_schema

    print_json(job_schema(Registry.discover(without or ())))
