"""Defect masks: what the values of a mask file mean, and masks that are folders of several regions.

Which rule a mask follows is in the `mask_rule` of its row in the manifest:

""          0 is background, one other value the defect
"levels"    every value above 0 is a defect; the values tell kinds of defects apart (VisA)
"half"      above 127 is the defect: a binary mask that was stored with losses (magnetic tile)
"inverted"  0 is the defect (PIPED)
"channels"  a folder with one file a region; its value is explained in defects_config.json (MVTec LOCO AD)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from adcore.images import BoolArray, ImageError, crop_box, mask_values, read

CHANNELS = "channels"
CONFIG = "defects_config.json"


def marked(values: npt.NDArray[Any], rule: str = "") -> BoolArray:
    """Where the grey values (H, W) of a mask file mean a defect."""
    found: BoolArray = values == 0 if rule == "inverted" else values > (127 if rule == "half" else 0)
    return found


def load_mask(path: Path, resize: int | None = None, crop: int | None = None, rule: str = "") -> BoolArray:
    """A mask, (H, W) bool, True on the defect.

    With `resize` and `crop`: as the network sees it, (crop, crop), by nearest neighbour. Without: at the resolution of
    the file; index it with `crop_box` for the part that the network sees. Raises ImageError.
    """
    values = load_channels(path).max(axis=0) if rule == CHANNELS else mask_values(read(path)[0])
    mask = marked(values, rule)
    if resize is None:
        return mask
    small = Image.fromarray(mask.astype(np.uint8)).resize((resize, resize), Image.Resampling.NEAREST)
    return np.asarray(small)[crop_box(resize, resize, resize, crop or resize)] > 0


def load_channels(folder: Path) -> npt.NDArray[Any]:
    """The regions (C, H, W) of a folder of masks, in the order of their names: 0 is background. Raises ImageError."""
    regions = [mask_values(read(path)[0]) for path in channel_files(folder)]
    if not regions:
        raise ImageError(f"there are no masks in {folder.name}")
    if len({region.shape for region in regions}) > 1:
        raise ImageError(f"the masks in {folder.name} have several sizes")
    return np.stack(regions)


def channel_files(folder: Path) -> list[Path]:
    """The files of a folder of masks, sorted."""
    return sorted(path for path in folder.glob("*.png") if not path.name.startswith("."))


def config_file(folder: Path) -> Path:
    """The defects_config.json that explains a folder of masks: the nearest one above it. Raises ImageError."""
    for above in folder.parents:
        if (above / CONFIG).is_file():
            return above / CONFIG
    raise ImageError(f"there is no {CONFIG} above {folder.name}")


def load_config(folder: Path) -> list[dict[str, Any]]:
    """What `metrics.spro` has to know of the values in a folder of masks. Raises ImageError."""
    path = config_file(folder)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        keys = {"pixel_value", "saturation_threshold", "relative_saturation"}
        if not isinstance(content, list) or not all(keys <= set(entry) for entry in content):
            raise ValueError(f"it must be a list of mappings with {', '.join(sorted(keys))}")
    except (ValueError, TypeError) as error:
        raise ImageError(f"{path.name} cannot be used: {error}") from None
    return content
