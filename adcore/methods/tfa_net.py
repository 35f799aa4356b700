"""TFA-Net (Luo et al. 2024): how badly an image's features can be rebuilt out of those of one normal template.

Where the paper and the released code differ: docs/papers/tfa-net.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from adcore.core import contracts
from adcore.core.contracts import Curves, Progress, silent

if TYPE_CHECKING:
    import torch

    from adcore.methods._tfa_net import TFANet as Network

BATCH = 4
FLOAT = 4  # bytes
BETAS = (0.9, 0.95)
SMALL = {
    "width": 192,
    "depth": 4,
    "heads": 3,
    "refine_width": 128,
    "refine_depth": 2,
    "refine_heads": 4,
    "grid": 32,
    "epochs": 30,
    "lr": 1e-3,
    "standardise": True,
}


class TFANetOptions(contracts.PresetOptions):
    """`preset` small replaces the paper's sizes, grid, epochs and lr by those of SMALL, except those that are given.

    `variant`: C is the method; A (rebuilds from the image's own rows) and vanilla (no template) are its shortcut
    controls, B has no refinement. `template`: which training image, in the order of their paths, or the medoid;
    `template_raw`: it is not normalised, as in the released code. `standardise`: every channel has mean 0 and deviation
    1 over the training images, so that none is learned late because it is small. `grid`: side of the map that all
    features are resized to, `patch`: positions a side of a token. `width`, `depth`, `heads` of the aggregation,
    `refine_...` of the refinement. `l2_channels`: features of unit length at each position (released for Wide
    ResNet-101). `masking` and `mask_ratio`: tokens hidden from the aggregation, see _tfa_net.py. `distance`:
    of the map. `loss`: cosine of whole tokens (released) or of positions. `lr`: 1e-4 as released; the paper prints
    1e-3.
    """

    variant: Literal["C", "A", "B", "vanilla"] = "C"
    template: NonNegativeInt | Literal["medoid"] = 0
    template_raw: bool = False
    grid: PositiveInt = 64
    patch: Literal[2, 4, 8, 16] = 4
    width: PositiveInt = 768
    depth: PositiveInt = 12
    heads: PositiveInt = 12
    refine_width: PositiveInt = 512
    refine_depth: PositiveInt = 8
    refine_heads: PositiveInt = 16
    use_cls: bool = True
    l2_channels: bool = False
    standardise: bool = False
    masking: Literal["none", "drop", "complementary"] = "none"
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    distance: Literal["dual", "euclidean", "cosine"] = "dual"
    loss: Literal["token", "pixel"] = "token"
    lr: PositiveFloat = 1e-4
    epochs: NonNegativeInt = 400

    told = ("epochs",)

    @classmethod
    def implied(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The sizes of `preset: small`."""
        return SMALL if given.get("preset") == "small" else {}

    @model_validator(mode="after")
    def _fit_together(self) -> TFANetOptions:
        if self.grid % self.patch or self.grid < 2 * self.patch:
            raise ValueError(f"grid {self.grid} is not two or more patches of {self.patch}; change grid or patch")
        parts = {"": (self.width, self.heads), "refine_": (self.refine_width, self.refine_heads)}
        for name, (width, heads) in parts.items():
            if width % heads or width % 4:
                raise ValueError(f"{name}width {width} must be a multiple of 4 and of {name}heads, {heads}")
        if self.variant == "vanilla" and (self.template != 0 or self.template_raw):
            raise ValueError("variant vanilla has no template; remove template and template_raw")
        if self.variant in ("A", "vanilla") and self.masking != "none":
            raise ValueError(f"masking hides rows that variant {self.variant} rebuilds from; choose variant B or C")
        if self.mask_ratio != 0.5 and self.masking != "drop":
            raise ValueError("mask_ratio belongs to masking: drop; remove it (complementary always hides a half)")
        return self


class TFANet(contracts.EpochMethod, contracts.FeatureMethod):
    """The distance between features and their reconstruction, upsampled and smoothed by itself."""

    name = "tfa_net"
    at_score = ("distance",)
    Options = TFANetOptions
    options: TFANetOptions
    levels = (0, 1, 2, 3)  # the stem behind its max-pool, and strides 4, 8 and 16
    smoothing = 0.0
    reads_order = True
    network: Network
    template: torch.Tensor | None  # (1, C, grid, grid)
    scale: tuple[torch.Tensor, torch.Tensor] | None = None  # mean and deviation of each channel, (1, C, 1, 1)
    trial: ClassVar[dict[str, Any]] = {"preset": "small", "epochs": 2, "grid": 16}

    @classmethod
    def sized(cls, options: TFANetOptions, extractor: contracts.Extractor) -> contracts.Network:
        """Aggregation and refinement; the template's tokens are embedded anew, as the paper counts."""
        import torch

        channels = sum(c for c, _, _ in extractor.shapes())
        template = options.variant != "vanilla"
        with torch.device("meta"):
            network = _network(options, channels).eval()
            tokens = torch.empty(1, (options.grid // options.patch) ** 2, channels * options.patch**2)
        passes = 2 if template else 1  # the paper counts the template's way through the backbone for every image
        return contracts.Network(
            network, lambda: network(tokens, network.embed(tokens) if template else None), passes=passes
        )

    @classmethod
    def state_bytes(cls, options: TFANetOptions, extractor: contracts.Extractor, images: int) -> int:
        """The network and the template's features."""
        channels = sum(c for c, _, _ in extractor.shapes())
        template = 0 if options.variant == "vanilla" else FLOAT * channels * options.grid**2
        return super().state_bytes(options, extractor, images) + template

    @classmethod
    def quick(cls, options: TFANetOptions) -> TFANetOptions:
        """One epoch, with the first image as the template."""
        return options.model_copy(update={"epochs": 1, "template": 0, "template_raw": False})

    def fit(self, features: contracts.FeatureSource, progress: Progress = silent) -> Curves:
        """Gives the curves of loss, euclidean and cosine term, and of the euclidean one over the variance about the
        mean feature map: 1 is what that map alone would give.

        Raises ValueError for a template that is not there, RuntimeError when the loss is not finite.
        """
        import torch

        from adcore.core.training import Training, steps
        from adcore.features.held import held
        from adcore.methods import _tfa_net as tfa_net

        source, features = features, held(features, self.context.device, self.context.memory_gb)
        channels = sum(c for c, _, _ in features.shapes)
        spread = self._spread(features)
        varied = bool(spread > 0)  # one image has no variance
        self.template = self._template(source)
        network = _network(self.options, channels)
        network.initialise(self.context.seed)
        network.to(self.context.device).train()
        normal = None if self.template is None else tfa_net.patchify(self.template, self.options.patch)

        def step(batch: list[torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            tokens = self._tokens(batch)
            rebuilt = network(tokens, None if normal is None else network.embed(normal))
            euclidean, cosine = tfa_net.losses(rebuilt, tokens, channels, self.options.loss)
            values = {"euclidean": euclidean, "cosine": cosine}
            values |= {"unexplained": euclidean / spread} if varied else {}
            return euclidean + tfa_net.COSINE_WEIGHT * cosine, values

        optimiser = torch.optim.AdamW(network.parameters(), self.options.lr, BETAS)
        curves = Training.of(self.context, progress).run(
            self.name,
            {"network": network},
            optimiser,
            self.options.epochs,
            lambda epoch: self._batches(features, epoch),
            step,
            steps(len(features), BATCH),
        )
        self._settle(network)
        return curves

    def score(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Dual-mode maps at the size of the image; the image score is the map's standard deviation."""
        import torch

        parts = zip(*(torch.split(level, BATCH) for level in features), strict=True)
        maps = torch.cat([self._map(list(part)) for part in parts])
        return maps, maps.flatten(1).std(1, correction=0)

    def state(self) -> dict[str, torch.Tensor]:
        """The network's weights, the template's features, mean and deviation of the channels where they are
        standardised."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        state |= {} if self.template is None else {"template": self.template}
        return state | dict(zip(SCALE, self.scale or (), strict=False))

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        weights = {k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")}
        network = _network(self.options, len(weights["head.bias"]) // self.options.patch**2)
        network.load_state_dict(weights)
        self.template = state["template"].to(self.context.device) if "template" in state else None
        if self.options.standardise:
            mean, deviation = (state[name].to(self.context.device) for name in SCALE)
            self.scale = mean, deviation
        self._settle(network.to(self.context.device))

    def _settle(self, network: Network) -> None:
        """Make the network ready for scoring: what depends on the template alone is computed once."""

        from adcore.methods._tfa_net import patchify

        self.network = network.eval().requires_grad_(False)
        self._embedded: torch.Tensor | None = None
        if self.template is not None:
            self._embedded = network.embed(patchify(self.template, self.options.patch))

    def _map(self, features: list[torch.Tensor]) -> torch.Tensor:
        from adcore.methods._tfa_net import anomaly_map

        tokens = self._tokens(features)
        rebuilt = self.network(tokens, self._embedded)
        patch, size = self.options.patch, self.context.image_size
        channels = sum(level.shape[1] for level in features)
        return anomaly_map(rebuilt, tokens, channels, patch, size, self.options.distance)

    def _tokens(self, features: list[torch.Tensor]) -> torch.Tensor:
        from adcore.methods._tfa_net import patchify

        return patchify(self._joined(features), self.options.patch)

    def _joined(self, features: list[torch.Tensor]) -> torch.Tensor:
        from adcore.methods._tfa_net import joined

        together = joined(features, self.options.grid, self.options.l2_channels)
        if self.scale is None:
            return together
        mean, deviation = self.scale
        return (together - mean) / deviation

    def _spread(self, features: contracts.FeatureSource) -> torch.Tensor:
        """The mean variance (), of each value about the mean feature map; sets the scale of the channels before, where
        that is asked for."""
        import torch

        from adcore.methods._tfa_net import Spread

        self.scale = None
        spread = Spread.of(self._joined(batch) for batch in features)
        if self.options.standardise:
            self.scale = spread.mean, spread.deviation
            return torch.as_tensor((spread.about_map / self.scale[1].square()).mean())
        return torch.as_tensor(spread.about_map.mean())

    def _batches(self, features: contracts.FeatureSource, epoch: int) -> Iterator[list[torch.Tensor]]:
        """Four images at a time, in a new order each epoch; the next four are read while four are used."""
        from adcore.core.prefetch import ahead
        from adcore.core.training import shuffled

        groups = list(shuffled(len(features), self.context.seed, epoch, lambda index: index, BATCH))
        for (batch,) in ahead(groups, features.at, 1, workers=1):
            yield batch

    def _template(self, features: contracts.FeatureSource) -> torch.Tensor | None:
        """The template's features (1, C, grid, grid)."""
        if self.options.variant == "vanilla":
            return None
        index = self.options.template
        if index == "medoid":
            index = self._medoid(features)
        elif index >= len(features):
            raise ValueError(f"tfa_net: template is {index}, but there are {len(features)} training images from 0 on")
        elif self.context.by_path is not None:
            index = self.context.by_path[index]
        return self._joined(self._raw(features, index) if self.options.template_raw else features.at([index]))

    def _medoid(self, features: contracts.FeatureSource) -> int:
        """The image of the least summed squared distance to all others, which is the one nearest to their mean."""
        import torch

        total = sum(self._joined(batch).double().sum(0) for batch in features)
        mean = torch.as_tensor(total / len(features)).float()
        far = [(self._joined(batch) - mean).flatten(1).square().sum(1) for batch in features]
        return int(torch.cat(far).argmin())

    def _raw(self, features: contracts.FeatureSource, index: int) -> list[torch.Tensor]:
        """The features of an image that the backbone sees with values from 0 to 1, without mean and deviation."""
        import torch

        images = features.images
        if images is None or self.context.extractor is None:
            raise ValueError("tfa_net: template_raw needs the training images, but only features are given; remove it")
        extractor = self.context.extractor()
        with torch.no_grad():
            return extractor.maps(255 * extractor.mean + extractor.std * images.at([index]))  # undone by its own


SCALE = ("mean", "deviation")  # in a state


def _network(options: TFANetOptions, channels: int) -> Network:
    from adcore.methods._tfa_net import Blocks
    from adcore.methods._tfa_net import TFANet as Network

    return Network(
        channels,
        options.grid // options.patch,
        options.patch,
        Blocks(options.width, options.depth, options.heads),
        Blocks(options.refine_width, options.refine_depth, options.refine_heads),
        variant=options.variant,
        use_cls=options.use_cls,
        masking=options.masking,
        mask_ratio=options.mask_ratio,
    )
