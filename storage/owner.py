"""Who holds a lease: a process, named so that others on its machine can tell whether it still lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path

PROC = Path("/proc")


def this_process() -> str:
    """This process as an owner: `host:pid`, when it started, and where that pid counts."""
    pid = os.getpid()
    return f"{socket.gethostname()}:{pid} {_started(pid)} {_namespace()}"


def shown(owner: str | None) -> str:
    """An owner as people read it: `host:pid`, or whatever else was given as one."""
    place, _, rest = (owner or "nobody").partition(" ")
    return place if "/pid:" in rest else owner or place


def known_dead(owner: str | None) -> bool:
    """Whether the owner is a process of this very machine that no longer lives. False when in doubt."""
    try:
        place, started, namespace = (owner or "").split(" ")
        pid = int(place.rsplit(":", 1)[1])
    except (ValueError, IndexError):
        return False
    return bool(namespace) and namespace == _namespace() and _started(pid) != started


def _namespace() -> str:
    """The running system and its space of process ids: pids of other containers mean nothing here."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{(PROC / 'self/ns/pid').readlink().name}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When the process started, in ticks of the system's clock; "" when there is none, or only its body."""
    try:
        # The name, in parentheses, may hold spaces. After it: state, …, the start as the 22nd field of all.
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]
