"""LGFFP of MFFA (docs/papers/mffa.md#lgffp): three layers fused on one grid by the first blocks of a frozen CaiT."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt

from adcore.core.contracts import (
    Enhancer,
    EnhancerOptions,
    Extractor,
    Host,
    Level,
    Levels,
    Maps,
    Method,
    Outcome,
    Subject,
    Training,
)
from adcore.features.backbones import WeightsError

if TYPE_CHECKING:
    import torch

    from adcore.core.plan import BackboneSpec
    from adcore.enhancers._lgffp import LGFFP as Module

LEVELS = (1, 2, 3)
BATCH = 8
STAND_IN = "stand-in"
# Of these, layer1 and layer2 have 256 + 512 channels, the width of CaiT-M; no CaiT is as wide as another's.
WIDE = re.compile(r"(wide_)?res(net|next)(50|101|152|200)")


class LGFFPOptions(EnhancerOptions):
    """`weights` of the blocks: `auto` (CaiT's, fetched if need be, where layer1 and layer2 are as wide as the paper's;
    else stand-in), `pretrained` (the same, but no other backbone will do), `stand-in` (random), or a file in timm's
    format. `blocks`: how many of `cait`; 0 only joins the layers. `grid`: side of the token grid; default: layer2's.
    Nothing is trained, so `epochs` can only be 0."""

    epochs: Literal[0] = 0
    cait: str = "cait_m36_384.fb_dist_in1k"
    weights: str = "auto"
    blocks: NonNegativeInt = 11
    grid: PositiveInt | None = None
    standardise: bool = True


class LGFFP(Enhancer):
    """One map of C1 + C2 channels in place of a method's own layers."""

    name = "lgffp"
    Options = LGFFPOptions
    options: LGFFPOptions
    on_maps = True
    trial: ClassVar[dict[str, Any]] = {"blocks": 1, "cait": "cait_xxs24_224"}  # soon built

    def fit(
        self,
        extractor: Extractor,
        subject: Subject,
        training: Training,
        host: Host | None = None,
    ) -> Outcome:
        """Measures mean and deviation of the fused channels. Raises WeightsError for weights that cannot be had."""
        import torch

        module = self.module(extractor.shapes(), subject.seed).to(extractor.device)
        pictures = [torch.from_numpy(subject.pixels[at : at + BATCH]) for at in range(0, len(subject.pixels), BATCH)]

        def batches() -> Iterator[Maps]:
            for done, batch in enumerate(pictures, start=1):
                yield extractor(batch)
                training.progress(done / len(pictures))

        module.fit(batches())
        changes = [module.change(extractor(batch)) for batch in pictures[:4]]
        kept = {name: value.cpu() for name, value in module.measured.items()}
        about = {"shapes": torch.tensor(extractor.shapes()), "seed": torch.tensor(subject.seed)}
        about["stand_in"] = torch.tensor(module.origin == STAND_IN)
        return Outcome(kept | about, facts={"change": float(torch.cat(changes).mean())})

    def apply(self, extractor: Extractor, state: dict[str, torch.Tensor], asked: Sequence[Level]) -> None:
        """Put the blocks behind the maps, with what was measured."""
        shapes = [(int(c), int(h), int(w)) for c, h, w in state["shapes"]]
        module = self._module(shapes, self._weights(shapes, bool(state["stand_in"])), int(state["seed"]))
        for name, value in module.measured.items():
            value.copy_(state[name])
        module.to(extractor.device)
        extractor.add(module, lambda maps: [module(maps)])

    def levels(self, asked: Levels) -> Levels:
        """Strides 4, 8 and 16, whatever the method's own are."""
        return LEVELS

    def outputs(self, count: int) -> int:
        """One map."""
        return 1

    def check(self, backbone: BackboneSpec, method: type[Method]) -> None:
        """It fuses three layers; blocks with weights of their own have one width."""
        weights = self.options.weights
        if weights not in ("auto", "pretrained", STAND_IN) and not Path(weights).is_file():
            raise ValueError(f"weights: no file {weights} (or write auto, pretrained, or stand-in)")
        if weights not in ("auto", STAND_IN) and not WIDE.match(backbone.name):
            raise ValueError(f"weights: no CaiT is as wide as layer1 and layer2 of {backbone.name}; write stand-in")
        if backbone.layers and len(backbone.layers) != len(LEVELS):
            raise ValueError(f"it fuses three layers, but backbone.layers names {len(backbone.layers)}")

    def identity(self, backbone: BackboneSpec) -> dict[str, Any]:
        """The options, with the weights that were found: `stand-in`, CaiT's name, or the sha256 of a file."""
        found: dict[str, Any] = self.options.model_dump(mode="json", exclude={"weights"})
        return found | {"weights": STAND_IN if self.stand_in(backbone) else self._chosen()}

    def stand_in(self, backbone: BackboneSpec) -> bool:
        """Asked for, or for want of a CaiT of that width."""
        return bool(self.options.blocks) and (self.options.weights == STAND_IN or not WIDE.match(backbone.name))

    @property
    def control(self) -> str:
        """None: it is never trained."""
        return ""

    def effort(self, images: int) -> float:
        """A pass of the blocks over the images."""
        return 4.0

    def module(self, shapes: Sequence[tuple[int, int, int]], seed: int) -> Module:
        """The network for layers of these shapes (C, H, W), before `fit`. Raises WeightsError, ValueError."""
        return self._module(shapes, self._weights(shapes), seed)

    def sized(self, shapes: Sequence[tuple[int, int, int]]) -> Module:
        """A network of the same size with random weights, ready to run: for counting."""
        module = self._module(shapes, STAND_IN, 0)
        module.mean.fill_(0)
        module.deviation.fill_(1)
        return module

    def _chosen(self) -> str:
        weights = self.options.weights
        return self.options.cait if weights in ("auto", "pretrained") else _sha256(weights)

    def _weights(self, shapes: Sequence[tuple[int, int, int]], stand_in: bool | None = None) -> str:
        from adcore.enhancers._lgffp import PAPER_WIDTHS

        fits = (shapes[0][0], shapes[1][0]) == PAPER_WIDTHS
        weights = self.options.weights
        if stand_in or not fits:
            return STAND_IN
        return "pretrained" if weights == "auto" else weights

    def _module(self, shapes: Sequence[tuple[int, int, int]], weights: str, seed: int) -> Module:
        from adcore.enhancers._lgffp import LGFFP as Module
        from adcore.enhancers._lgffp import frozen_blocks

        options = self.options
        widths = shapes[0][0], shapes[1][0]
        blocks = frozen_blocks(widths, name=options.cait, count=options.blocks, weights=weights, seed=seed)
        if weights not in ("pretrained", STAND_IN) and _sha256.__wrapped__(weights) != _sha256(weights):
            raise WeightsError(f"{weights} changed after the plan was read; run the command again")
        return Module(shapes, blocks, grid=options.grid, standardise=options.standardise, seed=seed)


@functools.cache
def _sha256(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
