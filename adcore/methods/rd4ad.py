"""RD4AD (Deng & Li, CVPR 2022): a student rebuilds the teacher's maps from a tight embedding of them, in which there is
no room for what normal images do not have.

Where the paper's text and the released code differ: docs/papers/rd4ad.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from adcore.core import contracts
from adcore.core.contracts import Curves, Maps, Progress, Shape, silent

if TYPE_CHECKING:
    import torch

    from adcore.methods._rd4ad import Build, Student

BETAS = (0.5, 0.999)  # of Adam
SMALL = {"student": "light", "batch": 4, "epochs": 30}
RESNET18 = [64, 128, 256]  # channels of layer1 to layer3; those of ResNet-34, too


class RD4ADOptions(contracts.PresetOptions):
    """`preset` small has a `light` student, batches of 4 and 30 epochs.

    `student`: whose residual blocks it has; None: those of ResNet-18 behind maps of its channels, else those of Wide
    ResNet-50, which has the channels of ResNet-50. `loss`: cosine of whole maps (released) or of positions (the paper's
    Eq. 1 and 2). `fuse`: the 1 x 1 convolution behind the joined maps that the paper's text has and that the released
    code does not call.
    """

    student: Literal["wide_resnet50_2", "resnet50", "resnet34", "resnet18", "light"] | None = None
    fuse: bool = False
    loss: Literal["whole", "position"] = "whole"
    lr: PositiveFloat = 5e-3
    batch: PositiveInt = 16
    epochs: NonNegativeInt = 200

    told = ("epochs",)

    @classmethod
    def implied(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The sizes of `preset: small`."""
        return SMALL if given.get("preset") == "small" else {}


class RD4AD(contracts.EpochMethod, contracts.FeatureMethod):
    """The sum over the levels of how far the teacher's maps and the student's point apart at each position."""

    name = "rd4ad"
    Options = RD4ADOptions
    options: RD4ADOptions
    levels = (1, 2, 3)
    trial: ClassVar[dict[str, Any]] = {"preset": "small", "epochs": 20, "lr": 1e-2}
    student: Student

    @classmethod
    def sized(cls, options: RD4ADOptions, extractor: contracts.Extractor) -> contracts.Network:
        """Fusion, embedding and decoder."""
        import torch

        shapes = extractor.shapes()
        with torch.device("meta"):
            student = _student(options, shapes, [False] * len(shapes)).eval()
            maps = [torch.empty(1, *shape) for shape in shapes]
        return contracts.Network(student, lambda: student(maps))

    def fit(self, features: contracts.FeatureSource, progress: Progress = silent) -> Curves:
        """Raises ValueError for maps that do not go from fine to coarse or that are too small for a batch of one
        image, RuntimeError when the loss is not finite."""
        import torch

        from adcore.core.training import Training, steps
        from adcore.features.held import held
        from adcore.methods import _rd4ad as rd4ad

        options, seed = self.options, self.context.seed
        features = held(features, self.context.device, self.context.memory_gb)
        _require_fit(features.shapes, len(features), options.batch)
        signed = [bool((one < 0).any()) for one in features.at([0])]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            student = _student(options, features.shapes, signed)
        student.to(self.context.device).train()

        def step(teacher: Maps) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return rd4ad.loss(teacher, [one.float() for one in student(teacher)], options.loss), {}

        curves = Training.of(self.context, progress).run(
            self.name,
            {"student": student},
            torch.optim.Adam(student.parameters(), options.lr, BETAS),
            options.epochs,
            lambda epoch: self._batches(features, epoch),
            step,
            steps(len(features), options.batch),
        )
        self.student = student.eval().requires_grad_(False)
        return curves

    def score(self, features: Maps) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Maps at the size of the image; the image score is the maximum of the smoothed map."""
        from adcore.methods._rd4ad import anomaly_map

        return anomaly_map(features, self.student(features), self.context.image_size), None

    def state(self) -> dict[str, torch.Tensor]:
        """The student's weights and statistics, and the shapes of its maps."""
        return {f"student.{name}": value for name, value in self.student.state_dict().items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        from adcore.methods._rd4ad import made

        weights = {name.removeprefix("student."): value for name, value in state.items()}
        rows = weights["layout"].tolist()
        student = made(weights, _build(self.options, [row[0] for row in rows]), self.options.fuse)
        self.student = student.to(self.context.device).eval().requires_grad_(False)

    def _batches(self, features: contracts.FeatureSource, epoch: int) -> Iterator[Maps]:
        """In a new order each epoch; the next batch is read while one is used."""
        from adcore.core.prefetch import ahead
        from adcore.core.training import shuffled

        groups = list(shuffled(len(features), self.context.seed, epoch, lambda index: index, self.options.batch))
        for (batch,) in ahead(groups, features.at, 1, workers=1):
            yield batch


def _student(options: RD4ADOptions, shapes: list[Shape], signed: list[bool]) -> Student:
    """The untrained student for maps of these shapes."""
    from adcore.methods._rd4ad import Student

    return Student(_build(options, [channels for channels, _, _ in shapes]), shapes, signed, options.fuse)


def _build(options: RD4ADOptions, channels: list[int]) -> Build:
    from adcore.methods._rd4ad import BUILDS

    return BUILDS[options.student or ("resnet18" if channels == RESNET18 else "wide_resnet50_2")]


def _require_fit(shapes: list[Shape], count: int, batch: int) -> None:
    grids = [shape[1:] for shape in shapes]
    if any(fine[0] < coarse[0] or fine[1] < coarse[1] for fine, coarse in pairwise(grids)):
        raise ValueError(f"rd4ad: it reads maps from fine to coarse, but these are on {grids}; order the layers so")
    if max(grids[-1]) <= 2 and 1 in (batch, count % batch):
        raise ValueError(
            f"rd4ad: a batch of one image, whose embedding is one position, has no statistics; its coarsest map is on "
            f"{grids[-1]}: take larger images, or another batch than {batch} for {count} images"
        )
