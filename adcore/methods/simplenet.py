"""SimpleNet (Liu et al., CVPR 2023): a discriminator learns to tell adapted normal features from the same under noise;
with `supersimple` SuperSimpleNet (Rolih et al., ICPR 2024) without labels.

Where the paper's text and the released code differ: docs/papers/simplenet.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from adcore.core import contracts
from adcore.core.contracts import Curves, Maps, Progress, Shape, silent

if TYPE_CHECKING:
    import torch

    from adcore.methods._simplenet import SimpleNet as Network

PAPER_NOISE = 0.015  # standard deviation that was set for the maps of Wide ResNet-50
PAPER_CHANNELS = [512, 1024]  # of its layer2 and layer3
SHARE = 0.2  # of the features' spread, behind any other maps
LR = {"adaptor": 1e-4, "heads": 2e-4}
DECAY = {"adaptor": 1e-2, "heads": 1e-5}
DROPS, DROP = (0.8, 0.9), 0.4  # of SuperSimpleNet: at which shares of the epochs the rates fall, and to how much
CELLS = 6  # of SuperSimpleNet: patterns of 2^0 to 2^5 cells a side
SUPER: dict[str, Any] = {"embed": "double", "batch": 32, "epochs": 300}
SMALL: dict[str, Any] = {"embed": "concat1536", "batch": 4, "epochs": 30}


class SimpleNetOptions(contracts.PresetOptions):
    """`preset` small joins the layers' own channels, and takes batches of 4 and 30 epochs.

    `supersimple`: noise on patterns alone, another loss, and a head for the image score, on a grid of twice the
    resolution, batches of 32 and 300 epochs. `embed`: `pool1536`, the released pooling of all layers' neighbourhoods to
    1536 values; `concat1536`, 3 x 3 means side by side (1536 channels for Wide ResNet-50, the layers' own sum for
    others); `double`, the same behind enlarging all layers to twice the grid of the first. `noise`: its standard
    deviation as a share of the features' spread; None: the paper's 0.015 behind maps of Wide ResNet-50's channels, a
    share of 0.2 behind others. `threshold`: of the patterns of SuperSimpleNet, which lie between -1 and 1.
    """

    supersimple: bool = False
    embed: Literal["pool1536", "concat1536", "double"] = "pool1536"
    noise: PositiveFloat | None = None
    threshold: Annotated[float, Field(gt=-1, lt=1)] = 0.2
    batch: PositiveInt = 8
    epochs: NonNegativeInt = 160

    told = ("epochs",)

    @classmethod
    def implied(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """What `preset: small`, or else `supersimple`, stands for."""
        if given.get("preset") == "small":
            return SMALL
        return SUPER if given.get("supersimple") else {}


class SimpleNet(contracts.EpochMethod, contracts.FeatureMethod):
    """How odd the discriminator finds each position; an image is as odd as its oddest position, or as the head says."""

    name = "simplenet"
    Options = SimpleNetOptions
    options: SimpleNetOptions
    levels = (2, 3)
    trial: ClassVar[dict[str, Any]] = {"preset": "small", "epochs": 40}
    network: Network

    @classmethod
    def sized(cls, options: SimpleNetOptions, extractor: contracts.Extractor) -> contracts.Network:
        """Adaptor, discriminator and head."""
        import torch

        from adcore.methods import _simplenet as simplenet

        shapes = extractor.shapes()
        with torch.device("meta"):
            maps = [torch.empty(1, *shape) for shape in shapes]
            features = simplenet.embedded(maps, options.embed)
            network = simplenet.SimpleNet(features.shape[1], options.supersimple).eval()
        return contracts.Network(network, lambda: network(features))

    def fit(self, features: contracts.FeatureSource, progress: Progress = silent) -> Curves:
        """Gives the curve of the loss, and beside it the noise's standard deviation and the features' spread, which do
        not change.

        Raises ValueError for features that are all alike, RuntimeError when the loss is not finite.
        """
        import torch

        from adcore.core.training import Training, steps
        from adcore.features.held import held
        from adcore.methods import _simplenet as simplenet

        options, device = self.options, self.context.device
        features = held(features, device, self.context.memory_gb)
        noise, scale = self._noise(features)
        channels = simplenet.embedded(features.at([0]), options.embed).shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.context.seed)
            network = simplenet.SimpleNet(channels, options.supersimple)
        network.to(device).train()

        def step(batch: tuple[Maps, torch.Tensor | None]) -> tuple[torch.Tensor, dict[str, torch.Tensor | float]]:
            # Half precision has no room for noise that is small beside the features.
            with torch.autocast("cuda", enabled=False):
                adapted = network.adaptor(simplenet.embedded([one.float() for one in batch[0]], options.embed))
                both = torch.cat([adapted, adapted])
                odd = self._halves(adapted) if batch[1] is None else batch[1].to(device)
                found, scores = network.judged(both + noise * odd[:, None] * torch.randn_like(both))
                loss = simplenet.truncated(found, odd)
                if scores is not None:
                    loss = loss + simplenet.focal(found, odd) + simplenet.focal(scores, odd.amax((1, 2)))
            return loss, {"noise": noise, "spread": scale}

        curves = Training.of(self.context, progress).run(
            self.name,
            {"network": network},
            self._optimiser(network),
            options.epochs,
            lambda epoch: self._batches(features, epoch),
            step,
            steps(len(features), options.batch),
            self._rate,
        )
        self.network = network.eval().requires_grad_(False)
        return curves

    def score(self, features: Maps) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Maps on the grid of the embedding; the image score is the head's, or the map's maximum before smoothing."""
        from adcore.methods._simplenet import embedded

        maps, scores = self.network(embedded(features, self.options.embed))
        return maps, maps.flatten(1).amax(1) if scores is None else scores

    def state(self) -> dict[str, torch.Tensor]:
        """The network's weights and statistics."""
        return {f"network.{name}": value for name, value in self.network.state_dict().items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        from adcore.methods._simplenet import SimpleNet as Network

        weights = {name.removeprefix("network."): value for name, value in state.items()}
        network = Network(len(weights["adaptor.bias"]), self.options.supersimple)
        network.load_state_dict(weights)
        self.network = network.to(self.context.device).eval().requires_grad_(False)

    def _noise(self, features: contracts.FeatureSource) -> tuple[torch.Tensor, torch.Tensor]:
        """The noise's standard deviation and the spread of the embedded features, both ()."""
        import torch

        from adcore.methods import _simplenet as simplenet

        scale = simplenet.spread(simplenet.embedded(batch, self.options.embed) for batch in features)
        if not scale > 0:
            raise ValueError(
                "simplenet: all features are alike, so that no noise fits them; give it other images or layers"
            )
        if self.options.noise is None and _channels(features.shapes) == PAPER_CHANNELS:
            return torch.full_like(scale, PAPER_NOISE), scale
        return (self.options.noise or SHARE) * scale, scale

    def _optimiser(self, network: Network) -> torch.optim.Optimizer:
        """Released: AdamW for the adaptor, and Adam for the discriminator; SuperSimpleNet has AdamW for all."""
        import torch

        heads = [*network.discriminator.parameters(), *(network.head.parameters() if network.head else ())]
        groups = [
            {"params": [*network.adaptor.parameters()], "decoupled_weight_decay": True},
            {"params": heads, "decoupled_weight_decay": self.options.supersimple},
        ]
        for name, group in zip(LR, groups, strict=True):
            group |= {"lr": LR[name], "weight_decay": DECAY[name]}
        return torch.optim.Adam(groups)

    def _rate(self, epoch: int) -> float:
        if not self.options.supersimple:
            return 1.0
        return DROP ** sum(epoch >= share * self.options.epochs for share in DROPS)

    def _halves(self, adapted: torch.Tensor) -> torch.Tensor:
        """The mask of a batch that comes twice, the second time odd throughout: (2 B, H, W)."""
        import torch

        plain = torch.zeros_like(adapted[:, 0])
        return torch.cat([plain, torch.ones_like(plain)])

    def _batches(self, features: contracts.FeatureSource, epoch: int) -> Iterator[tuple[Maps, torch.Tensor | None]]:
        """In a new order each epoch, with masks where SuperSimpleNet has some; the next batch is made while one is
        used."""
        from adcore.core.prefetch import ahead
        from adcore.core.training import shuffled

        def made(index: list[int]) -> tuple[Maps, torch.Tensor | None]:
            return features.at(index), self._masks(features.shapes[0], index, epoch)

        groups = list(shuffled(len(features), self.context.seed, epoch, lambda index: index, self.options.batch))
        for (batch,) in ahead(groups, made, 1, workers=1):
            yield batch

    def _masks(self, shape: Shape, index: list[int], epoch: int) -> torch.Tensor | None:
        """Where each image, and then each once more, is odd: (2 B, H, W), float32, on the host; half are empty."""
        import torch

        from adcore.core.draws import generator
        from adcore.vision.perlin import noise

        if not self.options.supersimple:
            return None
        scale = 2 if self.options.embed == "double" else 1
        masks = torch.zeros(2 * len(index), scale * shape[1], scale * shape[2])
        for place, (copy, image) in enumerate((copy, image) for copy in range(2) for image in index):
            random = generator(self.context.seed, "supersimple", epoch, image, copy)
            if random.random() < 0.5:
                continue
            rows, columns = (2 ** int(power) for power in random.integers(0, CELLS, 2))
            pattern = noise((masks.shape[1], masks.shape[2]), (rows, columns), 0.0, random)
            masks[place] = torch.from_numpy(pattern > self.options.threshold)
        return masks


def _channels(shapes: list[Shape]) -> list[int]:
    return [channels for channels, _, _ in shapes]
