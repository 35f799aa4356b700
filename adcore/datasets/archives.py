"""Unpacking of archives that somebody else made: nothing outside the folder, no links, and an end to size and count."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from adcore.core.names import printable
from adcore.datasets.base import DataError, Progress, silent

LARGEST = 100 * 2**30  # bytes of all files together; MVTec 3D-AD, the largest set, has about 13 GB
MOST = 250_000  # files and folders
DEEPEST = 40  # folders within each other
_CHUNK = 2**20  # bytes read at once; no header of a sound tar file is longer
_INDEX = 2**25  # bytes of the index of a zip file, which is read at once
_UNFINISHED = ".unpacked."
_COMPRESSED: dict[bytes, Callable[[IO[bytes]], io.BufferedIOBase]] = {  # by the bytes that a file begins with
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}


class _Oversized(Exception):
    """An archive asks for a read that needs more memory than any sound one does."""


_BROKEN = (
    _Oversized,
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    gzip.BadGzipFile,
)


@dataclass(frozen=True)
class _Member:
    """A file or folder of an archive; what is neither was refused."""

    name: str
    content: IO[bytes] | None  # None: a folder


@contextmanager
def unpacked(archive: Path, beside: Path, progress: Progress = silent) -> Iterator[Path]:
    """A fresh folder in `beside` with all that a tar (plain, gz, bz2, xz) or zip file holds, for the time of the block.

    Move out of it what is to stay: the folder is gone afterwards, however the block ends. `progress` hears of bytes of
    the archive. Raises DataError for a damaged archive, and, before anything of that member is written, for an absolute
    path, a path with `..` or control characters, a link, a device, a name that occurs twice, more than DEEPEST folders
    within each other, more than LARGEST bytes or MOST files and folders, and a header that does not fit into memory.
    """
    beside.mkdir(parents=True, exist_ok=True)
    _forget_killed(beside)
    folder = beside / f"{_UNFINISHED}{os.getpid()}.{os.urandom(4).hex()}"
    folder.mkdir()
    try:
        _unpack(archive, folder, progress)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _forget_killed(beside: Path) -> None:
    """Remove what a killed process left behind."""
    for old in beside.glob(f"{_UNFINISHED}*.*"):
        owner = old.name.removeprefix(_UNFINISHED).split(".")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            shutil.rmtree(old, ignore_errors=True)


def _unpack(archive: Path, folder: Path, progress: Progress) -> None:
    size, total = 0, archive.stat().st_size
    try:
        with archive.open("rb") as stream, closing(_members(archive, stream)) as members:
            for count, member in enumerate(members, start=1):
                if count > MOST:
                    raise DataError(f"{archive.name} holds more than {MOST:,} files and folders; it is not unpacked")
                target = folder.joinpath(*_parts(archive, member.name))
                if member.content is None:
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                size += _write(member.content, target, LARGEST - size, archive)
                progress(stream.tell(), total)
    except FileExistsError as error:
        raise DataError(f"{archive.name} holds {Path(error.filename).name} twice; it is not unpacked") from None
    except _BROKEN as error:
        raise _damaged(archive, error) from None
    except OSError as error:
        if error.errno is None:  # of bz2
            raise _damaged(archive, error) from None
        raise DataError(f"{archive.name} cannot be unpacked into {folder.parent}: {error.strerror or error}") from None


def _damaged(archive: Path, error: Exception) -> DataError:
    return DataError(f"{archive.name} is damaged or cut short ({printable(str(error))}); fetch it again")


class _Bounded(io.BufferedReader):
    """A stream of which at most `most` bytes are read at once, whatever the headers within ask for."""

    most = _CHUNK

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.most:
            raise _Oversized(f"a header of {size:,} bytes")
        return super().read(size)


def _members(archive: Path, stream: IO[bytes]) -> Generator[_Member, None, None]:
    beginning = stream.read(6)
    stream.seek(0)
    wrapper = next((opened for magic, opened in _COMPRESSED.items() if beginning.startswith(magic)), None)
    with _Bounded(wrapper(stream) if wrapper else stream) as bounded:  # type: ignore[arg-type]
        try:
            opened = tarfile.open(fileobj=bounded, mode="r:")  # noqa: SIM115  (closed by _of_tar)
        except tarfile.ReadError:
            bounded.seek(0)
            if not zipfile.is_zipfile(bounded):
                raise DataError(f"{archive.name} is no tar or zip file, or it is damaged; fetch it again") from None
            bounded.most = _INDEX
            yield from _of_zip(archive, bounded)
        else:
            yield from _of_tar(archive, opened)


def _of_tar(archive: Path, opened: tarfile.TarFile) -> Iterator[_Member]:
    with opened:
        for info in opened:
            if info.isdir():
                yield _Member(info.name, None)
            elif info.isreg():
                yield _Member(info.name, opened.extractfile(info))
            else:
                raise _refused(archive, info.name, "is neither a file nor a folder (a link or a device)")


def _of_zip(archive: Path, stream: IO[bytes]) -> Iterator[_Member]:
    with zipfile.ZipFile(stream) as opened:
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                yield _Member(info.filename, None)
            elif kind in (0, stat.S_IFREG):
                with opened.open(info) as content:
                    yield _Member(info.filename, content)
            else:
                raise _refused(archive, info.filename, "is neither a file nor a folder (a link or a device)")


def _parts(archive: Path, name: str) -> tuple[str, ...]:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or ":" in (path.parts or ("",))[0]:
        raise _refused(archive, name, "lies outside the archive's own folder")
    if printable(name) != name:
        raise _refused(archive, name, "has control characters, or bytes that are no text, in its name")
    if len(path.parts) > DEEPEST:
        raise _refused(archive, f"{name[:80]}...", f"lies in more than {DEEPEST} folders within each other")
    return path.parts


def _refused(archive: Path, name: str, why: str) -> DataError:
    return DataError(f"{archive.name} is not unpacked: its member {name!r} {why}; fetch it from its owners")


def _write(content: IO[bytes], target: Path, room: int, archive: Path) -> int:
    written = 0
    with target.open("xb") as out:
        while part := content.read(_CHUNK):
            written += len(part)
            if written > room:
                raise DataError(f"{archive.name} holds more than {LARGEST:,} bytes; it is not unpacked")
            out.write(part)
    return written
