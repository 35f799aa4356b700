"""Fetching of large files: several sources, resumed after a cut, and checked before anybody reads them."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from adcore.datasets.base import DataError, Progress, silent

TRIES = 5  # of one source, in a row, without a byte more
PAUSE = 2.0  # seconds before the next of them
TIMEOUT = 60.0  # seconds without an answer
LARGEST = 100 * 2**30  # bytes
_CHUNK = 2**20


class _Dead(Exception):
    """This source cannot give the file; the message says why."""


def download(urls: Sequence[str], sha256: str, target: Path, progress: Progress = silent) -> None:
    """Put the file with this checksum at `target`, from the first source that has it.

    What was fetched before a cut, or by an earlier run, is kept in TARGET.part and continued (HTTP Range). `progress`
    hears of bytes. Nothing appears at `target` unless its checksum is right. Raises DataError when no source is left,
    with what was wrong with each.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    reasons = []
    for url in urls:
        try:
            _fetch(url, part, progress)
            found = checksum(part)
            if found == sha256:
                part.replace(target)
                return
            part.unlink()
            reasons.append(f"{url}: its checksum is {found[:12]}..., not {sha256[:12]}...")
        except _Dead as error:
            reasons.append(f"{url}: {error}")
    raise DataError("; ".join(reasons))


def checksum(path: Path) -> str:
    """SHA-256 of a file in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fetch(url: str, part: Path, progress: Progress) -> None:
    """Fetch what is missing of a file. Raises _Dead."""
    if not url.startswith(("https://", "http://")):
        raise _Dead("it is no http address")
    tries = 0
    while True:
        before = _size(part)
        try:
            if _continue(url, part, progress):
                return
            why = "the connection was cut"
        except urllib.error.HTTPError as error:
            if error.code in (404, 410, 401, 403):
                raise _Dead(f"it answers {error.code} {error.reason}") from None
            why = f"it answers {error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            why = str(getattr(error, "reason", error)) or type(error).__name__
        tries = 0 if _size(part) > before else tries + 1
        if tries >= TRIES:
            raise _Dead(why)
        time.sleep(PAUSE)


def _continue(url: str, part: Path, progress: Progress) -> bool:
    """Fetch on from where the part ends; whether it is complete afterwards."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing lies beyond what we have: it is complete, or not of this file
            if error.headers.get("Content-Range", "").endswith(f"/{have}"):
                return True
            part.unlink()
            return False
        raise
    with answer:
        if answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # the source cannot continue, so it sends all of it
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else 0
        _check_room(part, total, have)
        with part.open("r+b" if have else "wb") as out:
            out.seek(have)
            while chunk := answer.read(_CHUNK):
                out.write(chunk)
                have += len(chunk)
                if have > LARGEST:
                    raise _Dead(f"it sends more than {LARGEST:,} bytes")
                progress(have, max(total, have))
    return not total or have == total


def _check_room(part: Path, total: int, have: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total > LARGEST:
        raise _Dead(f"it has {total:,} bytes, more than {LARGEST:,}")
    if total - have > free:
        raise DataError(f"{part.parent} has {free:,} bytes left, and {total - have:,} are to come; make room")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
