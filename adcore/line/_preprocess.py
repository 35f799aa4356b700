"""From an image file to what the model takes: (3, size, size), uint8.

Upright by its EXIF tag, as RGB; both sides resized to `resize` by Pillow's bilinear filter with antialiasing; then the
centre of `size` is cropped. Mean and deviation are a part of the model."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps


def load(path: Path, image: dict[str, Any]) -> Any:
    """The file at `path`; `image` is that of bundle.json. Raises what Pillow raises, ValueError for unknown ranges."""
    with Image.open(path) as opened:
        resized = Image.fromarray(rgb(ImageOps.exif_transpose(opened), image["white"], image["alpha"])).resize(
            (image["resize"], image["resize"]), Image.Resampling.BILINEAR
        )
    start = (image["resize"] - image["size"]) // 2
    part = slice(start, start + image["size"])
    return np.ascontiguousarray(np.asarray(resized)[part, part].transpose(2, 0, 1))


def rgb(image: Image.Image, white: int, alpha: str) -> Any:
    """(H, W, 3), uint8: 16-bit grey scaled so that `white` is 255, transparency on black unless alpha is `ignore`."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit pixels have no known range; convert it to 8 or 16 bit")
        grey = ((255 * values.clip(max=white) + white // 2) // white).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("float pixels have no known range; convert it to 8 or 16 bit")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        if alpha == "ignore":
            return np.array(layer)[..., :3].copy()
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    return np.array(image.convert("RGB"))
