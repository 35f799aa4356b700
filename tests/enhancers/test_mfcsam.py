"""MFCSAM against naive twins and closed forms, over channel counts that fit the paper's layout and that do not."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from adcore.enhancers._mfcsam import (
    BRANCHES,
    FREQUENCIES,
    GROUPS,
    MFCSAM,
    FrequencyGate,
    PositionAttention,
    centre_taps,
    dct_bases,
    group_counts,
)

CHANNELS = (24, 40, 112, 64, 128, 256, 320, 512, 1024, 3, 50, 53)
FEW = (24, 50, 64, 112)


def maps(channels: int, size: tuple[int, int] = (9, 8), batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(channels)
    return torch.randn(batch, channels, *size, generator=generator)


def trained(channels: int, size: tuple[int, int] = (9, 8), pool_kv: int = 1, alpha: float = 0.7) -> MFCSAM:
    """One whose every weight is in effect."""
    torch.manual_seed(channels)
    module = MFCSAM(channels, size, pool_kv=pool_kv, start="random")
    torch.nn.init.constant_(module.attention.alpha, alpha)
    return module


def attended(attention: PositionAttention, weighted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The attention by its equation: output and softmax weights (B, branches, N, M)."""
    p, k, v = attention.projections(weighted)
    weights = torch.softmax(torch.einsum("bsjd,bsid->bsji", k, p), dim=3)
    sums = torch.einsum("bsji,bsic->bscj", weights, v).reshape(weighted.shape)
    return weighted + attention.alpha[:, None, None, None] * functional.leaky_relu(sums, 0.01), weights


@pytest.mark.parametrize("convolutions", ["grouped", "full"])
@pytest.mark.parametrize("channels", CHANNELS)
def test_untrained_is_the_identity_to_the_bit(channels: int, convolutions: Any) -> None:
    module = MFCSAM(channels, (5, 4), convolutions=convolutions)
    for x in (maps(channels, (5, 4)), 1e4 * maps(channels, (5, 4), 1).relu()):
        assert torch.equal(module(x), x)
        assert torch.equal(module(x.contiguous(memory_format=torch.channels_last)), x)


@pytest.mark.parametrize("channels", CHANNELS)
def test_random_start_changes_the_features_and_keeps_their_shape(channels: int) -> None:
    features = maps(channels)
    adapted = trained(channels)(features)
    assert adapted.shape == features.shape
    assert ((adapted - features).abs().amax((0, 2, 3)) > 1e-3).all()  # of every channel


def test_another_number_of_channels_is_told() -> None:
    with pytest.raises(ValueError, match="built for 24 channels and got 40"):
        MFCSAM(24, (8, 8))(maps(40))


@pytest.mark.parametrize(
    ("channels", "convolutions", "module", "kernels"),
    [
        (256, "grouped", 0.45e6, 433_152),
        (1024, "grouped", 7.3e6, 6_930_432),
        (256, "full", 2.7e6, 2_686_976),
        (1024, "full", 43.3e6, 42_991_616),
    ],
)
def test_parameter_counts_of_the_specification(channels: int, convolutions: Any, module: float, kernels: int) -> None:
    with torch.device("meta"):
        built = MFCSAM(channels, (7, 7), convolutions=convolutions)
    assert sum(p.numel() for p in built.parameters()) == pytest.approx(module, rel=0.01)
    assert sum(p.numel() for p in built.convolutions.parameters()) == kernels


@pytest.mark.parametrize("channels", CHANNELS)
def test_the_rule_for_groups(channels: int) -> None:
    width = math.ceil(channels / BRANCHES)
    counts = group_counts(width, "grouped")
    for count, most in zip(counts, GROUPS, strict=True):
        assert count <= most and width % count == 0
        assert not any(width % larger == 0 for larger in range(count + 1, most + 1))
    if channels % 64 == 0:
        assert counts == GROUPS
    assert group_counts(width, "full") == (1, 1, 1, 1)


@pytest.mark.parametrize("channels", FEW)
def test_own_channels_plus_kernel_is_the_convolution_with_a_centre_tap(channels: int) -> None:
    """The identity start as one kernel: its tap selects X[:, i::4] (docs/papers/sbm-pfam.md#mfcsam)."""
    module = trained(channels)
    padded = functional.pad(maps(channels), (0, 0, 0, 0, 0, -channels % BRANCHES))
    for branch, convolution in enumerate(module.convolutions):
        assert isinstance(convolution, torch.nn.Conv2d)
        taps = centre_taps(convolution, branch)
        conv: dict[str, Any] = {"padding": convolution.padding, "groups": convolution.groups}
        own = padded[:, branch::BRANCHES]
        assert torch.equal(functional.conv2d(padded, taps, **conv), own)
        tapped = functional.conv2d(padded, taps + convolution.weight, **conv)
        torch.testing.assert_close(own + convolution(padded), tapped, atol=1e-5, rtol=1e-5)
        assert (taps + convolution.weight).abs().max() < 1  # random kernels have no tap


@pytest.mark.parametrize("channels", FEW)
@pytest.mark.parametrize("pool_kv", [1, 2])
def test_forward_equals_a_naive_twin(channels: int, pool_kv: int) -> None:
    module, x = trained(channels, pool_kv=pool_kv), maps(channels)
    padded = functional.pad(x, (0, 0, 0, 0, 0, -channels % BRANCHES))
    scales = []
    for branch, convolution in enumerate(module.convolutions):
        scale = padded[:, branch::BRANCHES] + convolution(padded)
        z = (scale * module.gate.basis).sum((2, 3))
        hidden = (z @ module.gate.squeeze.weight.T).clamp(min=0)
        scales.append(scale * (2 / (1 + torch.exp(-hidden @ module.gate.excite.weight.T)))[:, :, None, None])
    branches = attended(module.attention, torch.stack(scales, 1))[0]
    expected = torch.empty_like(padded)
    for branch in range(BRANCHES):
        expected[:, branch::BRANCHES] = branches[:, branch]
    torch.testing.assert_close(module(x), expected[:, :channels], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(7, 7), (8, 8), (14, 14), (16, 28), (56, 56)])
def test_dct_bases_are_orthonormal_and_scipys(size: tuple[int, int]) -> None:
    bases = dct_bases(size)
    gram = torch.einsum("ahw,bhw->ab", bases, bases)
    torch.testing.assert_close(gram, torch.eye(len(FREQUENCIES)), atol=1e-5, rtol=0)
    image = np.random.default_rng(0).normal(size=size)
    every = dctn(image, norm="ortho")
    expected = [every[u * (size[0] // 7), v * (size[1] // 7)] for u, v in FREQUENCIES]
    np.testing.assert_allclose((bases.double().numpy() * image).sum((1, 2)), expected, atol=1e-5)


def test_the_lowest_frequency_is_the_scaled_mean() -> None:
    gate = FrequencyGate(64, (14, 21))
    scales = maps(4 * 64, (14, 21)).unflatten(1, (4, 64))
    expected = math.sqrt(14 * 21) * scales.mean((3, 4))
    torch.testing.assert_close(gate.coefficients(scales)[..., :4], expected[..., :4], atol=1e-4, rtol=1e-4)
    assert (gate.coefficients(scales)[..., 4:] - expected[..., 4:]).abs().min() > 0  # the other channels' are others


@pytest.mark.parametrize("width", [1, 6, 10, 16, 28, 64])
def test_frequencies_are_dealt_out_evenly(width: int) -> None:
    bases = dct_bases((7, 7))
    basis = FrequencyGate(width, (7, 7)).basis
    used = [next(i for i, b in enumerate(bases) if torch.equal(b, row)) for row in basis]
    assert used == sorted(used) and used[0] == 0
    assert len(set(used)) == min(width, 16)
    counts = [used.count(i) for i in set(used)]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("size", [(4, 4), (12, 20)])
def test_maps_of_another_size_are_averaged_to_the_frequency_grid(size: tuple[int, int]) -> None:
    gate = FrequencyGate(16, (9, 8))
    scales = maps(64, size).unflatten(1, (4, 16))
    pooled = torch.stack([functional.adaptive_avg_pool2d(scales[:, i], (9, 8)) for i in range(4)], 1)
    torch.testing.assert_close(gate.coefficients(scales), gate.coefficients(pooled))
    assert FrequencyGate(16, (4, 4)).basis.shape == (16, 7, 7)  # no 16 frequencies fit on less


@pytest.mark.parametrize("pool_kv", [1, 2, 3])
@pytest.mark.parametrize("width", [6, 16, 28, 160])
def test_position_attention_equals_its_equation(width: int, pool_kv: int) -> None:
    torch.manual_seed(width)
    attention = PositionAttention(width, pool_kv).double()
    with torch.no_grad():
        attention.alpha.copy_(torch.tensor([0.5, -1.0, 2.0, 0.0]))
    weighted = maps(BRANCHES * width, (7, 5)).double().unflatten(1, (BRANCHES, width))
    expected, weights = attended(attention, weighted)
    assert weights.shape[3] == math.ceil(7 / pool_kv) * math.ceil(5 / pool_kv)
    torch.testing.assert_close(weights.sum(3), torch.ones(weights.shape[:3], dtype=torch.float64))
    torch.testing.assert_close(attention(weighted), expected)
    assert torch.equal(attention(weighted)[:, 3], weighted[:, 3])  # alpha is each branch's own


def test_pooled_keys_and_values_are_the_means_of_the_exact_ones() -> None:
    torch.manual_seed(0)
    exact, pooled = PositionAttention(16), PositionAttention(16, pool_kv=2)
    pooled.load_state_dict(exact.state_dict())
    weighted = maps(64, (5, 6)).unflatten(1, (4, 16))
    (p, k, v), (p2, k2, v2) = exact.projections(weighted), pooled.projections(weighted)
    assert torch.equal(k, k2)
    for full, few in ((p, p2), (v, v2)):
        grid, coarse = full.unflatten(2, (5, 6)), few.unflatten(2, (3, 3))
        torch.testing.assert_close(coarse[:, :, 1, 2], grid[:, :, 2:4, 4:6].mean((2, 3)))
        torch.testing.assert_close(coarse[:, :, 2, 0], grid[:, :, 4, 0:2].mean(2))  # no zeros from beyond the border


@pytest.mark.parametrize("width", [6, 16, 64])
def test_attention_runs_in_a_kernel_that_keeps_no_matrix_of_positions(width: int) -> None:
    attention = PositionAttention(width)
    weighted = maps(BRANCHES * width).unflatten(1, (BRANCHES, width)).requires_grad_()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # raises where it does not apply
        attention(weighted).sum().backward()
        with pytest.raises(RuntimeError, match="No available kernel"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            query, key, value = (torch.zeros(1, 4, 9, d) for d in (4, 4, width))
            functional.scaled_dot_product_attention(query, key, value)


def test_permuted_positions_permute_the_attention() -> None:
    torch.manual_seed(0)
    attention = PositionAttention(16)
    torch.nn.init.ones_(attention.alpha)
    weighted = maps(64, (6, 5)).unflatten(1, (4, 16))
    order = torch.randperm(30)

    def permuted(x: torch.Tensor) -> torch.Tensor:
        return x.flatten(3)[..., order].reshape(x.shape)

    torch.testing.assert_close(attention(permuted(weighted)), permuted(attention(weighted)), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(attention(weighted), permuted(attention(weighted)), atol=0.1)


@pytest.mark.parametrize("channels", FEW)
def test_at_alpha_0_only_alpha_learns_of_the_attention(channels: int) -> None:
    module = MFCSAM(channels, (9, 8))
    (module(maps(channels)) * maps(channels + 1)[:, :channels]).sum().backward()
    for projection in (module.attention.p, module.attention.k, module.attention.v):
        assert projection.weight.grad is not None and not projection.weight.grad.any()
    assert module.attention.alpha.grad is not None and module.attention.alpha.grad.all()
    for convolution in module.convolutions:
        assert isinstance(convolution, torch.nn.Conv2d)
        assert convolution.weight.grad is not None and convolution.weight.grad.any()  # the zero start is no dead end
    assert module.gate.excite.weight.grad is not None and module.gate.excite.weight.grad.any()


def test_with_alpha_every_weight_learns() -> None:
    module = trained(40)
    (module(maps(40)) * maps(41)[:, :40]).sum().backward()
    for name, parameter in module.named_parameters():
        if name != "attention.p.bias":  # shifts all of a softmax's logits alike
            assert parameter.grad is not None and parameter.grad.abs().sum() > 1e-6, name
