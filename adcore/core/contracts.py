"""What a plug-in must say: a method and an enhancer, and what each is given.

A new method or enhancer is one file with one subclass named as its file; nothing of it is guessed from the names of
its attributes or options.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

if TYPE_CHECKING:
    import torch

    from adcore.core.arrays import UInt8Array
    from adcore.core.plan import BackboneSpec

Batch = TypeVar("Batch")

Level = int | str  # what is read of a backbone: see Method.levels
Levels = tuple[Level, ...]
STAGES = (1, 2, 3, 4)  # the levels that a backbone is fine-tuned through
TOKENS, CLS, POOLED = "tokens", "cls", "pooled"  # levels that have a name
VECTORS = (CLS, POOLED)  # those that are no maps

Shape = tuple[int, int, int]  # (C, H, W) of a map
Maps = list["torch.Tensor"]  # one float32 tensor (B, C, H, W) per level
Curves = dict[str, list[float]]  # name -> a value an epoch of a training
Progress = Callable[[float], None]  # hears the fraction done


def silent(done: float) -> None:
    """Progress callback that tells nobody."""


def block_of(level: Level) -> int | None:
    """The number, from 1, of the block that a level like "block3" is; None for other levels."""
    number = level.removeprefix("block") if isinstance(level, str) else ""
    return int(number) if number.isdecimal() and int(number) else None


def level_order(level: Level) -> tuple[int, str]:
    """To sort levels by: maps by their stride, then blocks, then what has a name."""
    number = level if isinstance(level, int) else 100 + (block_of(level) or 1000)
    return number, str(level)


class ImageSource(Protocol):
    """The training images, resized and cropped: iterable again and again, always in the same order."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Batches (B, 3, H, W), uint8, on the context's device."""
        ...

    def at(self, indices: Sequence[int]) -> torch.Tensor:
        """Those images, in that order."""
        ...


class FeatureSource(Protocol):
    """Features of the training images: iterable again and again, always in the same order."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __iter__(self) -> Iterator[Maps]:
        """Batches, on the context's device."""
        ...

    def at(self, indices: Sequence[int]) -> Maps:
        """The features of those images, in that order."""
        ...

    @property
    def shapes(self) -> list[Shape]:
        """(C, H, W) per level."""
        ...

    @property
    def images(self) -> ImageSource | None:
        """The images that the features are of; None where only features are given."""
        ...


class Extractor(Protocol):
    """A frozen backbone with its enhancers: images (B, 3, size, size), uint8 -> one float32 map per level read.

    `model` is the network alone, `mean` and `std` (1, 3, 1, 1) are its normalisation of values in [0, 1]. `added` holds
    the modules behind its maps, `behind` how they are called.
    """

    device: str
    size: int
    levels: Levels
    model: Any
    mean: torch.Tensor
    std: torch.Tensor
    added: torch.nn.ModuleList
    behind: list[Callable[[Maps], Maps]]

    def __call__(self, batch: torch.Tensor) -> Maps:
        """Without gradients."""
        ...

    def maps(self, batch: torch.Tensor, behind: Sequence[Callable[[Maps], Maps]] | None = None) -> Maps:
        """As a call, with gradients where they are wanted; `behind` in place of all that stands behind the maps."""
        ...

    def shapes(self) -> list[Shape]:
        """(C, H, W) of each map."""
        ...

    def add(self, module: torch.nn.Module, behind: Callable[[Maps], Maps]) -> None:
        """Put a module behind the maps; `behind` is how it is called."""
        ...

    def untrained(self, seed: int) -> torch.nn.Module:
        """The same network with random weights, its parameters to be learned: uint8 images -> one map per level."""
        ...


@dataclass(frozen=True)
class Context:
    """Where and how a method runs: seed, torch device, (H, W) of the network's input, memory budget in GB.

    checkpoint: a file in which a training keeps its state between epochs (adcore.core.training); None keeps nothing.
    extractor: the backbone with its enhancers, at the method's levels.
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


class MethodOptions(BaseModel):
    """Options of a method; each method subclasses it and gives every field a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PresetOptions(MethodOptions):
    """Options of a method whose sizes go by one name: `small` ones let a CPU do what the `paper` does."""

    told: ClassVar[tuple[str, ...]] = ()  # options that a label tells even where the preset decides them

    preset: Literal["paper", "small"] = "paper"

    @classmethod
    def implied(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """What the given options stand for where nothing else is said: the sizes of a preset."""
        return {}

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        """Implied values are resolved at once, so that labels and keys show what is run."""
        return {**cls.implied(given), **given} if isinstance(given, Mapping) else given


class Method(ABC):
    """An anomaly-detection method: a subclass of FeatureMethod or ImageMethod, one file in adcore/methods."""

    name: ClassVar[str]
    # `Options` is the class of the method's own options; Any because a nested class may narrow it.
    Options: ClassVar[Any] = MethodOptions
    # What it reads of the backbone. 1 to 4: maps of stride 4 to 32 (of a transformer of tokens, its blocks at those
    # quarters of the depth); 0: the stem behind a max-pool. Of a transformer also "block3", the map of its third block,
    # "tokens", the map behind all blocks and the norm that follows, and "cls", the class token there. "pooled": the
    # mean over the positions of the last map. Of "cls" and "pooled", which are vectors, the maps are (B, C, 1, 1).
    levels: ClassVar[Levels] = (1, 2, 3)
    smoothing: ClassVar[float] = 4.0  # standard deviation of the Gaussian on the map, in input pixels; 0: none

    # True: `fit` depends on the order of the training images' paths, which their contents do not tell.
    reads_order: ClassVar[bool] = False

    # Options that `score` alone reads: models that differ in nothing else are fitted once.
    at_score: ClassVar[tuple[str, ...]] = ()

    # Options with which it learns something of a dozen images of 64 pixels within seconds, for conformance tests.
    trial: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, options: Any, context: Context) -> None:
        self.options = options
        self.context = context

    @classmethod  # noqa: B027  (most work with all of them)
    def check(cls, options: Any, backbone: BackboneSpec) -> None:
        """Raise ValueError, with the mend, where it cannot work with these options on this backbone."""

    @classmethod
    def identity(cls, options: Any, backbone: BackboneSpec) -> dict[str, Any]:
        """What of the options decides the result, as JSON: files by content."""
        values: dict[str, Any] = options.model_dump(mode="json")
        return values

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
    def reads(cls, options: Any) -> Levels:
        """The levels that it reads with these options."""
        return cls.levels

    @classmethod
    def passes(cls, options: Any) -> int | None:
        """How often `fit` trains a network on every image; None where it trains none."""
        return None

    @classmethod
    def quick(cls, options: Any) -> Any:
        """The options of a network of the same size after the shortest training, to measure its speed."""
        return options

    @classmethod
    def sized(cls, options: Any, extractor: Extractor) -> Network | None:
        """The network behind the extractor at inference; None where it has none."""
        return None

    @classmethod
    def state_bytes(cls, options: Any, extractor: Extractor, images: int) -> int:
        """Bytes of a model of that many training images, to plan with: by default those of the network."""
        network = cls.sized(options, extractor)
        return sum(tensor.nbytes for tensor in network.module.state_dict().values()) if network else 0

    @abstractmethod
    def fit(self, source: Any, progress: Progress = silent) -> Curves:
        """Learn from normal images: how the training went, {} where nothing is trained by epochs."""

    @abstractmethod
    def score(self, seen: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Raw anomaly maps (B, h, w), float32, and image scores (B,); None means the maximum of the smoothed map."""

    @abstractmethod
    def state(self) -> dict[str, torch.Tensor]:
        """Everything that `score` needs."""

    @abstractmethod
    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave; scores are then bit-equal."""


class EpochMethod(Method):
    """A method that trains a network for as many epochs as its option `epochs` says."""

    @classmethod
    def passes(cls, options: Any) -> int:
        """The epochs."""
        epochs: int = options.epochs
        return epochs

    @classmethod
    def quick(cls, options: Any) -> Any:
        """One epoch."""
        return options.model_copy(update={"epochs": 1})


class FeatureMethod(Method):
    """A method that reads the feature maps of `levels`."""

    @abstractmethod
    def fit(self, features: FeatureSource, progress: Progress = silent) -> Curves:
        """From the features of the training images."""

    @abstractmethod
    def score(self, features: Maps) -> tuple[torch.Tensor, torch.Tensor | None]:
        """From the features of some images."""


class ImageMethod(Method):
    """A method that is given the images themselves, and the extractor in its context."""

    @abstractmethod
    def fit(self, images: ImageSource, progress: Progress = silent) -> Curves:
        """From the training images."""

    @abstractmethod
    def score(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """From images (B, 3, H, W), uint8."""

    @property
    def extractor(self) -> Extractor:
        """That of the context. Raises ValueError where there is none."""
        if self.context.extractor is None:
            raise ValueError(f"{self.name}: it needs the extractor, and its context has none")
        return self.context.extractor()


class HostMethod(FeatureMethod):
    """A method whose loss can train an enhancer in front of it."""

    @abstractmethod
    def begin(self, features: FeatureSource) -> list[torch.nn.Parameter]:
        """Make the untrained model: what is to be learned by `loss`."""

    @abstractmethod
    def loss(self, features: Maps) -> torch.Tensor:
        """Of a batch of normal images, with gradients to the features."""


class EnhancerOptions(BaseModel):
    """Options of an enhancer; each enhancer subclasses it and gives every field a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def untrained(self) -> bool:
        """Whether they ask for no training, so that what they change is nothing: the control."""
        return False


class TrainedOptions(EnhancerOptions):
    """Options of an enhancer that is trained. `min_steps`: where `epochs` passes over few images are fewer optimiser
    steps than this, there are more passes. `least_cosine`: the training stops with the last epoch in which each of the
    first three maps keeps this mean cosine similarity with the original; -1 is no bound."""

    epochs: NonNegativeInt
    min_steps: NonNegativeInt
    least_cosine: float = Field(0.9, ge=-1, le=1)

    @property
    def untrained(self) -> bool:
        """No epoch."""
        return self.epochs == 0

    def passes(self, steps: int) -> int:
        """Epochs of so many steps each; none where `epochs` asks for none."""
        return max(self.epochs, math.ceil(self.min_steps / steps)) if self.epochs else 0


class Threshold(NamedTuple):
    """Of a grey value: the object is brighter than it (`bright`), or darker."""

    grey: int
    bright: bool


class Photograph(Protocol):
    """An image file that is read when it is wanted."""

    def __hash__(self) -> int: ...

    def load(self, resize: int, crop: int) -> UInt8Array:
        """(3, crop, crop), uint8. Raises ImageError."""
        ...


@dataclass(frozen=True)
class Subject:
    """The normal training images of a category (N, 3, H, W), uint8, their sha256s, and what is known of them.

    sources: image files that textures of synthetic defects are taken from.
    """

    pixels: UInt8Array
    hashes: tuple[str, ...]
    texture: bool
    sources: tuple[Photograph, ...]
    threshold: Threshold | None
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What a training gave: everything that `apply` needs, one value an epoch of each curve, and facts for people.

    chance: of guessing in the pretext task. stopped: why it was not trained to the end, in words; "" where it was.
    """

    state: dict[str, torch.Tensor]
    curves: Curves = field(default_factory=dict)
    chance: float | None = None
    facts: dict[str, float] = field(default_factory=dict)
    stopped: str = ""


class Watch(Protocol):
    """Looks at what is trained: values to log after the first step and after every epoch, and whether to stop."""

    def values(self) -> Mapping[str, float]:
        """What is logged."""
        ...

    def refuses(self, values: Mapping[str, float], epoch: int, epochs: int) -> bool:
        """Whether this epoch (from 1) is undone and the training stops before it."""
        ...


class Training(Protocol):
    """The one loop for all that is trained (adcore.core.training): seeded, and resumable after a kill."""

    @property
    def seed(self) -> int: ...

    @property
    def device(self) -> str: ...

    @property
    def progress(self) -> Progress: ...

    def part(self, name: str, begin: float, end: float) -> Training:
        """For one of several trainings in a row: its own checkpoint, and progress from `begin` to `end`."""
        ...

    def run(
        self,
        what: str,
        modules: Mapping[str, torch.nn.Module],
        optimiser: torch.optim.Optimizer,
        epochs: int,
        batches: Callable[[int], Iterable[Batch]],
        step: Callable[[Batch], tuple[torch.Tensor, Mapping[str, torch.Tensor | float]]],
        steps: int,
        rate: Callable[[int], float] = ...,
        watch: Watch | None = None,
    ) -> Curves:
        """Train `modules` in place: mean loss and mean of each further value of `step` and `watch`, one an epoch."""
        ...


class Enhancer(ABC):
    """Adapts an extractor: one file in adcore/enhancers.

    `on_maps` False: it trains the backbone's weights, through all STAGES, whichever levels are read later. True: it is
    a module behind the maps of the levels read, so methods that read other levels have other modules.
    """

    name: ClassVar[str]
    # `Options` is the class of the enhancer's own options; Any because a nested class may narrow it.
    Options: ClassVar[Any] = EnhancerOptions
    on_maps: ClassVar[bool] = False
    synthesis: ClassVar[bool] = False  # is shown synthetic defects, so that it depends on their sources

    # Options with which it learns something of a dozen images of 64 pixels within seconds, for conformance tests.
    trial: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, options: Any) -> None:
        self.options = options

    @abstractmethod
    def fit(self, extractor: Extractor, subject: Subject, training: Training, host: Host | None = None) -> Outcome:
        """Train on an extractor that is its own to change: at STAGES, or at `levels` behind the links before it."""

    @abstractmethod
    def apply(self, extractor: Extractor, state: dict[str, torch.Tensor], asked: Sequence[Level]) -> None:
        """Make `extractor` the enhanced one; `asked` are the levels that the method wants."""

    def levels(self, asked: Levels) -> Levels:
        """The levels to read from the backbone where the method asks for some; () stands for the plan's layers."""
        return asked

    def outputs(self, count: int) -> int:
        """How many maps the method gets where it asks for `count`."""
        return count

    def check(self, backbone: BackboneSpec, method: type[Method]) -> None:  # noqa: B027  (most work with all of them)
        """Raise ValueError where it cannot work with this backbone's layers or this method."""

    def identity(self, backbone: BackboneSpec) -> dict[str, Any]:
        """What of the options decides the result, as JSON: files by content."""
        values: dict[str, Any] = self.options.model_dump(mode="json")
        return values

    def stand_in(self, backbone: BackboneSpec) -> bool:
        """Whether some of its weights only stand in for the ones that it is meant to have."""
        return False

    @property
    def control(self) -> str:
        """`identity` or `random` for an enhancer that is only there to be compared with; else ''."""
        return "identity" if self.options.untrained else ""

    @property
    def wants_host(self) -> bool:
        """Whether it is trained by the method's own loss (HostMethod), and so for one method alone."""
        return False

    def effort(self, images: int) -> float:
        """Rough cost of its training on so many images, in passes of all of them through the backbone."""
        return 1.0

    def examples(self, subject: Subject, index: int) -> list[tuple[str, UInt8Array]]:
        """Captions and pictures (3, H, W) of what it was shown of one image; nothing where that is the image itself."""
        return []


@dataclass(frozen=True)
class Host:
    """A method whose loss trains an enhancer, and its features through an extractor."""

    method: HostMethod
    features: Callable[[Extractor], FeatureSource]


@dataclass(frozen=True)
class Link:
    """One enhancer of a chain as it was trained for a cell, and the key of its weights."""

    enhancer: type[Enhancer]
    options: EnhancerOptions
    key: str

    def made(self) -> Enhancer:
        return self.enhancer(self.options)
