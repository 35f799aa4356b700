"""Content-addressed artifacts: a folder per key, complete or absent, with `meta.json` beside its files."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adcore.core.disk import room

META = "meta.json"
BLOCK = 2**16  # bytes hashed at once


class Store:
    """Artifacts under `root`/KIND/KEY. `fallbacks` (what DVC pulled) are looked into before anything is computed."""

    def __init__(self, root: Path, fallbacks: Sequence[Path] = ()) -> None:
        self.root = root
        self.fallbacks = tuple(fallbacks)

    def path(self, kind: str, key: str) -> Path:
        return self.root / kind / key

    def has(self, kind: str, key: str) -> bool:
        """Whether the artifact is there and every file still has its checksum; a damaged one is removed."""
        target = self.path(kind, key)
        if target.exists():  # asked first: what appears after this is another run's, and complete
            if intact(target):
                return True
            self._discard(target)
        for fallback in self.fallbacks:
            if intact(fallback / kind / key):
                self._adopt(fallback / kind / key, target)
                return True
        return False

    def meta(self, kind: str, key: str) -> dict[str, Any]:
        """What was recorded beside the files. Raises FileNotFoundError where the artifact is absent."""
        loaded: dict[str, Any] = json.loads((self.path(kind, key) / META).read_text(encoding="utf-8"))
        return loaded

    @contextlib.contextmanager
    def write(self, kind: str, key: str, meta: dict[str, Any], size: int = 0) -> Iterator[Path]:
        """A fresh folder to fill; on success it appears under its key by one rename, on an error nothing is left.

        `meta` may still be changed inside the block; checksums are added to it. size: bytes that will be written, where
        they are many. Raises DiskFull.
        """
        self.sweep()
        with room(self.root, size):
            folder = self._temporary()
            try:
                yield folder
                files = {path.name: _checksum(path) for path in sorted(folder.iterdir())}
                record = {"key": key, "kind": kind, "files": files, **meta}
                (folder / META).write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")
                self._appear(folder, self.path(kind, key))
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self, key: str, wait: bool = True) -> Iterator[bool]:
        """One process or thread at a time per key; a killed holder frees it. Without `wait`: False if it is taken."""
        path = self.root / "locks" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                held = True
            except BlockingIOError:
                held = False
            yield held

    def export(self, kind: str, key: str, target: Path) -> None:
        """Bring an artifact under `target`/KIND/KEY by hard links, or copies where links cannot be made."""
        if not intact(target / kind / key):
            self._adopt(self.path(kind, key), target / kind / key)

    def used(self, kind: str, key: str) -> None:
        """Remember that an artifact was used just now, for `keep_within`."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path(kind, key))

    def keep_within(self, kind: str, size: float, wanted: int = 0) -> None:
        """Remove the longest unused artifacts of a kind until the others and `wanted` bytes take no more than `size`
        bytes; what somebody has locked stays."""
        sizes = {folder: use_of(folder)[1] for folder in _by_use(self.root / kind)}
        held = wanted + sum(sizes.values())
        for folder in sizes:
            if held <= size:
                break
            with self.lock(folder.name, wait=False) as free:
                if free:
                    self._discard(folder)
                    held -= sizes[folder]

    def sweep(self) -> None:
        """Remove what killed processes of this machine left half-written."""
        for folder in (self.root / "tmp").glob(f"*@{socket.gethostname()}@*"):
            if not _alive(int(folder.name.partition("@")[0])):
                shutil.rmtree(folder, ignore_errors=True)

    def _temporary(self) -> Path:
        folder = self.root / "tmp" / f"{os.getpid()}@{socket.gethostname()}@{uuid.uuid4().hex}"
        folder.mkdir(parents=True)
        return folder

    def _appear(self, folder: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(target)
        except OSError:
            if not intact(target):  # another run may have finished the same key first, which is as good
                self._discard(target)
                folder.rename(target)

    def _adopt(self, source: Path, target: Path) -> None:
        folder = self._temporary()
        try:
            for path in source.iterdir():
                try:
                    os.link(path, folder / path.name)
                except OSError:
                    shutil.copyfile(path, folder / path.name)
            self._appear(folder, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _discard(self, target: Path) -> None:
        if target.exists():
            grave = self._temporary() / "damaged"
            with contextlib.suppress(FileNotFoundError):
                target.rename(grave)
            shutil.rmtree(grave.parent, ignore_errors=True)


class Remembering(Store):
    """The same store for the time of one run: what it has found intact is not read and summed again."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.root, store.fallbacks)
        self._intact: set[tuple[str, str]] = set()

    def has(self, kind: str, key: str) -> bool:
        """As `Store.has`, which is asked until the artifact is there."""
        if (kind, key) not in self._intact and super().has(kind, key):
            self._intact.add((kind, key))
        return (kind, key) in self._intact


def intact(folder: Path) -> bool:
    """Whether `folder` holds a complete artifact whose files have their recorded checksums."""
    try:
        files = json.loads((folder / META).read_text(encoding="utf-8"))["files"]
        return all(_checksum(folder / name) == checksum for name, checksum in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _by_use(root: Path) -> list[Path]:
    """The folders of artifacts, longest unused first."""
    times = {folder: use_of(folder)[0] for folder in root.iterdir()} if root.is_dir() else {}
    return sorted(times, key=lambda folder: times[folder])


def use_of(folder: Path) -> tuple[float, int]:
    """When a folder was last used, and its bytes; nothing for one that is not there (any more)."""
    try:
        return folder.stat().st_mtime, sum(file.stat().st_size for file in folder.iterdir())
    except FileNotFoundError:
        return 0.0, 0


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:  # hashlib.file_digest takes 256 KB for each of thousands of small files
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
