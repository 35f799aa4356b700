"""Files of a data set that are not read: each place is named in a remark, with the number of its files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from adcore.core.names import written
from adcore.datasets._folders import EXTENSIONS, files, files_below, folders, relative
from adcore.datasets.base import GOOD, PASSED_OVER, Entry

_OTHERS = (".gif", ".jp2", ".heic", ".heif", ".avif", ".tga", ".exr", ".dng", ".raw", ".dcm")  # images all the same
_NAMED = 3  # files that a remark names


def passed_over(root: Path, category: str, parents: Iterable[Path], read: Collection[Path]) -> Iterator[Entry]:
    """A remark for each place with files that are not read. A parent holds folders of images and nothing else; `read`
    are the files that a listing took, and folders whose content it knows."""
    for parent in parents:
        yield from remark(root, category, parent, files(parent), "beside the folders of images; move them into one")
        for place in folders(parent):
            if place not in read:
                rest = [file for file in files(place) if file not in read]
                yield from remark(root, category, place, rest, _reason(rest))
                for below in folders(place):
                    if below not in read:
                        why = f"within a folder of images; move them up into {written(place.name)}"
                        yield from remark(root, category, below, files_below(below), why)


def remark(root: Path, category: str, place: Path, rest: list[Path], why: str) -> Iterator[Entry]:
    """That the files of one place are passed over, and why; nothing where there are none."""
    if rest:
        shown = ", ".join(written(file.name) for file in rest[:_NAMED]) + (", ..." if len(rest) > _NAMED else "")
        count = "1 file" if len(rest) == 1 else f"{len(rest)} files"
        error = f"{PASSED_OVER}: {count} ({shown}) {why}"
        yield Entry(relative(place, root), category, "", GOOD, error=error)


def _reason(rest: list[Path]) -> str:
    if all(file.suffix.lower() in EXTENSIONS for file in rest):
        return "that the set does not list"
    return f"that are not read, as {', '.join(extension[1:] for extension in EXTENSIONS)} are"


def is_picture(file: Path) -> bool:
    """Whether a file is an image by its extension, one that is read or another one."""
    return file.suffix.lower() in EXTENSIONS + _OTHERS
