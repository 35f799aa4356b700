"""Trains a module behind a frozen extractor's maps: on synthetic defects and puzzles, or by a method's own loss.

Why so: docs/papers/sbm-pfam.md#how-pfam-is-trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from adcore.core.contracts import Maps
from adcore.core.training import WARM_UP, shuffled, steps
from adcore.enhancers._pretext import Pretext
from adcore.features.drift import COMPARED, Drift

if TYPE_CHECKING:
    from adcore.core.contracts import Curves, Extractor, Host, Subject, Training

PAIRS = 8  # of a normal image and its synthetic twin: 16 pictures a batch
DECAY = 1e-4  # of AdamW
HEAD_LR = 1e-3  # of what is random at first: the tasks' heads, and the method's own weights
WARM_UP_STEPS = 20  # over which the module's rates rise, while the heads learn what to ask of it
IDENTITY = 1.0  # weight of keeping the features of normal pixels
HOST_BATCH = 4  # images, as CFA takes them

Features = Callable[[torch.Tensor], Maps]


@dataclass(frozen=True)
class Terms:
    """Which tasks the loss has: puzzles to solve; defects to segment while normal pixels keep their features."""

    puzzles: bool
    defects: bool


@dataclass(frozen=True)
class Batch:
    """Pictures (2B, 3, S, S), uint8, the masks of their defects (2B, 1, S, S), puzzles (2B, 3, S, S), classes (2B,)."""

    pictures: torch.Tensor
    masks: torch.Tensor
    puzzles: torch.Tensor
    classes: torch.Tensor


class Heads(nn.Module):
    """What reads the tasks' answers off the maps; thrown away after the training. `channels`: of each map."""

    def __init__(self, channels: list[int], classes: int) -> None:
        super().__init__()
        self.mask = nn.Conv2d(sum(channels), 1, 1)
        self.puzzle = nn.Linear(sum(channels), classes)

    def masks(self, maps: Maps) -> torch.Tensor:
        """Logits (B, 1, H, W) on the first map's grid, from maps normalised over their channels."""
        grid = maps[0].shape[2:]
        normed = [functional.layer_norm(m.movedim(1, 3), m.shape[1:2]).movedim(3, 1) for m in maps]
        joined = [functional.interpolate(m, size=grid, mode="bilinear", align_corners=False) for m in normed]
        found: torch.Tensor = self.mask(torch.cat(joined, 1))
        return found

    def classes(self, maps: Maps) -> torch.Tensor:
        """Logits (B, classes) from the mean of each map."""
        found: torch.Tensor = self.puzzle(torch.cat([m.mean((2, 3)) for m in maps], 1))
        return found


def pretext(
    module: nn.Module,
    features: Features,
    subject: Subject,
    shown: Pretext,
    terms: Terms,
    rate: float,
    epochs: int,
    run: Training,
    drift: Drift,
) -> Curves:
    """Train `module` behind `features` in place: one value an epoch of loss and its terms.

    Loss: cross-entropy of the puzzles + (BCE + Dice of the defects' masks) + IDENTITY x relative change of normal
    features.
    """
    with torch.no_grad():
        channels = [maps.shape[1] for maps in module(features(torch.from_numpy(subject.pixels[:1])))]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(subject.seed)
        heads = Heads(channels, len(shown.classes)).to(next(module.parameters()).device)

    def step(batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        values: dict[str, torch.Tensor] = {}
        if terms.puzzles:
            logits, classes = heads.classes(module(features(batch.puzzles))), batch.classes.to(device)
            values["puzzle"] = functional.cross_entropy(logits, classes)
            values["accuracy"] = (logits.argmax(1) == classes).float().mean()
        if terms.defects:
            before, masks = features(batch.pictures), batch.masks.to(device)
            after = module(before)
            values["mask"] = mask_loss(heads.masks(after), masks)
            values["change"] = change(before, after, masks)
        zero = torch.zeros((), device=device)
        loss = values.get("puzzle", zero) + values.get("mask", zero) + IDENTITY * values.get("change", zero)
        return loss, values

    device = next(module.parameters()).device
    optimiser = torch.optim.AdamW([*by_fan_in(module, rate), head_group(heads)], weight_decay=DECAY)
    modules = {"module": module, "heads": heads}
    count = steps(len(subject.pixels), PAIRS)
    return run.run(
        "pfam",
        modules,
        optimiser,
        epochs,
        lambda epoch: batches(subject, shown, epoch),
        step,
        count,
        watch=drift,
    )


def by_fan_in(module: nn.Module, rate: float) -> list[dict[str, Any]]:
    """Groups of an optimiser like Adam, whose first step moves every weight by its learning rate: `rate` over the
    number of inputs that a layer sums, so that no step moves a feature by more than about `rate` of its inputs' mean,
    whether the layer sums 200 of them or 9,000."""
    groups = []
    for layer in module.modules():
        own = list(layer.parameters(recurse=False))
        if own:
            inputs = own[0][0].numel()
            groups.append({"params": own, "lr": rate / inputs, WARM_UP: WARM_UP_STEPS})
    return groups


def head_group(heads: nn.Module) -> dict[str, Any]:
    """The group of what starts at random."""
    return {"params": list(heads.parameters()), "lr": HEAD_LR}


def host_loss(
    module: nn.Module,
    extractor: Extractor,
    subject: Subject,
    host: Host,
    rate: float,
    epochs: int,
    run: Training,
    drift: Drift,
) -> Curves:
    """Train `module`, which stands behind the extractor's maps already, and the method's own weights by its loss."""
    learned = nn.ParameterList(host.method.begin(host.features(extractor)))
    optimiser = torch.optim.AdamW([*by_fan_in(module, rate), head_group(learned)], weight_decay=DECAY)

    def step(index: list[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        maps = extractor.maps(torch.from_numpy(subject.pixels[index]))
        return host.method.loss(maps), {}

    modules = {"module": module, "host": learned}
    return run.run(
        "pfam (host_loss)",
        modules,
        optimiser,
        epochs,
        lambda epoch: shuffled(len(subject.pixels), subject.seed, epoch, lambda index: index, HOST_BATCH),
        step,
        steps(len(subject.pixels), HOST_BATCH),
        watch=drift,
    )


def batches(subject: Subject, shown: Pretext, epoch: int) -> Iterator[Batch]:
    """Normal images and their synthetic twins, and puzzles of both."""

    def made(index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
        normal = subject.pixels[index]
        defective, mask = shown.defect(index, epoch)
        puzzles = [
            shown.puzzle(normal, index, epoch, "normal puzzle"),
            shown.puzzle(defective, index, epoch, "defective puzzle"),
        ]
        pictures = np.stack([normal, defective])
        masks = np.stack([np.zeros_like(mask), mask])[:, None]
        return pictures, masks, np.stack([picture for picture, _ in puzzles]), [label for _, label in puzzles]

    for several in shuffled(len(subject.pixels), subject.seed, epoch, made, PAIRS):
        pictures, masks, puzzles, classes = zip(*several, strict=True)
        yield Batch(
            torch.from_numpy(np.concatenate(pictures)),
            torch.from_numpy(np.concatenate(masks)),
            torch.from_numpy(np.concatenate(puzzles)),
            torch.tensor([label for labels in classes for label in labels]),
        )


def mask_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """BCE + Dice of logits (B, 1, H, W) for masks (B, 1, S, S): the target is the defect's share of each position."""
    height, width = logits.shape[2:]
    target = functional.adaptive_avg_pool2d(masks.float(), (height, width))
    logits = logits.float()
    found = logits.sigmoid()
    overlap, total = (found * target).sum((1, 2, 3)), (found + target).sum((1, 2, 3))
    dice = 1 - (2 * overlap + 1) / (total + 1)
    return functional.binary_cross_entropy_with_logits(logits, target) + dice.mean()


def change(before: Maps, after: Maps, masks: torch.Tensor) -> torch.Tensor:
    """Sum over the maps of ||X' - X||^2 / ||X||^2 over normal positions; of concatenated maps the first channels."""
    total = torch.zeros((), device=before[0].device)
    for old, new in zip(before, after, strict=True):
        normal = functional.adaptive_max_pool2d(masks.float(), old.shape[2:]) == 0
        moved = (new[:, : old.shape[1]] - old).float().square() * normal
        total = total + moved.sum() / ((old.float().square() * normal).sum() + 1e-12)
    return total


def originals(features: Features, subject: Subject) -> Maps:
    """The maps of the first few images, which the module is compared on."""
    with torch.no_grad():
        return [maps.clone() for maps in features(torch.from_numpy(subject.pixels[:COMPARED]))]
