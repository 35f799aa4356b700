"""GCPF (Wan et al., IEEE TIE 2022): each patch's distance to the nearest of the Gaussians that its level's normal
patches were clustered into (docs/papers/gcpf.md)."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import PositiveInt

from adcore.core import contracts
from adcore.core.contracts import Curves, Maps, Progress, silent
from adcore.methods._few import rows

if TYPE_CHECKING:
    import torch

    from adcore.kernels.mixture import Gaussians

FLOAT = 4  # bytes
EPSILON = 1e-10  # on the diagonals of covariances (released code)
ROUNDS = 100
CHANGED = 1e-3  # share of the patches that change over in a last round


class GCPFOptions(contracts.MethodOptions):
    """`clusters`: Gaussians of each level; as many as it has patches where these are fewer."""

    clusters: PositiveInt = 10


class GCPF(contracts.FeatureMethod):
    """The map is the mean of the levels' Mahalanobis distances, each level's enlarged to the image."""

    name = "gcpf"
    Options = GCPFOptions
    options: GCPFOptions
    levels = (1, 2, 3)
    trial: ClassVar[dict[str, Any]] = {"clusters": 3}
    clusters: list[Gaussians]  # a level each

    @classmethod
    def state_bytes(cls, options: GCPFOptions, extractor: contracts.Extractor, images: int) -> int:
        """A mean and a triangle for each cluster of each level."""
        each = (
            min(options.clusters, images * height * width) * (channels + channels * (channels + 1) // 2)
            for channels, height, width in extractor.shapes()
        )
        return FLOAT * sum(each)

    def fit(self, features: contracts.FeatureSource, progress: Progress = silent) -> Curves:
        """Reads the features once for each level, whose patches are held together. Raises ValueError where there is no
        room for them in the memory budget."""
        import torch

        from adcore.core.devices import room

        device, count = self.context.device, len(features)
        needed, free = FLOAT * count * max(map(prod, features.shapes)), room(device, self.context.memory_gb)
        if needed > free:
            raise ValueError(
                f"gcpf: one level's features of {count} images take {needed / 1e9:.2g} GB, and there is room for "
                f"{free / 1e9:.2g}; raise budget.memory_gb, or lower image or max_train"
            )
        self.clusters = []
        for level, (channels, height, width) in enumerate(features.shapes):
            patches = torch.empty(count * height * width, channels, device=device)
            filled = 0
            for batch in features:
                block = rows(batch[level])
                patches[filled : filled + len(block)] = block
                filled += len(block)
            self.clusters.append(self._clustered(patches))
            progress((level + 1) / len(features.shapes))
        return {}

    def score(self, features: Maps) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Maps of the size of the network's input; the image score is the maximum of the smoothed map."""
        import torch

        from adcore.vision.maps import postprocess

        enlarged = []
        for level, clusters in zip(features, self.clusters, strict=True):
            far = clusters.squared_distances(rows(level)).amin(1).sqrt()
            enlarged.append(postprocess(far.reshape(-1, *level.shape[2:]), self.context.image_size, 0))
        return torch.stack(enlarged).mean(0), None

    def state(self) -> dict[str, torch.Tensor]:
        """Means and the whiteners' lower triangles, level by level."""
        from adcore.kernels import gaussian

        means = {f"mean{level}": each.mean for level, each in enumerate(self.clusters)}
        return means | {f"whitener{level}": gaussian.pack(each.whitener) for level, each in enumerate(self.clusters)}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        from adcore.kernels import gaussian
        from adcore.kernels.mixture import Gaussians

        state = {name: tensor.to(self.context.device) for name, tensor in state.items()}
        self.clusters = [
            Gaussians(state[f"mean{level}"], gaussian.unpack(state[f"whitener{level}"]))
            for level in range(len(state) // 2)
        ]

    def _clustered(self, patches: torch.Tensor) -> Gaussians:
        """From k-means' clusters of patches (n, C): a Gaussian of each cluster, and each patch to the nearest of them,
        in turn. A cluster that loses all of its patches stays as it is."""
        import torch
        from sklearn.cluster import KMeans

        from adcore.kernels.mixture import gaussians, ledoit_wolf

        count, dims = min(self.options.clusters, len(patches)), patches.shape[1]
        means = KMeans(count, n_init=1, random_state=self.context.seed % 2**32)
        labels = torch.from_numpy(means.fit_predict(patches.cpu().numpy())).long().to(patches.device)
        mean = torch.zeros(count, dims, dtype=torch.float64, device=patches.device)
        covariance = EPSILON * torch.eye(dims, dtype=torch.float64, device=patches.device).repeat(count, 1, 1)
        for _ in range(ROUNDS):
            for cluster in range(count):
                own = patches[labels == cluster]
                if len(own):
                    mean[cluster], shrunk = ledoit_wolf(own)
                    covariance[cluster] = shrunk
                    covariance[cluster].diagonal().add_(EPSILON)
            found = gaussians(mean, covariance)
            before, labels = labels, found.squared_distances(patches).argmin(1)
            if (labels != before).sum() <= CHANGED * len(patches):
                break
        return found
