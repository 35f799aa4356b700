"""Several Gaussians of one set of rows: distances to each, and their mixture, by expectation maximisation."""

from __future__ import annotations

from math import log, pi
from typing import NamedTuple

import torch

BLOCK = 2**23  # values of a block (32 or 64 MB)


class Gaussians(NamedTuple):
    """mean (K, d) and whitener (K, d, d), lower triangles, float32: as of kernels/gaussian.py, a Gaussian a row."""

    mean: torch.Tensor
    whitener: torch.Tensor

    def squared_distances(self, rows: torch.Tensor) -> torch.Tensor:
        """Squared Mahalanobis distances (n, K) of rows (n, d), float32."""
        across = self.whitener.mT
        parts = torch.split(rows, max(1, BLOCK // self.mean.numel()))
        return torch.cat([((part - self.mean[:, None]) @ across).square().sum(2).T for part in parts])

    def log_densities(self, rows: torch.Tensor) -> torch.Tensor:
        """Natural logarithms (n, K) of the densities at rows (n, d)."""
        volume = self.whitener.diagonal(dim1=1, dim2=2).log().sum(1) - self.mean.shape[1] / 2 * log(2 * pi)
        return volume - self.squared_distances(rows) / 2


def gaussians(mean: torch.Tensor, covariance: torch.Tensor) -> Gaussians:
    """Of means (K, d) and covariances (K, d, d), float64, positive definite."""
    identity = torch.eye(mean.shape[1], dtype=mean.dtype, device=mean.device)
    whitener = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), identity, upper=False)
    return Gaussians(mean.float(), whitener.float().contiguous())


def ledoit_wolf(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (d,) and covariance (d, d), float64, of rows (n, d), float32, n >= 1. The covariance is drawn towards a
    multiple of the identity by the share that Ledoit & Wolf (2004) estimate; of one row it is zero."""
    count, dims = rows.shape
    mean = rows.mean(0, dtype=torch.float64)
    sample, fourth = mean.new_zeros(dims, dims), mean.new_zeros(())
    for part in torch.split(rows, max(1, BLOCK // dims)):
        apart = part.double() - mean
        sample.addmm_(apart.T, apart)
        fourth += apart.square().sum(1).square().sum()
    sample /= count
    level = sample.trace() / dims
    squares = sample.square().sum()
    away = squares - dims * level**2  # squared distance of the sample's covariance from the multiple of the identity
    noise = ((fourth / count - squares) / count).clamp(min=0).minimum(away)
    share = noise / away.clamp(min=torch.finfo(torch.float64).tiny)
    covariance = (1 - share) * sample
    covariance.diagonal().add_(share * level)
    return mean, covariance


class Mixture(NamedTuple):
    """Gaussians with their weights (K,), float64, which sum to 1."""

    weights: torch.Tensor
    gaussians: Gaussians

    def joint(self, rows: torch.Tensor) -> torch.Tensor:
        """Natural logarithms (n, K), float64, of weight times density at rows (n, d)."""
        return self.gaussians.log_densities(rows).double() + self.weights.log()


def maximised(rows: torch.Tensor, shares: torch.Tensor, ridge: float) -> Mixture:
    """The mixture of rows (n, d), float32, whose shares (n, K), float64, in the Gaussians are given. `ridge` is added
    to the diagonals. A Gaussian that has nothing is one around the mean of all, of that ridge alone, with weight 0."""
    shift = rows.mean(0, dtype=torch.float64)  # so that squares do not lose what is between them
    counts, dims = shares.sum(0), rows.shape[1]
    total = shift.new_zeros(len(counts), dims)
    scatter = shift.new_zeros(len(counts), dims, dims)
    size = max(1, BLOCK // total.numel())
    for part, share in zip(torch.split(rows, size), torch.split(shares, size), strict=True):
        apart = part.double() - shift
        total.addmm_(share.T, apart)
        scatter.add_((share.T[:, None] * apart.T) @ apart)
    held = counts.clamp(min=torch.finfo(torch.float64).eps)[:, None]
    mean = total / held
    scatter.div_(held[:, :, None]).sub_(mean[:, :, None] * mean[:, None])
    scatter.diagonal(dim1=1, dim2=2).add_(ridge)
    return Mixture(counts / len(rows), gaussians(mean + shift, scatter))


def fitted(rows: torch.Tensor, mixture: Mixture, ridge: float, rounds: int, tolerance: float) -> Mixture:
    """Expectation maximisation from `mixture`, until a round raises the mean log-likelihood of rows (n, d) by less than
    `tolerance`, or after so many rounds."""
    before = -torch.inf
    for _ in range(rounds):
        joint = mixture.joint(rows)
        likelihood = joint.logsumexp(1, keepdim=True)
        mixture = maximised(rows, (joint - likelihood).exp(), ridge)
        now = float(likelihood.mean())
        if now - before < tolerance:
            break
        before = now
    return mixture
