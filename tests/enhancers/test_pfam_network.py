"""PFAM: what it adapts and what it leaves, the identity and random starts, seeds and state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from adcore.enhancers._pfam import PFAM

LITE0 = ((24, 16, 16), (40, 8, 8), (112, 4, 4))
RESNET18 = ((64, 16, 16), (128, 8, 8), (256, 4, 4))
WIDE = ((256, 8, 8), (512, 4, 4), (1024, 2, 2))


def layers(shapes: tuple[tuple[int, int, int], ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, *shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("shapes", [LITE0, RESNET18, WIDE, WIDE[1:], LITE0[1:2], (*RESNET18, (512, 2, 2))])
def test_untrained_is_the_identity_to_the_bit(shapes: tuple[tuple[int, int, int], ...]) -> None:
    given = layers(shapes)
    adapted = PFAM(shapes)(given)
    assert len(adapted) == len(given)
    assert all(torch.equal(a, b) for a, b in zip(adapted, given, strict=True))


def test_untrained_is_the_identity_at_reduced_precision() -> None:
    """A convolution with a tap of 1 would round the features."""
    given, network = layers(LITE0), PFAM(LITE0)
    with torch.autocast("cpu", torch.bfloat16):
        adapted = network(given)
        assert network.attention[0].convolutions[0](given[0]).dtype == torch.bfloat16  # type: ignore[operator, index]
    assert all(torch.equal(a, b) for a, b in zip(adapted, given, strict=True))


def test_concat_adds_channels_that_start_at_zero() -> None:
    given = layers(LITE0)
    first, second, third = PFAM(LITE0, combine="concat")(given)
    assert first.shape == (2, 48, 16, 16)
    assert torch.equal(first[:, :24], given[0]) and not first[:, 24:].any()
    assert torch.equal(second, given[1]) and torch.equal(third, given[2])


@pytest.mark.parametrize("combine", ["sum", "concat"])
def test_random_start_adapts_first_and_last_and_leaves_the_middle(combine: Any) -> None:
    given = layers(LITE0)
    network = PFAM(LITE0, combine=combine, start="random")
    first, second, third = network(given)
    kept, extra = network.attention[0](given[0]), network.extra(given[0])
    torch.testing.assert_close(first, kept + extra if combine == "sum" else torch.cat([kept, extra], 1))
    assert not torch.allclose(first[:, :24], given[0], atol=0.1) and extra.abs().max() > 0.1
    assert torch.equal(second, given[1])
    assert not torch.allclose(third, given[2], atol=0.1)


def test_options_reach_both_modules() -> None:
    network = PFAM(LITE0, convolutions="full", pool_kv=2)
    for module in network.attention:
        assert [c.groups for c in module.convolutions] == [1] * 4  # type: ignore[union-attr]
        assert module.attention.pool_kv == 2  # type: ignore[union-attr]


def test_seed_decides_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (PFAM(LITE0, start="random", seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, same[key]) for key, value in one.items())
    assert not any(torch.equal(value, other[key]) for key, value in one.items() if "alpha" not in key)


def test_state_survives_a_file(tmp_path: Path) -> None:
    network = PFAM(LITE0, start="random", seed=3)
    given = layers(LITE0)
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.01)
    before = network(given)
    sum(x.square().mean() for x in before).backward()  # type: ignore[union-attr]
    optimiser.step()
    expected = network(given)
    assert not torch.allclose(expected[0], before[0], atol=1e-3)
    save_file(network.state_dict(), tmp_path / "state.safetensors")
    again = PFAM(LITE0)
    again.load_state_dict(load_file(tmp_path / "state.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(again(given), expected, strict=True))


def test_training_is_deterministic() -> None:
    def train() -> list[torch.Tensor]:
        network = PFAM(LITE0, seed=0)
        optimiser = torch.optim.AdamW(network.parameters(), lr=0.01)
        for _ in range(3):
            optimiser.zero_grad()
            sum((x - 1).square().mean() for x in network(layers(LITE0))).backward()  # type: ignore[union-attr]
            optimiser.step()
        return network(layers(LITE0))

    first, second = train(), train()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert first[0].sub(layers(LITE0)[0]).abs().max() > 0.01
