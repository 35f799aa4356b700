"""One loop for all that is trained: seeded, resumable after a kill to the same weights, stopped by a loss that is not
finite."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from adcore.core.contracts import Curves, Watch, silent
from adcore.core.devices import is_accelerator
from adcore.core.disk import room
from adcore.core.draws import generator
from adcore.core.prefetch import ahead

if TYPE_CHECKING:
    from adcore.core.contracts import Context

WARM_UP = "warm_up"  # a key of an optimiser's group: steps over which its learning rate rises from 0
FIRST_STEP = "first_step_"  # before what a watch saw after the first step, a curve of one value
CHECKPOINT_S = 300.0  # seconds at least between two checkpoints: one of TFA-Net is 1.8 GB, and an epoch takes a minute
LOOK = 32  # steps between two looks at the loss of an accelerator, each of which waits for it
Batch = TypeVar("Batch")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Training:
    """How a training runs: seed, torch device, the file that keeps its state between epochs, who hears the progress.

    `checkpoint`: a file that is read at the start, and written at the end and after an epoch that ends CHECKPOINT_S
    after the last writing; its owner deletes it.
    """

    seed: int
    device: str = "cpu"
    checkpoint: Path | None = None
    progress: Callable[[float], None] = silent

    @classmethod
    def of(cls, context: Context, progress: Callable[[float], None]) -> Training:
        """The training of a method."""
        return cls(context.seed, context.device, context.checkpoint, progress)

    def part(self, name: str, begin: float, end: float) -> Training:
        """For one of several trainings in a row: its own checkpoint, and progress from `begin` to `end`."""
        file = self.checkpoint.with_name(f"{self.checkpoint.name}.{name}") if self.checkpoint else None
        return Training(self.seed, self.device, file, lambda done: self.progress(begin + (end - begin) * done))

    def run(
        self,
        what: str,
        modules: Mapping[str, nn.Module],
        optimiser: torch.optim.Optimizer,
        epochs: int,
        batches: Callable[[int], Iterable[Batch]],
        step: Callable[[Batch], tuple[torch.Tensor, Mapping[str, torch.Tensor | float]]],
        steps: int,
        rate: Callable[[int], float] = lambda epoch: 1.0,
        watch: Watch | None = None,
    ) -> Curves:
        """Train `modules` in place: mean loss and mean of each further value of `step` and `watch`, one an epoch.

        batches(epoch): the epoch's batches, `steps` of them. step(batch): loss, and values to log. rate(epoch): factor
        on the optimiser's learning rates; a group of it may have a WARM_UP. watch: may end the training, before an
        epoch that it refuses. `what` is named in errors. Torch's global generator is seeded anew in every epoch and
        left as it was. Raises RuntimeError for a loss that is not finite, naming epoch and step.
        """
        first, curves = self._resume(modules, optimiser)
        written = time.monotonic()
        rates = [group["lr"] for group in optimiser.param_groups]

        def prepare(epoch: int, count: int) -> None:
            for group, full in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = full * rate(epoch) * min(1.0, (epoch * steps + count) / group.get(WARM_UP, 1))

        def stepped(epoch: int, count: int) -> None:
            if watch and epoch == 0 and count == 1:
                curves.update({FIRST_STEP + name: [value] for name, value in watch.values().items()})

        for epoch in range(first, epochs):
            kept = _copy(modules) if watch else {}
            with torch.random.fork_rng():
                torch.manual_seed(1_000_003 * self.seed + epoch)
                means = self._epoch(what, optimiser, (epoch, epochs), batches(epoch), step, steps, prepare, stepped)
            if watch:
                means |= watch.values()
                if watch.refuses(means, epoch + 1, epochs):
                    for name, module in modules.items():
                        module.load_state_dict(kept[name])
                    break
            for name, value in means.items():
                curves.setdefault(name, []).append(value)
            if epoch + 1 == epochs or time.monotonic() - written >= CHECKPOINT_S:
                self._keep(modules, optimiser, epoch + 1, curves)
                written = time.monotonic()
        return curves

    def _epoch(
        self,
        what: str,
        optimiser: torch.optim.Optimizer,
        position: tuple[int, int],
        batches: Iterable[Batch],
        step: Callable[[Batch], tuple[torch.Tensor, Mapping[str, torch.Tensor | float]]],
        steps: int,
        prepare: Callable[[int, int], None],
        stepped: Callable[[int, int], None],
    ) -> dict[str, float]:
        epoch, epochs = position
        sums: dict[str, torch.Tensor | float] = {}
        losses: list[torch.Tensor] = []
        look = LOOK if is_accelerator(self.device) else 1
        count = 0
        for count, batch in enumerate(batches, start=1):
            with torch.autocast("cuda", torch.bfloat16, enabled=self.device.startswith("cuda")):
                loss, values = step(batch)
            losses.append(loss.detach())
            if count % look == 0:
                _require_finite(what, losses, position, (count, steps))
                losses.clear()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            prepare(epoch, count)
            optimiser.step()
            stepped(epoch, count)
            for name, value in {"loss": loss, **values}.items():
                # A new tensor: the value may be a parameter, which the next step changes in place.
                sums[name] = sums.get(name, 0.0) + torch.as_tensor(value).detach().float()
            self.progress((epoch + count / steps) / epochs)
        _require_finite(what, losses, position, (count, steps))
        return {name: float(total) / count for name, total in sums.items()}

    def _keep(
        self, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, epochs: int, curves: Curves
    ) -> None:
        if self.checkpoint is None:
            return
        part = self.checkpoint.with_name(self.checkpoint.name + ".part")
        tensors = {name: value.detach().cpu().contiguous() for name, value in _tensors(modules, optimiser)}
        with room(self.checkpoint.parent, sum(tensor.nbytes for tensor in tensors.values())):
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            try:
                save_file(tensors, part, {"progress": json.dumps({"epochs": epochs, "curves": curves})})
                part.replace(self.checkpoint)
            finally:
                part.unlink(missing_ok=True)

    def _resume(self, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer) -> tuple[int, Curves]:
        """Epochs done and their curves, with everything as it was behind them."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return 0, {}
        try:
            with safe_open(self.checkpoint, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                done = json.loads(file.metadata()["progress"])
        except SafetensorError as error:
            sys.stderr.write(f"{self.checkpoint} is damaged ({error}); the training begins anew\n")
            return 0, {}
        for name, module in modules.items():
            prefix = f"module.{name}."
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        state = optimiser.state_dict()
        for name, value in tensors.items():
            if name.startswith("optimiser."):
                _, index, key = name.split(".", 2)
                state["state"].setdefault(int(index), {})[key] = value
        optimiser.load_state_dict(state)
        return done["epochs"], done["curves"]


def _copy(modules: Mapping[str, nn.Module]) -> dict[str, dict[str, torch.Tensor]]:
    return {
        name: {key: value.detach().clone() for key, value in module.state_dict().items()}
        for name, module in modules.items()
    }


def _require_finite(what: str, losses: Sequence[torch.Tensor], epoch: tuple[int, int], steps: tuple[int, int]) -> None:
    """Raise RuntimeError for the first of the last losses that is not finite; (number, all) of epoch and last step."""
    values = torch.stack(list(losses)).tolist() if losses else []
    first = next((place for place, value in enumerate(values) if not math.isfinite(value)), None)
    if first is None:
        return
    place = f"epoch {epoch[0] + 1} of {epoch[1]}, step {steps[0] - len(values) + first + 1} of {steps[1]}"
    raise RuntimeError(
        f"{what}: the loss is {values[first]} in {place}; check the features, or lower the learning rate"
    )


def _tensors(modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer) -> Iterator[tuple[str, torch.Tensor]]:
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            yield f"module.{name}.{key}", value
    for index, state in optimiser.state_dict()["state"].items():
        for key, value in state.items():
            yield f"optimiser.{index}.{key}", torch.as_tensor(value)


def shuffled(count: int, seed: int, epoch: int, make: Callable[[int], Made], batch: int) -> Iterator[list[Made]]:
    """make(index) for `count` images, by threads, in an order that is new in each epoch; a short last batch counts."""
    order = generator(seed, "order", epoch).permutation(count)
    return ahead(order.tolist(), make, batch)


def taken_first_step(curves: Curves) -> dict[str, float]:
    """What a watch saw after the first step, taken out of the curves, which have a value an epoch."""
    return {name: curves.pop(name)[0] for name in list(curves) if name.startswith(FIRST_STEP)}


def steps(count: int, batch: int) -> int:
    """Batches an epoch."""
    return -(-count // batch)
