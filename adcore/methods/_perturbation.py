"""AGPNet's masks, noise and curricula; equations are those of docs/papers/agpnet.md#equations."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

# As shares of all epochs; the paper's are 400, 100 and 400, and 200 of 500.
RAMP = 0.8
KEPT, FULL = 0.2, 0.8
DECAYED = 0.4
LEAST = 0.6  # of the pixels that get noise
MOST_DB = 120.0  # the ratio that stands for no noise at all


def alpha(epoch: int, epochs: int) -> float:
    """Intensity of the noise on features in that epoch, counted from 1: Eq. (5), from 0 to 1, then 1."""
    return min(1.0, epoch / (RAMP * epochs))


def rho(epoch: int, epochs: int) -> float:
    """Share of the pixels that get noise in that epoch, counted from 1: 0.6 at first, then linearly to 1."""
    risen = (epoch - KEPT * epochs) / ((FULL - KEPT) * epochs)
    return LEAST + (1 - LEAST) * min(1.0, max(0.0, risen))


def spread(mask: torch.Tensor) -> torch.Tensor:
    """Each image's mask (B, N), moved and scaled to reach from 0 to 1; a constant one is all zeros."""
    low, high = mask.amin(1, keepdim=True), mask.amax(1, keepdim=True)
    return torch.where(high > low, (mask - low) / (high - low), 0.0)


def joined(*masks: torch.Tensor) -> torch.Tensor:
    """Eq. (2), of masks (B, N) that are brought to one scale before; the sum reaches from 0 to 1 again."""
    return spread(torch.stack([spread(mask) for mask in masks]).sum(0))


def perturbed(
    tokens: torch.Tensor, mask: torch.Tensor, intensity: float, floor: float = 0.0, factor: float | None = None
) -> torch.Tensor:
    """Eq. (4): tokens (B, N, C) with Gaussian noise of that intensity where `mask` (B, N) is 1, less where it is less.

    F' = F + sigma eps (intensity mask + floor), eps from torch's global generator. sigma is 1, or `factor` times the
    root mean square of each token, as UniAD's jitter has it. The tokens themselves where there is no noise.
    """
    if not intensity and not floor:
        return tokens
    strength = intensity * mask[..., None] + floor
    if factor is not None:
        strength = strength * factor * tokens.square().mean(2, keepdim=True).sqrt()
    return tokens + strength * torch.randn_like(tokens)


def brightest(values: torch.Tensor, share: float) -> torch.Tensor:
    """True at the round(share * H * W) greatest of each (H, W) of values (B, H, W); nowhere where all are equal."""
    flat = values.flatten(1)
    chosen = flat.topk(round(share * flat.shape[1]), dim=1, sorted=False).indices
    varied = flat.amax(1, keepdim=True) > flat.amin(1, keepdim=True)
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, chosen, varied.expand_as(chosen)).view_as(values)


def spoilt(images: torch.Tensor, where: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, H, W) of 0..255, as float32, with noise at `where` (B, H, W).

    `deviation` (1, 3, 1, 1), in 0..1, is the backbone's: what it divides pixels by, so that it sees noise of deviation
    1. Nothing is clipped.
    """
    noise = torch.randn(images.shape, device=images.device) * where[:, None]
    return images.float() + 255 * deviation * noise


def enlarged(mask: torch.Tensor, grid: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    """Masks (B, N) on `grid` -> (B, H, W), bilinear."""
    maps = mask.view(-1, 1, *grid)
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)[:, 0]


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Eq. (3): theta_T <- momentum * theta_T + (1 - momentum) * theta_S."""
    for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
        old.lerp_(new, 1 - momentum)


@torch.no_grad()
def gap(teacher: nn.Module, student: nn.Module) -> torch.Tensor:
    """||theta_T - theta_S||."""
    pairs = zip(teacher.parameters(), student.parameters(), strict=True)
    return torch.stack([(old - new).square().sum() for old, new in pairs]).sum().sqrt()


@torch.no_grad()
def decibels(signal: torch.Tensor, disturbed: torch.Tensor) -> torch.Tensor:
    """10 log10 of the power of a signal over that of its disturbance, at most 120 dB."""
    power, noise = signal.float().square().mean(), (disturbed - signal).float().square().mean()
    return 10 * torch.log10(power / noise.clamp(min=power * 10 ** (-MOST_DB / 10)))
