"""LGFFP: the aggregate, its subset and statistics, and which blocks it is given."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from adcore.enhancers._lgffp import LGFFP, Blocks, channel_subset, frozen_blocks
from adcore.features.backbones import WeightsError
from adcore.vision.maps import resized

LITE0 = ((24, 16, 16), (40, 8, 8), (112, 4, 4))
SMALL_CAIT = "cait_xxs24_224"  # 192 wide, as layer1 and layer2 of resnet18 together


def layers(seed: int = 0, batch: int = 2, shapes: tuple[tuple[int, int, int], ...] = LITE0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(batch, *shape, generator=generator) * 3 for shape in shapes]


def no_blocks(width: int = 64) -> Blocks:
    return Blocks(nn.ModuleList(), width, "none")


def stand_in(count: int = 2) -> Blocks:
    return frozen_blocks((24, 40), count=count, weights="stand-in")


@pytest.mark.parametrize("standardise", [True, False])
def test_without_blocks_it_is_the_plain_aggregate(standardise: bool) -> None:
    first, second, third = given = layers()
    network = LGFFP(LITE0, no_blocks(), standardise=standardise)
    network.fit([layers(1), layers(2)])
    pooled = first.unflatten(2, (8, 2)).unflatten(4, (8, 2)).mean((3, 5))
    coarse = functional.interpolate(third[:, network.subset], size=(8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(network(given), torch.cat([pooled, second], 1) + coarse)
    assert torch.equal(network(given), network.aggregate(given))


def test_blocks_work_on_standardised_tokens() -> None:
    """Against the blocks called by hand, in another order of axes."""
    network = LGFFP(LITE0, stand_in())
    network.fit([layers(1), layers(2)])
    joined = torch.cat([network.aggregate(layers(n)) for n in (1, 2)]).double()
    mean = joined.mean((0, 2, 3), keepdim=True).float()
    deviation = joined.std((0, 2, 3), keepdim=True, correction=0).float()
    tokens = ((network.aggregate(layers(3)) - mean) / deviation).reshape(2, 64, 64).permute(0, 2, 1)
    mixed = network.blocks[1](network.blocks[0](tokens)).permute(0, 2, 1).reshape(2, 64, 8, 8) * deviation + mean
    torch.testing.assert_close(network(layers(3)), mixed, atol=1e-4, rtol=1e-4)
    ratios = network.change(layers(3))
    back = (mixed - network.aggregate(layers(3))) / deviation
    torch.testing.assert_close(ratios, back.flatten(1).norm(dim=1) / tokens.flatten(1).norm(dim=1), rtol=1e-3, atol=0)
    assert (ratios > 0.01).all() and (ratios < 1).all()  # stand-ins do something, as a residual


def test_raw_blocks_work_on_the_aggregate() -> None:
    network = LGFFP(LITE0, stand_in(1), standardise=False)
    tokens = network.aggregate(layers()).flatten(2).transpose(1, 2)
    expected = network.blocks[0](tokens).transpose(1, 2).reshape(2, 64, 8, 8)
    torch.testing.assert_close(network(layers()), expected, atol=1e-5, rtol=1e-5)


def test_statistics_do_not_depend_on_batches_and_mind_constant_channels() -> None:
    whole, parts = LGFFP(LITE0, no_blocks()), LGFFP(LITE0, no_blocks())
    images = layers(1, batch=5)
    images[0][:, 3] = 1e3
    images[2][:, whole.subset[3]] = 0.1
    whole.fit([images])
    parts.fit([[x[i : i + 2] for x in images] for i in (0, 2, 4)])
    torch.testing.assert_close(whole.mean, parts.mean)
    torch.testing.assert_close(whole.deviation, parts.deviation)
    assert whole.deviation[3] == 1 and whole.mean[3] == pytest.approx(1000.1)
    assert not (whole.deviation[4:] == 1).any()


def test_standardising_before_fit_is_told() -> None:
    with pytest.raises(RuntimeError, match="call fit"):
        LGFFP(LITE0, no_blocks())(layers())


def test_the_grid_is_layer2s_unless_given() -> None:
    wide = ((256, 64, 64), (512, 32, 32), (1024, 16, 16))  # wide_resnet50_2 at 256 pixels
    network = LGFFP(wide, no_blocks(768))
    assert network.grid == (32, 32)
    assert len(network.subset) == 768 and len(set(network.subset.tolist())) == 768
    assert network.aggregate(layers(shapes=wide, batch=1)).shape == (1, 768, 32, 32)
    assert LGFFP(LITE0, no_blocks(), grid=16, standardise=False)(layers()).shape == (2, 64, 16, 16)


def test_resized_averages_down_and_interpolates_up() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert resized(x, (4, 4)) is x
    assert resized(x, (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert resized(x, (8, 8))[0, 0, 0, :3].tolist() == [0, 0.25, 0.75]


def test_the_subset_is_fixed_by_the_seed_and_kept_in_the_state() -> None:
    network, other = LGFFP(LITE0, no_blocks(), seed=1), LGFFP(LITE0, no_blocks(), seed=2)
    assert torch.equal(network.subset, LGFFP(LITE0, no_blocks(), seed=1).subset)
    assert not torch.equal(network.subset, other.subset)
    network.fit([layers(1)])
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(layers(2)), network(layers(2)))
    assert torch.equal(other.subset, network.subset)


@pytest.mark.parametrize(("channels", "count"), [(1024, 768), (112, 64), (40, 64), (24, 24), (10, 35)])
def test_a_subset_repeats_no_channel_before_all_are_used(channels: int, count: int) -> None:
    times = torch.bincount(channel_subset(channels, count, 0), minlength=channels)
    assert times.sum() == count and times.max() - times.min() <= 1


def test_it_is_frozen_and_deterministic() -> None:
    network = LGFFP(LITE0, stand_in())
    parent = nn.Sequential(network).train()
    assert parent.training and not any(module.training for module in network.modules())
    network.fit([layers(1)])
    given = [x.requires_grad_() for x in layers(2)]
    assert not network(given).requires_grad
    assert not any(parameter.requires_grad for parameter in network.parameters())
    again = LGFFP(LITE0, stand_in())
    again.fit([layers(1)])
    assert torch.equal(again(given), network(given))
    another = LGFFP(LITE0, frozen_blocks((24, 40), count=2, weights="stand-in", seed=1))
    another.fit([layers(1)])
    assert not torch.allclose(another(given), network(given), atol=1e-3)


def test_blocks_of_another_width_are_told() -> None:
    with pytest.raises(ValueError, match=r"24 \+ 40 channels, but the blocks are 768 wide"):
        LGFFP(LITE0, no_blocks(768))


def test_no_blocks_can_be_asked_for() -> None:
    assert len(frozen_blocks((24, 40), count=0).modules) == 0


@pytest.mark.parametrize("widths", [(24, 40), (256, 256), (10, 13)])
def test_widths_without_a_cait_get_stand_ins_that_say_so(widths: tuple[int, int]) -> None:
    blocks = frozen_blocks(widths, count=2)
    assert blocks.origin == "stand-in" and blocks.width == sum(widths) and len(blocks.modules) == 2
    tokens = torch.randn(1, 5, sum(widths))
    assert blocks.modules[0](tokens).shape == tokens.shape


def test_the_papers_width_needs_a_cait_of_768() -> None:
    with pytest.raises(ValueError, match="256 \\+ 512 channels need a CaiT of width 768, cait_xxs24_224 has 192"):
        frozen_blocks((256, 512), name=SMALL_CAIT)
    with torch.device("meta"):
        blocks = frozen_blocks((256, 512), weights="stand-in")
    assert blocks.width == 768 and len(blocks.modules) == 11
    assert sum(p.numel() for p in blocks.modules.parameters()) == pytest.approx(78.0e6, rel=0.001)


def test_too_many_blocks_are_told() -> None:
    with pytest.raises(ValueError, match="has 24 blocks, not 25"):
        frozen_blocks((64, 128), name=SMALL_CAIT, count=25)


def test_weights_of_a_matching_cait_come_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(7)
    model = timm.create_model(SMALL_CAIT, pretrained=False)
    path = tmp_path / "cait.pth"
    torch.save(model.state_dict(), path)
    blocks = frozen_blocks((64, 128), name=SMALL_CAIT, count=3, weights=str(path))
    assert blocks.origin == str(path) and len(blocks.modules) == 3
    expected = model.blocks[:3].state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in blocks.modules.state_dict().items())
    with pytest.raises(WeightsError, match="does not fit cait_xs24_384"):
        frozen_blocks((128, 160), name="cait_xs24_384", weights=str(path))
    with pytest.raises(WeightsError, match="no weights file"):
        frozen_blocks((64, 128), name=SMALL_CAIT, weights=str(tmp_path / "none.pth"))


def test_weights_that_cannot_be_fetched_are_told_and_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def unreachable(*_: object, **__: object) -> None:
        tries.append(1)
        raise OSError("no route to host")

    monkeypatch.setattr("adcore.features.backbones._unfetched", {})
    monkeypatch.setattr("timm.models._builder.load_pretrained", unreachable)
    for _ in range(3):
        with pytest.raises(
            WeightsError, match="weights of cait_xxs24_224 could not be fetched; give lgffp's weights a lo"
        ):
            frozen_blocks((64, 128), name=SMALL_CAIT)
    assert len(tries) == 1


def test_images_of_which_one_fills_the_memory_go_through_the_blocks_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """4,096 tokens of 16 heads, MFFA's grid with CaiT-M36, take a GB of attention an image."""
    shapes = ((8, 16, 16), (16, 8, 8), (32, 4, 4))
    layers = [torch.randn(5, *shape, generator=torch.Generator().manual_seed(1)) for shape in shapes]
    module = LGFFP(shapes, frozen_blocks((8, 16), name=SMALL_CAIT, count=1, weights="stand-in"), standardise=False)
    sizes: list[int] = []
    module.blocks[0].register_forward_hook(lambda _, given, __: sizes.append(len(given[0])))
    together = module(layers)
    monkeypatch.setattr("adcore.enhancers._lgffp.ATTENTION", 1)
    torch.testing.assert_close(module(layers), together)
    assert sizes == [5, 1, 1, 1, 1, 1]
