"""Files: written whole or not at all, and checked when read."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrate.core.errors import ArtifactError
from orchestrate.storage.artifacts import ArtifactStore, safe_name


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def made(tmp_path: Path, content: bytes = b"weights", name: str = "model.safetensors") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_a_file_is_kept_and_found_again(store: ArtifactStore, tmp_path: Path) -> None:
    source = made(tmp_path)
    kept = store.put(source, "job-abc", "my stage", 3, "weights", 42)
    assert (kept.kind, kept.size, kept.trial_id) == ("weights", 7, 42)
    assert kept.sha256 == hashlib.sha256(b"weights").hexdigest()
    source.unlink()
    found = store.verify(kept.uri, kept.sha256)
    assert found.read_bytes() == b"weights"
    assert found.is_relative_to(store.folder("job-abc", "my stage", 3))
    assert found.suffix == ".safetensors"  # exporters and viewers go by it
    assert oct(found.stat().st_mode & 0o777) == oct(0o666 & ~_umask())  # other users of a cluster can read it


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_kind_is_replaced_and_leaves_no_temporary_files(store: ArtifactStore, tmp_path: Path) -> None:
    old = store.put(made(tmp_path, b"old"), "j", "s", 0, "weights")
    with Path(old.uri).open("rb") as reader:
        new = store.put(made(tmp_path, b"new"), "j", "s", 0, "weights")
        assert reader.read() == b"old"  # replaced, not overwritten under a reader's eyes
    assert old.uri == new.uri
    assert store.verify(new.uri, new.sha256).read_bytes() == b"new"
    with pytest.raises(ArtifactError, match="has changed"):
        store.verify(old.uri, old.sha256)
    assert [path.name for path in store.root.rglob("*") if path.is_file()] == ["model.safetensors"]


def test_kinds_dont_touch_each_other_nor_the_trials_other_files(store: ArtifactStore, tmp_path: Path) -> None:
    checkpoint = store.folder("j", "s", 0) / "checkpoint.pt"
    checkpoint.write_bytes(b"mine")
    source = made(tmp_path, b"yours", "checkpoint.pt")
    kinds = ["checkpoint", "checkpoint.pt", "a/b", "a_b", "..", ".", "artifacts"]
    uris = {store.put(source, "j", "s", 0, kind).uri for kind in kinds}
    assert len(uris) == len(kinds)
    assert checkpoint.read_bytes() == b"mine"


def test_missing_changed_and_unreadable_files_are_named(store: ArtifactStore, tmp_path: Path) -> None:
    kept = store.put(made(tmp_path), "j", "s", 0, "weights")
    Path(kept.uri).write_bytes(b"weighty")
    with pytest.raises(ArtifactError, match=f"{kept.uri} has changed"):
        store.verify(kept.uri, kept.sha256)
    Path(kept.uri).unlink()
    with pytest.raises(ArtifactError, match=f"{kept.uri} is missing"):
        store.verify(kept.uri, kept.sha256)


@pytest.mark.parametrize("kind", ["", "k" * 101])
def test_kinds_that_the_catalog_couldnt_keep_are_refused(
    store: ArtifactStore, tmp_path: Path, kind: str
) -> None:
    with pytest.raises(ArtifactError, match="1 to 100 characters"):
        store.put(made(tmp_path), "j", "s", 0, kind)


def test_what_cant_be_copied_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is no file"):
        store.put(tmp_path, "j", "s", 0, "weights")
    store.root.write_text("a file where the store should be")
    with pytest.raises(ArtifactError, match="can't be kept under"):
        store.put(made(tmp_path), "j", "s", 0, "weights")


def test_a_copy_that_is_killed_leaves_the_old_file(store: ArtifactStore, tmp_path: Path) -> None:
    kept = store.put(made(tmp_path, b"old"), "j", "s", 0, "weights")
    code = (
        "import os, shutil, sys\n"
        "from pathlib import Path\n"
        "from orchestrate.storage import artifacts\n"
        "def half(source, out, chunk):\n"
        "    out.write(source.read()[:3]); out.flush(); os.kill(os.getpid(), 9)\n"
        "shutil.copyfileobj = half\n"
        "artifacts.ArtifactStore(Path(sys.argv[1])).put(Path(sys.argv[2]), 'j', 's', 0, 'weights')\n"
    )
    source = made(tmp_path, b"new and longer")
    arguments = [sys.executable, "-c", code, str(store.root), str(source)]
    done = subprocess.run(arguments, check=False, env={"PYTHONPATH": ":".join(sys.path)})
    assert done.returncode == -9
    assert store.verify(kept.uri, kept.sha256).read_bytes() == b"old"


names = st.text(min_size=1, max_size=120)


@given(names, names)
@example("a/b", "a_b")
@example("..", ".")
@example("\ud800", "\ud801")
def test_file_names_are_safe_and_tell_texts_apart(one: str, two: str) -> None:
    for name in (safe_name(one), safe_name(two)):
        assert name == Path(name).name
        assert name not in {"", ".", ".."}
        assert name.isascii()
        assert not name.startswith(".")
        assert len(name) <= 100
    assert (safe_name(one) == safe_name(two)) == (one == two)
