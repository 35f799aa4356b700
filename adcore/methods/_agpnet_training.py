"""How AGPNet's decoder is trained: what it is to rebuild, and one step of perturbing and rebuilding.

Equations are those of docs/papers/agpnet.md#equations.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.nn import functional

from adcore.core.devices import to_device
from adcore.features import backbones
from adcore.methods import _perturbation as perturbation
from adcore.methods._agpnet import UniADDecoder, ViTDecoder
from adcore.methods._attention import Looks
from adcore.vision.maps import resized

if TYPE_CHECKING:
    from adcore.core.contracts import Extractor, ImageSource, Maps

EPSILON = 1e-6
MOMENTUM, EVERY = 0.9999, 10  # of the teacher; it follows every so many steps
BATCH = 16  # images at once where nothing is trained

Decoder = UniADDecoder | ViTDecoder
Which = Literal["-", "R", "A"]
Index = tuple[int, int, list[int]]  # steps and epochs done, and images


@dataclass(frozen=True)
class Target:
    """The tokens to rebuild: Eq. (1) of the maps at `levels` (from 1; None: all) on `grid`.

    Each map's channels are normalised at every position, without a learned scale, or with `affine`, weight and bias of
    the backbone's own final norm. Maps of one shape, as a ViT's, are summed. Others are first brought to the grid
    (averaged where they are finer, bilinear where coarser) and then concatenated.
    """

    grid: tuple[int, int]
    levels: tuple[int, ...] | None = None
    affine: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(self, maps: Maps) -> torch.Tensor:
        """Maps (B, C, H, W) -> (B, N, channels). Raises ValueError where a level is not there."""
        if self.levels and self.levels[-1] > len(maps):
            raise ValueError(f"agpnet: levels name {self.levels[-1]}, but there are {len(maps)} maps; leave it out")
        normed = [self._normed(maps[level - 1]) for level in self.levels or range(1, len(maps) + 1)]
        if len({one.shape for one in normed}) == 1:
            together = resized(torch.stack(normed).sum(0), self.grid)
        else:
            together = torch.cat([resized(one, self.grid) for one in normed], 1)
        return together.flatten(2).transpose(1, 2).contiguous()

    def _normed(self, one: torch.Tensor) -> torch.Tensor:
        weight, bias = self.affine or (None, None)
        return functional.layer_norm(one.movedim(1, 3), one.shape[1:2], weight, bias, EPSILON).movedim(3, 1)


@dataclass(frozen=True)
class Frozen:
    """The frozen network: images -> tokens to rebuild and, where it `looks` somewhere, its mask M_p."""

    extractor: Extractor
    target: Target
    looks: Looks | None = None

    @torch.no_grad()
    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) of 0..255 -> (B, N, C)."""
        return self.target(self.extractor.maps(images))

    @torch.no_grad()
    def clean(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images -> (B, N, C) and M_p (B, N), which is zero where the network looks nowhere; in full precision."""
        with torch.autocast(self.extractor.device.split(":")[0], enabled=False):
            if self.looks is None:
                tokens = self.tokens(images)
                return tokens, torch.zeros(tokens.shape[:2], device=tokens.device)
            maps, mask = self.looks.during(lambda: self.extractor.maps(images))
            return self.target(maps), resized(mask[:, None], self.target.grid).flatten(1)


class Clean:
    """The training images, and what the frozen network makes of them undisturbed.

    Kept on the network's device as far as `memory` bytes there reach, first the pixels of the first images, then what
    the network made of them; the others are read and run again whenever they are asked for.
    """

    def __init__(self, images: ImageSource, frozen: Frozen, memory: float) -> None:
        self.images = images
        self.frozen = frozen
        fit = int(memory // images.at([0]).nbytes)
        self.kept_pixels = to_device(_first(images, fit), frozen.extractor.device)
        tokens, mask = frozen.clean(self.pixels([0]))
        room = memory - self.kept_pixels.nbytes
        count = min(len(images), int(room // (tokens.nbytes + mask.nbytes)))
        self.kept = [torch.empty(count, *one.shape[1:], device=one.device) for one in (tokens, mask)]
        for start in range(0, count, BATCH):
            index = list(range(start, min(start + BATCH, count)))
            for kept, one in zip(self.kept, frozen.clean(self.pixels(index)), strict=True):
                kept[index] = one

    def pixels(self, index: Sequence[int]) -> torch.Tensor:
        """(B, 3, H, W), uint8, on the network's device."""
        if max(index) < len(self.kept_pixels):
            return self.kept_pixels[list(index)]
        return to_device(self.images.at(index), self.frozen.extractor.device)

    def at(self, index: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (B, N, C) and masks M_p (B, N), float32, on the network's device."""
        far = [place for place, image in enumerate(index) if image >= len(self.kept[0])]
        near = [0 if place in far else image for place, image in enumerate(index)]
        if len(far) == len(index):
            return self.frozen.clean(self.pixels(index))
        tokens, mask = (kept[near] for kept in self.kept)
        if far:
            tokens[far], mask[far] = self.frozen.clean(self.pixels([index[place] for place in far]))
        return tokens, mask


def _first(images: ImageSource, count: int) -> torch.Tensor:
    """The first `count` images, uint8."""
    found: list[torch.Tensor] = []
    for batch in images if count else ():
        found.append(batch)
        if sum(map(len, found)) >= count:
            break
    return torch.cat(found)[:count] if found else images.at([0])[:0]


def final_norm(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the norm behind the last block, which timm's `features_only` cuts off a transformer.

    Read from the weights that the backbone has. Raises ValueError where they cannot be had, or it has others.
    """
    import timm

    vit = backbones.transformer(model)
    if vit is None:
        raise ValueError("agpnet: norm final is a transformer's; this backbone has none, so write plain")
    carried = backbones.carried_norm(model)
    if carried is not None:
        return carried
    config = model.pretrained_cfg
    try:
        whole = timm.create_model(config["architecture"], pretrained=True, pretrained_cfg=config, num_classes=0)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"agpnet: norm final needs the backbone's weights, or write plain ({error})") from None
    if not torch.equal(whole.patch_embed.proj.weight, vit.patch_embed.proj.weight.cpu()):
        raise ValueError("agpnet: norm final needs the backbone's own weights, not random or changed ones; write plain")
    return whole.norm.weight.detach(), whole.norm.bias.detach()


@dataclass(frozen=True)
class Noise:
    """Where features and images get noise: nowhere, anywhere (`R`), or where attention is (`A`); how much on features:
    `intensity`, None for the curriculum's, and `floor`, everywhere and always; both times `factor` of a token's root
    mean square, where that is given."""

    feature: Which = "A"
    image: Which = "A"
    intensity: float | None = None
    floor: float = 0.0
    factor: float | None = None


@dataclass(frozen=True)
class Guided:
    """One step of the training: perturb, rebuild, compare (docs/papers/agpnet.md#training).

    `guide`: the decoder that gives M_d; None leaves it out. Where it is not the student, it follows that one.
    `warmup`: it follows more closely at first.
    """

    clean: Clean
    student: Decoder
    guide: Decoder | None
    noise: Noise
    epochs: int
    warmup: bool = False

    @property
    def teacher(self) -> Decoder | None:
        """The guide, if it is another than the student."""
        return None if self.guide is self.student else self.guide

    @property
    def modules(self) -> dict[str, Decoder]:
        """All that changes."""
        return {"student": self.student} | ({"teacher": self.teacher} if self.teacher else {})

    def __call__(self, batch: Index) -> tuple[torch.Tensor, dict[str, torch.Tensor | float]]:
        """The loss, Eq. (6), and what is logged."""
        done, epoch, index = batch
        values: dict[str, torch.Tensor | float] = {}
        if self.teacher:
            if done and done % EVERY == 0:
                perturbation.follow(self.teacher, self.student, self.momentum(done // EVERY))
            values["teacher_gap"] = perturbation.gap(self.teacher, self.student)
        tokens, looked = self.clean.at(index)
        mask = torch.ones_like(looked)
        if "A" in (self.noise.feature, self.noise.image):
            mask = self.mask(tokens, looked)
            values["constant_masks"] = (mask.amax(1) == 0).sum()
        loss = self._rebuilt(tokens, tokens, mask, epoch + 1, "snr", values)
        if self.noise.image != "-":
            disturbed = self.clean.frozen.tokens(self.spoilt(index, mask, epoch + 1))
            loss = loss + self._rebuilt(disturbed, tokens, mask, epoch + 1, "image_snr", values)
        return loss, values

    def momentum(self, updates: int) -> float:
        """Of the teacher's update number `updates`, from 1."""
        return min(MOMENTUM, (1 + updates) / (10 + updates)) if self.warmup else MOMENTUM

    @torch.no_grad()
    def mask(self, tokens: torch.Tensor, looked: torch.Tensor) -> torch.Tensor:
        """Norm(M) (B, N) of clean tokens and M_p; a mask that is constant, as M_p of a CNN, counts for nothing."""
        if self.guide is None:
            return perturbation.spread(looked)
        with _evaluating(self.guide):
            return perturbation.joined(looked, self.guide.attention(tokens))

    def spoilt(self, index: Sequence[int], mask: torch.Tensor, epoch: int) -> torch.Tensor:
        """I' (B, 3, H, W): noise on the pixels that the mask, or chance, picks."""
        pixels = self.clean.pixels(index)
        size = (pixels.shape[2], pixels.shape[3])
        if self.noise.image == "A":
            values = perturbation.enlarged(mask, self.clean.frozen.target.grid, size)
        else:
            values = torch.rand(len(pixels), *size, device=pixels.device)
        where = perturbation.brightest(values, perturbation.rho(epoch, self.epochs))
        return perturbation.spoilt(pixels, where, self.clean.frozen.extractor.std)

    def _rebuilt(
        self,
        given: torch.Tensor,
        wanted: torch.Tensor,
        mask: torch.Tensor,
        epoch: int,
        name: str,
        values: dict[str, torch.Tensor | float],
    ) -> torch.Tensor:
        """Eq. (7) for the tokens of clean or disturbed images."""
        noise = self.noise
        if noise.feature != "-":
            intensity = perturbation.alpha(epoch, self.epochs) if noise.intensity is None else noise.intensity
            where = mask if noise.feature == "A" else torch.ones_like(mask)
            given = perturbation.perturbed(given, where, intensity, noise.floor, noise.factor)
        if given is not wanted:
            values[name] = perturbation.decibels(wanted, given)
        return functional.mse_loss(self.student(given).float(), wanted)


@contextlib.contextmanager
def _evaluating(decoder: Decoder) -> Iterator[None]:
    """Without dropout within the block."""
    before = decoder.training
    decoder.eval()
    try:
        yield
    finally:
        decoder.train(before)
