"""SQLite files of a workspace: how a URL names them, which are damaged, and how one makes room for a new one."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def url(path: Path, driver: str = "pysqlite") -> str:
    """SQLAlchemy's URL of exactly this file, whose path may hold `?` and `%41`. With its driver, because MLflow makes a
    folder of the quoted name for a URL that begins with `sqlite:///`."""
    return f"sqlite+{driver}:///{quote(str(path))}"


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file is no database, or a broken one; not that it is locked, or the disk full."""
    return getattr(error, "sqlite_errorcode", None) in DAMAGE


def damage(path: Path, timeout: float) -> str:
    """What is wrong inside an existing database, "" for nothing. It is read whole, and could be written to.

    Raises sqlite3.OperationalError where another process keeps it locked for `timeout` seconds.
    """
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=timeout)) as connection:
        try:
            (first,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            return str(error)
    return "" if first == "ok" else str(first).splitlines()[-1]


def set_aside(path: Path) -> Path:
    """Rename a database, with the journals that belong to it, so that a new one can be made; where it is now."""
    for number in itertools.count(1):
        target = path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")
        if not target.exists():
            break
    for suffix in ("-journal", "-wal", "-shm"):
        if path.with_name(path.name + suffix).exists():
            path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))
    return path.rename(target)


def remove(path: Path) -> None:
    """Delete a database that is only a cache, with its journals."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
