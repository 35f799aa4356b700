"""MFFA (docs/papers/mffa.md): distance to a coreset of patches times that to a Gaussian of fused features, by position.

With the enhancer `psg` it is the paper's system. The branches are PatchCore and PaDiM; LGFFP is the enhancer's module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from adcore.core import contracts
from adcore.core.contracts import Curves, Progress, silent
from adcore.enhancers.lgffp import LGFFP, LGFFPOptions
from adcore.methods.padim import PaDiM, PaDiMOptions, gaussian_bytes
from adcore.methods.patchcore import PatchCore, PatchCoreOptions, memory_bytes

if TYPE_CHECKING:
    import torch

    from adcore.core.plan import BackboneSpec
    from adcore.enhancers._lgffp import LGFFP as Fusion

SIGMA = 4.0  # of the Gaussian on the product, in input pixels
PAPER_WIDTH, PAPER_FEATURES = 768, 570  # fused channels of wide_resnet50_2, and how many of them are kept
SMALL = {"blocks": 2, "grid": 16}

Maps = list["torch.Tensor"]


class MFFAOptions(contracts.PresetOptions):
    """`branches`: both (their product), or one alone. `lgffp`: the Gaussian branch reads fused features, else the
    layers side by side. `n_features`: channels of that branch drawn at random; None: the paper's 570 where layer1 and
    layer2 have its 256 + 512, with LGFFP or without, and the same share of what they have elsewhere. `smooth`: the
    product, or each map before it. `preset: small`: 2 blocks on a 16 x 16 grid. `cait`, `weights`, `blocks`, `grid`,
    `standardise`: of LGFFP (docs/enhancers.md)."""

    branches: Literal["both", "nns", "gaussian"] = "both"
    coreset: Annotated[float, Field(gt=0, le=1)] = 0.01
    lgffp: bool = True
    n_features: PositiveInt | None = None
    smooth: Literal["product", "each"] = "product"
    cait: str = LGFFPOptions.model_fields["cait"].default
    weights: str = "auto"
    blocks: NonNegativeInt | None = None
    grid: PositiveInt | None = None
    standardise: bool = True

    def fusion(self) -> LGFFP:
        """The enhancer whose module fuses the layers of the Gaussian branch."""
        small = SMALL if self.preset == "small" else {}
        given = {"blocks": self.blocks, "grid": self.grid}
        sizes: dict[str, Any] = small | {name: value for name, value in given.items() if value is not None}
        return LGFFP(LGFFPOptions(cait=self.cait, weights=self.weights, standardise=self.standardise, **sizes))


class MFFA(contracts.FeatureMethod):
    """The two maps at the input's resolution, multiplied (AMC), smoothed; the image score is the maximum."""

    name = "mffa"
    at_score = ("smooth",)
    Options = MFFAOptions
    options: MFFAOptions
    levels = (1, 2, 3)
    smoothing = 0  # done in `score`
    trial: ClassVar[dict[str, Any]] = {
        "preset": "small",
        "coreset": 0.2,
        "cait": "cait_xxs24_224",
    }  # a CaiT that is built soon

    fusion: Fusion | None = None

    def __init__(self, options: Any, context: contracts.Context) -> None:
        super().__init__(options, context)
        self.nns = PatchCore(PatchCoreOptions(coreset=options.coreset, reweight=False), context)
        self.gaussian = PaDiM(PaDiMOptions(), context)

    @classmethod
    def check(cls, options: Any, backbone: BackboneSpec) -> None:
        """LGFFP's own conditions."""
        if options.lgffp and options.branches != "nns":
            options.fusion().check(backbone, cls)

    @classmethod
    def identity(cls, options: Any, backbone: BackboneSpec) -> dict[str, Any]:
        """The options, with the weights of LGFFP as they were found."""
        found: dict[str, Any] = options.model_dump(mode="json", exclude={"weights"})
        return found | {"fusion": options.fusion().identity(backbone) if options.lgffp else None}

    @classmethod
    def stand_in(cls, options: Any, backbone: BackboneSpec) -> bool:
        """Where LGFFP's blocks are not CaiT's."""
        used = options.lgffp and options.branches != "nns"
        return bool(used and options.fusion().stand_in(backbone))

    @classmethod
    def sized(cls, options: MFFAOptions, extractor: contracts.Extractor) -> contracts.Network | None:
        """LGFFP's frozen blocks."""
        import torch

        if not options.lgffp or options.branches == "nns":
            return None
        shapes = extractor.shapes()
        module = options.fusion().sized(shapes)
        return contracts.Network(
            module, lambda: module([torch.zeros(1, *shape) for shape in shapes]), decides_speed=False
        )

    @classmethod
    def state_bytes(cls, options: MFFAOptions, extractor: contracts.Extractor, images: int) -> int:
        """Those of the branches that are used."""
        total, shapes = 0, extractor.shapes()
        if options.branches != "gaussian":
            patches = PatchCoreOptions(coreset=options.coreset)
            total += memory_bytes(shapes[1:], patches, images)
        if options.branches != "nns":
            fused = list(shapes)
            if options.lgffp:
                fusion = options.fusion().sized(shapes)
                fused = [(len(fusion.mean), *fusion.grid)]
            kept = cls(options, contracts.Context(0))._kept(shapes)
            total += gaussian_bytes(fused, kept)
        return total

    def fit(self, features: contracts.FeatureSource, progress: Progress = silent) -> Curves:
        """Fits the branches that are used, one after the other. Raises ValueError where there are not three layers."""
        if len(features.shapes) != 3:
            raise ValueError(f"mffa: it reads three layers and got {len(features.shapes)}; name three or no layers")
        both = self.options.branches == "both"
        if self.options.branches != "gaussian":
            self.nns.fit(View(features, lambda maps: maps[1:]), lambda done: progress(done / 2 if both else done))
        if self.options.branches != "nns":
            if self.options.lgffp:
                self._start(features.shapes)
                assert self.fusion is not None
                self.fusion.fit(features)
            fused = View(features, self._fused)
            self.gaussian.options = PaDiMOptions(n_features=self._kept(features.shapes))
            self.gaussian.fit(fused, lambda done: progress((1 + done) / 2 if both else done))
        return {}

    def score(self, features: Maps) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Maps (B, H, W) at the input's resolution."""
        from adcore.vision.maps import postprocess

        size, each = self.context.image_size, SIGMA if self.options.smooth == "each" else 0.0
        found: torch.Tensor | None = None
        if self.options.branches != "gaussian":
            found = postprocess(self.nns.score(features[1:])[0], size, each)
        if self.options.branches != "nns":
            gaussian = postprocess(self.gaussian.score(self._fused(features))[0], size, each)
            found = gaussian if found is None else found * gaussian
        assert found is not None
        return (found if each else postprocess(found, size, SIGMA)), None

    def state(self) -> dict[str, torch.Tensor]:
        """Of both branches and of the fusion."""
        import torch

        found: dict[str, torch.Tensor] = {}
        if self.options.branches != "gaussian":
            found |= {f"nns.{name}": value for name, value in self.nns.state().items()}
        if self.options.branches != "nns":
            found |= {f"gaussian.{name}": value for name, value in self.gaussian.state().items()}
        if self.fusion is not None:
            found |= {f"fusion.{name}": value for name, value in self.fusion.measured.items()}
            found["fusion.shapes"] = torch.tensor(self.shapes)
        return found

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        if "nns.memory" in state:
            self.nns.restore(_part(state, "nns."))
        if "gaussian.mean" in state:
            self.gaussian.restore(_part(state, "gaussian."))
        if "fusion.subset" in state:
            self._start([(c, h, w) for c, h, w in state["fusion.shapes"].tolist()])
            assert self.fusion is not None
            for name, value in self.fusion.measured.items():
                value.copy_(state[f"fusion.{name}"])

    def _start(self, shapes: Sequence[tuple[int, int, int]]) -> None:
        self.shapes = list(shapes)
        self.fusion = self.options.fusion().module(shapes, self.context.seed).to(self.context.device)

    def _fused(self, maps: Maps) -> Maps:
        return [self.fusion(maps)] if self.fusion is not None else maps

    def _kept(self, shapes: Sequence[tuple[int, int, int]]) -> int:
        """As many with LGFFP as without: 1,330 of the 1,792 channels side by side would be 29 GB of covariances."""
        fused = shapes[0][0] + shapes[1][0]
        return self.options.n_features or max(1, fused * PAPER_FEATURES // PAPER_WIDTH)


class View:
    """A FeatureSource that shows another's maps through a function."""

    def __init__(self, source: contracts.FeatureSource, seen: Callable[[Maps], Maps]) -> None:
        self.source = source
        self.seen = seen

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Maps]:
        for maps in self.source:
            yield self.seen(maps)

    def at(self, indices: Sequence[int]) -> Maps:
        """As the other's."""
        return self.seen(self.source.at(indices))

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) per map."""
        return [(maps.shape[1], maps.shape[2], maps.shape[3]) for maps in self.at([0])]

    @property
    def images(self) -> contracts.ImageSource | None:
        """As the other's."""
        return self.source.images


def _part(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
