"""Defect masks: what the values of a mask file mean, and masks that are folders of several regions.

Which rule a mask follows is in the `mask_rule` of its row in the manifest. First what its kind of data set says:

""          0 is background, one other value the defect
"levels"    every value above 0 is a defect; the values tell kinds of defects apart (VisA)
"half"      above half of the range is the defect: a binary mask that was stored with losses (magnetic tile)
"inverted"  0 is the defect (PIPED)
"channels"  a folder with one file a region; its value is explained in defects_config.json (MVTec LOCO AD)
"polygons"  outlines of defects, as labelme stores them in JSON (BSData)

Then, as `option=value`, what the plan says (`MaskRule`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from adcore.core.arrays import BoolArray
from adcore.core.names import located, printable
from adcore.core.rules import FULL, MaskRule
from adcore.vision.images import ImageError, Picture, file_bytes, mask_values, read, require
from adcore.vision.polygons import drawn

CHANNELS, POLYGONS = "channels", "polygons"
CONFIG = "defects_config.json"
SLACK = 2, 0.01  # pixels, and share of a side, by which `fit: pad` changes the size of a mask at most

Values = npt.NDArray[Any]


_KINDS: dict[str, MaskRule] = {
    "": MaskRule(),
    "levels": MaskRule(threshold=0),
    "half": MaskRule(threshold=0.5),
    "inverted": MaskRule(inverted=True),
    CHANNELS: MaskRule(),
    POLYGONS: MaskRule(),
}


def kind_of(text: str) -> str:
    """What the kind of data set says, the first word of a rule's text; "" for the default."""
    word = text.partition(" ")[0]
    return "" if "=" in word else word


@lru_cache(maxsize=64)
def rule_of(text: str) -> MaskRule:
    """The rule of a text: what the kind of data set says, changed by the options."""
    kind = kind_of(text)
    own = MaskRule.of(text.removeprefix(kind))
    return _KINDS[kind].model_copy(update=own.model_dump(exclude_defaults=True))


def marked(values: Values, rule: MaskRule) -> BoolArray:
    """Where the values (H, W) of a mask file mean a defect."""
    limit = (rule.threshold or 0) * _range(values.dtype)
    found: BoolArray = values <= limit if rule.inverted else values > limit
    return found


def _range(dtype: np.dtype[Any]) -> float:
    """The value that is white."""
    return {"b": 1.0, "f": 1.0}.get(dtype.kind, 255.0 if dtype.itemsize == 1 else float(FULL))


def decoded(content: bytes, text: str, orientation: int | None = None) -> Picture:
    """A file of a mask, decoded or, of polygons, drawn; turned as `read` does it. Raises ImageError."""
    return Picture(drawn(content), "L", 1) if kind_of(text) == POLYGONS else read(content, orientation)


def values_of(image: Image.Image, rule: MaskRule) -> Values:
    """The values (H, W) of a decoded mask that its rule speaks of. Raises ImageError where it has none such."""
    if rule.channel == "alpha":
        if not image.has_transparency_data:
            raise ImageError("it has no transparency, which `masks: {channel: alpha}` reads")
        return np.asarray(image.convert("RGBA").getchannel("A"))
    if rule.channel == "index" and image.mode == "P":
        return np.asarray(image)
    return mask_values(image)


@dataclass(frozen=True)
class MaskFile:
    """A mask, or for the rule "channels" a folder with a mask a region.

    rule: as the manifest has it. sha256: what it has to hold; "" for whatever there is. orientation: the EXIF tag of
    its image. size: height and width of its image, upright; None: its own. Every method raises ImageError, which names
    the file; ChangedError where it holds something else.
    """

    path: Path
    rule: str = ""
    sha256: str = ""
    orientation: int = 1
    size: tuple[int, int] | None = None

    @classmethod
    def of(cls, root: Path, row: Mapping[Any, Any]) -> MaskFile:
        """The mask of a row of the manifest."""
        size = int(row["height"]), int(row["width"])
        return cls(located(root, row["mask"]), row["mask_rule"], row["mask_sha256"], int(row["orientation"]), size)

    def whole(self) -> BoolArray:
        """(H, W), True on the defect, at the resolution of the image. Index it with `crop_box` for what is seen."""
        rule = rule_of(self.rule)
        mask = marked(self._values().max(axis=0), rule)
        return fitted(mask, self.size) if self.size and rule.fit else mask

    def seen(self, resize: int, crop: int) -> BoolArray:
        """As the network sees it, (crop, crop)."""
        from adcore.vision.reduction import reduced  # takes SciPy, which reading a plan does without

        return reduced(self.whole(), resize, crop, rule_of(self.rule).reduce)

    def regions(self) -> Values:
        """The regions (C, H, W) of a folder of masks, in the order of their names: 0 is background."""
        return self._values()

    def config(self) -> list[dict[str, Any]]:
        """What `metrics.spro` has to know of the values in a folder of masks."""
        return parsed_config(self._contents()[-1])

    def _values(self) -> Values:
        rule, contents = rule_of(self.rule), self._contents()
        orientation = self.orientation if rule.frame == "stored" else None
        files = contents[:-1] if kind_of(self.rule) == CHANNELS else contents
        try:
            return stacked([values_of(decoded(file, self.rule, orientation).image, rule) for _, file in files])
        except ImageError as error:
            raise ImageError(printable(f"{self.path}: {error}")) from None

    def _contents(self) -> list[tuple[str, bytes]]:
        try:
            contents = contents_of(self.path, self.rule)
            require(fingerprint(contents, self.rule), self.sha256)
        except ImageError as error:
            raise type(error)(printable(f"{self.path}: {error}")) from None
        return contents


def contents_of(path: Path, rule: str) -> list[tuple[str, bytes]]:
    """Name and bytes of all that a mask is read from: its file; or the files of a folder, and last the config above it
    that explains their values. Raises ImageError."""
    if kind_of(rule) != CHANNELS:
        return [(path.name, file_bytes(path))]
    files = channel_files(path)
    if not files:
        raise ImageError("there are no masks in it")
    return [(file.name, file_bytes(file)) for file in [*files, config_file(path)]]


def fingerprint(contents: Sequence[tuple[str, bytes]], rule: str) -> str:
    """The sha256 that a manifest holds of a mask. One file read by two rules is two masks."""
    if kind_of(rule) == CHANNELS:
        digests = [(name, hashlib.sha256(content).hexdigest()) for name, content in contents]
        content = repr(digests).encode()
        rule = rule.removeprefix(CHANNELS)
    else:
        content = contents[0][1]
    return hashlib.sha256(f"{rule}\0".encode() + content if rule else content).hexdigest()


def stacked(regions: Sequence[Values]) -> Values:
    """Masks of one size as (C, H, W). Raises ImageError for several sizes."""
    if len({region.shape for region in regions}) > 1:
        raise ImageError("the masks in it have several sizes")
    return np.stack(regions)


def channel_files(folder: Path) -> list[Path]:
    """The files of a folder of masks, sorted."""
    return sorted(path for path in folder.glob("*.png") if not path.name.startswith("."))


def config_file(folder: Path) -> Path:
    """The defects_config.json that explains a folder of masks: the nearest one above it. Raises ImageError."""
    for above in folder.parents:
        if (above / CONFIG).is_file():
            return above / CONFIG
    raise ImageError(f"there is no {CONFIG} above it")


def parsed_config(file: tuple[str, bytes]) -> list[dict[str, Any]]:
    """The content of a defects_config.json, given by name and bytes. Raises ImageError."""
    name, content = file
    try:
        entries = json.loads(content.decode())
        keys = {"pixel_value", "saturation_threshold", "relative_saturation"}
        if not isinstance(entries, list) or not all(keys <= set(entry) for entry in entries):
            raise ValueError(f"it must be a list of mappings with {', '.join(sorted(keys))}")
    except (ValueError, TypeError) as error:
        raise ImageError(f"{name} cannot be used: {error}") from None
    return entries


def fits(shape: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a mask is so little larger or smaller than its image that `fit: pad` brings it to that size."""
    pixels, share = SLACK
    return all(abs(own - side) <= max(pixels, share * side) for own, side in zip(shape, size, strict=True))


def fitted(mask: BoolArray, size: tuple[int, int]) -> BoolArray:
    """A mask cut or padded with background, at the right and at the bottom, to (H, W)."""
    height, width = size
    part = mask[:height, :width]
    return np.pad(part, ((0, height - part.shape[0]), (0, width - part.shape[1])))
