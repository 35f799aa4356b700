"""SBM of SBM+PFAM: the backbone learns global layout by solving jigsaw puzzles of one category's images.

What the paper prints and what it leaves open: docs/papers/sbm-pfam.md#jigsaw-puzzles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from adcore.core.contracts import Enhancer, Extractor, Host, Level, Outcome, Subject, Training
from adcore.enhancers import _puzzles

if TYPE_CHECKING:
    import torch

    from adcore.core.arrays import UInt8Array
    from adcore.core.plan import BackboneSpec
    from adcore.enhancers._finetuning import Batch

BATCH = 16  # images: each with its synthetic twin, so 32 puzzles (JiGen)
SGD = {"momentum": 0.9, "weight_decay": 5e-4}
DROP_AT, DROP = 0.8, 0.1  # the learning rate's fall, at this share of the epochs


class SBMOptions(_puzzles.PuzzleOptions):
    """`lr` of the backbone, which rises from 0 over `warm_up` steps, and `head_lr` of the puzzles' random head.
    `epochs: 0` is the control: the backbone as it was."""

    epochs: NonNegativeInt = 30
    min_steps: NonNegativeInt = 120
    lr: PositiveFloat = 5e-5
    head_lr: PositiveFloat = 1e-2
    warm_up: PositiveInt = 50


class SBM(Enhancer):
    """Fine-tunes all stages by classifying the permutation of normal and of synthetically defective images."""

    name = "sbm"
    Options = SBMOptions
    options: SBMOptions
    synthesis = True
    trial: ClassVar[dict[str, Any]] = {"epochs": 1, "min_steps": 1, "permutations": 3}

    def fit(
        self,
        extractor: Extractor,
        subject: Subject,
        training: Training,
        host: Host | None = None,
    ) -> Outcome:
        """Raises RuntimeError when the loss is not finite."""
        import torch

        from adcore.core.training import shuffled, steps
        from adcore.enhancers import _finetuning as finetuning

        options = self.options
        count = steps(len(subject.pixels), BATCH)
        epochs = options.passes(count)
        shown = _puzzles.pretext(subject, self.options)

        def puzzles(epoch: int) -> Iterator[Batch]:
            def made(index: int) -> list[tuple[UInt8Array, int]]:
                normal, defective = subject.pixels[index], shown.defect(index, epoch)[0]
                return [
                    shown.puzzle(normal, index, epoch, "normal puzzle"),
                    shown.puzzle(defective, index, epoch, "defective puzzle"),
                ]

            return map(finetuning.batch, shuffled(len(subject.pixels), subject.seed, epoch, made, BATCH))

        task = finetuning.Task(
            name="sbm",
            classes=options.permutations + 1,
            batches=puzzles,
            steps=count,
            rates=finetuning.Rates(options.lr, options.head_lr, options.warm_up),
            sgd=SGD,
            rate=lambda epoch: 1.0 if epoch < DROP_AT * epochs else DROP,
        )
        outcome = finetuning.finetune(extractor, subject, task, epochs, options.least_cosine, training)
        outcome.state["permutations"] = torch.from_numpy(shown.classes)
        return outcome

    def apply(self, extractor: Extractor, state: dict[str, torch.Tensor], asked: Sequence[Level]) -> None:
        """Load the fine-tuned weights."""
        from adcore.enhancers._finetuning import adopt

        adopt(extractor, state)

    def identity(self, backbone: BackboneSpec) -> dict[str, Any]:
        """The options, files by content."""
        return self.options.identity()

    def effort(self, images: int) -> float:
        """Two puzzles an image, forward and backward."""
        from adcore.core.training import steps

        return 8.0 * self.options.passes(steps(images, BATCH)) + 1

    def examples(self, subject: Subject, index: int) -> list[tuple[str, UInt8Array]]:
        """A synthetic defect, and puzzles of the image with and without one."""
        shown = _puzzles.pretext(subject, self.options)
        defective = shown.defect(index, 0)[0]
        return [
            ("synthetic defect", defective),
            ("puzzle", shown.puzzle(subject.pixels[index], index, 0, "normal puzzle")[0]),
            ("puzzle of the defect", shown.puzzle(defective, index, 0, "defective puzzle")[0]),
        ]
