"""Contract of fingerprints."""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import astuple

from ..candidate import Candidate
from ..draw import draw_candidate
from ..fingerprint import Fingerprint, Key, Print
from ..plugin import Plugin
from ..seeds import generator
from ..space import SearchSpace
from ..task import Task
from .contract import only, require
from .plugins import check_class

_ELSEWHERE = "from orchestrate.core.testing.fingerprints import answer; answer()"


def check_fingerprint(
    fingerprint: Fingerprint, space: SearchSpace, task: Task, *, candidates: int = 6
) -> None:
    """Check a fingerprint.

    Rules: `version` is at least 1; keys have a tier and hexadecimal digests, signatures are finite,
    tolerances not negative, a token isn't empty; keys at sight are among the print's; equal candidates
    have equal prints, in another process with another hash seed too; with `exact`, different candidates
    have different prints.

    The fingerprint, the space and the task are made again from their options in the other process, so
    their classes must stand in importable modules.

    Raises:
        ContractError: a rule is broken.
    """
    check_class(type(fingerprint))
    name = fingerprint.name
    require(fingerprint.version >= 1, f"version is {fingerprint.version}", "Count versions from 1")
    drawn = list(dict.fromkeys(draw_candidate(space, generator(0, index)) for index in range(candidates)))
    with only(f"fingerprint {name!r} must compute a print of every candidate", "Mend `compute`"):
        prints = [fingerprint.compute(candidate, space, task) for candidate in drawn]
    for candidate, found in zip(drawn, prints, strict=True):
        _check_print(name, found)
        reordered = Candidate(dict(reversed(list(candidate.items()))))
        require(
            fingerprint.compute(reordered, space, task) == found,
            f"{candidate} and the same choices in another order have different prints",
            "Compute from the candidate's digest, or from the network",
        )
    for candidate, found in zip(drawn, prints, strict=True):
        seen = fingerprint.at_sight(candidate, space)
        require(
            all(key in found.keys for key in seen),
            f"{candidate} has the keys {seen} at sight, and its print has other ones",
            "Let `at_sight` give some of the keys that `compute` gives",
        )
    if fingerprint.exact:
        last = [found.keys[-1] for found in prints if found.keys]
        require(
            len(set(last)) == len(last),
            f"fingerprint {name!r} says `exact`, and different candidates share a print",
            "Set `exact = False`: measured objectives are shared only between equal candidates",
        )
    elsewhere = _elsewhere(fingerprint, space, task, drawn)
    for candidate, here, there in zip(drawn, prints, elsewhere, strict=True):
        require(
            here == there,
            f"{candidate} has another print in another process: {here} and {there}",
            "Use no hash(), no set order, no unseeded generator, no id()",
        )


def _check_print(name: str, found: Print) -> None:
    for key in found.keys:
        require(
            key.tier and all(re.fullmatch(r"[0-9a-f]+", name) for name in key.names),
            f"fingerprint {name!r} gives the key {key}",
            "Give a tier and a hexadecimal digest (`core.digest`)",
        )
    require(
        all(math.isfinite(number) for number in found.signature),
        f"fingerprint {name!r} gives a signature that isn't finite",
        "Leave `keys` empty for a candidate that can't be fingerprinted",
    )
    require(
        all(math.isfinite(number) and number >= 0 for number in (found.atol, found.rtol)),
        f"fingerprint {name!r} gives the tolerances {found.atol} and {found.rtol}",
        "Give finite numbers from 0 up",
    )
    require(
        found.token is None or found.token.strip(),
        f"fingerprint {name!r} gives an empty token",
        "Give None to a candidate of no degenerate class",
    )


def _elsewhere(
    fingerprint: Fingerprint, space: SearchSpace, task: Task, candidates: Sequence[Candidate]
) -> list[Print]:
    plugins: list[Plugin] = [fingerprint, space, task]
    order = pickle.dumps(
        ([(type(plugin), plugin.options) for plugin in plugins], [dict(one) for one in candidates])
    )
    result = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE],
        input=order,
        env={
            **os.environ,
            "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        check=False,
    )
    last = (result.stderr.decode().strip().splitlines() or [""])[-1]
    require(
        result.returncode == 0,
        f"the print couldn't be computed in another process: {last}",
        "Keep the classes in importable modules, and their state in their options",
    )
    return [
        Print(tuple(Key(*key) for key in keys), tuple(signature), *rest)
        for keys, signature, *rest in json.loads(result.stdout.decode().splitlines()[-1])
    ]


def answer() -> None:
    """Compute the prints that the parent process asks for on standard input."""
    made, candidates = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - from our own parent
    fingerprint, space, task = (cls(options) for cls, options in made)
    prints = [fingerprint.compute(Candidate(one), space, task) for one in candidates]
    sys.stdout.write(json.dumps([astuple(one) for one in prints]))
