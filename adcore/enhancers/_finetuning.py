"""Fine-tunes a backbone's weights by a classification task on made pictures; the task's head is thrown away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from adcore.core.arrays import UInt8Array
from adcore.core.contracts import Extractor, Outcome, Subject, Training
from adcore.core.training import WARM_UP, taken_first_step
from adcore.features.drift import COMPARED, Drift

PREFIX = "backbone."

Batch = tuple[torch.Tensor, torch.Tensor]  # pictures (B, 3, S, S), uint8, and classes (B,)


@dataclass(frozen=True)
class Rates:
    """Learning rates of backbone and head. A random head must learn much faster than weights that are good already,
    and before it has learned, its gradients say nothing to them: theirs rises from 0 over `warm_up` steps."""

    backbone: float
    head: float
    warm_up: int


@dataclass(frozen=True)
class Task:
    """A classification: how many classes, the batches of an epoch and how many they are, and how it is optimised."""

    name: str
    classes: int
    batches: Callable[[int], Iterator[Batch]]
    steps: int
    rates: Rates
    sgd: dict[str, float]
    head: Callable[[int, int], nn.Module] = nn.Linear
    rate: Callable[[int], float] = lambda epoch: 1.0


def finetune(
    extractor: Extractor, subject: Subject, task: Task, epochs: int, least_cosine: float, training: Training
) -> Outcome:
    """Train all of the backbone and a head on the mean of its last map. Changes `extractor`.

    Batch-norm layers keep their statistics: those of a few dozen images, two thirds of them pasted over, moved the
    third map to a mean cosine of 0.7 within twenty steps of PSG.
    """
    model = extractor.model
    compared = torch.from_numpy(subject.pixels[:COMPARED])
    before = [maps.clone() for maps in extractor(compared)]
    drift = Drift(before, lambda: extractor(compared), least_cosine)
    model.requires_grad_(True)
    head = _seeded(task.head, before[-1].shape[1], task.classes, subject.seed).to(extractor.device)
    groups = [
        {"params": list(model.parameters()), "lr": task.rates.backbone, WARM_UP: task.rates.warm_up},
        {"params": list(head.parameters()), "lr": task.rates.head},
    ]
    optimiser = torch.optim.SGD(groups, **task.sgd)  # type: ignore[arg-type]

    def step(batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        pictures, classes = batch
        logits = head(extractor.maps(pictures)[-1].mean((2, 3)))
        classes = classes.to(logits.device)
        return functional.cross_entropy(logits, classes), {"accuracy": (logits.argmax(1) == classes).float().mean()}

    modules = {"backbone": model, "head": head}
    curves = training.run(task.name, modules, optimiser, epochs, task.batches, step, task.steps, task.rate, drift)
    model.requires_grad_(False)
    state = {PREFIX + name: value.detach().cpu() for name, value in model.state_dict().items()}
    facts = taken_first_step(curves) | drift.values()
    return Outcome(state, curves, 1 / task.classes, facts, drift.stopped)


def adopt(extractor: Extractor, state: dict[str, torch.Tensor]) -> None:
    """Give the extractor's backbone the fine-tuned weights; it may have fewer stages than were trained."""
    wanted = extractor.model.state_dict()
    extractor.model.load_state_dict({name: state[PREFIX + name] for name in wanted})


def batch(made: Sequence[Sequence[tuple[UInt8Array, int]]]) -> Batch:
    """One batch of what was made of several images: pictures with their classes."""
    pairs = [pair for several in made for pair in several]
    pictures = torch.from_numpy(np.stack([picture for picture, _ in pairs]))
    return pictures, torch.tensor([label for _, label in pairs])


def _seeded(make: Callable[[int, int], nn.Module], width: int, classes: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(width, classes)
