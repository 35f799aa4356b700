"""DFR (Yang, Shi & Qi 2020): an autoencoder of single positions rebuilds the features of normal regions from as few
numbers as their principal components; others it rebuilds badly (docs/papers/dfr.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from adcore.core import contracts
from adcore.core.contracts import Curves, Maps, Progress, silent

if TYPE_CHECKING:
    import torch

    from adcore.methods._dfr import Autoencoder

EXAMPLES = 10  # images whose principal components are counted
GUESS = 16  # channels for each one of the embedding, where its size has to be told before it is known
SMALL = {"epochs": 30, "lr": 1e-3}


class DFROptions(contracts.PresetOptions):
    """`preset` small has 30 epochs and a learning rate of 1e-3.

    `variance`: the embedding has as many channels as principal components explain this share of the variance of ten
    images' features. `latent`: that number itself.
    """

    variance: Annotated[float, Field(gt=0, lt=1)] = 0.9
    latent: PositiveInt | None = None
    lr: PositiveFloat = 1e-4
    batch: PositiveInt = 4
    epochs: NonNegativeInt = 700

    told = ("epochs",)

    @classmethod
    def implied(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The sizes of `preset: small`."""
        return SMALL if given.get("preset") == "small" else {}


class DFR(contracts.EpochMethod, contracts.FeatureMethod):
    """The mean squared error of what is rebuilt; the image score is its maximum over the enlarged map."""

    name = "dfr"
    Options = DFROptions
    options: DFROptions
    levels = (1, 2, 3)
    smoothing = 0.0
    trial: ClassVar[dict[str, Any]] = {"preset": "small", "latent": 8, "epochs": 40, "lr": 5e-3}
    network: Autoencoder

    @classmethod
    def sized(cls, options: DFROptions, extractor: contracts.Extractor) -> contracts.Network:
        """The autoencoder; where the images decide its embedding, one of a sixteenth of the channels."""
        import torch

        from adcore.methods._dfr import Autoencoder, grid

        channels = sum(count for count, _, _ in extractor.shapes())
        with torch.device("meta"):
            network = Autoencoder(channels, options.latent or max(1, channels // GUESS)).eval()
            features = torch.empty(1, channels, *grid((extractor.size, extractor.size)))
        return contracts.Network(network, lambda: network(features))

    def fit(self, features: contracts.FeatureSource, progress: Progress = silent) -> Curves:
        """Gives the curves of the loss and of the channels of the embedding, which do not change.

        Raises RuntimeError when the loss is not finite.
        """
        import torch

        from adcore.core.training import Training, steps
        from adcore.features.held import held
        from adcore.methods import _dfr as dfr

        options, seed = self.options, self.context.seed
        features = held(features, self.context.device, self.context.memory_gb)
        channels = sum(count for count, _, _ in features.shapes)
        latent = options.latent or self._components(features, channels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = dfr.Autoencoder(channels, latent)
        network.to(self.context.device).train()

        def step(batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
            return dfr.error(network(batch).float(), batch).mean(), {"latent": float(latent)}

        curves = Training.of(self.context, progress).run(
            self.name,
            {"network": network},
            torch.optim.Adam(network.parameters(), options.lr),
            options.epochs,
            lambda epoch: self._batches(features, epoch),
            step,
            steps(len(features), options.batch),
        )
        self.network = network.eval().requires_grad_(False)
        return curves

    def score(self, features: Maps) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Maps at the size of the image."""
        from torch.nn.functional import interpolate

        from adcore.methods._dfr import error

        regions = self._regional(features)
        maps = error(self.network(regions), regions)[:, None]
        return interpolate(maps, size=self.context.image_size, mode="bilinear", align_corners=True)[:, 0], None

    def state(self) -> dict[str, torch.Tensor]:
        """The autoencoder's weights and statistics."""
        return {f"network.{name}": value for name, value in self.network.state_dict().items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        from adcore.methods._dfr import Autoencoder

        weights = {name.removeprefix("network."): value for name, value in state.items()}
        network = Autoencoder(weights["encoder.0.weight"].shape[1], weights["decoder.0.weight"].shape[1])
        network.load_state_dict(weights)
        self.network = network.to(self.context.device).eval().requires_grad_(False)

    def _regional(self, maps: Maps) -> torch.Tensor:
        from adcore.methods._dfr import regional

        return regional(maps, self.context.image_size)

    def _components(self, features: contracts.FeatureSource, channels: int) -> int:
        """Principal components of the regions of a few images, drawn by the seed, that explain the wanted share."""
        from adcore.core.draws import generator
        from adcore.methods import _dfr, _pca

        count = min(EXAMPLES, len(features))
        drawn = generator(self.context.seed, "latent").choice(len(features), count, replace=False).tolist()
        rows = (self._regional(features.at([index])).flatten(2)[0].T for index in sorted(drawn))
        height, width = _dfr.grid(self.context.image_size)
        return max(1, _pca.fit(rows, count * height * width, channels).kept(self.options.variance))

    def _batches(self, features: contracts.FeatureSource, epoch: int) -> Iterator[torch.Tensor]:
        """In a new order each epoch; the next batch is made while one is used."""
        from adcore.core.prefetch import ahead
        from adcore.core.training import shuffled

        groups = list(shuffled(len(features), self.context.seed, epoch, lambda index: index, self.options.batch))
        for (batch,) in ahead(groups, lambda index: self._regional(features.at(index)), 1, workers=1):
            yield batch
