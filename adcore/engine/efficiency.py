"""Parameters, multiply-accumulates and throughput of methods, without training them.

How each paper counts: docs/papers/hosts.md#sizes.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from adcore.core.contracts import Context, Network
from adcore.core.devices import device_of
from adcore.core.plan import Plan
from adcore.engine.cells import Contender
from adcore.engine.sizes import COUNTER, Macs, Size, size
from adcore.features import backbones
from adcore.features.extractor import Extraction, Extractor, reader
from adcore.features.held import Held, HeldImages

WARM_UP, SECONDS = 2, 4.0
FITTED = 2  # images
BATCHES = (1, 32)


def measure(plan: Plan, contender: Contender) -> dict[str, Any]:
    """A row for a method of the plan on a backbone, with random weights: only sizes matter here.

    learnable_params: what the method itself trains; total_params: with the backbone up to the last level read. macs are
    of one image at inference; attention_macs and extractor_macs are parts of them. images_per_s: of a method whose
    speed does not depend on the images it was fitted on; else NaN. Distances to a memory or to Gaussians are in no
    count.
    """
    spec = contender.backbone.model_copy(update={"weights": "random", "sha256": None})
    levels = () if spec.layers else contender.levels
    device = device_of(plan.device)
    extractor = Extractor(Extraction(spec, contender.image, levels), device)
    network = contender.method.sized(contender.options, extractor)
    found = size(extractor, network)
    rates = dict.fromkeys(BATCHES, float("nan"))
    if network and network.decides_speed:
        rates = {batch: throughput(plan, contender, extractor, batch) for batch in BATCHES}
    return {
        "method_label": contender.names["method_label"],
        "backbone": backbones.title(contender.backbone.name),
        "image": contender.image.label,
        **found.columns,
        "attention_macs": (found.before + found.own).attention,
        "extractor_macs": found.before.total,
        "macs_as_published": _as_published(found, network),
        **{f"images_per_s_b{batch}": rate for batch, rate in rates.items()},
        "device": device,
        "counter": COUNTER,
    }


def _as_published(found: Size, network: Network | None) -> int:
    """As the method's paper counts."""
    passes, attention = (network.passes, network.attention_counts) if network else (1, False)
    total = Macs(passes * found.before.linear, passes * found.before.attention) + found.own
    return total.total if attention else total.linear


def throughput(plan: Plan, contender: Contender, extractor: Extractor, batch: int) -> float:
    """Images a second in batches, from pixels to raw maps, of a model that was trained for one epoch on noise."""
    side, seed = contender.image.size, contender.seeds[0]
    context = Context(seed, extractor.device, (side, side), plan.budget.memory_gb, None, lambda: extractor)
    method = contender.method(contender.method.quick(contender.options), context)
    see = reader(contender.method, lambda: extractor, extractor.device)
    seen = see(_images(FITTED, side))
    method.fit(HeldImages(seen) if isinstance(seen, torch.Tensor) else Held([maps.clone() for maps in seen]))
    images = _images(batch, side)

    def once() -> float:
        started = time.perf_counter()
        with torch.inference_mode():
            method.score(see(images))[0].cpu()
        return time.perf_counter() - started

    times = [once()]
    while sum(times) < SECONDS:
        times.append(once())
    timed = times[WARM_UP:] or times[-1:]  # a network that takes seconds an image is not run in vain
    return batch * len(timed) / sum(timed)


def _images(count: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
