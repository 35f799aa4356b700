"""UniAD (You et al., NeurIPS 2022): features are rebuilt, by learned queries, from what does not lie next to them, so
that a network cannot just hand on what it is given.

What is the paper's and what the released code's: docs/papers/uniad.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from adcore.core import contracts
from adcore.core.contracts import Curves, Maps, Progress, silent

if TYPE_CHECKING:
    import torch

    from adcore.methods._uniad import Rebuilder

ADAMW = {"weight_decay": 1e-4, "betas": (0.9, 0.999)}
CLIP = 0.1  # norm of the gradient
DECAY, DECAYED = 0.1, 0.8  # of the learning rate, from that share of the epochs on
HEADS = 8
FLOAT = 4  # bytes
SMALL = {"width": 128, "depth": 2, "epochs": 60, "batch": 4, "lr": 1e-3}


class UniADOptions(contracts.PresetOptions):
    """`preset` small has 2 + 2 layers, 128 wide, 60 epochs in batches of 4 and a learning rate of 1e-3.

    `neighbours`: side of the square of positions that attention does not see, smaller on a grid that has no room for
    it; 0: none. `jitter`: deviation of the noise on the features, in lengths of a feature over its channels. `depth`:
    layers of the encoder, and as many of the decoder.
    """

    width: PositiveInt = 256
    depth: PositiveInt = 4
    neighbours: NonNegativeInt = 7
    jitter: NonNegativeFloat = 20.0
    lr: PositiveFloat = 1e-4
    batch: PositiveInt = 64
    epochs: NonNegativeInt = 1000

    told = ("epochs",)

    @classmethod
    def implied(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The sizes of `preset: small`."""
        return SMALL if given.get("preset") == "small" else {}

    @model_validator(mode="after")
    def _works(self) -> UniADOptions:
        if self.width % HEADS:
            raise ValueError(f"width {self.width} is not {HEADS} heads wide; give a multiple of {HEADS}")
        if self.neighbours and not self.neighbours % 2:
            raise ValueError(f"neighbours {self.neighbours} has no middle; give an odd number, or 0")
        return self


class UniAD(contracts.EpochMethod, contracts.FeatureMethod):
    """The distance of each feature to what the transformer makes of it; the image score is the greatest mean over
    16 x 16 pixels."""

    name = "uniad"
    Options = UniADOptions
    options: UniADOptions
    levels = (1, 2, 3)
    smoothing = 0.0
    trial: ClassVar[dict[str, Any]] = {"preset": "small", "width": 32, "depth": 1, "batch": 4, "epochs": 20}
    network: Rebuilder

    @classmethod
    def sized(cls, options: UniADOptions, extractor: contracts.Extractor) -> contracts.Network:
        """The transformer with its projections."""
        import torch

        shapes = extractor.shapes()
        channels, grid = sum(count for count, _, _ in shapes), shapes[-1][1:]
        with torch.device("meta"):
            network = _network(options, channels, grid).eval()
            tokens = torch.empty(1, grid[0] * grid[1], channels)
        return contracts.Network(network, lambda: network(tokens), attention_counts=True)

    def fit(self, features: contracts.FeatureSource, progress: Progress = silent) -> Curves:
        """Raises ValueError for maps that do not go from fine to coarse, RuntimeError when the loss is not finite."""
        import torch
        from torch.nn.functional import mse_loss
        from torch.nn.utils import clip_grad_norm_

        from adcore.core.training import Training, steps
        from adcore.methods._uniad import jittered

        options, seed, shapes = self.options, self.context.seed, features.shapes
        _require_order([shape[1:] for shape in shapes])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _network(options, sum(count for count, _, _ in shapes), shapes[-1][1:])
        self.network = network.to(self.context.device).train()
        source = self._source(features)
        parameters = list(network.parameters())
        optimiser = torch.optim.AdamW(parameters, options.lr, **ADAMW)  # type: ignore[arg-type]

        def clip(*_: Any) -> None:
            clip_grad_norm_(parameters, CLIP)

        def step(tokens: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return mse_loss(network(jittered(tokens, options.jitter)).float(), tokens), {}

        optimiser.register_step_pre_hook(clip)
        curves = Training.of(self.context, progress).run(
            self.name,
            {"network": network},
            optimiser,
            options.epochs,
            lambda epoch: self._batches(source, epoch),
            step,
            steps(len(features), options.batch),
            lambda epoch: DECAY if epoch >= DECAYED * options.epochs else 1.0,
        )
        self.network = network.eval().requires_grad_(False)
        return curves

    def score(self, features: Maps) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Maps at the size of the image; the image score is the greatest mean over 16 x 16 pixels of them."""
        from adcore.methods._uniad import anomaly_map
        from adcore.vision.maps import pooled_maximum

        tokens = self._tokens(features)
        maps = anomaly_map(tokens, self.network(tokens), self._grid, self.context.image_size)
        return maps, pooled_maximum(maps)

    def state(self) -> dict[str, torch.Tensor]:
        """The transformer's weights, queries and positions."""
        return {f"network.{name}": value for name, value in self.network.state_dict().items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        import torch

        weights = {name.removeprefix("network."): value for name, value in state.items()}
        grid = len(weights["rows"]), len(weights["columns"])
        with torch.random.fork_rng(devices=[]):
            network = _network(self.options, weights["inward.weight"].shape[1], grid)
        network.load_state_dict(weights)
        self.network = network.to(self.context.device).eval().requires_grad_(False)

    @property
    def _grid(self) -> tuple[int, int]:
        return len(self.network.rows), len(self.network.columns)

    def _tokens(self, maps: Maps) -> torch.Tensor:
        from adcore.methods._uniad import joined

        return joined(maps, self._grid)

    def _source(self, features: contracts.FeatureSource) -> contracts.FeatureSource:
        """The features, or in their place the tokens of all images where there is room: fewer, since the grid is that
        of the coarsest map, and resized once, not in each epoch."""
        import torch

        from adcore.core.devices import room
        from adcore.features.held import Held

        channels, device = sum(count for count, _, _ in features.shapes), self.context.device
        grid = self._grid
        if FLOAT * channels * grid[0] * grid[1] * len(features) > room(device, self.context.memory_gb):
            return features
        whole = torch.empty(len(features), channels, *grid, device=device)
        filled = 0
        for batch in features:
            tokens = self._tokens(batch)
            whole[filled : filled + len(tokens)] = torch.unflatten(tokens.transpose(1, 2), 2, grid)
            filled += len(tokens)
        return Held([whole])

    def _batches(self, features: contracts.FeatureSource, epoch: int) -> Iterator[torch.Tensor]:
        """Tokens in a new order each epoch; the next batch is read while one is used."""
        from adcore.core.prefetch import ahead
        from adcore.core.training import shuffled

        groups = list(shuffled(len(features), self.context.seed, epoch, lambda index: index, self.options.batch))
        for (batch,) in ahead(groups, features.at, 1, workers=1):
            yield self._tokens(batch)


def _network(options: UniADOptions, channels: int, grid: tuple[int, int]) -> Rebuilder:
    from adcore.methods._uniad import Rebuilder

    return Rebuilder(channels, grid, options.width, options.depth, options.neighbours)


def _require_order(grids: list[tuple[int, int]]) -> None:
    if any(side < least for grid in grids for side, least in zip(grid, grids[-1], strict=True)):
        raise ValueError(f"uniad: it rebuilds on the grid of the last map, but these are on {grids}; order the layers")
