"""Putting a public set in place: downloaded, unpacked from an archive, or linked to a folder that is there already."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

from adcore.datasets._folders import folders
from adcore.datasets.archives import unpacked
from adcore.datasets.base import Archive, DataError, Dataset, Progress
from adcore.datasets.download import checksum, download

_DEPTH = 3  # folders that an archive may put around the set

Tell = Callable[[str], None]
Bar = Callable[[str], Progress]  # what is being done -> how far it is, in bytes


def get(dataset: Dataset, archives: Path, given: Path | None, accepted: bool, tell: Tell, bar: Bar) -> None:
    """Put a set where `dataset.root` is, unless it is there.

    given: an archive, which is unpacked, or a folder, which is linked to and never written to. Without it, the archive
    is taken from the folder `archives`, and fetched into it if it is not there; `accepted` is the consent that a
    restricting licence needs for that. Raises DataError, which says what to fetch by hand and where to put it.
    """
    if dataset.archive is None:
        if given is not None:
            raise DataError(f"dataset {dataset.name}: kind {dataset.kind} makes its files itself; leave --from away")
        return
    if dataset.root.exists():
        if given is not None:
            raise DataError(f"dataset {dataset.name}: {dataset.root} is there already; remove it to take another copy")
        return
    dataset.root.unlink(missing_ok=True)  # a link whose folder is gone
    tell(f"{dataset.kind}: licence {dataset.licence}")
    if given is not None and not given.exists():
        raise DataError(f"dataset {dataset.name}: {given} does not exist; give --from the archive or its folder")
    if given is not None and given.is_dir():
        _link(dataset, given)
        tell(f"{dataset.root} is a link to {given.resolve()}: keep that folder")
        return
    source = given or _fetched(dataset, dataset.archive, archives, accepted, bar)
    with unpacked(source, dataset.data, bar(f"unpack {source.name}")) as folder:
        _located(dataset, folder, source.name).rename(dataset.root)
    if given is None:
        tell(f"{source} is unpacked and may be deleted")


def _link(dataset: Dataset, folder: Path) -> None:
    target = _located(dataset, folder.resolve(), str(folder))
    dataset.data.mkdir(parents=True, exist_ok=True)
    temporary = dataset.data / f".{dataset.root.name}.{os.getpid()}.{os.urandom(4).hex()}"
    temporary.symlink_to(target, target_is_directory=True)
    temporary.replace(dataset.root)


def _located(dataset: Dataset, folder: Path, what: str) -> Path:
    """The folder that holds the categories, at or below `folder`."""
    waiting = deque([(folder, 0)])
    while waiting:
        current, depth = waiting.popleft()
        if dataset.categories_in(current):
            return current
        if depth < _DEPTH:
            waiting.extend((below, depth + 1) for below in folders(current))
    some = ", ".join(list(dataset.facts)[:3])
    raise DataError(f"dataset {dataset.name}: {what} is no copy of {dataset.kind}: no category such as {some} is in it")


def _fetched(dataset: Dataset, archive: Archive, archives: Path, accepted: bool, bar: Bar) -> Path:
    path = archives / archive.name
    by_hand = f"fetch {archive.name} by hand from {archive.page}, and put it at {path}, or give it with --from"
    if path.is_file():
        if archive.sha256 and checksum(path) != archive.sha256:
            raise DataError(f"dataset {dataset.name}: {path} has the wrong checksum; remove it and {by_hand}")
        return path
    if not archive.urls:
        raise DataError(f"dataset {dataset.name}: its owners document no lasting address; {by_hand}")
    if dataset.consent and not accepted:
        raise DataError(
            f"dataset {dataset.name}: its licence, {dataset.licence}, restricts use; read it, and if you consent run "
            "this again with --accept-licence"
        )
    try:
        download(archive.urls, archive.sha256, path, bar(f"fetch {archive.name}"))
    except DataError as error:
        raise DataError(f"dataset {dataset.name}: {error}; {by_hand}") from None
    return path
