"""AGPNet: rebuilds a frozen network's features, trained with noise where attention says that it matters.

Equations are those of docs/papers/agpnet.md, which also says what the paper leaves open.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from adcore.core import contracts
from adcore.core.contracts import Curves, Progress, silent

if TYPE_CHECKING:
    import torch

    from adcore.core.plan import BackboneSpec
    from adcore.methods._agpnet_training import Decoder, Guided, Index, Target
    from adcore.methods._attention import Looks

SMALL = {"width": 128, "depth": 2, "epochs": 30, "batch": 4, "lr": 1e-3}
VIT_WIDTH = {False: 384, True: 192}  # small or not
ADAMW = {"weight_decay": 1e-4, "betas": (0.9, 0.999)}
CLIP = 0.1  # norm of the gradient
DECAY = 0.1  # of the learning rate, once
PATCH = 16  # pixels of a token's side where the backbone is no transformer; also of the mean that scores an image
HEADS = {"uniad": 8, "vit": 6}
AFFINE = ("norm.weight", "norm.bias")
TRANSFORMER = re.compile("vit|deit")  # in timm's names; the fit looks more closely

Kind = Literal["uniad256", "uniad256-self", "vit384", "vit384-position"]
Which = Literal["-", "R", "A"]


class AGPNetOptions(contracts.PresetOptions):
    """What is not given comes from the preset: `small` is a decoder of 2 layers, 128 wide (vit384: 192), trained for 30
    epochs in batches of 4 at a learning rate of 1e-3. The curricula of intensity, noisy pixels and learning rate are
    shares of the epochs.

    `decoder`: UniAD's layers with the tokens as queries (`-self`: self-attention first), or plain ViT blocks
    (`-position`: with a learned embedding of places). `grid`: side of the token grid; default: a transformer's own,
    else a sixteenth of the image's. Noise: none, random, or attention-guided; `intensity` of that on features is
    constant where given. `noise_floor`: intensity that features get everywhere and from the start, beside that, the
    paper's basic noise factor; it prints no value, so 0. `noise_factor`: all noise on features is relative to each
    token's root mean square, as UniAD's is; default: its deviation is the intensity itself, Eq. (4). `mask`: of the
    frozen network (L), the decoder (D), or both; a network whose class attention cannot be read, as any CNN's, gives
    none. `attention`: of the class token, or what each patch gets. `teacher`: the decoder's mask is that of a mean
    teacher, not its own; `ema_warmup`: which follows closely at first. `levels`: of the maps, from 1; default all.
    `norm` of the maps: `plain`, or the transformer's own `final` one.
    """

    decoder: Kind = "uniad256"
    width: PositiveInt = 256
    depth: PositiveInt = 4
    grid: PositiveInt | None = None
    epochs: NonNegativeInt = 500
    batch: PositiveInt = 32
    lr: PositiveFloat = 1e-4
    feature_noise: Which = "A"
    image_noise: Which = "A"
    intensity: NonNegativeFloat | None = None
    noise_floor: NonNegativeFloat = 0.0
    noise_factor: PositiveFloat | None = None
    mask: Literal["L", "D", "B"] = "B"
    attention: Literal["cls", "column"] = "cls"
    teacher: bool = True
    ema_warmup: bool = False
    levels: tuple[PositiveInt, ...] | None = None
    norm: Literal["plain", "final"] = "plain"

    told = ("epochs",)

    @classmethod
    def implied(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The sizes of `preset: small`, and the width of a ViT's decoder."""
        small = given.get("preset") == "small"
        width = {"width": VIT_WIDTH[small]} if str(given.get("decoder")).startswith("vit") else {}
        return {**(SMALL if small else {}), **width}

    @model_validator(mode="after")
    def _works(self) -> AGPNetOptions:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not {self.heads} heads wide; give a multiple of {self.heads}")
        if self.levels and list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels {list(self.levels)} must ascend without repeats: {sorted(set(self.levels))}")
        given = {"intensity": self.intensity, "noise_floor": self.noise_floor, "noise_factor": self.noise_factor}
        for name, value in given.items():
            if self.feature_noise == "-" and value != AGPNetOptions.model_fields[name].default:
                raise ValueError(f"{name} is of noise on features, but feature_noise is -; leave one out")
        if self.ema_warmup and not (self.teacher and self.wants_guide):
            raise ValueError("ema_warmup is the mean teacher's, but no teacher gives a mask; leave ema_warmup out")
        return self

    @property
    def heads(self) -> int:
        """Of the decoder's attention."""
        return HEADS["vit" if self.decoder.startswith("vit") else "uniad"]

    @property
    def guided(self) -> bool:
        """Whether noise depends on attention."""
        return "A" in (self.feature_noise, self.image_noise)

    @property
    def wants_guide(self) -> bool:
        """Whether it depends on a decoder's."""
        return self.guided and self.mask != "L"


class AGPNet(contracts.EpochMethod, contracts.ImageMethod):
    """Distance of each token to what the decoder makes of it. At inference: the frozen network and the decoder."""

    name = "agpnet"
    Options = AGPNetOptions
    options: AGPNetOptions
    levels = (1, 2, 3, 4)
    smoothing = 0.0
    trial: ClassVar[dict[str, Any]] = {"preset": "small", "epochs": 20, "width": 32, "depth": 1, "batch": 4}
    decoder: Decoder
    target: Target
    channels: int  # of a token

    @classmethod
    def check(cls, options: AGPNetOptions, backbone: BackboneSpec) -> None:
        """Class attention and a final norm are a transformer's; levels have to be there."""
        count = len(backbone.layers or cls.levels)
        if options.levels and options.levels[-1] > count:
            raise ValueError(f"levels name {options.levels[-1]}, but {backbone.name} gives {count}; leave it out")
        if options.guided and options.mask == "L" and not TRANSFORMER.search(backbone.name):
            raise ValueError(f"mask L is a transformer's class attention, which {backbone.name} has not; write D")
        if options.norm == "final" and (backbone.weights == "random" or not TRANSFORMER.search(backbone.name)):
            raise ValueError(f"norm final is a trained transformer's, which {backbone.name} is not here; write plain")

    @classmethod
    def sized(cls, options: AGPNetOptions, extractor: contracts.Extractor) -> contracts.Network:
        """The decoder; the teacher is needed in training only."""
        import torch

        shapes = extractor.shapes()
        alike = len(set(shapes)) == 1
        side = options.grid or (shapes[0][1] if alike else shapes[0][1] * 4 // PATCH)
        channels = shapes[0][0] if alike else sum(c for c, _, _ in shapes)
        network = cls(options, contracts.Context(0)).network(channels, (side, side)).eval()
        tokens = torch.zeros(1, side * side, channels)
        return contracts.Network(network, lambda: network(tokens), attention_counts=True)

    def fit(self, images: contracts.ImageSource, progress: Progress = silent) -> Curves:
        """Raises ValueError for options that the backbone cannot follow, RuntimeError when the loss is not finite."""
        import torch
        from torch.nn.utils import clip_grad_norm_

        from adcore.core.training import Training, shuffled, steps
        from adcore.methods._perturbation import DECAYED

        options, count = self.options, len(images)
        guided = self._begin(images)
        parameters = list(self.decoder.parameters())
        optimiser = torch.optim.AdamW(parameters, options.lr, **ADAMW)  # type: ignore[arg-type]
        total = steps(count, options.batch)

        def clip(*_: Any) -> None:
            clip_grad_norm_(parameters, CLIP)

        def batches(epoch: int) -> Iterator[Index]:
            groups = shuffled(count, self.context.seed, epoch, lambda index: index, options.batch)
            return ((epoch * total + step, epoch, index) for step, index in enumerate(groups))

        def rate(epoch: int) -> float:
            return DECAY if epoch >= DECAYED * options.epochs else 1.0

        optimiser.register_step_pre_hook(clip)
        training = Training.of(self.context, progress)
        curves = training.run("agpnet", guided.modules, optimiser, options.epochs, batches, guided, total, rate)
        self.decoder.eval().requires_grad_(False)
        return curves

    def score(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Distances on the token grid; the image score is the greatest mean over 16 x 16 pixels of the enlarged map."""
        import torch

        from adcore.vision.maps import pooled_maximum, postprocess

        with torch.inference_mode():
            tokens = self.target(self.extractor(images))
            maps = (tokens - self.decoder(tokens)).norm(dim=2).view(-1, *self.target.grid)
            pixels = postprocess(maps, self.context.image_size, 0)
            return maps, pooled_maximum(pixels, PATCH)

    def state(self) -> dict[str, torch.Tensor]:
        """The decoder, the size of its tokens, and the final norm where it is used."""
        import torch

        kept = {f"decoder.{name}": value for name, value in self.decoder.state_dict().items()}
        if self.target.affine:
            kept |= dict(zip(AFFINE, self.target.affine, strict=True))
        return kept | {"tokens": torch.tensor([self.channels, *self.target.grid])}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        from adcore.methods._agpnet_training import Target

        channels, height, width = (int(value) for value in state["tokens"])
        affine = [state[name].to(self.context.device) for name in AFFINE if name in state]
        self.target = Target((height, width), self.options.levels, (affine[0], affine[1]) if affine else None)
        self.channels = channels
        self.decoder = self.network(channels, self.target.grid)
        parts = {name.removeprefix("decoder."): value for name, value in state.items() if name.startswith("decoder.")}
        self.decoder.load_state_dict(parts)
        self.decoder.eval().requires_grad_(False)

    def network(self, channels: int, grid: tuple[int, int]) -> Decoder:
        """The untrained decoder of these options, for tokens of that many channels on `grid`: all that is learned."""
        from adcore.methods._agpnet import decoder

        options = self.options
        sizes = {"width": options.width, "depth": options.depth, "heads": options.heads}
        return decoder(options.decoder, channels, grid, **sizes, seed=self.context.seed).to(self.context.device)

    def _begin(self, images: contracts.ImageSource) -> Guided:
        """Make the untrained decoder, and all that it takes to train it."""
        from adcore.core.devices import room
        from adcore.methods._agpnet_training import Clean, Frozen, Guided, Noise

        options, extractor = self.options, self.extractor
        image = images.at([0])
        maps = extractor(image)
        self.target = self._target(extractor, (maps[0].shape[2], maps[0].shape[3]))
        frozen = Frozen(extractor, self.target, self._looks(extractor, len(maps)))
        self.channels = frozen.tokens(image).shape[2]
        self.decoder = self.network(self.channels, self.target.grid).train()
        guide = None
        if options.wants_guide:
            guide = copy.deepcopy(self.decoder).eval().requires_grad_(False) if options.teacher else self.decoder
        strength = options.intensity, options.noise_floor, options.noise_factor
        noise = Noise(options.feature_noise, options.image_noise, *strength)
        clean = Clean(images, frozen, room(self.context.device, self.context.memory_gb))
        return Guided(clean, self.decoder, guide, noise, options.epochs, options.ema_warmup)

    def _target(self, extractor: contracts.Extractor, own: tuple[int, int]) -> Target:
        from adcore.features import backbones
        from adcore.methods._agpnet_training import Target, final_norm

        options = self.options
        height, width = self.context.image_size
        grid = (max(1, height // PATCH), max(1, width // PATCH))
        if backbones.transformer(extractor.model) is not None:
            grid = own
        if options.grid:
            grid = (options.grid, options.grid)
        affine = None
        if options.norm == "final":
            weight, bias = final_norm(extractor.model)
            affine = (weight.to(self.context.device), bias.to(self.context.device))
        return Target(grid, options.levels, affine)

    def _looks(self, extractor: contracts.Extractor, count: int) -> Looks | None:
        """The frozen network's attention, where it has one and the noise asks for it; `count` maps are read."""
        from adcore.methods import _attention as attention

        options = self.options
        if not options.guided or options.mask == "D":
            return None
        blocks = len(attention.readable(extractor.model))
        if not blocks and options.mask == "L":
            raise ValueError("agpnet: mask L is a transformer's class attention; this backbone has none, so write D")
        of_levels = options.levels and blocks == count
        places = [level - 1 for level in options.levels or ()] if of_levels else range(blocks)
        return attention.Looks(extractor.model, places, options.attention) if blocks else None
