"""New images through a finished cell: a row an image, its raw map, and a picture of what was found."""

from __future__ import annotations

import glob
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from adcore.core.arrays import UInt8Array
from adcore.core.disk import write_file
from adcore.core.names import printable, written
from adcore.core.plan import PlanError, expanded
from adcore.datasets._folders import EXTENSIONS, files_below
from adcore.line.scorer import Scored, Scorer
from adcore.report.heatmaps import overlay
from adcore.vision.gallery import Scale
from adcore.vision.images import ImageError, ImageFile

NORMAL, DEFECTIVE, FAILED = "normal", "defective", "failed"
ROWS = "predictions.csv"
NAMED = 150  # bytes of an image's name that are in those of its map and overlay
FRAME = (255, 0, 200)


@dataclass(frozen=True)
class Prediction:
    """A row. verdict: normal, defective, failed, or '' where there is no threshold. area: share of the image's map
    above the threshold of maps. boxes: left, top, right, bottom in pixels of the image, as JSON. map, overlay: files
    beside the table. error: why it failed."""

    path: str
    verdict: str
    score: float = float("nan")
    p_value: float = float("nan")
    area: float = float("nan")
    boxes: str = "[]"
    map: str = ""
    overlay: str = ""
    error: str = ""


def images(given: Sequence[str]) -> list[Path]:
    """The files that are meant by files, folders (all images below) and patterns such as `line/*.png`, each once.

    Raises PlanError for one that means no image."""
    found: dict[Path, None] = {}
    for text in given:
        meant = _meant(expanded(text))
        mine = [image for path in meant for image in _below(path)]
        if not mine:
            what = "has no image that can be read" if meant else "is no image, folder or pattern of any file"
            raise PlanError(f"{printable(text)} {what}; images end with {', '.join(EXTENSIONS)}")
        found |= dict.fromkeys(mine)
    return list(found)


def _meant(path: Path) -> list[Path]:
    """A file or folder; else what it matches as a pattern, as in a shell."""
    return [path] if os.path.lexists(path) else sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207


def _below(path: Path) -> list[Path]:
    """A file itself, the images of a folder."""
    if not os.path.isdir(path):  # noqa: PTH112  (Path.is_dir raises where nobody may look)
        return [path]
    return [each for each in files_below(path) if each.suffix.lower() in EXTENSIONS]


def predict(
    scorer: Scorer, files: Sequence[Path], out: Path, progress: Callable[[int], None] = lambda done: None
) -> list[Prediction]:
    """Write predictions.csv, predictions.parquet, maps/*.npy (float32, the method's own grid) and overlays/*.png.

    An image that cannot be read is a failed row. The tables appear last. Raises PlanError where `out` holds
    predictions already, and DiskFull."""
    require_free(out)
    rows = []
    for place, row in enumerate(_rows(scorer, files, out)):
        rows.append(row)
        progress(place + 1)
    table = pd.DataFrame([asdict(row) for row in rows])
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_file(out / "predictions.parquet", buffer.getvalue())
    write_file(out / ROWS, table.to_csv(index=False, lineterminator="\n").encode())
    return rows


def require_free(out: Path) -> None:
    """Raise PlanError where a folder holds predictions already, or cannot be written to."""
    there = next(place for place in (out, *out.parents) if os.path.lexists(place))
    if not (os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK)):  # noqa: PTH112
        raise PlanError(f"{printable(str(out))} cannot be written to; give another --out")
    if (out / ROWS).exists():
        raise PlanError(f"{printable(str(out))} holds predictions already; give another --out, or remove it")


def _rows(scorer: Scorer, files: Sequence[Path], out: Path) -> Iterator[Prediction]:
    read = [ImageFile(path, rule=scorer.rule) for path in files]
    for place, (path, found) in enumerate(zip(files, scorer.scored(read), strict=True)):
        yield row(scorer, found, path, out, f"{place:06d}_{_short(written(path.stem))}")


def _short(name: str) -> str:
    """The beginning of a name, so that there is room for what else a file's is made of."""
    return name.encode()[:NAMED].decode(errors="ignore")


def row(scorer: Scorer, found: Scored | ImageError, path: Path, out: Path, name: str) -> Prediction:
    """The row of an image, whose map and overlay are written under `name`."""
    made = told(scorer, found, path)
    if isinstance(found, ImageError):
        return made
    buffer = io.BytesIO()
    np.save(buffer, found.raw)
    write_file(out / "maps" / f"{name}.npy", buffer.getvalue())
    write_file(out / "overlays" / f"{name}.png", _png(drawn(found, scorer.scale, json.loads(made.boxes))))
    return replace(made, map=f"maps/{name}.npy", overlay=f"overlays/{name}.png")


def told(scorer: Scorer, found: Scored | ImageError, path: Path) -> Prediction:
    """The row of an image without files beside it."""
    name = written(str(path))
    if isinstance(found, ImageError):
        return Prediction(name, FAILED, error=str(found))
    p_value, label = scorer.p_value(found.score), verdict(scorer, found.score)
    if scorer.map is None:
        return Prediction(name, label, found.score, p_value)
    area, boxes = found.area(scorer.map.value), found.boxes(scorer.map.value)
    return Prediction(name, label, found.score, p_value, area, json.dumps(boxes))


def verdict(scorer: Scorer, score: float) -> str:
    """By the threshold of image scores."""
    if scorer.image is None:
        return ""
    return DEFECTIVE if score > scorer.image.value else NORMAL


def drawn(found: Scored, scale: Scale, boxes: Sequence[tuple[int, int, int, int]]) -> UInt8Array:
    """The image with its heat map on the cell's scale and its boxes."""
    pixels = found.pixels.copy()
    down, across = (part / whole for part, whole in zip(pixels.shape, found.size, strict=False))
    rows, columns = (_scaled(part, share) for part, share in zip(found.window, (down, across), strict=True))
    pixels[rows, columns] = overlay(pixels[rows, columns], found.smooth, scale)
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    for left, top, right, bottom in boxes:
        corner = across * left, down * top
        draw.rectangle([corner, (max(corner[0], across * right - 1), max(corner[1], down * bottom - 1))], outline=FRAME)
    return np.asarray(picture)


def _scaled(part: slice, share: float) -> slice:
    start = int(share * part.start)
    return slice(start, max(start + 1, round(share * part.stop)))


def _png(pixels: UInt8Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", compress_level=1)
    return buffer.getvalue()
