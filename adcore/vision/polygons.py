"""Masks that are stored as outlines: the JSON that labelme writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from adcore.vision.images import ImageError

MOST = 200_000_000  # pixels


def drawn(content: bytes) -> Image.Image:
    """An image of 0 and, within the outlines and on them, 255. Raises ImageError."""
    try:
        told = json.loads(content)
        size = int(told["imageWidth"]), int(told["imageHeight"])
        shapes = [(shape.get("shape_type") or "polygon", _points(shape["points"])) for shape in told["shapes"]]
    except (ValueError, TypeError, AttributeError, KeyError, UnicodeDecodeError) as error:
        what = f"without {error}" if isinstance(error, KeyError) else str(error)
        raise ImageError(f"it is no JSON of labelme with imageWidth, imageHeight and shapes: {what}") from None
    if min(size) < 1 or size[0] * size[1] > MOST:
        raise ImageError(f"its imageWidth and imageHeight are {size[0]} and {size[1]}")
    image = Image.new("L", size)
    pen = ImageDraw.Draw(image)
    for kind, points in shapes:
        if kind == "polygon" and len(points) >= 3:
            pen.polygon(points, 255)
        elif kind == "rectangle" and len(points) == 2:
            (left, right), (top, bottom) = (sorted(side) for side in zip(*points, strict=True))
            pen.rectangle((left, top, right, bottom), 255)
        else:
            raise ImageError(f"it holds a {kind} of {len(points)} points; only polygons and rectangles mark an area")
    return image


def _points(given: Sequence[Sequence[Any]]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in given]
