"""One Gaussian per position: fit by whitening, and the Mahalanobis distance to each."""

import torch

BLOCK = 2**23  # float64 values of a block of covariances (64 MB)


def fit(samples: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Means (P, d) and whiteners (P, d, d), float32, of `samples` (N, P, d), float32, N >= 1.

    With Sigma = unbiased covariance + `epsilon` I = L L^T, the whitener of a position is the inverse of L. Computed
    in float64 from centred samples, in blocks of positions. One sample tells no covariance: Sigma is `epsilon` I then.
    """
    count, positions, dims = samples.shape
    mean = torch.empty(positions, dims, device=samples.device)
    whitener = torch.empty(positions, dims, dims, device=samples.device)
    identity = torch.eye(dims, dtype=torch.float64, device=samples.device)
    rows = max(1, BLOCK // (dims * max(dims, count)))
    for begin in range(0, positions, rows):
        part = slice(begin, begin + rows)
        block = samples[:, part].transpose(0, 1).double()
        centre = block.mean(1, keepdim=True)
        block = block - centre
        factor = torch.linalg.cholesky(block.mT @ block / max(1, count - 1) + epsilon * identity)
        mean[part] = centre[:, 0].float()
        whitener[part] = torch.linalg.solve_triangular(factor, identity, upper=False).float()
    return mean, whitener


def mahalanobis(samples: torch.Tensor, mean: torch.Tensor, whitener: torch.Tensor) -> torch.Tensor:
    """Distances (B, P) of `samples` (B, P, d) to the Gaussians: |L^-1 (x - mu)|."""
    # The layout decides: the product is five times slower with the positions innermost.
    centred = (samples - mean).contiguous().permute(1, 2, 0)
    distances: torch.Tensor = torch.linalg.vector_norm(whitener @ centred, dim=1)
    return distances.T


def pack(whitener: torch.Tensor) -> torch.Tensor:
    """The lower triangles (P, d (d + 1) / 2) of whiteners (P, d, d): half the room on disk."""
    row, column = torch.tril_indices(*whitener.shape[1:], device=whitener.device)
    return whitener[:, row, column]


def unpack(packed: torch.Tensor) -> torch.Tensor:
    """The whiteners (P, d, d) that were packed."""
    dims = int((2 * packed.shape[1]) ** 0.5)
    row, column = torch.tril_indices(dims, dims, device=packed.device)
    whitener = packed.new_zeros(len(packed), dims, dims)
    whitener[:, row, column] = packed
    return whitener
