"""How the files of a data set are read: options of its entry in the plan, which the manifest holds as a short text.

The text has only what differs from the default, so that an option nobody uses is in no key.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

FULL = 65535  # the largest value of 16 bits


class Rule(BaseModel):
    """Options; each has a default and a value without spaces."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def text(self) -> str:
        """Such as `threshold=0.5 fit=pad`; "" where everything is by default."""
        return " ".join(f"{name}={value}" for name, value in self.model_dump(exclude_defaults=True).items())

    @classmethod
    def of(cls, text: str) -> Self:
        """The rule that has this text."""
        return cls.model_validate(dict(word.split("=", 1) for word in text.split()))


class PixelRule(Rule):
    """How the pixels of a data set's images are read (`pixels` of its entry in the plan).

    max: the value of a 16-bit grey file that is white, such as 4095 for a camera of 12 bits; higher values are white
    as well. Default: 65535, the full range.
    alpha: `black` composites transparent images on black, as is done by default; `ignore` reads their colours alone.
    """

    max: int | None = Field(None, ge=1, le=FULL)
    alpha: Literal["black", "ignore"] | None = None


class MaskRule(Rule):
    """How the masks of a data set are read (`masks` of its entry in the plan).

    threshold: the share of a file's range above which a value is a defect: 0.5 for masks with soft edges or stored with
    losses, 0 where several values tell kinds of defects apart. Without it a mask has one value beside 0.
    inverted: the defect is what would be background.
    channel: the mask is in the transparency (`alpha`), or in the numbers of a palette's colours (`index`).
    fit: `pad` cuts or pads a mask that is a little larger or smaller than its image, at the right and at the bottom.
    frame: masks are drawn on the photograph as it is shown (`upright`, the default) or as it is `stored`, before the
    turn that its EXIF tag asks for.
    reduce: how masks come to the network's resolution: by `nearest` neighbour, as in the published protocols, or by
    `area`, which loses no region (docs/metrics.md).
    """

    threshold: float | None = Field(None, ge=0, lt=1)
    inverted: bool = False
    channel: Literal["alpha", "index"] | None = None
    fit: Literal["pad"] | None = None
    frame: Literal["upright", "stored"] | None = None
    reduce: Literal["nearest", "area"] = "nearest"
