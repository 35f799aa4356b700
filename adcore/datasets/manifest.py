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

from adcore.core.disk import write_file
from adcore.core.names import located, printable, written
from adcore.core.rules import MaskRule, PixelRule
from adcore.datasets import _doubts, probe_cache
from adcore.datasets.base import GOOD, DataError, Dataset, Entry
from adcore.vision.images import ImageError, file_bytes, pixels, read
from adcore.vision.masks import (
    CHANNELS,
    CONFIG,
    channel_files,
    config_file,
    contents_of,
    decoded,
    fingerprint,
    fits,
    kind_of,
    marked,
    parsed_config,
    rule_of,
    stacked,
    values_of,
)

COLUMNS = ["path", "category", "split", "label", "defect", "mask", "mask_rule", "pixel_rule", "subset"]  # the layout's
COLUMNS += ["group"]  # not in the text of a manifest without groups, which is what it was before there were any
COLUMNS += ["sha256", "mask_sha256", "width", "height", "orientation", "mode", "highest", "bytes", "error", "warning"]
_NUMBERS = dict.fromkeys(("label", "width", "height", "orientation", "highest", "bytes"), "int64")
_PROBE_VERSION = 2  # raise it when `_probe` finds something that it did not find before

_Task = tuple[str, str]  # (absolute path, role), the role being "image:RULE" or "mask:RULE"


@dataclass(frozen=True)
class _Facts:
    """What one file holds, upright. `problem` and `doubt` are one phrase, "" where there is none."""

    sha256: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    orientation: int = 1
    highest: int = 0  # value of an image of 16-bit grey; 0 for others
    bytes: int = 0
    share: float = 0.0  # of a mask that is marked
    problem: str = ""
    doubt: str = ""


def build(dataset: Dataset, cache: Path) -> pd.DataFrame:
    """Hash and decode every file of a dataset: a frame with COLUMNS, sorted by path.

    `cache` is a file that remembers what was found in files whose path, size, times and inode are unchanged.
    Raises DataError when the root cannot be used; a fault of one file is in the `error` of its row, a doubt in its
    `warning`.
    """
    root = dataset.root.resolve()
    entries = [_ruled(entry, dataset) for entry in dataset.entries()]
    rule = dataset.spec.pixels.text
    tasks = {_image_task(e, root, rule) for e in entries if _is_image(e)}
    tasks |= {_mask_task(e, root) for e in entries if e.mask}
    facts = _remembered(sorted(tasks), root, cache)
    rows = [_row(entry, root, facts, rule) for entry in entries]
    frame = pd.DataFrame(rows, columns=COLUMNS).astype(_NUMBERS)
    return dataset.arrange(frame).sort_values(["path", "category"], kind="stable", ignore_index=True)


def _ruled(entry: Entry, dataset: Dataset) -> Entry:
    """An entry whose mask is read as its kind of data set and the plan say. Raises DataError."""
    own = dataset.spec.masks
    if entry.mask_rule == CHANNELS and own.model_copy(update={"reduce": "nearest"}) != MaskRule():
        raise DataError(
            f"dataset {dataset.name}: masks: of folders of regions only `reduce` can be set; remove the rest"
        )
    return replace(entry, mask_rule=" ".join(filter(None, (entry.mask_rule, own.text))) if entry.mask else "")


def _is_image(entry: Entry) -> bool:
    return bool(entry.split) or not entry.error


def _image_task(entry: Entry, root: Path, rule: str) -> _Task:
    return str(located(root, entry.path)), f"image:{rule}"


def _mask_task(entry: Entry, root: Path) -> _Task:
    return str(located(root, entry.mask)), f"mask:{entry.mask_rule}"


def _row(entry: Entry, root: Path, facts: dict[_Task, _Facts], rule: str) -> tuple[object, ...]:
    image = facts.get(_image_task(entry, root, rule), _Facts())
    mask = facts.get(_mask_task(entry, root)) if entry.mask else None
    errors = [entry.error, f"image cannot be read: {image.problem}" if image.problem else ""]
    doubts = [image.doubt]
    if mask is not None:
        errors.append(_mask_error(entry, image, mask))
        doubts += [mask.doubt, _frame_doubt(entry, image, mask)] if mask.share and not errors[-1] else []
    error, warning = ("; ".join(filter(None, phrases)) for phrases in (errors, doubts))
    label = int(entry.defect != GOOD)
    identity = (entry.path, entry.category, entry.split, label, entry.defect, entry.mask, entry.mask_rule, rule)
    content = (image.width, image.height, image.orientation, image.mode, image.highest, image.bytes)
    return (*identity, entry.subset, entry.group, image.sha256, mask.sha256 if mask else "", *content, error, warning)


def _mask_error(entry: Entry, image: _Facts, mask: _Facts) -> str:
    if mask.problem:
        return mask.problem
    own, size = _mask_size(entry, image, mask), (image.height, image.width)
    rule = rule_of(entry.mask_rule)
    if not image.problem and own != size and not (rule.fit and fits(own, size)):
        sizes = f"{entry.mask} is {own[1]}x{own[0]}, its image {image.width}x{image.height}"
        return f"mask of another size: {sizes}{_size_mend(own, image, rule)}"
    if entry.defect != GOOD and not mask.share:
        return f"mask is empty: {entry.mask} marks nothing{mask.doubt and f'; {mask.doubt}'}"
    if entry.defect == GOOD and mask.share:
        return f"mask of a good image is not empty: {entry.mask}"
    return ""


def _mask_size(entry: Entry, image: _Facts, mask: _Facts) -> tuple[int, int]:
    """Height and width of a mask as it is laid on its image."""
    stored = rule_of(entry.mask_rule).frame == "stored"
    return (mask.width, mask.height) if stored and image.orientation >= 5 else (mask.height, mask.width)


def _size_mend(own: tuple[int, int], image: _Facts, rule: MaskRule) -> str:
    if fits(own, (image.height, image.width)):
        return "; `masks: {fit: pad}` in the data set's entry cuts or pads it"
    if image.orientation >= 5 and own == (image.width, image.height) and rule.frame is None:
        return "; if it was drawn before the turn that EXIF asks for, write `masks: {frame: stored}` in the entry"
    return ""


def _frame_doubt(entry: Entry, image: _Facts, mask: _Facts) -> str:
    """That an image is turned by EXIF and its mask is not, where their sizes do not tell whether it should be."""
    turned = image.orientation != 1 and mask.orientation != image.orientation
    decided = rule_of(entry.mask_rule).frame is not None
    tells = image.orientation >= 5 and image.width != image.height
    return "" if decided or tells or not turned else _doubts.TURNED


def _probe(task: _Task) -> _Facts:
    """Read one file whole, or a folder of masks."""
    path, (role, _, rule) = Path(task[0]), task[1].partition(":")
    facts = _probe_image(path, rule) if role == "image" else _probe_mask(path, rule)
    return replace(facts, problem=printable(facts.problem))  # a library's message may quote the file


def _probe_image(path: Path, rule: str) -> _Facts:
    try:
        content = file_bytes(path)
    except ImageError as error:
        return _Facts(problem=str(error))
    found = _Facts(hashlib.sha256(content).hexdigest(), bytes=len(content))
    try:
        picture = read(content)
        rgb = pixels(picture, PixelRule.of(rule))
    except ImageError as error:
        return replace(found, problem=str(error))
    return replace(
        found,
        width=picture.image.width,
        height=picture.image.height,
        mode=picture.mode,
        orientation=picture.orientation,
        highest=_doubts.highest(picture.image),
        doubt=_doubts.of_image(picture, rgb, PixelRule.of(rule)),
    )


def _probe_mask(path: Path, text: str) -> _Facts:
    """One mask, or a folder with a mask a region and the config that explains their values."""
    channels = kind_of(text) == CHANNELS
    try:
        contents = contents_of(path, text)
    except ImageError as error:
        return _Facts(problem=f"mask cannot be read: {path.name}: {error}")
    found = _Facts(fingerprint(contents, text), bytes=sum(len(content) for _, content in contents))
    files, rule = contents[:-1] if channels else contents, rule_of(text)
    try:
        config = parsed_config(contents[-1]) if channels else []
        pictures = [decoded(content, text, 1 if rule.frame == "stored" else None) for _, content in files]
        regions = stacked([values_of(picture.image, rule) for picture in pictures])
    except ImageError as error:
        return replace(found, problem=f"mask cannot be read: {path.name}: {error}")
    names = [f"{path.name}/{name}" if channels else name for name, _ in files]
    problems = [_not_binary(values, name, rule) for values, name in zip(regions, names, strict=True)]
    problems += [_unexplained(values, name, config) for values, name in zip(regions, names, strict=True) if channels]
    mask = marked(regions.max(axis=0), rule)
    height, width = mask.shape
    return replace(
        found,
        width=width,
        height=height,
        mode="L" if channels else pictures[0].mode,
        orientation=pictures[0].orientation,
        share=float(mask.mean()),
        problem=next(filter(None, problems), ""),
        doubt=_doubts.of_mask(pictures[0], mask, rule),
    )


def _not_binary(values: npt.NDArray[Any], name: str, rule: MaskRule) -> str:
    levels = np.unique(values)
    if rule.threshold is not None or len(levels) < 2 or (len(levels) == 2 and levels[0] == 0):
        return ""
    counted = f"{name} holds {len(levels)} grey values from {levels[0]} to {levels[-1]}"
    return f"mask is not binary: {counted}{_doubts.binary_mend(values)}"


def _unexplained(values: npt.NDArray[Any], name: str, config: list[dict[str, Any]]) -> str:
    value = int(values.max())
    if value == 0:
        return f"mask is empty: {name} marks nothing"
    known = {entry["pixel_value"] for entry in config}
    return "" if value in known else f"mask value unknown: {name} holds {value}, not in {CONFIG}"


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
    # st_ctime: a file can be written anew under its old size and mtime (cp -p, rsync -t)
    return f"{_PROBE_VERSION} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _recall(cache: Path, root: Path) -> dict[_Task, tuple[str, _Facts]]:
    inside = written(str(root))
    rows = probe_cache.recall(cache, f"{inside}/", f"{inside}0")  # "0" follows "/"
    return {(str(located(Path(), path)), role): (stamp, _Facts(*facts)) for path, role, stamp, *facts in rows}


def _remember(cache: Path, found: Iterable[tuple[_Task, str, _Facts]]) -> None:
    rows = ((written(path), role, stamp, *astuple(facts)) for (path, role), stamp, facts in found)
    probe_cache.remember(cache, rows)


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write a manifest as CSV: the same frame gives the same bytes. Atomic."""
    write_file(path, text_of(frame).encode())


def text_of(frame: pd.DataFrame) -> str:
    """A manifest as CSV. It is the identity of a version of the data."""
    columns = [column for column in COLUMNS if column != "group" or (frame["group"] != "").any()]
    return frame[columns].to_csv(index=False, lineterminator="\n")


def read_manifest(path: Path) -> pd.DataFrame:
    """Read a manifest that `write` wrote: equal to the frame that was written."""
    types = {column: _NUMBERS.get(column, "str") for column in COLUMNS}
    frame = pd.read_csv(path, dtype=types, keep_default_na=False, na_filter=False)
    return (frame if "group" in frame else frame.assign(group=""))[COLUMNS]


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
    `max_test` 1 gives two). Which files are chosen depends on nothing but the content of the category. Validation
    images and rows without a split (faults of the layout) are kept. The order of the rows is kept.
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
