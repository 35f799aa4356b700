"""The manifest: one row per image, with what its content says. A manifest is the identity of a dataset's version."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from adcore.datasets import probe_cache
from adcore.datasets.base import GOOD, Dataset, Entry
from adcore.disk import write_file
from adcore.images import ImageError, mask_values, read, to_rgb
from adcore.masks import CHANNELS, CONFIG, channel_files, config_file, load_channels, load_config, marked
from adcore.names import located, printable, written

COLUMNS = ["path", "category", "split", "label", "defect", "mask", "mask_rule", "subset"]  # from the layout
COLUMNS += ["sha256", "mask_sha256", "width", "height", "mode", "bytes", "error"]  # from the content
_NUMBERS = {"label": "int64", "width": "int64", "height": "int64", "bytes": "int64"}
_PROBE_VERSION = 1  # raise it when `_probe` finds something that it did not find before

_Task = tuple[str, str]  # (absolute path, role), the role being "image", "mask" or "mask:RULE"


@dataclass(frozen=True)
class _Facts:
    """What one file holds, upright. `problem` is one phrase, "" where there is none."""

    sha256: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    bytes: int = 0
    empty: bool = False  # of a mask: nothing is marked
    problem: str = ""


def build(dataset: Dataset, cache: Path) -> pd.DataFrame:
    """Hash and decode every file of a dataset: a frame with COLUMNS, sorted by path.

    `cache` is a file that remembers what was found in files whose path, size, time and inode are unchanged.
    Raises DataError when the root cannot be used; a fault of one file is in the `error` of its row.
    """
    root = dataset.root.resolve()
    entries = dataset.entries()
    tasks = {_image_task(e, root) for e in entries if _is_image(e)}
    tasks |= {_mask_task(e, root) for e in entries if e.mask}
    facts = _remembered(sorted(tasks), root, cache)
    rows = [_row(entry, root, facts) for entry in entries]
    frame = pd.DataFrame(rows, columns=COLUMNS).astype(_NUMBERS)
    return dataset.arrange(frame).sort_values(["path", "category"], kind="stable", ignore_index=True)


def _is_image(entry: Entry) -> bool:
    return bool(entry.split) or not entry.error


def _image_task(entry: Entry, root: Path) -> _Task:
    return str(located(root, entry.path)), "image"


def _mask_task(entry: Entry, root: Path) -> _Task:
    return str(located(root, entry.mask)), f"mask:{entry.mask_rule}" if entry.mask_rule else "mask"


def _row(entry: Entry, root: Path, facts: dict[_Task, _Facts]) -> tuple[object, ...]:
    image = facts.get(_image_task(entry, root), _Facts())
    mask = facts.get(_mask_task(entry, root)) if entry.mask else None
    errors = [entry.error, f"image cannot be read: {image.problem}" if image.problem else ""]
    if mask is not None:
        errors.append(_mask_error(entry, image, mask))
    error = "; ".join(filter(None, errors))
    label = int(entry.defect != GOOD)
    mask_sha256 = mask.sha256 if mask else ""
    rule = entry.mask_rule if entry.mask else ""
    identity = (entry.path, entry.category, entry.split, label, entry.defect, entry.mask, rule, entry.subset)
    return (*identity, image.sha256, mask_sha256, image.width, image.height, image.mode, image.bytes, error)


def _mask_error(entry: Entry, image: _Facts, mask: _Facts) -> str:
    if mask.problem:
        return mask.problem
    if not image.problem and (mask.width, mask.height) != (image.width, image.height):
        return (
            f"mask of another size: {entry.mask} is {mask.width}x{mask.height}, its image {image.width}x{image.height}"
        )
    if entry.defect != GOOD and mask.empty:
        return f"mask is empty: {entry.mask} marks nothing"
    if entry.defect == GOOD and not mask.empty:
        return f"mask of a good image is not empty: {entry.mask}"
    return ""


def _probe(task: _Task) -> _Facts:
    """Read one file whole, or a folder of masks."""
    path, (role, _, rule) = Path(task[0]), task[1].partition(":")
    facts = _probe_channels(path) if rule == CHANNELS else _probe_file(path, role, rule)
    return replace(facts, problem=printable(facts.problem))  # a library's message may quote the file


def _probe_file(path: Path, role: str, rule: str) -> _Facts:
    subject = f"mask cannot be read: {path.name}: " if role == "mask" else ""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            return _Facts(problem=f"{subject}it is no file")
        content = path.read_bytes()
    except OSError as error:
        return _Facts(problem=f"{subject}{error.strerror or error}")
    size = len(content)
    # One file read by two rules is two masks.
    sha256 = hashlib.sha256(f"{rule}\0".encode() + content if rule else content).hexdigest()
    try:
        image, mode = read(path)
        if role == "image":
            to_rgb(image)
            return _Facts(sha256, image.width, image.height, mode, size)
        values = mask_values(image)
    except ImageError as error:
        return _Facts(sha256, bytes=size, problem=f"{subject}{error}")
    problem = _not_binary(values, path.name) if rule in ("", "inverted") else ""
    return _Facts(sha256, image.width, image.height, mode, size, not marked(values, rule).any(), problem)


def _not_binary(values: npt.NDArray[Any], name: str) -> str:
    levels = np.unique(values)
    if len(levels) < 2 or (len(levels) == 2 and levels[0] == 0):
        return ""
    return f"mask is not binary: {name} holds {len(levels)} grey values from {levels[0]} to {levels[-1]}"


def _probe_channels(folder: Path) -> _Facts:
    """Read a folder of masks, one a region, and the config that explains their values."""
    try:
        channels = load_channels(folder)
        known = {entry["pixel_value"] for entry in load_config(folder)}
        files = [*channel_files(folder), config_file(folder)]
        contents = [path.read_bytes() for path in files]
    except ImageError as error:
        return _Facts(problem=f"mask cannot be read: {folder.name}: {error}")
    except OSError as error:
        return _Facts(problem=f"mask cannot be read: {folder.name}: {error.strerror or error}")
    problem = ""
    for path, channel in zip(files, channels, strict=False):
        problem = problem or _not_binary(channel, path.name)
        value = int(channel.max())
        if value == 0:
            problem = problem or f"mask is empty: {folder.name}/{path.name} marks nothing"
        elif value not in known:
            problem = problem or f"mask value unknown: {folder.name}/{path.name} holds {value}, not in {CONFIG}"
    digests = [(path.name, hashlib.sha256(content).hexdigest()) for path, content in zip(files, contents, strict=True)]
    sha256 = hashlib.sha256(repr(digests).encode()).hexdigest()
    height, width = channels.shape[1:]
    return _Facts(sha256, width, height, "L", sum(map(len, contents)), not channels.any(), problem)


def _remembered(tasks: list[_Task], root: Path, cache: Path) -> dict[_Task, _Facts]:
    """Probe each file, or recall what an earlier run found in the same file."""
    stamps = {task: _stamp(task[0]) for task in tasks}
    known = _recall(cache, root)
    facts = {task: known[task][1] for task in tasks if task in known and known[task][0] == stamps[task]}
    missing = [task for task in tasks if task not in facts]
    if missing:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            found = dict(zip(missing, pool.map(_probe, missing), strict=True))
        _remember(cache, ((task, stamps[task], found[task]) for task in missing if stamps[task]))
        facts |= found
    return facts


def _stamp(path: str) -> str:
    """What changes when a file, or one of a folder of masks, changes; "" for what is not there."""
    try:
        status = os.stat(path)  # noqa: PTH116  (a third of the time of Path.stat, for 10,000 files)
        if stat.S_ISDIR(status.st_mode):
            folder = Path(path)
            return " ".join(
                f"{written(p.name)} {_stamp(str(p))}" for p in [*channel_files(folder), config_file(folder)]
            )
    except (OSError, ImageError):
        return ""
    return f"{_PROBE_VERSION} {status.st_size} {status.st_mtime_ns} {status.st_ino}"


def _recall(cache: Path, root: Path) -> dict[_Task, tuple[str, _Facts]]:
    inside = written(str(root))
    rows = probe_cache.recall(cache, f"{inside}/", f"{inside}0")  # "0" follows "/"
    return {
        (str(located(Path(), path)), role): (stamp, _Facts(sha256, width, height, mode, size, bool(empty), problem))
        for path, role, stamp, sha256, width, height, mode, size, empty, problem in rows
    }


def _remember(cache: Path, found: Iterable[tuple[_Task, str, _Facts]]) -> None:
    rows = ((written(path), role, stamp, *astuple(facts)) for (path, role), stamp, facts in found)
    probe_cache.remember(cache, rows)


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write a manifest as CSV: the same frame gives the same bytes. Atomic."""
    write_file(path, frame[COLUMNS].to_csv(index=False, lineterminator="\n").encode())


def read_manifest(path: Path) -> pd.DataFrame:
    """Read a manifest that `write` wrote: equal to the frame that was written."""
    types = {column: _NUMBERS.get(column, "str") for column in COLUMNS}
    return pd.read_csv(path, dtype=types, keep_default_na=False, na_filter=False)[COLUMNS]


def with_others(frame: pd.DataFrame, path: Path, root: Path) -> pd.DataFrame:
    """A manifest and, from the one at `path`, the categories that it does not hold and whose images are all there yet,
    of the same size in bytes."""
    try:
        old = read_manifest(path)
    except (KeyError, ValueError):
        return frame  # not ours, or cut short
    others = old[~old["category"].isin({*frame["category"], ""})]
    kept = [rows for _, rows in others.groupby("category") if _are_there(rows[rows["split"] != ""], root)]
    return pd.concat([frame, *kept]).sort_values(["path", "category"], kind="stable", ignore_index=True)


def _are_there(images: pd.DataFrame, root: Path) -> bool:
    return len(images) > 0 and all(map(_is_there, images["path"], images["bytes"], repeat(root)))


def _is_there(path: str, size: int, root: Path) -> bool:
    file = located(root, path)
    return file.is_file() and file.stat().st_size == size


def cap(frame: pd.DataFrame, max_train: int | None, max_test: int | None) -> pd.DataFrame:
    """At most `max_train` training and `max_test` test images per category, chosen by the order of their sha256.

    The test images keep the shares of good and defective, with at least one of each where there are any (so
    `max_test` 1 gives two). Which files are chosen depends on nothing but the content of the category. Rows without a
    split (faults of the layout) are kept. The order of the rows is kept.
    """
    kept = [frame.index[~frame["split"].isin(["train", "test"])]]
    for _, rows in frame.groupby("category", sort=True):
        train, test = rows[rows["split"] == "train"], rows[rows["split"] == "test"]
        good, bad = test[test["label"] == 0], test[test["label"] == 1]
        n_good, n_bad = _shares(len(good), len(bad), max_test)
        kept += [_first(train, max_train), _first(good, n_good), _first(bad, n_bad)]
    chosen = frame.index.isin(np.concatenate([index.to_numpy() for index in kept]))
    return frame[chosen].reset_index(drop=True)


def _shares(good: int, bad: int, limit: int | None) -> tuple[int, int]:
    if limit is None or good + bad <= limit:
        return good, bad
    if not good or not bad:
        return min(good, limit), min(bad, limit)
    kept = min(max(1, (2 * limit * bad + good + bad) // (2 * (good + bad))), max(1, limit - 1))
    return max(1, limit - kept), kept


def _first(rows: pd.DataFrame, limit: int | None) -> pd.Index:
    return rows.sort_values(["sha256", "path"]).index[:limit]
