"""What an enhancer is: trained on normal images, it changes the backbone's weights or adds a module behind its maps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

if TYPE_CHECKING:
    import torch

    from adcore.features import Extractor
    from adcore.images import ImageFile, UInt8Array
    from adcore.methods.base import FeatureSource, Method
    from adcore.plan import BackboneSpec
    from adcore.synthesis.foreground import Threshold
    from adcore.training import Training

STAGES = (1, 2, 3, 4)  # the levels that a backbone is fine-tuned through


class Options(BaseModel):
    """Options of an enhancer; each enhancer subclasses it and gives every field a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainedOptions(Options):
    """Options of an enhancer that is trained. `min_steps`: where `epochs` passes over few images are fewer optimiser
    steps than this, there are more passes. `least_cosine`: the training stops with the last epoch in which each of the
    first three maps keeps this mean cosine similarity with the original; -1 is no bound."""

    epochs: NonNegativeInt
    min_steps: NonNegativeInt
    least_cosine: float = Field(0.9, ge=-1, le=1)

    def passes(self, steps: int) -> int:
        """Epochs of so many steps each; none where `epochs` asks for none."""
        return max(self.epochs, math.ceil(self.min_steps / steps)) if self.epochs else 0


@dataclass(frozen=True)
class Subject:
    """The normal training images of a category (N, 3, H, W), uint8, their sha256s, and what is known of them.

    sources: image files that textures of synthetic defects are taken from.
    """

    pixels: UInt8Array
    hashes: tuple[str, ...]
    texture: bool
    sources: tuple[ImageFile, ...]
    threshold: Threshold | None
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What a training gave: everything that `apply` needs, one value an epoch of each curve, and facts for people.

    chance: of guessing in the pretext task. stopped: why it was not trained to the end, in words; "" where it was.
    """

    state: dict[str, torch.Tensor]
    curves: dict[str, list[float]] = field(default_factory=dict)
    chance: float | None = None
    facts: dict[str, float] = field(default_factory=dict)
    stopped: str = ""


class Enhancer(ABC):
    """Adapts an extractor. A new one is one file in this folder with one subclass named as its file.

    `on_maps` False: it trains the backbone's weights, through all STAGES, whichever levels are read later. True: it is
    a module behind the maps of the levels read, so methods that read other levels have other modules.
    """

    name: ClassVar[str]
    # `Options` is the class of the enhancer's own options; Any because a nested class may narrow it.
    Options: ClassVar[Any] = Options
    on_maps: ClassVar[bool] = False
    synthesis: ClassVar[bool] = False  # is shown synthetic defects, so that it depends on their sources

    def __init__(self, options: Any) -> None:
        self.options = options

    @abstractmethod
    def fit(self, extractor: Extractor, subject: Subject, training: Training, host: Host | None = None) -> Outcome:
        """Train on an extractor that is its own to change: at STAGES, or at `levels` behind the links before it."""

    @abstractmethod
    def apply(self, extractor: Extractor, state: dict[str, torch.Tensor], asked: Sequence[int]) -> None:
        """Make `extractor` the enhanced one; `asked` are the levels that the method wants."""

    def levels(self, asked: tuple[int, ...]) -> tuple[int, ...]:
        """The levels to read from the backbone where the method asks for some; () stands for the plan's layers."""
        return asked

    def outputs(self, count: int) -> int:
        """How many maps the method gets where it asks for `count`."""
        return count

    def check(self, backbone: BackboneSpec, method: type[Method]) -> None:  # noqa: B027  (most work with all of them)
        """Raise ValueError where it cannot work with this backbone's layers or this method."""

    def identity(self, backbone: BackboneSpec) -> dict[str, Any]:
        """What of the options decides the result, as JSON: files by content."""
        found: dict[str, Any] = self.options.model_dump(mode="json")
        return found

    def stand_in(self, backbone: BackboneSpec) -> bool:
        """Whether some of its weights only stand in for the ones that it is meant to have."""
        return False

    @property
    def control(self) -> str:
        """`identity` or `random` for an enhancer that is only there to be compared with; else ''."""
        return "identity" if getattr(self.options, "epochs", None) == 0 else ""

    @property
    def wants_host(self) -> bool:
        """Whether it is trained by the method's own loss, and so for one method alone."""
        return False

    def effort(self, images: int) -> float:
        """Rough cost of its training on so many images, in passes of all of them through the backbone."""
        return float(getattr(self.options, "epochs", 0)) + 1

    def examples(self, subject: Subject, index: int) -> list[tuple[str, UInt8Array]]:
        """Captions and pictures (3, H, W) of what it was shown of one image; nothing where that is the image itself."""
        return []


@dataclass(frozen=True)
class Host:
    """A method whose loss trains an enhancer, and its features through an extractor."""

    method: Method
    features: Callable[[Extractor], FeatureSource]


@dataclass(frozen=True)
class Link:
    """One enhancer of a chain as it was trained for a cell, and the key of its weights."""

    enhancer: type[Enhancer]
    options: Options
    key: str

    def made(self) -> Enhancer:
        return self.enhancer(self.options)
