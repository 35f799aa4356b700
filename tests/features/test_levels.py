"""What a method may read of a backbone: maps by their stride, a transformer's blocks and tokens, vectors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from adcore.core.contracts import Level, block_of, level_order
from adcore.core.plan import BackboneSpec, ImageSpec
from adcore.features import backbones
from adcore.features.backbones import WeightsError
from adcore.features.extractor import Extraction, Extractor

VIT, RESNET = "test_vit", "test_resnet"
SIZE, GRID = 64, (4, 4)


def spec(name: str) -> BackboneSpec:
    return BackboneSpec(name=name, weights="random")


def extraction(name: str, levels: Sequence[Level]) -> Extraction:
    return Extraction(spec(name), ImageSpec(resize=SIZE), tuple(levels))


def images() -> torch.Tensor:
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def square(tokens: torch.Tensor) -> torch.Tensor:
    """The tokens (B, 1 + H W, C) of the patches as a map (B, C, H, W)."""
    return tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, *GRID)


@pytest.fixture(scope="module")
def by_hand() -> dict[Level, torch.Tensor]:
    """Every level of the tiny transformer, by running its parts one behind another."""
    model = backbones.build(spec(VIT), ("tokens",), SIZE).model
    found: dict[Level, torch.Tensor] = {}
    with torch.no_grad():
        x = model.norm_pre(model._pos_embed(model.patch_embed(images())))
        for number, block in enumerate(model.blocks, start=1):
            x = block(x)
            found[f"block{number}"] = square(x)
        x = model.norm(x)
    found["tokens"] = square(x)
    found["cls"] = x[:, 0, :, None, None]
    found["pooled"] = x[:, 1:].mean(1)[..., None, None]
    return found | {1: found["block1"], 2: found["block3"], 3: found["block4"], 4: found["block6"]}


@pytest.mark.parametrize(
    "levels",
    [
        *((name,) for name in ("block1", "block6", "tokens", "cls", "pooled")),
        ("block2", "block5"),
        (2, "block5"),
        ("cls", "block2", 4, "pooled", "tokens"),
    ],
    ids=str,
)
def test_every_level_of_a_transformer_is_what_its_parts_give(
    levels: tuple[Level, ...], by_hand: dict[Level, torch.Tensor]
) -> None:
    model: Any = backbones.build(spec(VIT), levels, SIZE)
    with torch.no_grad():
        maps = model(images())
    assert len(maps) == len(levels)
    for level, features in zip(levels, maps, strict=True):
        torch.testing.assert_close(features, by_hand[level], rtol=1e-5, atol=1e-5)


def test_blocks_behind_the_last_one_read_are_not_run() -> None:
    assert len(backbones.build(spec(VIT), ("block1", "block3"), SIZE).model.blocks) == 3


def test_the_pooled_vector_of_a_network_of_stages_is_the_mean_of_its_last_map() -> None:
    plain, pooled = (backbones.build(spec(RESNET), levels, SIZE) for levels in ((1, 4), (1, "pooled")))
    with torch.no_grad():
        (first, last), (same, vector) = plain(images()), pooled(images())
    assert torch.equal(first, same)
    torch.testing.assert_close(vector, last.mean((2, 3), keepdim=True))


def test_the_stem_stays_pooled_beside_a_vector() -> None:
    plain, pooled = (backbones.build(spec(RESNET), levels, SIZE) for levels in ((0, 1), (0, "pooled")))
    with torch.no_grad():
        assert torch.equal(plain(images())[0], pooled(images())[0])


@pytest.mark.parametrize("level", ["cls", "tokens", "block1"])
def test_a_network_of_stages_has_no_tokens(level: str) -> None:
    with pytest.raises(WeightsError, match=f"test_resnet is no transformer of tokens, so there is no '{level}'"):
        backbones.build(spec(RESNET), (level,), SIZE)


def test_a_block_that_is_not_there_is_refused() -> None:
    with pytest.raises(WeightsError, match="test_vit: it has 6 blocks, and 'block7' is read of it"):
        backbones.build(spec(VIT), ("block7",), SIZE)


@pytest.mark.parametrize(
    ("level", "number"), [("block12", 12), ("block0", None), ("block", None), ("cls", None), (3, None)]
)
def test_blocks_count_from_one(level: Level, number: int | None) -> None:
    assert block_of(level) == number


def test_levels_have_one_order() -> None:
    ordered: list[Level] = [0, 2, 4, "block2", "block11", "cls", "pooled", "tokens"]
    assert all(
        sorted(several, key=level_order) == ordered
        for several in itertools.islice(itertools.permutations(ordered), 0, 40000, 997)
    )


def test_names_and_shapes_of_an_extraction() -> None:
    wanted = extraction(VIT, ("block2", "cls"))
    assert wanted.names == ("block2", "cls")
    assert wanted.only(["cls"]).levels == ("cls",)
    assert Extractor(wanted, "cpu").shapes() == [(64, 4, 4), (64, 1, 1)]
