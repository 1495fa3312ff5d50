"""Files that trials leave behind: written atomically, named by content digest, checked on read.

Used in workers, which have no catalog: it knows nothing of the database.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import ArtifactError

CHUNK = 1 << 20


@dataclass(frozen=True)
class NewArtifact:
    """A file as it enters the catalog. `trial_id` is None for the job's own files."""

    kind: str
    uri: str
    sha256: str
    size: int
    trial_id: int | None = None


@dataclass(frozen=True)
class ArtifactStore:
    """Files under `root`, one folder a trial. On a cluster every node must see the same `root`."""

    root: Path

    def folder(self, job_id: str, stage: str, number: int) -> Path:
        """The trial's folder, made when it isn't there."""
        folder = self.root / safe_name(job_id) / safe_name(stage) / f"{number:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def put(
        self, source: Path, job_id: str, stage: str, number: int, kind: str, trial_id: int | None = None
    ) -> NewArtifact:
        """Copy `source` into the trial's folder under its kind and file ending.

        Raises:
            ArtifactError: `source` is no readable file, or the store can't be written.
        """
        if not source.is_file():
            raise ArtifactError(f"artifact {kind!r}: {source} is no file")
        target = self.folder(job_id, stage, number) / (safe_name(kind) + source.suffix)
        try:
            atomic_copy(source, target)
        except OSError as error:
            raise ArtifactError(f"artifact {kind!r} can't be written to {target}: {error}") from error
        return describe_file(target, kind, trial_id)

    def verify(self, uri: str, sha256: str) -> Path:
        """Locate a file and check its digest.

        Raises:
            ArtifactError: it is missing or has changed since it was recorded.
        """
        path = Path(uri)
        if not path.is_file():
            raise ArtifactError(
                f"the artifact {path} is missing: the store was moved or cleaned, or this node doesn't see it"
            )
        found = file_digest(path)
        if found != sha256:
            raise ArtifactError(f"the artifact {path} has changed: SHA-256 {found}, recorded {sha256}")
        return path


def describe_file(path: Path, kind: str, trial_id: int | None = None) -> NewArtifact:
    """An existing file as an artifact."""
    return NewArtifact(kind, str(path.absolute()), file_digest(path), path.stat().st_size, trial_id)


def atomic_copy(source: Path, target: Path) -> None:
    """Copy so that `target` is either the old file or the whole new one, whatever happens."""
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as out, source.open("rb") as original:
            shutil.copyfileobj(original, out, CHUNK)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safe_name(text: str) -> str:
    """A file name for any text: readable, without separators, and different for different texts."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", text).strip(".") or "_"
    if plain == text and len(text) <= 100:
        return text
    return f"{plain[:80]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
