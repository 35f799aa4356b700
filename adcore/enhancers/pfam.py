"""PFAM of SBM+PFAM: MFCSAM behind the first and last of a method's layers, trained on synthetic defects.

The paper does not print how; what was chosen and why: docs/papers/sbm-pfam.md#how-pfam-is-trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from adcore.core.contracts import (
    Enhancer,
    Extractor,
    Host,
    HostMethod,
    Level,
    Levels,
    Maps,
    Method,
    Outcome,
    Subject,
    Training,
)
from adcore.enhancers import _puzzles

if TYPE_CHECKING:
    import torch

    from adcore.core.arrays import UInt8Array
    from adcore.core.plan import BackboneSpec
    from adcore.enhancers._pfam import PFAM as Module

CONTROLS = ("identity", "random")
LITERAL = (2, 3, 4)  # "the last three stages", read literally (docs/papers/sbm-pfam.md#pfam)
ABOUT = ("shapes", "permutations")  # in the state beside the module's weights
WARM_UP = 1 / 3  # of the epochs of `host_loss`, on the pretext, before the method's memory is made


class PFAMOptions(_puzzles.PuzzleOptions):
    """`train`: what PFAM learns from; `identity` and `random` are controls, which are not trained.

    pretext: segment synthetic defects, solve puzzles (objects only), keep normal features. jigsaw_only: puzzles.
    host_loss: the method's own loss. `fan_in_lr`: AdamW's learning rate of a layer is this over the inputs that it sums
    (see `by_fan_in` in _maptraining.py). `stages`: the method's layers, or layer2 to layer4. `combine`, `convolutions`,
    `pool_kv`: see _pfam.py and _mfcsam.py; `pool_kv` averages keys and values of the attention over squares of that
    side.
    """

    epochs: NonNegativeInt = 30
    min_steps: NonNegativeInt = 60
    fan_in_lr: PositiveFloat = 0.03
    train: Literal["pretext", "jigsaw_only", "host_loss", "identity", "random"] = "pretext"
    stages: Literal["host", "layer2-4"] = "host"
    combine: Literal["sum", "concat"] = "sum"
    convolutions: Literal["grouped", "full"] = "grouped"
    pool_kv: PositiveInt = 1


class PFAM(Enhancer):
    """The module behind the maps; the backbone, and what enhances it, stay as they are."""

    name = "pfam"
    Options = PFAMOptions
    options: PFAMOptions
    on_maps = True
    synthesis = True
    trial: ClassVar[dict[str, Any]] = {"epochs": 1, "min_steps": 1, "permutations": 3, "pool_kv": 4}

    def fit(
        self,
        extractor: Extractor,
        subject: Subject,
        training: Training,
        host: Host | None = None,
    ) -> Outcome:
        """Raises RuntimeError when a loss is not finite."""
        import torch

        from adcore.core.training import steps, taken_first_step
        from adcore.enhancers import _maptraining as maptraining
        from adcore.features import drift

        options, inside = self.options, self._inside(extractor.levels)
        plain = list(extractor.behind)  # of the enhancers before this one

        def features(batch: torch.Tensor) -> Maps:
            with torch.no_grad():
                maps = extractor.maps(batch, plain)
            return [maps[index] for index in inside] if inside else maps

        shapes = [extractor.shapes()[index] for index in inside] if inside else extractor.shapes()
        module = self._module(shapes, subject.seed).to(extractor.device)
        extractor.add(
            module, self._wired(module, extractor.levels, host.method.reads(host.method.options) if host else ())
        )
        before = maptraining.originals(features, subject)
        watch = drift.Drift(before, lambda: _without_gradients(module, before), options.least_cosine)
        epochs = 0 if self.control else options.passes(steps(len(subject.pixels), maptraining.PAIRS))
        warm = round(epochs * WARM_UP) if host else epochs
        shown = _puzzles.pretext(subject, options)
        curves: dict[str, list[float]] = {}
        facts: dict[str, float] = {}
        if warm:
            only_puzzles = options.train == "jigsaw_only"
            terms = maptraining.Terms(puzzles=only_puzzles or not subject.texture, defects=not only_puzzles)
            part = training.part("pretext", 0, warm / epochs)
            curves = maptraining.pretext(module, features, subject, shown, terms, options.fan_in_lr, warm, part, watch)
        if host and epochs > warm and not watch.stopped:
            part = training.part("host", warm / epochs, 1)
            learned = maptraining.host_loss(
                module, extractor, subject, host, options.fan_in_lr, epochs - warm, part, watch
            )
            facts |= {f"host_{name}": value for name, value in taken_first_step(learned).items()}
            curves |= {f"host_{name}": values for name, values in learned.items()}
        module.eval().requires_grad_(False)
        facts |= taken_first_step(curves) | watch.values() | drift.norm_ratios(before, module(before))
        state = {name: value.detach().cpu() for name, value in module.state_dict().items()}
        state |= {"shapes": torch.tensor(shapes), "permutations": torch.from_numpy(shown.classes)}
        chance = 1 / len(shown.classes) if "accuracy" in curves else None
        return Outcome(state, curves, chance, facts, watch.stopped)

    def apply(self, extractor: Extractor, state: dict[str, torch.Tensor], asked: Sequence[Level]) -> None:
        """Put the trained module behind the maps."""
        module = self._module([(c, h, w) for c, h, w in state["shapes"].tolist()], 0)
        module.load_state_dict({name: value for name, value in state.items() if name not in ABOUT})
        module.eval().requires_grad_(False).to(extractor.device)
        extractor.add(module, self._wired(module, extractor.levels, asked))

    def levels(self, asked: Levels) -> Levels:
        """The method's own, and layer2 to layer4 where PFAM is on those."""
        return tuple(sorted({*asked, *LITERAL})) if self.options.stages == "layer2-4" else asked

    def check(self, backbone: BackboneSpec, method: type[Method]) -> None:
        """`host_loss` needs a method that has a loss, `stages: layer2-4` levels by their strides."""
        if self.wants_host and not issubclass(method, HostMethod):
            raise ValueError(f"train: host_loss needs a method with a loss, such as cfa; {method.name} has none")
        if self.options.stages == "layer2-4" and backbone.layers:
            raise ValueError("stages: layer2-4 cannot go with backbone.layers; remove one of them")

    def identity(self, backbone: BackboneSpec) -> dict[str, Any]:
        """The options, files by content."""
        return self.options.identity()

    @property
    def control(self) -> str:
        """The untrained modules."""
        return self.options.train if self.options.train in CONTROLS else super().control

    @property
    def wants_host(self) -> bool:
        """Only where the method's loss trains it."""
        return self.options.train == "host_loss"

    def effort(self, images: int) -> float:
        """Up to four pictures an image, the module forward and backward."""
        from adcore.core.training import steps
        from adcore.enhancers._maptraining import PAIRS

        return 1 if self.control else 25.0 * self.options.passes(steps(images, PAIRS)) / self.options.pool_kv + 1

    def examples(self, subject: Subject, index: int) -> list[tuple[str, UInt8Array]]:
        """A synthetic defect and its mask."""
        import numpy as np

        if self.control:
            return []
        defective, mask = _puzzles.pretext(subject, self.options).defect(index, 0)
        white = np.broadcast_to(np.where(mask, 255, 0).astype(np.uint8), defective.shape)
        return [("synthetic defect", defective), ("its mask", white)]

    def _module(self, shapes: Sequence[tuple[int, int, int]], seed: int) -> Module:
        from adcore.enhancers._pfam import PFAM as Module

        options = self.options
        return Module(
            shapes,
            combine=options.combine,
            convolutions=options.convolutions,
            pool_kv=options.pool_kv,
            start="random" if options.train == "random" else "identity",
            seed=seed,
        )

    def _inside(self, levels: Sequence[Level]) -> list[int]:
        """Which of the maps PFAM is on; [] for all of them."""
        return [list(levels).index(level) for level in LITERAL] if self.options.stages == "layer2-4" else []

    def _wired(self, module: Module, levels: Sequence[Level], asked: Sequence[Level]) -> Callable[[Maps], Maps]:
        """From the maps of `levels` to those that the method asked for, enhanced."""
        inside = self._inside(levels)

        def enhanced(maps: Maps) -> Maps:
            found: Maps = list(maps) if inside else module(maps)
            if not inside:
                return found
            for index, features in zip(inside, module([maps[index] for index in inside]), strict=True):
                found[index] = features
            return [features for level, features in zip(levels, found, strict=True) if level in asked]

        return enhanced


def _without_gradients(module: Module, maps: Maps) -> Maps:
    import torch

    with torch.no_grad():
        found: Maps = module(maps)
    return found
