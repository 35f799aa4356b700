"""LGFFP as an enhancer: one map from three, stand-in weights where no CaiT fits, and said so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adcore.core.plan import BackboneSpec
from adcore.core.training import Training
from adcore.enhancers.lgffp import LGFFP, LGFFPOptions
from adcore.methods.padim import PaDiM

WIDE, LITE = BackboneSpec(name="wide_resnet50_2.tv_in1k"), BackboneSpec()
LEVELS = (1, 2, 3)


def lgffp(**options) -> LGFFP:
    return LGFFP(LGFFPOptions(**{"blocks": 1} | options))


@pytest.fixture
def images(subject) -> torch.Tensor:
    return torch.from_numpy(subject().pixels)


def test_one_map_of_both_first_layers_channels_on_the_seconds_grid(subject, extractor, images):
    fitted = lgffp().fit(extractor(*LEVELS), subject(), Training(0))
    once, again = extractor(*LEVELS), extractor(*LEVELS)
    for enhanced in (once, again):
        lgffp().apply(enhanced, fitted.state, (2, 3))
    assert [maps.shape for maps in once(images)] == [(8, 64 + 128, 6, 6)]
    assert torch.equal(once(images)[0], again(images)[0])
    assert fitted.facts["change"] > 0.01 and bool(fitted.state["stand_in"])


def test_standardisation_is_that_of_the_training_images(subject, extractor, images):
    enhancer = lgffp()
    state = enhancer.fit(extractor(*LEVELS), subject(), Training(0)).state
    enhanced = extractor(*LEVELS)
    plain = enhanced(images)
    enhancer.apply(enhanced, state, LEVELS)
    grid = (6, 6)
    joined = torch.cat([torch.nn.functional.adaptive_avg_pool2d(plain[0], grid), plain[1]], 1)
    third = torch.nn.functional.interpolate(plain[2], size=grid, mode="bilinear", align_corners=False)
    aggregate = joined + third[:, state["subset"]]
    assert torch.allclose(state["mean"], aggregate.mean((0, 2, 3)), atol=1e-4)
    deviation = aggregate.std((0, 2, 3), correction=0)
    dead = deviation < 1e-6  # only centred
    assert torch.allclose(state["deviation"], torch.where(dead, 1, deviation), rtol=1e-3, atol=1e-4)


def test_seed_decides_the_subset_and_the_stand_in_blocks(subject, extractor):
    states = [lgffp().fit(extractor(*LEVELS), subject(seed=s), Training(s)).state for s in (0, 0, 1)]
    assert torch.equal(states[0]["subset"], states[1]["subset"])
    assert not torch.equal(states[0]["subset"], states[2]["subset"])


def test_it_reads_three_levels_and_leaves_one_map_for_any_method():
    assert lgffp().levels((2, 3)) == LEVELS and lgffp().outputs(2) == 1 and lgffp().on_maps


@pytest.mark.parametrize(("weights", "backbone", "stand_in"), [
    ("auto", WIDE, False),
    ("pretrained", WIDE, False),
    ("stand-in", WIDE, True),
    ("auto", LITE, True),
])  # fmt: skip
def test_stand_in_weights_are_told_before_anything_is_loaded(weights, backbone, stand_in):
    enhancer = lgffp(weights=weights)
    assert enhancer.stand_in(backbone) == stand_in
    name = "stand-in" if stand_in else "cait_m36_384.fb_dist_in1k"
    assert enhancer.identity(backbone)["weights"] == name


def test_a_file_counts_by_content(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"weights")
    found = [lgffp(weights=str(tmp_path / name)).identity(WIDE) for name in ("a", "b")]
    assert found[0] == found[1]


@pytest.mark.parametrize(("options", "backbone", "match"), [
    ({"weights": "/no/such/file"}, WIDE, "no file /no/such/file"),
    ({"weights": "pretrained"}, LITE, "no CaiT is as wide as layer1 and layer2 of tf_efficientnet_lite0"),
    ({}, BackboneSpec(layers=(1, 2)), "fuses three layers, but backbone.layers names 2"),
])  # fmt: skip
def test_what_cannot_work_is_refused_at_once(options, backbone, match):
    with pytest.raises(ValueError, match=match):
        lgffp(**options).check(backbone, PaDiM)


def test_epochs_can_only_be_none():
    with pytest.raises(ValueError, match="epochs"):
        lgffp(epochs=3)
