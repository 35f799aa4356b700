"""Digests of code, kept in a workspace: to read all of adcore takes longer than to look up the cells of a plan."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

from adcore.core.disk import DiskFull, write_file
from adcore.core.shipped import PACKAGE

NAME = "code.json"

_folder: Path | None = None


def keep(folder: Path) -> None:
    """From now on in this process, digests of adcore's code are kept in a file of that folder."""
    global _folder
    _folder = folder


def kept(name: str, make: Callable[[], str]) -> str:
    """What `make` finds of adcore's code, from the file where the same sources have led to it before.

    Sources that were changed while this process runs, so that it may have read some before and some after, are neither
    looked up nor kept."""
    now = sources()
    if _folder is None or now != _first():
        return make()
    path = _folder / NAME
    known = _read(path, now)
    if name not in known:
        known[name] = make()
        if sources() == now:
            text = json.dumps({"sources": now, "digests": {**_read(path, now), **known}}, indent=1, sort_keys=True)
            with contextlib.suppress(OSError, DiskFull):  # then the next process reads them again
                write_file(path, text.encode())
    return known[name]


def sources() -> str:
    """A digest of all of adcore's files, and of the Python whose grammar they are read by."""
    found = hashlib.sha256(sys.version.encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(PACKAGE)} {len(content)}\n".encode() + content)
    return found.hexdigest()


@functools.cache
def _first() -> str:
    """The sources as they were before this process read any for a digest."""
    return sources()


def _read(path: Path, wanted: str) -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # absent, or no file of ours
        loaded = json.loads(path.read_text(encoding="utf-8"))
        if loaded["sources"] == wanted:
            return {str(name): str(value) for name, value in loaded["digests"].items()}
    return {}
