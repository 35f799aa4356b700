"""PSG of MFFA: the backbone learns to tell normal images from CutPaste and CutPaste-Scar ones.

Source: docs/papers/mffa.md#psg.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from adcore.core.contracts import Enhancer, Extractor, Host, Level, Outcome, Subject, TrainedOptions, Training

if TYPE_CHECKING:
    import torch
    from torch import nn

    from adcore.core.arrays import UInt8Array
    from adcore.enhancers._finetuning import Batch

BATCH = 32  # normal images, so 96 pictures a step
SGD = {"momentum": 0.9, "weight_decay": 3e-5}
MLP = (512, 128)  # widths of CutPaste's projection


class PSGOptions(TrainedOptions):
    """`lr` of the backbone, which rises from 0 over `warm_up` steps, and `head_lr` of the random head. `head`: linear,
    or CutPaste's MLP. `rotations`: CutPaste's patch is turned by quarters. `epochs: 0` is the control.

    The head reads a backbone's last features as they are, of a mean squared norm of 3,600 on efficientnet-lite0: at a
    `head_lr` of 0.01 it diverges there and drags the backbone along (cosines of 0.2 after 60 steps, accuracy of
    chance); at 0.001 it learns (0.94 and 70 %).
    """

    epochs: NonNegativeInt = 64
    min_steps: NonNegativeInt = 120
    lr: PositiveFloat = 3e-4
    head_lr: PositiveFloat = 1e-3
    warm_up: PositiveInt = 50
    head: Literal["linear", "mlp"] = "linear"
    rotations: bool = False


class PSG(Enhancer):
    """Fine-tunes all stages by a 3-way classification: normal, CutPaste, CutPaste-Scar."""

    name = "psg"
    Options = PSGOptions
    options: PSGOptions
    trial: ClassVar[dict[str, Any]] = {"epochs": 1, "min_steps": 1}

    def fit(
        self,
        extractor: Extractor,
        subject: Subject,
        training: Training,
        host: Host | None = None,
    ) -> Outcome:
        """Raises RuntimeError when the loss is not finite."""
        from adcore.core.training import shuffled, steps
        from adcore.enhancers import _finetuning as finetuning

        options = self.options
        count = steps(len(subject.pixels), BATCH)

        def pictures(epoch: int) -> Iterator[Batch]:
            def made(index: int) -> list[tuple[UInt8Array, int]]:
                return [(picture, label) for label, picture in enumerate(self._three(subject, index, epoch))]

            return map(finetuning.batch, shuffled(len(subject.pixels), subject.seed, epoch, made, BATCH))

        task = finetuning.Task(
            name="psg",
            classes=3,
            batches=pictures,
            steps=count,
            rates=finetuning.Rates(options.lr, options.head_lr, options.warm_up),
            sgd=SGD,
            head=_mlp if options.head == "mlp" else _linear,
        )
        return finetuning.finetune(extractor, subject, task, options.passes(count), options.least_cosine, training)

    def apply(self, extractor: Extractor, state: dict[str, torch.Tensor], asked: Sequence[Level]) -> None:
        """Load the fine-tuned weights."""
        from adcore.enhancers._finetuning import adopt

        adopt(extractor, state)

    def effort(self, images: int) -> float:
        """Three pictures an image, forward and backward."""
        from adcore.core.training import steps

        return 12.0 * self.options.passes(steps(images, BATCH)) + 1

    def examples(self, subject: Subject, index: int) -> list[tuple[str, UInt8Array]]:
        """The image with a patch and with a scar."""
        _, patch, scar = self._three(subject, index, 0)
        return [("CutPaste", patch), ("scar", scar)]

    def _three(self, subject: Subject, index: int, epoch: int) -> tuple[UInt8Array, UInt8Array, UInt8Array]:
        from adcore.core.draws import generator
        from adcore.vision.cutpaste import cutpaste, scar

        rng = generator(subject.seed, subject.hashes[index], epoch, "psg")
        image = subject.pixels[index]
        turns = int(rng.integers(4)) if self.options.rotations else 0
        return image, cutpaste(image, rng, turns)[0], scar(image, rng)[0]


def _linear(width: int, classes: int) -> nn.Module:
    from torch import nn

    return nn.Linear(width, classes)


def _mlp(width: int, classes: int) -> nn.Module:
    from torch import nn

    first, last = MLP
    return nn.Sequential(
        nn.Linear(width, first), nn.ReLU(), nn.Linear(first, last), nn.ReLU(), nn.Linear(last, classes)
    )
