"""AGPNet's parts: the decoders and their sizes, the attention that is read, the noise and its curricula."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from adcore.core.plan import BackboneSpec
from adcore.features import backbones
from adcore.methods import _perturbation as perturbation
from adcore.methods._agpnet import decoder
from adcore.methods._agpnet_training import Target, final_norm
from adcore.methods._attention import Looks, readable
from adcore.methods.agpnet import AGPNetOptions

KINDS = ("uniad256", "uniad256-self", "vit384", "vit384-position")


def small(kind: str, channels: int = 20, seed: int = 0):
    width, heads = (24, 6) if kind.startswith("vit") else (16, 8)
    return decoder(kind, channels, (3, 4), width=width, depth=2, heads=heads, seed=seed).eval()


def paper(kind: str):
    options = AGPNetOptions(decoder=kind)
    sizes = {"width": options.width, "depth": options.depth, "heads": options.heads}
    with torch.device("meta"):
        return decoder(kind, 384, (14, 14), **sizes).eval()


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def vit():
    return backbones.build(BackboneSpec(name="test_vit", weights="random", layers=(1, 3)), (), 64)


# The decoders


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("uniad256", 4_415_104),
        ("uniad256-self", 4_415_104),
        ("vit384", 7_097_856),
        ("vit384-position", 7_097_856 + 196 * 384),
    ],
)
def test_sizes_of_the_paper(kind, parameters):
    assert sum(p.numel() for p in paper(kind).parameters()) == parameters


def products(model: nn.Module, inputs: torch.Tensor) -> tuple[int, int]:
    """MACs of matrix products, attention's included, by torch's FlopCounterMode; and those that fvcore counts for
    layer norms, five for each value."""
    norms = []
    hooks = [
        module.register_forward_hook(lambda module, given, out: norms.append(5 * out.numel()))
        for module in model.modules()
        if isinstance(module, nn.LayerNorm)
    ]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(inputs)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() // 2, sum(norms)


def test_macs_of_the_paper():
    with torch.device("meta"):
        extractor = backbones._create(
            BackboneSpec(name="vit_small_patch16_224.dino", weights="random"), (2, 5, 8, 11), 224
        )
        image, given = torch.empty(1, 3, 224, 224), torch.empty(1, 196, 384)
    frozen, learned = products(extractor.eval(), image), products(paper("uniad256"), given)
    assert (frozen[0], learned[0]) == (4_598_498_304, 1_017_970_688)
    assert round((frozen[0] + learned[0]) / 1e9, 2) == 5.62  # without the norms
    assert round((sum(frozen) + sum(learned)) / 1e9, 2) == 5.63  # as printed: fvcore's rules
    assert products(paper("vit384"), given)[0] == 1_505_280_000


@pytest.mark.parametrize("kind", ["uniad256", "uniad256-self"])
def test_uniads_layers_follow_their_equations(kind):
    model, given = small(kind), tokens(2, 12, 20)
    start = before = model.inward(given)
    position = torch.stack([torch.cat([model.columns[n % 4], model.rows[n // 4]]) for n in range(12)])
    for layer in model.layers:
        first, second = (start, before) if kind == "uniad256" else (before, start)
        a = layer.norms[0](first + layer.own(first + position, first + position, first)[0])
        b = layer.norms[1](a + layer.other(a + position, second + position, second)[0])
        before = layer.norms[2](b + layer.narrow(layer.widen(b).clamp(min=0)))
    torch.testing.assert_close(model(given), model.outward(model.norm(before)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_decoder_attends_to_is_the_mean_of_its_attention_weights(kind):
    model, given = small(kind), tokens(2, 12, 20)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 4  # far from even attention
    seen: list[torch.Tensor] = []
    if kind.startswith("vit"):
        for block in model.blocks:
            block.attn.fused_attn = False
            block.attn.attn_drop.register_forward_hook(lambda module, inputs, shares: seen.append(shares))
    else:

        def keep(module, inputs, output):
            query, key, _ = inputs
            weights, biases = module.in_proj_weight.split(16), module.in_proj_bias.split(16)
            pairs = zip((query, key), weights[:2], biases[:2], strict=True)
            q, k = ((x @ weight.T + bias).unflatten(2, (8, 2)).transpose(1, 2) for x, weight, bias in pairs)
            seen.append((q @ k.transpose(2, 3) / math.sqrt(2)).softmax(3))

        for layer in model.layers:
            layer.own.register_forward_hook(keep)
    model(given)
    expected = torch.stack(seen).mean((0, 2, 3))
    found = model.attention(given)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(1), torch.ones(2))
    assert found.std() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_weights_depend_on_the_seed_alone(kind):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, same, other = small(kind), small(kind), small(kind, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    given = tokens(1, 12, 20)
    assert one(given).shape == given.shape
    assert torch.equal(one(given), same(given)) and not torch.equal(one(given), other(given))


def test_only_a_decoder_that_knows_places_tells_them_apart():
    given = tokens(1, 12, 24)
    for kind in KINDS:
        model = small(kind, 24)
        moved = torch.allclose(model(given.roll(1, 1)), model(given).roll(1, 1), atol=1e-5)
        assert moved == (kind == "vit384")


# Attention of the frozen network


def test_looks_are_timms_own_weights(vit):
    images = tokens(2, 3, 64, 64)
    seen: list[torch.Tensor] = []
    hooks = []
    for block in vit.model.blocks:
        block.attn.fused_attn = False
        hooks.append(block.attn.attn_drop.register_forward_hook(lambda module, inputs, shares: seen.append(shares)))
    plain = vit(images)
    for hook, block in zip(hooks, vit.model.blocks, strict=True):
        hook.remove()
        block.attn.fused_attn = True
    read = [seen[1].mean(1), seen[3].mean(1)]  # blocks 2 and 4, mean over heads
    for places in ([0, 1], [1]):
        chosen = torch.stack([read[place] for place in places]).mean(0)
        for of, rows in (("cls", chosen[:, 0]), ("column", chosen.mean(1))):
            maps, found = Looks(vit, places, of).during(lambda: vit(images))
            torch.testing.assert_close(found, rows[:, 1:].unflatten(1, (4, 4)))
            torch.testing.assert_close(maps, plain)
    assert not any(block.attn.qkv._forward_hooks for block in vit.model.blocks)


def test_registers_are_no_patches():
    model = timm.create_model("test_vit", features_only=True, out_indices=(0, 2), img_size=64, reg_tokens=3).eval()
    _, found = Looks(model, [0, 1], "cls").during(lambda: model(tokens(1, 3, 64, 64)))
    assert found.shape == (1, 4, 4) and (found.sum((1, 2)) < 1).all()


def test_only_a_transformer_with_a_class_token_can_be_read(vit):
    assert len(readable(vit)) == 2 and readable(vit)[1] is vit.model.blocks[3].attn
    assert readable(backbones.build(BackboneSpec(name="test_resnet", weights="random"), (1, 2), 64)) == []
    assert readable(None) == []


# The target


def test_maps_of_one_shape_are_normalised_and_summed():
    maps = [3 + 5 * tokens(2, 6, 4, 4, seed=n) for n in range(3)]

    def normed(x):
        centred = x - x.mean(1, keepdim=True)
        return centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()

    whole = sum(normed(x) for x in maps).flatten(2).transpose(1, 2)
    torch.testing.assert_close(Target((4, 4))(maps), whole)
    some = (normed(maps[0]) + normed(maps[2])).flatten(2).transpose(1, 2)
    torch.testing.assert_close(Target((4, 4), (1, 3))(maps), some)
    weight, bias = tokens(6, seed=8), tokens(6, seed=9)
    torch.testing.assert_close(
        Target((4, 4), (2,), (weight, bias))(maps)[1, 7], normed(maps[1])[1, :, 1, 3] * weight + bias
    )
    assert Target((2, 2))(maps).shape == (2, 4, 6)
    with pytest.raises(ValueError, match="levels name 4, but there are 3 maps"):
        Target((4, 4), (1, 4))(maps)


def test_maps_of_other_shapes_are_brought_to_the_grid_and_stand_side_by_side():
    fine, same, coarse = tokens(2, 3, 8, 8), tokens(2, 5, 4, 4), tokens(2, 7, 2, 2)
    found = Target((4, 4))([fine, same, coarse]).transpose(1, 2).unflatten(2, (4, 4))
    assert found.shape == (2, 15, 4, 4)

    def normed(x):
        return nn.functional.layer_norm(x.movedim(1, 3), x.shape[1:2], eps=1e-6).movedim(3, 1)

    torch.testing.assert_close(found[:, :3], normed(fine).unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean((3, 5)))
    torch.testing.assert_close(found[:, 3:8], normed(same))
    torch.testing.assert_close(found[:, 8:, ::3, ::3], normed(coarse))


def test_the_final_norm_is_that_of_the_weights(tmp_path: Path):
    whole = timm.create_model("test_vit", num_classes=0, img_size=64)
    nn.init.normal_(whole.norm.weight)
    nn.init.normal_(whole.norm.bias)
    save_file(whole.state_dict(), tmp_path / "vit.safetensors")
    model = backbones.build(BackboneSpec(name="test_vit", weights=str(tmp_path / "vit.safetensors")), (1, 4), 64)
    weight, bias = final_norm(model)
    assert torch.equal(weight, whole.norm.weight) and torch.equal(bias, whole.norm.bias)
    assert not weight.requires_grad and not bias.requires_grad
    model.model.patch_embed.proj.weight += 1
    with pytest.raises(ValueError, match="not random or changed ones; write plain"):
        final_norm(model)
    with pytest.raises(ValueError, match="this backbone has none, so write plain"):
        final_norm(backbones.build(BackboneSpec(name="test_resnet", weights="random"), (1, 2), 64))


# Masks, noise, curricula


def test_curricula_of_the_paper():
    alphas = {epoch: perturbation.alpha(epoch, 500) for epoch in (1, 200, 400, 401, 500)}
    assert alphas == pytest.approx({1: 0.0025, 200: 0.5, 400: 1, 401: 1, 500: 1})
    shares = {epoch: perturbation.rho(epoch, 500) for epoch in (1, 100, 250, 400, 500)}
    assert shares == pytest.approx({1: 0.6, 100: 0.6, 250: 0.8, 400: 1, 500: 1})
    assert perturbation.alpha(4, 10) == 0.5 and perturbation.rho(5, 10) == pytest.approx(0.8)


def test_a_mask_reaches_from_0_to_1_and_a_constant_one_is_nothing():
    mask = torch.stack([tokens(9), torch.full((9,), 0.3), 7 * tokens(9, seed=1) - 40])
    found = perturbation.spread(mask)
    assert found.amin(1).tolist() == [0, 0, 0] and found.amax(1).tolist() == [1, 0, 1]
    assert torch.equal(found.argsort(1)[[0, 2]], mask.argsort(1)[[0, 2]])


def test_masks_count_alike_whatever_their_scale():
    one, other = tokens(3, 9), tokens(3, 9, seed=1)
    both = perturbation.joined(one, other)
    torch.testing.assert_close(both, perturbation.joined(1000 * one + 5, 0.001 * other))
    torch.testing.assert_close(both, perturbation.spread(perturbation.spread(one) + perturbation.spread(other)))
    torch.testing.assert_close(perturbation.joined(one, torch.zeros(3, 9)), perturbation.spread(one))


def test_noise_on_features_has_the_mask_as_its_deviation():
    given, mask = tokens(1, 4, 20_000), torch.tensor([[0.0, 0.3, 0.5, 1.0]])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        noise = perturbation.perturbed(given, mask, 1.5) - given
    assert not noise[0, 0].any()
    torch.testing.assert_close(noise.std(2), 1.5 * mask, rtol=0.03, atol=0)
    assert perturbation.perturbed(given, mask, 0.0) is given


@given(height=st.integers(1, 9), width=st.integers(1, 9), share=st.floats(0, 1), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_so_many_of_the_greatest_are_picked(height, width, share, seed):
    values = torch.randint(0, 4, (2, height, width), generator=torch.Generator().manual_seed(seed)).float()
    picked = perturbation.brightest(values, share)
    for one, where in zip(values, picked, strict=True):
        if one.min() == one.max():
            assert not where.any()
            continue
        assert where.sum() == round(share * height * width)
        assert where.all() or not where.any() or one[where].min() >= one[~where].max()


def test_the_backbone_sees_noise_of_deviation_1_where_it_is_put():
    images = torch.randint(0, 256, (2, 3, 60, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    where = torch.zeros(2, 60, 60, dtype=torch.bool)
    where[:, :30] = True
    deviation = torch.tensor([0.2, 0.5, 0.1]).view(1, 3, 1, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = perturbation.spoilt(images, where, deviation)
    seen = (found - images) / 255 / deviation
    assert torch.equal(found[:, :, 30:], images[:, :, 30:].float())
    torch.testing.assert_close(seen[:, :, :30].std((0, 2, 3)), torch.ones(3), rtol=0.05, atol=0)
    assert found.min() < 0 and found.max() > 255


def test_enlarged_masks_keep_their_order():
    mask = torch.arange(6.0)[None]
    found = perturbation.enlarged(mask, (2, 3), (8, 12))
    assert found.shape == (1, 8, 12) and found[0, 0, 0] == 0 and found[0, -1, -1] == 5
    assert (found.diff(dim=1) >= 0).all() and (found.diff(dim=2) >= 0).all()


def test_the_teacher_follows_in_closed_form():
    student, teacher = nn.Linear(3, 2), nn.Linear(3, 2)
    first = teacher.weight.detach().clone()
    teacher.requires_grad_(False)
    for _ in range(7):
        perturbation.follow(teacher, student, 0.9)
    torch.testing.assert_close(teacher.weight, 0.9**7 * first + (1 - 0.9**7) * student.weight.detach())
    assert not teacher.weight.requires_grad and student.weight.requires_grad
    difference = torch.cat([(a - b).flatten() for a, b in zip(teacher.parameters(), student.parameters(), strict=True)])
    torch.testing.assert_close(perturbation.gap(teacher, student), difference.detach().norm())
    assert perturbation.gap(student, student) == 0


def test_decibels():
    signal = tokens(4, 5)
    assert perturbation.decibels(signal, 1.1 * signal).item() == pytest.approx(20, abs=1e-3)
    assert perturbation.decibels(signal, 2 * signal).item() == pytest.approx(0, abs=1e-3)
    assert perturbation.decibels(signal, signal).item() == pytest.approx(120)
