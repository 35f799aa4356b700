"""Fine-tunes a backbone's weights by a classification task on made pictures; the task's head is thrown away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from adcore.enhancers.base import Outcome, Subject
from adcore.features import Extractor, Maps
from adcore.images import UInt8Array
from adcore.training import Training

PREFIX = "backbone."
COMPARED = 32  # images whose features are compared before and after

Batch = tuple[torch.Tensor, torch.Tensor]  # pictures (B, 3, S, S), uint8, and classes (B,)


@dataclass(frozen=True)
class Task:
    """A classification: how many classes, the batches of an epoch and how many they are, and how it is optimised.

    batch_statistics: batch-norm layers use and update the statistics of each batch; else theirs stay as they were.
    """

    name: str
    classes: int
    batches: Callable[[int], Iterator[Batch]]
    steps: int
    sgd: dict[str, float]
    head: Callable[[int, int], nn.Module] = nn.Linear
    batch_statistics: bool = False
    rate: Callable[[int], float] = lambda epoch: 1.0


def finetune(extractor: Extractor, subject: Subject, task: Task, epochs: int, training: Training) -> Outcome:
    """Train all of the backbone and a head on the mean of its last map. Changes `extractor`."""
    compared = torch.from_numpy(subject.pixels[:COMPARED])
    before = [maps.clone() for maps in extractor(compared)]
    model = extractor.model.requires_grad_(True)
    head = _seeded(task.head, before[-1].shape[1], task.classes, subject.seed).to(extractor.device)
    parameters = [*model.parameters(), *head.parameters()]
    optimiser = torch.optim.SGD([p for p in parameters if p.requires_grad], **task.sgd)  # type: ignore[arg-type]

    def step(batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        pictures, classes = batch
        logits = head(extractor.maps(pictures)[-1].mean((2, 3)))
        classes = classes.to(logits.device)
        return functional.cross_entropy(logits, classes), {"accuracy": (logits.argmax(1) == classes).float().mean()}

    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.train(task.batch_statistics)
    modules = {"backbone": model, "head": head}
    curves = training.run(task.name, modules, optimiser, epochs, task.batches, step, task.steps, task.rate)
    model.eval().requires_grad_(False)
    state = {PREFIX + name: value.detach().cpu() for name, value in model.state_dict().items()}
    return Outcome(state, curves, 1 / task.classes, cosines(before, extractor(compared)))


def adopt(extractor: Extractor, state: dict[str, torch.Tensor]) -> None:
    """Give the extractor's backbone the fine-tuned weights; it may have fewer stages than were trained."""
    wanted = extractor.model.state_dict()
    extractor.model.load_state_dict({name: state[PREFIX + name] for name in wanted})


def cosines(before: Maps, after: Maps) -> dict[str, float]:
    """Mean cosine similarity over images and positions, by level from 1: how far the features moved."""
    pairs = enumerate(zip(before, after, strict=True), start=1)
    return {f"cosine_{n}": float(functional.cosine_similarity(a, b, dim=1).mean()) for n, (a, b) in pairs}


def batch(made: Sequence[Sequence[tuple[UInt8Array, int]]]) -> Batch:
    """One batch of what was made of several images: pictures with their classes."""
    pairs = [pair for several in made for pair in several]
    pictures = torch.from_numpy(np.stack([picture for picture, _ in pairs]))
    return pictures, torch.tensor([label for _, label in pairs])


def _seeded(make: Callable[[int, int], nn.Module], width: int, classes: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(width, classes)
