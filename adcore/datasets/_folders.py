"""What lies in a folder of images: its folders, its files and which of them are images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from adcore.core.names import written
from adcore.datasets.base import GOOD, Entry

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pbm")
# what systems leave behind; hidden files, such as ._000.png of macOS, are passed over in any case
LITTER_FOLDERS = ("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information")
LITTER_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")


def visible_folders(path: Path) -> list[Path]:
    """The sub-folders, sorted, without hidden ones."""
    return sorted(Path(entry) for entry in _scan(path) if _is_folder(entry))


def folders(path: Path) -> list[Path]:
    """The sub-folders, sorted, without hidden ones and those that systems leave behind."""
    return [folder for folder in visible_folders(path) if folder.name not in LITTER_FOLDERS]


def files(path: Path) -> list[Path]:
    """The files of a folder, sorted, without hidden ones and those that systems leave behind."""
    return sorted(
        Path(entry) for entry in _scan(path) if entry.name.casefold() not in LITTER_FILES and not _is_folder(entry)
    )


def images(path: Path) -> list[Path]:
    """The image files of a folder, sorted, by extension in any case; hidden files and others are passed over."""
    return [file for file in files(path) if file.suffix.lower() in EXTENSIONS]


def _scan(path: Path) -> list[os.DirEntry[str]]:
    """What is in a folder and not hidden; nothing for what is no folder."""
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in circles, or where nobody may look
        return False


def files_below(folder: Path) -> list[Path]:
    """The files of a folder and of all folders within it, however deep; links to folders are not followed."""
    found, waiting = [], [folder]
    while waiting:
        current = waiting.pop()
        with suppress(PermissionError):
            found += files(current)
            waiting += [below for below in folders(current) if not below.is_symlink()]
    return sorted(found)


def or_fault(entries: Callable[[], Iterable[Entry]], category: str) -> list[Entry]:
    """A listing of a category; where a folder cannot be read, that fault, which stops this category and no other."""
    try:
        return list(entries())
    except OSError as error:
        place = written(str(error.filename))
        fault = f"folder cannot be read: {place}: {error.strerror}"
        return [Entry(category, category, "", GOOD, error=fault)]


def relative(path: Path, root: Path) -> str:
    """A path as an entry holds it."""
    return written(path.relative_to(root).as_posix())
