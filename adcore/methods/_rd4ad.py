"""The student of RD4AD: it embeds the teacher's maps and rebuilds them from that (docs/papers/rd4ad.md).

Everything is made of the shapes of the maps, so that a student goes with any backbone. Of layer1 to layer3 of a ResNet
it is the network of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from adcore.core.contracts import Maps, Shape
from adcore.vision.maps import resized

Loss = Literal["whole", "position"]


@dataclass(frozen=True)
class Build:
    """Of which residual blocks a student is made.

    width: share of a block's channels that the 3 x 3 convolution between its two of 1 x 1 has; None: blocks of two
    convolutions of 3 x 3. depths: blocks of each stage of the decoder, which rebuilds the coarsest map first; further
    stages are as the last one. embedding: blocks of the embedding.
    """

    width: float | None
    depths: tuple[int, ...]
    embedding: int


BUILDS = {
    "wide_resnet50_2": Build(1 / 2, (3, 4, 6), 3),
    "resnet50": Build(1 / 4, (3, 4, 6), 3),
    "resnet34": Build(None, (3, 4, 6), 3),
    "resnet18": Build(None, (2, 2, 2), 2),
    "light": Build(1 / 2, (1, 1, 1), 1),
}


class Residual(nn.Module):
    """A residual block on a grid that is `stride` times as coarse, or with `up` as fine; without a ReLU at its end
    where it is not `rectified`."""

    def __init__(
        self, start: int, end: int, width: float | None, stride: int = 1, up: bool = False, rectified: bool = True
    ) -> None:
        super().__init__()

        def between_grids(start: int, end: int, kernel: int) -> nn.Module:
            if up and stride > 1:
                return nn.ConvTranspose2d(start, end, stride, stride, bias=False)
            return _convolution(start, end, kernel, stride)

        inner = end if width is None else max(1, round(width * end))
        if width is None:
            main = [(between_grids(start, end, 3), end), (_convolution(end, end, 3), end)]
        else:
            main = [
                (_convolution(start, inner, 1), inner),
                (between_grids(inner, inner, 3), inner),
                (_convolution(inner, end, 1), end),
            ]
        layers = [layer for one, channels in main for layer in (one, nn.BatchNorm2d(channels), nn.ReLU())]
        self.main = nn.Sequential(*layers[:-1])
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or start != end:
            self.shortcut = nn.Sequential(between_grids(start, end, 1), nn.BatchNorm2d(end))
        self.rectified = rectified

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, start, H, W) -> (B, end, H', W')."""
        out: torch.Tensor = self.main(maps) + self.shortcut(maps)
        return functional.relu(out) if self.rectified else out


class Student(nn.Module):
    """Multi-scale fusion, one-class embedding, and the decoder (Deng & Li 2022, Sec. 3.2 and 3.3).

    Fusion brings every map to the grid and the channels of the last one, by one convolution of 3 x 3 for each map on
    the way, and joins them; `fuse`: a convolution of 1 x 1 makes as many channels of them as one has. The embedding
    halves the grid and doubles the channels. The decoder then rebuilds the maps one out of the other, from the last.

    shapes: (C, H, W) of each map, from fine to coarse. signed: which of them has values below zero, so that its
    reconstruction must not end with a ReLU. Its weights are drawn from torch's global generator.
    """

    layout: torch.Tensor

    def __init__(self, build: Build, shapes: Sequence[Shape], signed: Sequence[bool], fuse: bool = False) -> None:
        super().__init__()
        self.shapes = list(shapes)
        rows = [[*shape, int(below)] for shape, below in zip(shapes, signed, strict=True)]
        # A part of the state, which alone tells how the student was made.
        self.register_buffer("layout", torch.tensor(rows))
        steps = [_Step(fine, coarse) for fine, coarse in pairwise(shapes)]
        last = shapes[-1][0]
        self.down = nn.ModuleList(nn.Sequential(*map(_halved, steps[level:])) for level in range(len(steps)))
        self.fuse = nn.Sequential(*_normed(_convolution(len(shapes) * last, last, 1), last)) if fuse else nn.Identity()
        blocks = [Residual(last if fuse else len(shapes) * last, 2 * last, build.width, 2)]
        blocks += [Residual(2 * last, 2 * last, build.width) for _ in range(build.embedding - 1)]
        self.embedding = nn.Sequential(*blocks)
        strides = [2, *(step.stride for step in reversed(steps))]
        channels = [2 * last, *(count for count, _, _ in reversed(shapes))]
        self.up = nn.ModuleList()
        for place, (start, end) in enumerate(pairwise(channels)):
            depth = build.depths[min(place, len(build.depths) - 1)]
            stage = [
                Residual(
                    start if block == 0 else end,
                    end,
                    build.width,
                    strides[place] if block == 0 else 1,
                    up=True,
                    rectified=block + 1 < depth or not signed[len(shapes) - 1 - place],
                )
                for block in range(depth)
            ]
            self.up.append(nn.Sequential(*stage))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # as released: transposed convolutions keep torch's own initial weights
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, maps: Maps) -> Maps:
        """The teacher's maps, (B, C, H, W) each -> what the student makes of them, of the same shapes."""
        embedded = self.embedding(self.fuse(self.joined(maps)))
        rebuilt: Maps = []
        for stage, (_, height, width) in zip(self.up, reversed(self.shapes), strict=True):
            embedded = resized(stage(embedded), (height, width))
            rebuilt.insert(0, embedded)
        return rebuilt

    def joined(self, maps: Maps) -> torch.Tensor:
        """All maps on the grid of the last one, side by side: (B, levels * C, H, W)."""
        grid = self.shapes[-1][1:]
        brought = [resized(down(one), grid) for down, one in zip(self.down, maps, strict=False)]
        return torch.cat([*brought, maps[-1]], 1)


def made(state: dict[str, torch.Tensor], build: Build, fuse: bool) -> Student:
    """The student that a state is of."""
    rows = state["layout"].tolist()
    with torch.device("meta"):  # no weights are drawn that are then replaced
        student = Student(build, [(c, h, w) for c, h, w, _ in rows], [bool(below) for *_, below in rows], fuse)
    student.load_state_dict(state, assign=True)
    return student


def loss(teacher: Maps, rebuilt: Maps, kind: Loss) -> torch.Tensor:
    """The sum over the levels of 1 - cosine, the mean over the images: of whole maps as one vector (the released code),
    or the mean over the positions (Eq. 1 and 2). Maps (B, C, H, W)."""
    if kind == "whole":
        teacher, rebuilt = ([one.flatten(1) for one in maps] for maps in (teacher, rebuilt))
    far = [(1 - functional.cosine_similarity(a, b, dim=1)).mean() for a, b in zip(teacher, rebuilt, strict=True)]
    return torch.stack(far).sum()


def anomaly_map(teacher: Maps, rebuilt: Maps, size: tuple[int, int]) -> torch.Tensor:
    """The sum over the levels of 1 - cosine at each position (Eq. 1 and 3), each enlarged so that its corners are those
    of the image, as released: (B, H, W)."""
    far = [1 - functional.cosine_similarity(a, b, dim=1) for a, b in zip(teacher, rebuilt, strict=True)]
    enlarged = [functional.interpolate(one[:, None], size, mode="bilinear", align_corners=True) for one in far]
    return torch.cat(enlarged, 1).sum(1)


@dataclass(frozen=True)
class _Step:
    """From one map (C, H, W) to the next coarser one."""

    fine: Shape
    coarse: Shape

    @property
    def stride(self) -> int:
        """How many times coarser it is; 1 where the grids are the same, as those of a transformer."""
        return max(1, round(self.fine[1] / self.coarse[1]))


def _halved(step: _Step) -> nn.Sequential:
    end = step.coarse[0]
    return nn.Sequential(*_normed(_convolution(step.fine[0], end, 3, step.stride), end))


def _normed(convolution: nn.Module, channels: int) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU()]


def _convolution(start: int, end: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(start, end, kernel, stride, kernel // 2, bias=False)
