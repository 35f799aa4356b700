"""MFCSAM, the multi-frequency channel and spatial attention module of SBM+PFAM, on any number of channels.

What the paper prints of it, and why it starts as the identity: docs/papers/sbm-pfam.md#mfcsam.

The paper's layout takes a multiple of 64 channels C: four branches of C' = C / 4 with convolutions over 3, 5, 7 and 9
pixels in 1, 4, 8 and 16 groups (EPSANet), C' / 16 channels for each of 16 frequencies (FcaNet), bottlenecks of C' / 16
(channel attention) and C' / 8 (position attention, DANet). For other C, as efficientnet_lite0's 24, 40, 112, one rule:

* up to three zero channels are added, so that C is a multiple of 4, and dropped behind the module;
* a branch has the largest number of groups that divides C' and is at most the paper's (C = 24: 1, 3, 6, 6);
* channel c of a branch has frequency floor(16 c / C'), so C' < 16 uses every 16/C'-th of the 16;
* both bottlenecks are rounded down and at least 4 wide (a ReLU or a dot product of one unit learns little).

At a multiple of 64 the first three are the paper's layout; the last widens its bottlenecks below C = 256.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

BRANCHES = 4
KERNELS = (3, 5, 7, 9)
GROUPS = (1, 4, 8, 16)
# "top16" of FcaNet: vertical and horizontal frequency on a grid of 7 x 7
FREQUENCIES = tuple(
    zip((0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2), (0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2), strict=True)
)
LATTICE = 7
NARROWEST = 4
ALIGNMENT = 16  # of head widths: the CUDA kernels need 8, and on CPU 16 take two thirds of the time of 8

Convolutions = Literal["grouped", "full"]
Start = Literal["identity", "random"]


class MFCSAM(nn.Module):
    """Grouped multi-scale convolutions, DCT channel attention, position attention (B, C, H, W) -> (B, C, H, W).

    A branch's convolution is its own channels X[:, i::4] plus a learned kernel. That is one kernel with a tap of 1 in
    its centre, but with the learned part at zero the output is the input to the bit under any algorithm and precision
    of convolution (TF32, Winograd), and weight decay pulls to the identity. `start="random"` is the plain random
    convolution: the tap is taken out of the kernel. Weights are drawn from torch's global generator. `size` is that of
    the frequency grid; maps of another size are averaged to it.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        convolutions: Convolutions = "grouped",
        pool_kv: int = 1,
        start: Start = "identity",
    ) -> None:
        super().__init__()
        self.channels = channels
        self.width = -(-channels // BRANCHES)
        padded = self.width * BRANCHES
        kernels = [
            nn.Conv2d(padded, self.width, kernel, padding=kernel // 2, groups=groups, bias=False)
            for kernel, groups in zip(KERNELS, group_counts(self.width, convolutions), strict=True)
        ]
        self.convolutions = nn.ModuleList(kernels)
        self.gate = FrequencyGate(self.width, size)
        self.attention = PositionAttention(self.width, pool_kv)
        for branch, convolution in enumerate(kernels):
            if start == "identity":
                nn.init.zeros_(convolution.weight)
            else:
                convolution.weight.data -= centre_taps(convolution, branch)
        if start == "identity":
            nn.init.zeros_(self.gate.excite.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W) -> same shape. Raises ValueError for another number of channels."""
        if features.shape[1] != self.channels:
            raise ValueError(f"MFCSAM was built for {self.channels} channels and got {features.shape[1]}")
        missing = self.width * BRANCHES - self.channels
        padded = functional.pad(features, (0, 0, 0, 0, 0, missing)) if missing else features
        # branch i: X[:, i::4]
        own = torch.unflatten(padded, 1, (self.width, BRANCHES)).transpose(1, 2)
        scales = own + torch.stack([convolution(padded) for convolution in self.convolutions], 1)
        attended: torch.Tensor = self.attention(scales * self.gate(scales))
        return attended.transpose(1, 2).flatten(1, 2)[:, : self.channels]


class FrequencyGate(nn.Module):
    """Weights in (0, 2) for the channels of all branches, from one DCT coefficient each: FcaNet's channel attention.

    The two fully connected layers are shared by the branches (EPSANet); twice the sigmoid, so that 1 is the middle.
    """

    basis: torch.Tensor

    def __init__(self, width: int, size: tuple[int, int]) -> None:
        super().__init__()
        bases = dct_bases((max(size[0], LATTICE), max(size[1], LATTICE)))
        frequencies = torch.arange(width) * len(FREQUENCIES) // width
        self.register_buffer("basis", bases[frequencies], persistent=False)
        hidden = max(NARROWEST, width // 16)
        self.squeeze = nn.Linear(width, hidden, bias=False)
        self.excite = nn.Linear(hidden, width, bias=False)

    def forward(self, scales: torch.Tensor) -> torch.Tensor:
        """(B, branches, C', H, W) -> (B, branches, C', 1, 1)."""
        weights = self.excite(functional.relu(self.squeeze(self.coefficients(scales))))
        return 2 * torch.sigmoid(weights)[..., None, None]

    def coefficients(self, scales: torch.Tensor) -> torch.Tensor:
        """The DCT coefficient of each channel at its frequency: (B, branches, C', H, W) -> (B, branches, C')."""
        grid = self.basis.shape[1:]
        if scales.shape[3:] != grid:
            pooled = functional.adaptive_avg_pool2d(scales.flatten(0, 1), (grid[0], grid[1]))
            scales = torch.unflatten(pooled, 0, scales.shape[:2])
        return (scales * self.basis).sum((3, 4))


class PositionAttention(nn.Module):
    """E_j = A_j + alpha * LeakyReLU(sum_i softmax_i(P_i . K_j) V_i), per branch, alpha from 0 (DANet).

    `pool_kv` averages P and V over squares of that side, which divides time by its square; 1 is the exact attention.
    """

    def __init__(self, width: int, pool_kv: int = 1) -> None:
        super().__init__()
        narrow = max(NARROWEST, width // 8)
        self.pool_kv = pool_kv
        self.p = nn.Conv2d(BRANCHES * width, BRANCHES * narrow, 1, groups=BRANCHES)
        self.k = nn.Conv2d(BRANCHES * width, BRANCHES * narrow, 1, groups=BRANCHES)
        self.v = nn.Conv2d(BRANCHES * width, BRANCHES * width, 1, groups=BRANCHES)
        self.alpha = nn.Parameter(torch.zeros(BRANCHES))

    def forward(self, weighted: torch.Tensor) -> torch.Tensor:
        """(B, branches, C', H, W) -> same shape."""
        p, k, v = self.projections(weighted)
        # The fused kernels, which keep no (positions x positions) matrix, want one width for all three, a multiple of
        # ALIGNMENT, and contiguous tokens. Zeros change neither the dot products nor the first C' sums.
        width = -(-max(p.shape[3], v.shape[3]) // ALIGNMENT) * ALIGNMENT
        p, k, v = (functional.pad(x, (0, width - x.shape[3])).contiguous() for x in (p, k, v))
        sums = functional.scaled_dot_product_attention(query=k, key=p, value=v, scale=1.0)
        maps = torch.unflatten(sums[..., : weighted.shape[2]].transpose(2, 3), 3, weighted.shape[3:])
        return weighted + self.alpha.view(BRANCHES, 1, 1, 1) * functional.leaky_relu(maps)

    def projections(self, weighted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tokens P (B, branches, M, C'/8), K (B, branches, N, C'/8) and V (B, branches, M, C'); M = N unless pooled."""
        joined = weighted.flatten(1, 2)
        sources = joined
        if self.pool_kv > 1:  # averaging before or behind a 1 x 1 convolution is the same
            sources = functional.avg_pool2d(joined, self.pool_kv, ceil_mode=True)
        return _tokens(self.p(sources)), _tokens(self.k(joined)), _tokens(self.v(sources))


def group_counts(width: int, convolutions: Convolutions) -> tuple[int, ...]:
    """Groups of the four convolutions: the largest divisors of C' = `width` up to 1, 4, 8, 16, or 1 for `full`."""
    if convolutions == "full":
        return (1,) * BRANCHES
    return tuple(max(count for count in range(1, most + 1) if width % count == 0) for most in GROUPS)


def centre_taps(convolution: nn.Conv2d, branch: int) -> torch.Tensor:
    """The kernel that selects X[:, branch::4]: a tap of 1 in the centre, zero elsewhere; the weight's shape."""
    taps = torch.zeros_like(convolution.weight)
    within = convolution.out_channels // convolution.groups
    for output in range(convolution.out_channels):
        taps[output, output % within * BRANCHES + branch, taps.shape[2] // 2, taps.shape[3] // 2] = 1
    return taps


def dct_bases(size: tuple[int, int]) -> torch.Tensor:
    """The 16 orthonormal two-dimensional DCT bases (16, H, W) at FcaNet's frequencies, for H and W of at least 7."""
    height, width = size
    vertical, horizontal = _cosines(height), _cosines(width)
    pairs = [(u * (height // LATTICE), v * (width // LATTICE)) for u, v in FREQUENCIES]
    return torch.stack([vertical[u][:, None] * horizontal[v] for u, v in pairs]).float()


def _cosines(length: int) -> torch.Tensor:
    """Row u is the u-th orthonormal DCT-II basis function: (length, length), float64."""
    frequency = torch.arange(length, dtype=torch.float64)[:, None]
    position = torch.arange(length, dtype=torch.float64) + 0.5
    rows = torch.cos(math.pi * frequency * position / length) * math.sqrt(2 / length)
    rows[0] = 1 / math.sqrt(length)
    return rows


def _tokens(joined: torch.Tensor) -> torch.Tensor:
    """(B, branches * D, H, W) -> (B, branches, H * W, D)."""
    return torch.unflatten(joined, 1, (BRANCHES, -1)).flatten(3).transpose(2, 3)
