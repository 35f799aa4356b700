"""ViTAD (Zhang et al. 2023): a plain ViT rebuilds the middle layers of a frozen one from its last layer.

What is the paper's and what the released code's: docs/papers/vitad.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from adcore.core import contracts
from adcore.core.contracts import Curves, Maps, Progress, silent

if TYPE_CHECKING:
    import torch

    from adcore.methods._vitad import Decoder

ADAMW = {"weight_decay": 1e-4, "betas": (0.9, 0.999)}
CLIP = 5.0  # norm of the gradient
DECAY, DECAYED = 0.1, 0.8  # of the learning rate, from that share of the epochs on
SIGMA = 4.0  # of the Gaussian on the map, in pixels of the image
SMALL = {"width": 192, "blocks": 1, "batch": 4, "epochs": 30, "lr": 1e-3}


class ViTADOptions(contracts.PresetOptions):
    """`preset` small has 1 block a map, 192 wide, 30 epochs in batches of 4 and a learning rate of 1e-3.

    `blocks`: of the decoder, for each map that is rebuilt. `width`: of its tokens; None: the channels of the maps where
    they all have as many, as a transformer's, else 384.
    """

    width: PositiveInt | None = None
    blocks: PositiveInt = 3
    lr: PositiveFloat = 1e-4
    batch: PositiveInt = 8
    epochs: NonNegativeInt = 100

    told = ("epochs",)

    @classmethod
    def implied(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The sizes of `preset: small`."""
        return SMALL if given.get("preset") == "small" else {}


class ViTAD(contracts.EpochMethod, contracts.FeatureMethod):
    """How far the frozen network's maps and the decoder's point apart at each position, smoothed by itself; the image
    score is the greatest mean over 16 x 16 pixels."""

    name = "vitad"
    Options = ViTADOptions
    options: ViTADOptions
    levels = (1, 2, 3, 4)  # of 12 blocks 3, 6 and 9, which are rebuilt, and 12, from which they are
    smoothing = 0.0
    trial: ClassVar[dict[str, Any]] = {"preset": "small", "width": 64, "epochs": 30}
    decoder: Decoder

    @classmethod
    def sized(cls, options: ViTADOptions, extractor: contracts.Extractor) -> contracts.Network:
        """Fusion neck and decoder."""
        import torch

        from adcore.methods._vitad import Decoder

        shapes = extractor.shapes()
        with torch.device("meta"):
            decoder = Decoder(shapes, options.width, options.blocks).eval()
            maps = [torch.empty(1, *shape) for shape in shapes]
        return contracts.Network(decoder, lambda: decoder(maps), attention_counts=True)

    def fit(self, features: contracts.FeatureSource, progress: Progress = silent) -> Curves:
        """Raises RuntimeError when the loss is not finite."""
        import torch
        from torch.nn.utils import clip_grad_norm_

        from adcore.core.training import Training, steps
        from adcore.features.held import held
        from adcore.methods._rd4ad import loss
        from adcore.methods._vitad import Decoder

        options, seed = self.options, self.context.seed
        features = held(features, self.context.device, self.context.memory_gb)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            decoder = Decoder(features.shapes, options.width, options.blocks)
        decoder.to(self.context.device).train()
        parameters = list(decoder.parameters())
        optimiser = torch.optim.AdamW(parameters, options.lr, **ADAMW)  # type: ignore[arg-type]

        def clip(*_: Any) -> None:
            clip_grad_norm_(parameters, CLIP)

        def step(maps: Maps) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return loss(decoder.targets(maps), [one.float() for one in decoder(maps)], "whole"), {}

        optimiser.register_step_pre_hook(clip)
        curves = Training.of(self.context, progress).run(
            self.name,
            {"decoder": decoder},
            optimiser,
            options.epochs,
            lambda epoch: self._batches(features, epoch),
            step,
            steps(len(features), options.batch),
            lambda epoch: DECAY if epoch >= DECAYED * options.epochs else 1.0,
        )
        self.decoder = decoder.eval().requires_grad_(False)
        return curves

    def score(self, features: Maps) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Smoothed maps at the size of the image; the image score is the greatest mean over 16 x 16 pixels of them."""
        from adcore.methods._rd4ad import anomaly_map
        from adcore.vision.maps import pooled_maximum, postprocess

        size = self.context.image_size
        maps = postprocess(anomaly_map(self.decoder.targets(features), self.decoder(features), size), size, SIGMA)
        return maps, pooled_maximum(maps)

    def state(self) -> dict[str, torch.Tensor]:
        """The decoder's weights, and the shapes of the maps."""
        return {f"decoder.{name}": value for name, value in self.decoder.state_dict().items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        from adcore.methods._vitad import made

        decoder = made({name.removeprefix("decoder."): value for name, value in state.items()}, self.options.blocks)
        self.decoder = decoder.to(self.context.device).eval().requires_grad_(False)

    def _batches(self, features: contracts.FeatureSource, epoch: int) -> Iterator[Maps]:
        """In a new order each epoch; the next batch is read while one is used."""
        from adcore.core.prefetch import ahead
        from adcore.core.training import shuffled

        groups = list(shuffled(len(features), self.context.seed, epoch, lambda index: index, self.options.batch))
        for (batch,) in ahead(groups, features.at, 1, workers=1):
            yield batch
