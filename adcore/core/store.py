"""Content-addressed artifacts: a folder per key, complete or absent, with `meta.json` beside its files."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adcore.core.disk import room
from adcore.core.errors import RemoteGone

if TYPE_CHECKING:
    from adcore.core.remote import Remote

META = "meta.json"
BLOCK = 2**16  # bytes hashed at once
# Kinds that stay on their machine. A fit is large, leaves within `budget.disk_gb` here but would never leave a bucket,
# and nothing needs it once the maps are there; what does is fitted again. (Features and checkpoints are no artifacts.)
OWN = ("fit",)
TRIES = 3  # to put an artifact that is refused, as if it were there, and then is not
FETCHES = 16  # at once


class Store:
    """Artifacts under `root`/KIND/KEY. `fallbacks` (what DVC pulled) are looked into before anything is computed.

    With a `remote`, which other machines share, `root` is this machine's cache of it: what is written here is put there
    first, and what is only there is fetched when it is asked for or read. What asks it raises RemoteGone."""

    def __init__(self, root: Path, fallbacks: Sequence[Path] = (), remote: Remote | None = None) -> None:
        self.root = root
        self.fallbacks = tuple(fallbacks)
        self.remote = remote

    def here(self, kind: str, key: str) -> Path:
        """Where the artifact lies on this machine, if it does."""
        return self.root / kind / key

    def path(self, kind: str, key: str) -> Path:
        """Where the artifact can be read, if it is there: one that only the remote has is fetched."""
        target = self.here(kind, key)
        if not target.exists():  # as behind a step that Prefect has from its cache, whose body has asked for nothing
            self._fetch(kind, key)
        return target

    def has(self, kind: str, key: str) -> bool:
        """Whether the artifact is there and every file still has its checksum; a damaged one is removed.

        With a remote it is there as well from now on: other machines count on what a step says is done."""
        if not self._is_here(kind, key):
            return self._fetch(kind, key)
        remote = self._remote(kind)
        if remote and not remote.has(kind, key):
            self._put(kind, key, self.here(kind, key))
        return True

    def expects(self, kind: str, key: str) -> bool:
        """As `has`, to plan with."""
        return self.has(kind, key)

    def bring(self, kind: str, keys: Iterable[str]) -> None:
        """Fetch those artifacts that only the remote has, several at once, for who will read them one by one."""
        if self._remote(kind):
            with ThreadPoolExecutor(FETCHES) as pool:
                list(pool.map(lambda key: self.has(kind, key), keys))

    def meta(self, kind: str, key: str) -> dict[str, Any]:
        """What was recorded beside the files. Raises FileNotFoundError where the artifact is absent."""
        loaded: dict[str, Any] = json.loads((self.path(kind, key) / META).read_text(encoding="utf-8"))
        return loaded

    @contextlib.contextmanager
    def write(self, kind: str, key: str, meta: dict[str, Any], size: int = 0) -> Iterator[Path]:
        """A fresh folder to fill; on success it appears under its key by one rename, on an error nothing is left.

        It is put into the remote before that, so that no machine believes in what others cannot see. Where another one
        was first, its files are taken instead. Where the remote is gone, the artifact stays here, behind RemoteGone.

        `meta` may still be changed inside the block; checksums are added to it. size: bytes that will be written, where
        they are many. Raises DiskFull.
        """
        self.sweep()
        with room(self.root, size), self._scratch() as folder:
            yield folder
            files = {path.name: _checksum(path) for path in sorted(folder.iterdir())}
            record = {"key": key, "kind": kind, "files": files, **meta}
            (folder / META).write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")
            try:
                self._put(kind, key, folder)
            finally:
                self._appear(folder, self.here(kind, key))

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
            os.utime(self.here(kind, key))

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

    def _is_here(self, kind: str, key: str) -> bool:
        """Whether it is intact on this machine; a damaged one is removed, one that DVC pulled is taken."""
        target = self.here(kind, key)
        if target.exists():  # asked first: what appears after this is another run's, and complete
            if intact(target):
                return True
            self._discard(target)
        for fallback in self.fallbacks:
            if intact(fallback / kind / key):
                self._adopt(fallback / kind / key, target)
                return True
        return False

    def _remote(self, kind: str) -> Remote | None:
        """The remote, for a kind that it has."""
        return None if kind in OWN else self.remote

    def _fetch(self, kind: str, key: str) -> bool:
        """Whether the remote had it, sound; then it is here."""
        remote = self._remote(kind)
        if remote is None:
            return False
        with self._scratch() as scratch:
            found = remote.pull(kind, key, scratch / "artifact", scratch / "part.tar")
            if found:
                self._appear(scratch / "artifact", self.here(kind, key))
        return found

    def _put(self, kind: str, key: str, folder: Path) -> None:
        """Put a complete artifact into the remote, if there is one. Where another machine was first, its files take the
        place of these: all are to hold the same bytes."""
        remote = self._remote(kind)
        if remote is None:
            return
        with self._scratch() as scratch:
            part, theirs = scratch / "part.tar", scratch / "theirs"
            for _ in range(TRIES):
                if remote.push(kind, key, folder, part):
                    return
                if remote.pull(kind, key, theirs, part):
                    folder.rename(scratch / "ours")
                    theirs.rename(folder)
                    return
                shutil.rmtree(theirs, ignore_errors=True)
        raise remote.gone(f"it refuses {kind}/{key} as if it were there, and does not give it")

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A folder of this process, removed behind the block; what a kill leaves of it is swept."""
        folder = self.root / "tmp" / f"{os.getpid()}@{socket.gethostname()}@{uuid.uuid4().hex}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _appear(self, folder: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(target)
        except OSError:
            if not intact(target):  # another run may have finished the same key first, which is as good
                self._discard(target)
                folder.rename(target)

    def _adopt(self, source: Path, target: Path) -> None:
        with self._scratch() as folder:
            for path in source.iterdir():
                try:
                    os.link(path, folder / path.name)
                except OSError:
                    shutil.copyfile(path, folder / path.name)
            self._appear(folder, target)

    def _discard(self, target: Path) -> None:
        if target.exists():
            with self._scratch() as grave, contextlib.suppress(FileNotFoundError):
                target.rename(grave / "damaged")


class Remembering(Store):
    """The same store for the time of one run: what it has found intact is not read and summed again, and the remote is
    not asked for what it did not list, once a kind."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.root, store.fallbacks, store.remote)
        self._intact: set[tuple[str, str]] = set()
        self._lists: dict[str, frozenset[str]] = {}
        self._listing = threading.Lock()

    def has(self, kind: str, key: str) -> bool:
        """As `Store.has`, but that it puts nothing into the remote: that is `share`."""
        return self._is_known(kind, key) or (self._is_listed(kind, key) and self._fetch(kind, key))

    def expects(self, kind: str, key: str) -> bool:
        """As `has`, to plan with: what the remote lists is believed unread, and fetched by who needs it."""
        return self._is_known(kind, key) or self._is_listed(kind, key)

    def share(self) -> None:
        """Put into the remote what was found here and it does not list: of runs without it, or cut off from it."""
        for kind, key in sorted(self._intact):
            if self._remote(kind) and not self._is_listed(kind, key):
                self._put(kind, key, self.here(kind, key))

    def look_again(self) -> None:
        """Forget what the remote has listed, since other machines have put more there. One that is gone is left out
        from here on: what is on this machine can still be read."""
        self._lists.clear()
        try:
            if self.remote:
                self.remote.keys("probe")  # where `check` has left nothing: does it answer?
        except RemoteGone:
            self.remote = None

    def _is_known(self, kind: str, key: str) -> bool:
        if (kind, key) not in self._intact and self._is_here(kind, key):
            self._intact.add((kind, key))
        return (kind, key) in self._intact

    def _fetch(self, kind: str, key: str) -> bool:
        found = super()._fetch(kind, key)
        if found:
            self._intact.add((kind, key))
        return found

    def _is_listed(self, kind: str, key: str) -> bool:
        remote = self._remote(kind)
        if remote is None:
            return False
        with self._listing:
            if kind not in self._lists:
                self._lists[kind] = remote.keys(kind)
            return key in self._lists[kind]


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
