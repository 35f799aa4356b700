"""What earlier runs found in files, kept in an SQLite file. It is only a cache: a damaged one is made anew, and without
one files are read again."""

from __future__ import annotations

import sqlite3
import sys
import zlib
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from adcore.core import sqlite_files

PATIENCE = 10  # seconds that another process may keep it locked
COLUMNS = (
    *("path", "role", "stamp", "sha256", "width", "height", "mode", "orientation", "highest", "bytes"),
    *("share", "problem", "doubt"),
)

Row = tuple[Any, ...]  # in the order of COLUMNS


def recall(cache: Path, first: str, end: str) -> list[Row]:
    """The rows whose path lies from `first` to before `end`, without those that are not as they were written."""
    query = f"SELECT {', '.join(COLUMNS)}, checksum FROM probes WHERE path >= ? AND path < ?"
    rows = _tried(cache, lambda database: database.execute(query, (first, end)).fetchall())
    return [tuple(row) for *row, checksum in rows or () if checksum == _checksum(row)]


def remember(cache: Path, rows: Iterable[Row]) -> None:
    """Keep rows, in place of those of the same path and role."""
    checked = [(*row, _checksum(row)) for row in rows]
    command = f"INSERT OR REPLACE INTO probes VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"
    _tried(cache, lambda database: database.executemany(command, checked))


def _tried(cache: Path, work: Callable[[sqlite3.Connection], Any]) -> Any:
    """What `work` gives: after a second try with a new file where this one is damaged, None where none can be used."""
    try:
        return _done(cache, work)
    except sqlite3.Error as error:
        # SQLITE_ERROR: there is something in it, but not what we write.
        other = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
        if not sqlite_files.is_damage(error) and not other:
            return _go_without(cache, error)
        state = "of another version of adcore" if other else "damaged"
        sys.stderr.write(f"{cache} is {state} ({error}); it is only a cache and is made anew\n")
        sqlite_files.remove(cache)
    try:
        return _done(cache, work)
    except sqlite3.Error as error:
        return _go_without(cache, error)


def _done(cache: Path, work: Callable[[sqlite3.Connection], Any]) -> Any:
    cache.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(cache, timeout=PATIENCE)) as database, database:
        columns = ", ".join(COLUMNS)
        database.execute(
            f"CREATE TABLE IF NOT EXISTS probes ({columns}, checksum INT, PRIMARY KEY (path, role)) WITHOUT ROWID"
        )
        return work(database)


def _go_without(cache: Path, error: sqlite3.Error) -> None:
    sys.stderr.write(f"{cache} cannot be used ({error}); it is only a cache, and files are read again without it\n")


def _checksum(row: Iterable[Any]) -> int:
    """SQLite does not notice a changed byte of a value, and a wrong sha256 would be another image."""
    return zlib.crc32(repr([int(value) if isinstance(value, bool) else value for value in row]).encode())
