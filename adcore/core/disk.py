"""Files that appear whole or not at all, and a full disk as one error that names the folder and the bytes."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import sys
from pathlib import Path
from types import TracebackType

WORDS = (os.strerror(errno.ENOSPC), "database or disk is full")
LEAST = 2**18  # bytes that must be free before anything is begun: less is eaten up by logs and empty folders


class DiskFull(Exception):
    """There is no room for what is to be written: one sentence, which names the folder and the bytes."""

    @classmethod
    def of(cls, folder: Path, wanted: int) -> DiskFull:
        """For `wanted` bytes, or more than are free, under a folder that need not be there yet."""
        free = free_bytes(folder)
        bytes_wanted = f"{wanted:,}" if wanted > free else f"more than {free:,}"
        mend = "make room there and run again: what was computed stays"
        return cls(f"no space left in {folder}: {bytes_wanted} bytes are wanted, {free:,} are free; {mend}")


class room:
    """With at least `wanted` bytes free under a folder: raises DiskFull before the block, and for a full disk in it."""

    def __init__(self, folder: Path, wanted: int = LEAST) -> None:
        self.folder = folder
        self.wanted = max(wanted, LEAST)

    def __enter__(self) -> None:
        if free_bytes(self.folder) < self.wanted:
            raise DiskFull.of(self.folder, self.wanted)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, DiskFull) and is_full(error):
            raise DiskFull.of(self.folder, self.wanted) from error


def free_bytes(folder: Path) -> int:
    """Bytes that may be written under a folder, or under the nearest above it that is there; no bound where a network
    file system does not tell."""
    # Not Path.is_dir, which raises for a name that is too long; that is told elsewhere.
    there = next(place for place in (folder, *folder.parents) if os.path.isdir(place))  # noqa: PTH112
    usage = shutil.disk_usage(there)
    return usage.free if usage.total else sys.maxsize


def is_full(error: object) -> bool:
    """Whether an error, or what caused it, says that the disk, or this user's share of it, is full.

    Libraries in other languages (safetensors, Arrow), and those around SQLite, only pass on the words."""
    while isinstance(error, BaseException):
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return True
        if isinstance(error, DiskFull) or any(words in str(error) for words in WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that a kill leaves it whole or absent, and concurrent writers do not mix. Raises DiskFull."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    with room(path.parent, len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
