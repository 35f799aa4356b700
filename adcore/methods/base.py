"""What a method is: fit on the features of normal images, score the features of any image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch

    from adcore.features import Extractor
    from adcore.plan import BackboneSpec

CURVE = "_curve"  # ends the names of tensors in a state that tell how the training went, and are no model


class Options(BaseModel):
    """Options of a method; each method subclasses it and gives every field a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FeatureSource(Protocol):
    """Features of the training images: iterable again and again, always in the same order."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        """Batches: one float32 tensor (B, C, H, W) per layer, on the context's device."""
        ...

    def at(self, indices: Sequence[int]) -> list[torch.Tensor]:
        """The features of those images, in that order: one float32 tensor (B, C, H, W) per layer."""
        ...

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) per layer."""
        ...


@dataclass(frozen=True)
class Context:
    """Where and how a method runs: seed, torch device, (H, W) of the network's input, memory budget in GB.

    checkpoint: a file in which a training keeps its state between epochs (adcore.training); None keeps nothing.
    extractor: the backbone with its enhancers, at the method's levels, for a method that is given images.
    by_path: for a method that `reads_order`: where the training images stand, in the order of their paths; None: they
    stand in it.
    judge: the image AUROC on the test images of a method as it stands, where its options select by that.
    """

    seed: int
    device: str = "cpu"
    image_size: tuple[int, int] = (224, 224)
    memory_gb: float = 4.0
    checkpoint: Path | None = None
    extractor: Callable[[], Extractor] | None = None
    by_path: tuple[int, ...] | None = None
    judge: Callable[[Method], float] | None = None


@dataclass(frozen=True)
class Network:
    """What a method runs behind the extractor, to be counted: a torch module (frozen parts take no gradient), and how
    it runs on one image. decides_speed: nothing else takes time, such as distances to a memory.

    How its own paper counts: `passes` of the backbone an image, and whether attention products are in."""

    module: torch.nn.Module
    run: Callable[[], Any]
    decides_speed: bool = True
    passes: int = 1
    attention_counts: bool = False


def silent(done: float) -> None:
    """Progress callback that tells nobody."""


class Method(ABC):
    """An anomaly-detection method. A new one is one file in this folder with one subclass named as its file."""

    name: ClassVar[str]
    # `Options` is the class of the method's own options; Any because a nested class may narrow it.
    Options: ClassVar[Any] = Options
    levels: ClassVar[tuple[int, ...]] = (1, 2, 3)  # feature levels by default: stride 4, 8 and 16
    smoothing: ClassVar[float] = 4.0  # standard deviation of the Gaussian on the map, in input pixels; 0: none
    # True: `fit` and `score` get images, a list of one uint8 tensor (B, 3, H, W), and the context has the extractor.
    on_images: ClassVar[bool] = False

    # True: `fit` depends on the order of the training images' paths, which their contents do not tell.
    reads_order: ClassVar[bool] = False

    # Options that `score` alone reads: models that differ in nothing else are fitted once.
    at_score: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: Options, context: Context) -> None:
        self.options = options
        self.context = context

    @classmethod  # noqa: B027  (most work with all of them)
    def check(cls, options: Any, backbone: BackboneSpec) -> None:
        """Raise ValueError, with the mend, where it cannot work with these options on this backbone."""

    @classmethod
    def identity(cls, options: Any, backbone: BackboneSpec) -> dict[str, Any]:
        """What of the options decides the result, as JSON: files by content."""
        found: dict[str, Any] = options.model_dump(mode="json")
        return found

    @classmethod
    def stand_in(cls, options: Any, backbone: BackboneSpec) -> bool:
        """Whether some of its weights only stand in for the ones that it is meant to have."""
        return False

    @classmethod
    def selects_on_test(cls, options: Any) -> bool:
        """Whether the fit looks at the test images, as the code of some papers does: leaky, and only there to be held
        against numbers that were printed so. The option that asks for it stands in the label."""
        return False

    @classmethod
    def sized(cls, options: Any, shapes: Sequence[tuple[int, int, int]]) -> Network | None:
        """The network behind the extractor at inference, for maps of these shapes (C, H, W); None where it has none."""
        return None

    @classmethod
    def state_bytes(cls, options: Any, shapes: Sequence[tuple[int, int, int]], images: int) -> int:
        """Bytes of a model of that many training images with maps of these shapes (C, H, W), to plan with: by default
        those of the network."""
        network = cls.sized(options, shapes)
        return sum(tensor.nbytes for tensor in network.module.state_dict().values()) if network else 0

    @abstractmethod
    def fit(self, features: FeatureSource, progress: Callable[[float], None] = silent) -> None:
        """Learn from normal images; calls `progress` with the fraction done."""

    @abstractmethod
    def score(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Raw anomaly maps (B, h, w), float32, and image scores (B,); None means the maximum of the smoothed map."""

    @abstractmethod
    def state(self) -> dict[str, torch.Tensor]:
        """Everything that `score` needs."""

    @abstractmethod
    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave; scores are then bit-equal."""
