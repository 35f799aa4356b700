"""CFA (Lee et al. 2022): a 1 x 1 descriptor that pulls normal patches onto a fixed memory of centroids.

Where its official code and anomalib differ: docs/papers/hosts.md#cfa.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveInt

from adcore.core import contracts
from adcore.core.contracts import Curves, Progress, silent

if TYPE_CHECKING:
    import torch

K = 3  # centroids that attract; also those that the score looks at
J = 3  # next ones, that repel
ALPHA = 0.1
NU = 1e-3
RADIUS = 1e-5
BATCH = 4
FLOAT = 4  # bytes
ADAMW = {"lr": 1e-3, "weight_decay": 5e-4, "amsgrad": True}


class CFAOptions(contracts.MethodOptions):
    """`gamma_c` divides the number of centroids (k-means if > 1), `gamma_d` the descriptor's width. `train_radius`:
    learn the hyperspheres' radius, as the official code does, rather than keep it at 1e-5. `selection: best_test` keeps
    the epoch with the highest image AUROC on the test images, as that code does: leaky."""

    epochs: PositiveInt = 30
    gamma_c: PositiveInt = 1
    gamma_d: PositiveInt = 1
    train_radius: bool = True
    selection: Literal["last", "best_test"] = "last"


class CFA(contracts.EpochMethod, contracts.HostMethod):
    """Soft minimum of the distances of each patch's descriptor to its nearest centroids."""

    name = "cfa"
    trial: ClassVar[dict[str, Any]] = {"epochs": 5}
    Options = CFAOptions
    options: CFAOptions
    weight: torch.Tensor  # (D, channels + 2): the last two for the coordinates x and y
    bias: torch.Tensor
    radius: torch.Tensor
    memory: torch.Tensor  # (centroids, D)
    generator: torch.Generator

    @classmethod
    def sized(cls, options: CFAOptions, extractor: contracts.Extractor) -> contracts.Network:
        """The descriptor, a 1 x 1 convolution of the channels and two coordinates."""
        import torch

        shapes = extractor.shapes()
        channels = sum(c for c, _, _ in shapes)
        module = torch.nn.Conv2d(channels + 2, channels // options.gamma_d, 1)
        return contracts.Network(
            module, lambda: module(torch.zeros(1, channels + 2, *shapes[0][1:])), decides_speed=False
        )

    @classmethod
    def state_bytes(cls, options: CFAOptions, extractor: contracts.Extractor, images: int) -> int:
        """The descriptor and the memory of centroids."""
        shapes = extractor.shapes()
        channels, height, width = sum(c for c, _, _ in shapes), *shapes[0][1:]
        memory = height * width // options.gamma_c * (channels // options.gamma_d)
        return super().state_bytes(options, extractor, images) + FLOAT * memory

    @classmethod
    def quick(cls, options: CFAOptions) -> CFAOptions:
        """One epoch."""
        return options.model_copy(update={"epochs": 1, "selection": "last"})

    @classmethod
    def selects_on_test(cls, options: CFAOptions) -> bool:
        """Only where it is asked for."""
        return options.selection == "best_test"

    def fit(self, features: contracts.FeatureSource, progress: Progress = silent) -> Curves:
        """Raises ValueError when `gamma_c` or `gamma_d` leaves too little, RuntimeError when the loss is not finite."""
        import torch

        from adcore.core.selection import BestEpoch
        from adcore.core.training import Training
        from adcore.features.held import held

        features = held(features, self.context.device, self.context.memory_gb)
        learned = torch.nn.ParameterList(self.begin(features))
        batches = self._batches(len(features))
        best = BestEpoch(learned) if self.selects_on_test(self.options) else None

        def begun(epoch: int) -> list[list[int]]:
            if best is not None and epoch:  # what the epoch before has learned
                best.offer(self._judged(), learned)
            return batches[epoch]

        def step(batch: list[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return self.loss(features.at(batch)), {"radius": self.radius}

        curves = Training.of(self.context, progress).run(
            self.name,
            {"learned": learned} if best is None else {"learned": learned, "best": best},
            torch.optim.AdamW(learned, **ADAMW),  # type: ignore[arg-type]
            self.options.epochs,
            begun,
            step,
            len(batches[0]),
        )
        if best is not None:
            best.offer(self._judged(), learned)
            best.give_back(learned)
        self.weight, self.bias, self.radius = (x.detach() for x in (self.weight, self.bias, self.radius))
        return curves

    def begin(self, features: contracts.FeatureSource) -> list[torch.nn.Parameter]:
        """Make the untrained descriptor and the memory; what is to be learned by `loss`.

        Raises ValueError when `gamma_c` or `gamma_d` leaves too little.
        """
        import torch

        self.generator = torch.Generator().manual_seed(self.context.seed)
        self._start(sum(c for c, _, _ in features.shapes), self.generator)
        self.memory = self._centroids(features)
        self.weight, self.bias = torch.nn.Parameter(self.weight), torch.nn.Parameter(self.bias)
        self.radius = torch.nn.Parameter(self.radius, requires_grad=self.options.train_radius)
        return [self.weight, self.bias, *([self.radius] if self.options.train_radius else [])]

    def score(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Soft-minimum distances on the finest grid; the image score is the maximum of the smoothed map."""
        from adcore.kernels.nearest import nearest

        distances = nearest(self._describe(_pooled(features)), self.memory, K)[0]
        scores = (-distances).softmax(1)[:, 0] * distances[:, 0]
        return scores.reshape(-1, *features[0].shape[2:]), None

    def state(self) -> dict[str, torch.Tensor]:
        """Descriptor, memory and radius."""
        return {"weight": self.weight, "bias": self.bias, "radius": self.radius, "memory": self.memory}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        names = ("weight", "bias", "radius", "memory")
        self.weight, self.bias, self.radius, self.memory = (state[name].to(self.context.device) for name in names)

    def _judged(self) -> float:
        if self.context.judge is None:
            raise ValueError("cfa: selection best_test looks at test images, and there are none here; write last")
        return self.context.judge(self)

    def _start(self, channels: int, generator: torch.Generator) -> None:
        """The untrained descriptor, with the initial values of a torch convolution."""
        import torch

        width = channels // self.options.gamma_d
        if width < 1:
            raise ValueError(
                f"cfa: gamma_d is {self.options.gamma_d}, but the layers have {channels} channels; lower it"
            )
        bound = (channels + 2) ** -0.5
        weight = torch.empty(width, channels + 2).uniform_(-bound, bound, generator=generator)
        bias = torch.empty(width).uniform_(-bound, bound, generator=generator)
        self.weight, self.bias = weight.to(self.context.device), bias.to(self.context.device)
        self.radius = torch.full((1,), RADIUS, device=self.context.device)

    def _describe(self, pooled: torch.Tensor) -> torch.Tensor:
        """Descriptors (B * H * W, D) of pooled features (B, C, H, W)."""
        import torch

        _, channels, height, width = pooled.shape
        y, x = torch.meshgrid(*(torch.linspace(-1, 1, n, device=pooled.device) for n in (height, width)), indexing="ij")
        place = torch.stack([x.flatten(), y.flatten()], 1) @ self.weight[:, channels:].T + self.bias
        return (pooled.flatten(2).transpose(1, 2) @ self.weight[:, :channels].T + place).flatten(0, 1)

    def _centroids(self, features: contracts.FeatureSource) -> torch.Tensor:
        """The mean descriptor of each position over all images, or k-means centroids of those means."""
        import torch

        total: torch.Tensor | None = None
        for batch in features:
            pooled = _pooled(batch)
            part = self._describe(pooled).reshape(len(pooled), -1, len(self.bias)).double().sum(0)
            total = part if total is None else total + part
        assert total is not None
        means = (total / len(features)).float()
        wanted = len(means) // self.options.gamma_c
        if wanted < K + J:
            raise ValueError(
                f"cfa: gamma_c is {self.options.gamma_c} and leaves {wanted} of {len(means)} centroids, "
                f"but the loss needs {K + J}; lower it"
            )
        if self.options.gamma_c == 1:
            return means
        from sklearn.cluster import KMeans

        kmeans = KMeans(wanted, n_init=1, max_iter=3000, random_state=self.context.seed).fit(means.cpu().numpy())
        return torch.from_numpy(kmeans.cluster_centers_).float().to(means.device)

    def _batches(self, count: int) -> list[list[list[int]]]:
        """For each epoch, four images at a time in an order of its own; a smaller last batch is dropped, unless it is
        the only one. All at once, so that a training that resumes finds the same."""
        import torch

        begins = range(0, max(1, count - BATCH + 1), BATCH)
        orders = [torch.randperm(count, generator=self.generator).tolist() for _ in range(self.options.epochs)]
        return [[order[begin : begin + BATCH] for begin in begins] for order in orders]

    def loss(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Attraction to the K nearest centroids beyond the radius, repulsion of the next J within it."""
        import torch

        from adcore.kernels.nearest import search

        # Half precision has no use for distances between near points.
        with torch.autocast("cuda", enabled=False):
            described = self._describe(_pooled([layer.float() for layer in features]))
            # Which centroids are near has no gradient, so only the distances to those few are differentiated.
            near = self.memory[search(described, self.memory, K + J)]
            squared = (described[:, None] - near).square().sum(2).sort(dim=1).values
            return hypersphere_loss(squared, self.radius)


def hypersphere_loss(squared: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """(Attraction + repulsion) / nu of ascending squared distances (M, K + J) (Lee et al. 2022, Eq. 5 and 7)."""
    attraction = (squared[:, :K] - radius**2).clamp(min=0).mean()
    repulsion = (radius**2 - squared[:, K:] - ALPHA).clamp(min=0).mean()
    return (attraction + repulsion) / NU


def _pooled(layers: list[torch.Tensor]) -> torch.Tensor:
    """3 x 3 means of all layers, on the grid of the first, joined: (B, C, H, W)."""
    import torch
    from torch.nn.functional import avg_pool2d, interpolate

    pooled = [avg_pool2d(layer, 3, stride=1, padding=1) for layer in layers]
    grid = layers[0].shape[2:]
    return torch.cat([interpolate(x, size=grid, mode="bilinear", align_corners=False) for x in pooled], 1)
