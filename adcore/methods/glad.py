"""GLAD (Artola et al., WACV 2023): how unlikely each patch is under Gaussians that all patches share, weighted as they
occur at its position (docs/papers/glad.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, PositiveInt

from adcore.core import contracts
from adcore.core.contracts import Curves, Maps, Progress, silent
from adcore.methods._few import rows, side_by_side

if TYPE_CHECKING:
    import torch

    from adcore.kernels.mixture import Gaussians
    from adcore.methods._pca import Subspace

FLOAT, DOUBLE = 4, 8  # bytes
ROUNDS = 100
TOLERANCE = 1e-3  # of the mean log-likelihood, as scikit-learn's


class GLADOptions(contracts.MethodOptions):
    """`components`: Gaussians. `dims`: principal components that a patch is described by; all where there are fewer.
    `ridge`: what is added to the variances, as a share of their mean. `prior`: how many images' worth of the mixture's
    own weights a position's weights begin with."""

    components: PositiveInt = 10
    dims: PositiveInt = 256
    ridge: Annotated[float, Field(gt=0)] = 0.01
    prior: Annotated[float, Field(gt=0)] = 1.0


class GLAD(contracts.FeatureMethod):
    """The map is the negative log-likelihood. A Gaussian's weight at a position is the share of the training images
    whose patch there it explains best (K-MLE), given these weights."""

    name = "glad"
    Options = GLADOptions
    options: GLADOptions
    levels = (2, 3)
    trial: ClassVar[dict[str, Any]] = {"components": 3, "dims": 8}
    subspace: Subspace
    gaussians: Gaussians
    weights: torch.Tensor  # (positions, K), float64

    @classmethod
    def state_bytes(cls, options: GLADOptions, extractor: contracts.Extractor, images: int) -> int:
        """Principal components, Gaussians and weights."""
        positions, channels = _size(extractor.shapes())
        dims = min(options.dims, channels, images * positions - 1)
        gaussian = FLOAT * (dims + dims * (dims + 1) // 2)
        return FLOAT * channels * (1 + dims) + DOUBLE * dims + options.components * (gaussian + DOUBLE * positions)

    def fit(self, features: contracts.FeatureSource, progress: Progress = silent) -> Curves:
        """Reads the features twice, and holds all patches in `dims` dimensions. Raises ValueError where there is no
        room for them in the memory budget, and where there are fewer patches than Gaussians."""
        import torch

        from adcore.kernels import mixture
        from adcore.methods import _pca

        positions, channels = _size(features.shapes)
        count = len(features) * positions
        self._check(count, min(self.options.dims, channels))
        whole = _pca.fit(_blocks(features), count, channels)
        kept = slice(self.options.dims)
        self.subspace = _pca.Subspace(whole.mean, whole.components[kept].clone(), whole.variances[kept].clone())
        patches = torch.cat([self._reduced(block) for block in _blocks(features)])
        progress(0.2)
        ridge = max(self.options.ridge * float(self.subspace.variances.mean()), torch.finfo(torch.float32).eps)
        begun = mixture.maximised(patches, self._clusters(patches), ridge)
        found = mixture.fitted(patches, begun, ridge, ROUNDS, TOLERANCE)
        progress(0.9)
        self.gaussians = found.gaussians
        densities = self.gaussians.log_densities(patches).reshape(len(features), positions, -1)
        self.weights = localised(densities.double(), found.weights, self.options.prior)
        progress(1.0)
        return {}

    def score(self, features: Maps) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Negative natural logarithms on the grid of the first level; the image score is the maximum of the smoothed
        map."""
        joined = side_by_side(features)
        densities = self.gaussians.log_densities(self._reduced(rows(joined)))
        joint = densities.reshape(len(joined), *self.weights.shape) + self.weights.log()
        return -joint.logsumexp(2).float().reshape(-1, *joined.shape[2:]), None

    def state(self) -> dict[str, torch.Tensor]:
        """The subspace, the Gaussians, the whiteners' lower triangles alone, and the weights."""
        from adcore.kernels import gaussian

        mean, whitener = self.gaussians
        own = {"weights": self.weights, "gaussian_mean": mean, "whitener": gaussian.pack(whitener)}
        return self.subspace._asdict() | own

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        from adcore.kernels import gaussian
        from adcore.kernels.mixture import Gaussians
        from adcore.methods._pca import Subspace

        state = {name: tensor.to(self.context.device) for name, tensor in state.items()}
        self.subspace = Subspace(**{name: state[name] for name in Subspace._fields})
        self.gaussians = Gaussians(state["gaussian_mean"], gaussian.unpack(state["whitener"]))
        self.weights = state["weights"]

    def _check(self, count: int, dims: int) -> None:
        """Of so many patches."""
        from adcore.core.devices import room

        needed, free = FLOAT * count * dims, room(self.context.device, self.context.memory_gb)
        if needed > free:
            raise ValueError(
                f"glad: {count} patches in {dims} dimensions take {needed / 1e9:.2g} GB, and there is room for "
                f"{free / 1e9:.2g}; raise budget.memory_gb, or lower dims, image or max_train"
            )
        if count < self.options.components:
            raise ValueError(f"glad: components is {self.options.components}, but there are {count} patches; lower it")

    def _reduced(self, patches: torch.Tensor) -> torch.Tensor:
        """Patches (n, channels) along the principal components."""
        return self.subspace.coordinates(patches, len(self.subspace.components))

    def _clusters(self, patches: torch.Tensor) -> torch.Tensor:
        """Shares of the patches in k-means' clusters: (n, K), float64, each 0 or 1."""
        import torch
        from sklearn.cluster import KMeans
        from torch.nn.functional import one_hot

        means = KMeans(self.options.components, n_init=1, random_state=self.context.seed % 2**32)
        labels = torch.from_numpy(means.fit_predict(patches.cpu().numpy())).long()
        return one_hot(labels.to(patches.device), self.options.components).double()


def localised(densities: torch.Tensor, weights: torch.Tensor, prior: float) -> torch.Tensor:
    """Weights (positions, K) of the Gaussians at each position, from log densities (images, positions, K) there and the
    weights (K,) of the mixture, all float64: each patch goes to the Gaussian that is likeliest with the weights of its
    position, these become the shares of its images, and so on until no patch goes elsewhere."""
    import torch
    from torch.nn.functional import one_hot

    local = weights.expand(densities.shape[1:])
    before: torch.Tensor | None = None
    for _ in range(ROUNDS):
        best = (densities + local.log()).argmax(2)
        if before is not None and torch.equal(best, before):
            break
        before = best
        local = (one_hot(best, len(weights)).sum(0) + prior * weights) / (len(densities) + prior)
    return local


def _blocks(features: contracts.FeatureSource) -> Iterator[torch.Tensor]:
    """Patches (n, channels)."""
    for batch in features:
        yield rows(side_by_side(batch))


def _size(shapes: Sequence[contracts.Shape]) -> tuple[int, int]:
    """Positions of the first map, and channels of all."""
    _, height, width = shapes[0]
    return height * width, sum(channels for channels, _, _ in shapes)
