"""What the network sees of the masks of a data set: which defects its resolution or its crop loses.

It depends on the plan's image size, which a manifest does not know; so it is asked apart from validation.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adcore.datasets.validation import CROPPED, THINNED, VANISHED, Problem
from adcore.vision.masks import MaskFile, rule_of

if TYPE_CHECKING:
    import pandas as pd

    from adcore.core.plan import ImageSpec

MEND = "`masks: {reduce: area}` in the data set's entry keeps every region, `evaluate_at: original` reduces none"


def losses(frame: pd.DataFrame, root: Path, image: ImageSpec, at: Literal["input", "original"]) -> list[Problem]:
    """A warning for each mask of a sound test image of which the network sees nothing or not every region.

    Raises ImageError, which names the file, for a mask that is not as the manifest has it.
    """
    tested = frame[(frame["split"] == "test") & (frame["mask"] != "") & (frame["error"] == "") & (frame["label"] == 1)]
    return [problem for row in tested.to_dict("records") for problem in _losses(row, root, image, at)]


def _losses(row: Mapping[Hashable, Any], root: Path, image: ImageSpec, at: str) -> Iterator[Problem]:
    from adcore.vision.reduction import lost, view  # they take SciPy, which a cached run does without

    mask = MaskFile.of(root, row).whole()
    size = f"{image.resize} x {image.resize} pixels"
    if not mask[view(mask, image.resize, image.size)].any():
        yield _warning(row, CROPPED, f"its defect lies outside of what `crop: {image.size}` of {size} leaves")
    elif at == "input" and rule_of(row["mask_rule"]).reduce == "nearest":
        count, regions = lost(mask, image.resize, image.size)
        if count == regions:
            done = "this mask is reduced by area instead, and others as published"
            yield _warning(row, VANISHED, f"nearest neighbour leaves no pixel of its mask at {size}: {done}; {MEND}")
        elif count:
            yield _warning(row, THINNED, f"nearest neighbour loses {count} of its {regions} regions at {size}; {MEND}")


def _warning(row: Mapping[Hashable, Any], check: str, message: str) -> Problem:
    return Problem(str(row["category"]), "warning", check, str(row["path"]), message)
