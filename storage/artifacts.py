"""Files that trials leave behind: written atomically, recorded with a digest that is checked on read.

Used in workers, which have no catalog: it knows nothing of the database.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import ArtifactError

CHUNK = 1 << 20
KIND_LENGTH = 100


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
        """Copy the file `source` into the trial's folder. Of one kind, the last one saved counts.

        Raises:
            ArtifactError: `source` is no readable file, `kind` no name, or the store can't be written.
        """
        if not 0 < len(kind) <= KIND_LENGTH:
            raise ArtifactError(f"artifact kind {kind!r}: name it with 1 to {KIND_LENGTH} characters")
        if not source.is_file():
            raise ArtifactError(f"artifact {kind!r}: {source} is no file")
        try:
            folder = self.folder(job_id, stage, number) / "artifacts" / safe_name(kind)
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / safe_name(source.name)
            atomic_copy(source, target)
            return describe_file(target, kind, trial_id)
        except OSError as error:
            raise ArtifactError(f"artifact {kind!r} can't be kept under {self.root}: {error}") from error

    def put_bytes(self, data: bytes, job_id: str, stage: str, name: str, kind: str) -> NewArtifact:
        """Write a file of the job's own, beside the stage's trials.

        Raises:
            ArtifactError: the store can't be written.
        """
        try:
            folder = self.root / safe_name(job_id) / safe_name(stage)
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile() as source:
                source.write(data)
                source.flush()
                atomic_copy(Path(source.name), folder / safe_name(name))
            return describe_file(folder / safe_name(name), kind)
        except OSError as error:
            raise ArtifactError(f"artifact {kind!r} can't be kept under {self.root}: {error}") from error

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
        try:
            found = file_digest(path)
        except OSError as error:
            raise ArtifactError(f"the artifact {path} can't be read: {error}") from error
        if found != sha256:
            raise ArtifactError(f"the artifact {path} has changed: SHA-256 {found}, recorded {sha256}")
        return path


def describe_file(path: Path, kind: str, trial_id: int | None = None) -> NewArtifact:
    """An existing file as an artifact."""
    return NewArtifact(kind, str(path.absolute()), file_digest(path), path.stat().st_size, trial_id)


def atomic_copy(source: Path, target: Path) -> None:
    """Copy so that `target` is the old file or the whole new one, whatever happens, power loss included."""
    # Not mkstemp: its files can be read by their owner alone, also once they are in place.
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as out, source.open("rb") as original:
            shutil.copyfileobj(original, out, CHUNK)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        temporary.unlink(missing_ok=True)
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
    return f"{plain[:80]}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"
