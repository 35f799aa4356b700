"""STPM (Wang et al., BMVC 2021): a student learns what a trained network makes of normal images; where it fails to
follow, there is a defect (docs/papers/hosts.md#stpm)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from adcore.core import contracts
from adcore.core.contracts import Curves, Maps, Progress, silent

if TYPE_CHECKING:
    import torch

SGD = {"momentum": 0.9, "weight_decay": 1e-4}


class STPMOptions(contracts.MethodOptions):
    """`validation`: share of the training images that is not learned from; the epoch of the least loss on it is kept.
    0, or too few images for one: the last epoch is."""

    epochs: NonNegativeInt = 100
    batch: PositiveInt = 32
    lr: PositiveFloat = 0.4
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.2


class STPM(contracts.EpochMethod, contracts.ImageMethod):
    """The product over the levels of how far student and teacher are apart; the image score is its maximum."""

    name = "stpm"
    Options = STPMOptions
    options: STPMOptions
    levels = (1, 2, 3)
    smoothing = 0.0
    trial: ClassVar[dict[str, Any]] = {"epochs": 40, "batch": 4, "validation": 0.0}
    student: torch.nn.Module

    @classmethod
    def sized(cls, options: STPMOptions, extractor: contracts.Extractor) -> contracts.Network:
        """The student, which is as large as the teacher and sees every image, too."""
        import torch

        student = extractor.untrained(0).eval()
        image = torch.zeros(1, 3, extractor.size, extractor.size, dtype=torch.uint8)
        return contracts.Network(student, lambda: student(image))

    def fit(self, images: contracts.ImageSource, progress: Progress = silent) -> Curves:
        """Raises ValueError where enhancers give other maps than the backbone has, RuntimeError when the loss is not
        finite."""
        import torch

        from adcore.core.selection import BestEpoch
        from adcore.core.training import Training, shuffled, steps

        options, seed = self.options, self.context.seed
        self.student = self.extractor.untrained(seed)
        self._require_alike(images.at([0]))
        learn, check = self._parts(len(images))
        best = BestEpoch(self.student)

        def batches(epoch: int) -> Iterator[list[int]]:
            if check and epoch:  # what the epoch before has learned
                best.offer(-self._loss_on(images, check), self.student)
            self.student.train()
            return shuffled(len(learn), seed, epoch, lambda place: learn[place], options.batch)

        def step(index: list[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return self._loss(images.at(index)), {}

        curves = Training.of(self.context, progress).run(
            self.name,
            {"student": self.student, "best": best},
            torch.optim.SGD(self.student.parameters(), options.lr, **SGD),  # type: ignore[arg-type]
            options.epochs,
            batches,
            step,
            steps(len(learn), options.batch),
        )
        if check and options.epochs:
            best.offer(-self._loss_on(images, check), self.student)
            best.give_back(self.student)
        self.student.eval().requires_grad_(False)
        return curves

    def score(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Maps on the finest grid, to which those of the other levels are brought."""
        import torch
        from torch.nn.functional import interpolate

        with torch.inference_mode():
            maps = [far[:, None] for far in _distances(self.extractor(images), self.student(images))]
            grid = maps[0].shape[2:]
            alike = [interpolate(one, size=grid, mode="bilinear", align_corners=False) for one in maps]
            product = torch.stack(alike).prod(0)[:, 0]
            return product, product.flatten(1).amax(1)

    def state(self) -> dict[str, torch.Tensor]:
        """The student's weights and statistics."""
        return {f"student.{name}": value for name, value in self.student.state_dict().items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        self.student = self.extractor.untrained(self.context.seed)
        self.student.load_state_dict({name.removeprefix("student."): value for name, value in state.items()})
        self.student.eval().requires_grad_(False)

    def _parts(self, count: int) -> tuple[list[int], list[int]]:
        """The images to learn from and those to choose the epoch by."""
        from adcore.core.draws import generator

        order = generator(self.context.seed, "validation").permutation(count).tolist()
        kept = int(self.options.validation * count)
        return sorted(order[kept:]), sorted(order[:kept])

    def _loss(self, images: torch.Tensor) -> torch.Tensor:
        """The sum over the levels of half the mean squared distance of unit vectors (Eq. 1 to 3)."""
        import torch

        with torch.no_grad():  # no inference mode, whose tensors take no part in a gradient
            teacher = self.extractor.maps(images)
        far = _distances(teacher, self.student(images))
        loss: torch.Tensor = sum(one.mean() / 2 for one in far)  # type: ignore[assignment]
        return loss

    def _loss_on(self, images: contracts.ImageSource, index: list[int]) -> float:
        import torch

        self.student.eval()
        groups = [index[at : at + self.options.batch] for at in range(0, len(index), self.options.batch)]
        with torch.no_grad():
            return sum(float(self._loss(images.at(group))) * len(group) for group in groups) / len(index)

    def _require_alike(self, images: torch.Tensor) -> None:
        shapes = [[tuple(one.shape[1:]) for one in network(images)] for network in (self.extractor, self.student)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"stpm: the enhancers leave maps {shapes[0]}, the student has {shapes[1]}; leave them out")


def _distances(teacher: Maps, student: Maps) -> list[torch.Tensor]:
    """The squared distance of the features at each position, as unit vectors: (B, H, W) per level."""
    from torch.nn.functional import normalize

    pairs = zip(teacher, student, strict=True)
    return [(normalize(a, dim=1) - normalize(b, dim=1)).square().sum(1) for a, b in pairs]
