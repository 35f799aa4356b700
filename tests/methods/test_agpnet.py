"""AGPNet: what it trains on, what it keeps, and what it scores."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn
from torch.optim import optimizer

from adcore.core.contracts import Context, Curves
from adcore.core.plan import BackboneSpec, ImageSpec
from adcore.features.extractor import Extraction, Extractor
from adcore.features.held import HeldImages
from adcore.methods import _perturbation as perturbation
from adcore.methods._agpnet_training import Clean, Frozen, Guided, Noise, Target
from adcore.methods._attention import Looks
from adcore.methods.agpnet import AGPNet, AGPNetOptions
from tests.methods.pooled import Pooled

SIDE = 64
TINY = {"width": 16, "depth": 1, "epochs": 2, "batch": 4}


def kinds(*names: int, each: int = 2, seed: int = 0) -> torch.Tensor:
    """Images (N, 3, 64, 64) of some kinds: squares in colours that are a kind's own, and a little noise."""
    found = []
    for name in names:
        colours = torch.randint(40, 216, (3, 8, 8), generator=torch.Generator().manual_seed(name))
        noise = torch.randint(-10, 11, (each, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(97 * seed + name))
        found.append(colours.repeat_interleave(8, 1).repeat_interleave(8, 2) + noise)
    return torch.cat(found).byte()


@functools.cache
def pooled() -> Pooled:
    return Pooled((1, 2, 3, 4), (8, 12, 16, 20), SIDE)


@functools.cache
def network(name: str = "test_vit", weights: str = "random") -> Extractor:
    backbone = BackboneSpec(name=name, weights=weights)
    return Extractor(Extraction(backbone, ImageSpec(resize=SIDE), (1, 2, 3, 4)), "cpu")


def agpnet(extractor=None, seed: int = 0, checkpoint: Path | None = None, **options) -> AGPNet:
    extractor = extractor or pooled()
    context = Context(seed, image_size=(SIDE, SIDE), checkpoint=checkpoint, extractor=lambda: extractor)
    return AGPNet(AGPNetOptions(**TINY | options), context)


def fitted(extractor=None, images: torch.Tensor | None = None, **rest) -> AGPNet:
    return trained(extractor, images, **rest)[0]


def trained(extractor=None, images: torch.Tensor | None = None, **rest) -> tuple[AGPNet, Curves]:
    method = agpnet(extractor, **rest)
    curves = method.fit(HeldImages(kinds(0, 1, each=3) if images is None else images, batch=3))
    return method, curves


def guided(clean: Clean, guide=None, noise: Noise | None = None, **rest) -> Guided:
    student = agpnet().network(clean.at([0])[0].shape[2], clean.frozen.target.grid).train()
    return Guided(clean, student, student if guide == "student" else guide, noise or Noise(), epochs=10, **rest)


def clean_of(extractor, looks: Looks | None = None, memory: float = 1e9, count: int = 6) -> Clean:
    return Clean(HeldImages(kinds(0, each=count)), Frozen(extractor, Target((4, 4)), looks), memory)


# Options


def test_a_preset_fills_in_what_is_not_given():
    paper, small = AGPNetOptions(), AGPNetOptions(preset="small")
    assert (paper.width, paper.depth, paper.epochs, paper.batch, paper.lr) == (256, 4, 500, 32, 1e-4)
    assert small.width < paper.width and small.depth < paper.depth and small.epochs < paper.epochs
    given = AGPNetOptions(preset="small", width=64, epochs=7)
    assert (given.width, given.epochs, given.depth) == (64, 7, small.depth)
    assert AGPNetOptions(decoder="vit384").width == 384
    assert AGPNetOptions(decoder="vit384", preset="small").width == 192
    assert AGPNetOptions(decoder="vit384", width=96).width == 96


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 60}, "give a multiple of 8"),
        ({"width": 64, "decoder": "vit384"}, "give a multiple of 6"),
        ({"levels": [3, 1]}, r"must ascend without repeats: \[1, 3\]"),
        ({"intensity": 0, "feature_noise": "-"}, "intensity is of noise on features"),
        ({"noise_floor": 0.1, "feature_noise": "-"}, "noise_floor is of noise on features"),
        ({"noise_factor": 1, "feature_noise": "-"}, "noise_factor is of noise on features"),
        ({"ema_warmup": True, "teacher": False}, "leave ema_warmup out"),
        ({"ema_warmup": True, "mask": "L"}, "leave ema_warmup out"),
    ],
)
def test_options_that_cannot_go_together(options, message):
    with pytest.raises(ValidationError, match=message):
        AGPNetOptions(**options)


@pytest.mark.parametrize(
    ("options", "backbone", "message"),
    [
        ({"levels": [1, 5]}, {}, "levels name 5, but tf_efficientnet_lite0 gives 4"),
        ({"levels": [2]}, {"layers": [3]}, "levels name 2, but tf_efficientnet_lite0 gives 1"),
        ({"mask": "L"}, {}, "mask L is .* which tf_efficientnet_lite0 has not; write D"),
        ({"norm": "final"}, {}, "norm final is .*; write plain"),
        (
            {"norm": "final"},
            {"name": "vit_small_patch16_224.dino", "weights": "random"},
            "norm final is .*; write plain",
        ),
    ],
)
def test_options_that_a_backbone_cannot_follow(options, backbone, message):
    with pytest.raises(ValueError, match=message):
        AGPNet.check(AGPNetOptions(**options), BackboneSpec(**backbone))


def test_options_that_a_backbone_can_follow():
    for options in ({}, {"mask": "L"}, {"norm": "final", "levels": [4]}):
        AGPNet.check(AGPNetOptions(**options), BackboneSpec(name="vit_small_patch16_224.dino"))
    AGPNet.check(AGPNetOptions(mask="L", feature_noise="R", image_noise="-"), BackboneSpec())  # no mask is asked for


def test_a_network_without_class_attention_is_found_out_at_last():
    with pytest.raises(ValueError, match=r"mask L .* this backbone has none, so write D"):
        fitted(network("test_resnet"), mask="L")


# Training


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
@pytest.mark.parametrize(
    ("options", "curves"),
    [
        ({}, {"snr", "image_snr", "teacher_gap", "constant_masks"}),
        (
            {"decoder": "vit384", "width": 24, "attention": "column"},
            {"snr", "image_snr", "teacher_gap", "constant_masks"},
        ),
        ({"feature_noise": "-", "image_noise": "-"}, set()),
        ({"feature_noise": "R", "image_noise": "-"}, {"snr"}),
        ({"feature_noise": "-", "image_noise": "R"}, {"image_snr"}),
        ({"feature_noise": "-", "image_noise": "A", "teacher": False}, {"image_snr", "constant_masks"}),
    ],
)
def test_every_noise_trains_on_every_backbone(name, options, curves):
    method, seen = trained(network(name), **options)
    assert set(seen) == curves | {"loss"}
    assert all(len(values) == 2 and np.isfinite(values).all() for values in seen.values())
    maps, scores = method.score(kinds(5))
    assert maps.shape == (2, 4, 4) and scores.shape == (2,)
    frozen = network(name).model
    assert not frozen.training and all(p.grad is None and not p.requires_grad for p in frozen.parameters())


def test_training_lowers_the_loss_and_the_seed_decides():
    losses, other = (trained(epochs=15, lr=3e-3, seed=seed)[1]["loss"] for seed in (0, 1))
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    assert losses != other


def test_without_epochs_the_decoder_is_untrained():
    method, curves = trained(epochs=0)
    untrained = agpnet().network(method.channels, (4, 4))
    assert all(torch.equal(a, b) for a, b in zip(method.decoder.parameters(), untrained.parameters(), strict=True))
    assert curves == {}


def test_the_gradient_is_clipped_and_the_rate_decays():
    steps = []

    def look(used, *_):
        gradients = [p.grad for p in used.param_groups[0]["params"]]
        steps.append((torch.cat([g.flatten() for g in gradients]).norm().item(), used.param_groups[0]["lr"]))

    hook = optimizer.register_optimizer_step_post_hook(look)
    try:
        fitted(epochs=5)
    finally:
        hook.remove()
    assert [rate for _, rate in steps] == pytest.approx([1e-4] * 4 + [1e-5] * 6)  # two steps an epoch, two of five full
    assert max(norm for norm, _ in steps) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize(("warmup", "expected"), [(False, [0.9999, 0.9999]), (True, [2 / 11, 3 / 12])])
def test_the_teacher_follows_every_ten_steps(monkeypatch, warmup, expected):
    momenta = []
    monkeypatch.setattr(perturbation, "follow", lambda teacher, student, momentum: momenta.append(momentum))
    fitted(epochs=15, ema_warmup=warmup)  # 30 steps; behind the last there is nothing to guide
    assert momenta == pytest.approx(expected)


def test_noise_has_a_floor_and_may_be_relative_to_the_features():
    tokens = torch.tensor([1.0, 4.0])[None, :, None].expand(2, 2, 4000).contiguous()  # of root mean square 1 and 4
    mask = torch.tensor([[0.0, 0.0], [1.0, 0.5]])

    def deviation(**options: float) -> torch.Tensor:
        torch.manual_seed(0)
        return (perturbation.perturbed(tokens, mask, 0.5, **options) - tokens).std(2)

    close = functools.partial(torch.testing.assert_close, rtol=0.05, atol=1e-6)
    close(deviation(), torch.tensor([[0, 0], [0.5, 0.25]]))
    close(deviation(floor=0.3), torch.tensor([[0.3, 0.3], [0.8, 0.55]]))
    close(deviation(floor=0.3, factor=2.0), 2 * torch.tensor([[0.3, 4 * 0.3], [0.8, 4 * 0.55]]))


def test_by_default_noise_is_that_of_equation_4_to_the_bit():
    tokens, mask = torch.randn(2, 3, 5), torch.rand(2, 3)
    torch.manual_seed(0)
    expected = tokens + 0.5 * mask[..., None] * torch.randn_like(tokens)
    torch.manual_seed(0)
    assert torch.equal(perturbation.perturbed(tokens, mask, 0.5), expected)


def test_the_logged_ratio_tells_the_noise():
    """Half of each token's root mean square, everywhere: 6 dB."""
    curves = trained(epochs=1, noise_floor=0.5, intensity=0.0, noise_factor=1.0, image_noise="-")[1]
    assert curves["snr"] == [pytest.approx(20 * np.log10(2), abs=0.2)]


@pytest.mark.usefixtures("every_epoch")
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path):
    class Killed(Exception):
        pass

    def kill(done: float) -> None:
        if done > 0.5:
            raise Killed

    images = HeldImages(kinds(0, 1, each=3))
    alone = fitted(epochs=12, ema_warmup=True)
    with pytest.raises(Killed):
        agpnet(epochs=12, ema_warmup=True, checkpoint=tmp_path / "state").fit(images, kill)
    again = agpnet(epochs=12, ema_warmup=True, checkpoint=tmp_path / "state")
    again.fit(images)
    assert all(torch.equal(value, again.state()[name]) for name, value in alone.state().items())


def test_a_loss_that_is_not_finite_names_the_step():
    with pytest.raises(RuntimeError, match=r"agpnet: the loss is \S+ in epoch \d of 2, step \d of 2"):
        fitted(lr=1e30)


def test_no_noise_leaves_the_tokens_to_the_bit():
    clean = clean_of(pooled())
    given = []
    for noise in (Noise("A", "-", 0.0), Noise("R", "-", 0.0), Noise("-", "-")):
        step = guided(clean, "student", noise)
        step.student.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
        step((0, 0, [1, 3]))
        assert torch.equal(given[-1], clean.at([1, 3])[0])


def test_what_is_rebuilt_has_no_gradient():
    clean = clean_of(network(), Looks(network().model, range(4), "cls"))
    step = guided(clean, "student")
    tokens, looked = clean.at([0, 1])
    assert not tokens.requires_grad and not looked.requires_grad
    mask = step.mask(tokens, looked)
    assert not mask.requires_grad and not clean.frozen.tokens(step.spoilt([0, 1], mask, 1)).requires_grad
    loss, _ = step((0, 0, [0, 1]))
    assert loss.requires_grad


def test_masks_of_the_network_the_decoder_and_both():
    clean = clean_of(network(), Looks(network().model, range(4), "cls"))
    step = guided(clean, "student")
    tokens, looked = clean.at([0, 1, 2])
    attended = step.student.eval().attention(tokens).detach()
    step.student.train()
    torch.testing.assert_close(guided(clean).mask(tokens, looked), perturbation.spread(looked))
    both = perturbation.spread(perturbation.spread(looked) + perturbation.spread(attended))
    torch.testing.assert_close(step.mask(tokens, looked), both)  # and so without dropout
    assert step.student.training
    blind = torch.zeros_like(looked)
    torch.testing.assert_close(step.mask(tokens, blind), perturbation.spread(attended))


def test_constant_masks_are_counted_and_give_no_noise():
    clean = clean_of(pooled())  # it looks nowhere
    step = guided(clean)
    _, values = step((0, 0, [0, 1, 4]))
    assert values["constant_masks"] == 3
    assert values["snr"] == values["image_snr"] == pytest.approx(120) if "snr" in values else True
    tokens, looked = clean.at([0, 1])
    pixels = step.spoilt([0, 1], step.mask(tokens, looked), 9)
    assert torch.equal(pixels, clean.pixels([0, 1]).float())


@pytest.mark.parametrize("which", ["A", "R"])
def test_so_many_pixels_get_noise(which):
    clean = clean_of(pooled())
    step = guided(clean, "student", Noise("-", which))
    tokens, looked = clean.at([0, 1])
    mask = step.mask(tokens, looked)
    for epoch, share in ((1, 0.6), (5, 0.8), (10, 1.0)):
        changed = (step.spoilt([0, 1], mask, epoch) != clean.pixels([0, 1])).any(1)
        assert changed.sum((1, 2)).tolist() == [round(share * SIDE * SIDE)] * 2
    if which == "A":
        where = (step.spoilt([0, 1], mask, 1) != clean.pixels([0, 1])).any(1)
        values = perturbation.enlarged(mask, (4, 4), (SIDE, SIDE))
        assert values[0][where[0]].min() >= values[0][~where[0]].max()


class Counting:
    """An extractor that counts the images it is given."""

    def __init__(self, inner: Pooled) -> None:
        self.inner = inner
        self.seen = 0

    def __getattr__(self, name: str):
        return getattr(self.inner, name)

    def maps(self, batch: torch.Tensor) -> list[torch.Tensor]:
        self.seen += len(batch)
        return self.inner.maps(batch)


def test_what_memory_cannot_keep_is_made_again():
    pixels, tokens = 3 * SIDE * SIDE, 4 * 16 * (56 + 1)
    whole = clean_of(Counting(pooled()))
    wanted, index = whole.at(range(6)), [5, 0, 3, 2]
    for memory, kept_pixels, kept in ((0, 0, 0), (3.2 * pixels, 3, 0), (6 * pixels + 2.5 * tokens, 6, 2), (1e9, 6, 6)):
        extractor = Counting(pooled())
        clean = clean_of(extractor, memory=memory)
        assert (len(clean.kept_pixels), len(clean.kept[0])) == (kept_pixels, kept)
        assert torch.equal(clean.pixels(index), whole.images.all[index])
        extractor.seen = 0
        for found, expected in zip(clean.at(index), wanted, strict=True):
            torch.testing.assert_close(found, expected[index])
        assert extractor.seen == sum(image >= kept for image in index)


# What is kept, and scores


def test_scores_need_neither_teacher_nor_noise(monkeypatch):
    method = fitted(network())
    state = method.state()
    learned = sum(p.numel() for p in method.decoder.parameters())
    assert sum(value.numel() for value in state.values()) == learned + 3
    other = agpnet(network())
    other.restore(state)

    def forbidden(*_, **__):
        raise AssertionError("random numbers at inference")

    for name in ("randn", "randn_like", "rand", "rand_like"):
        monkeypatch.setattr(torch, name, forbidden)
    monkeypatch.setattr(Guided, "__call__", forbidden)
    monkeypatch.setattr(Looks, "during", forbidden)
    batch = kinds(3, 4)
    before = torch.random.get_rng_state()
    for found, expected in zip(other.score(batch), method.score(batch), strict=True):
        assert torch.equal(found, expected) and not found.requires_grad
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_is_rebuilt_without_fault_scores_nothing():
    method = fitted()
    method.decoder = nn.Identity()
    maps, scores = method.score(kinds(3))
    assert not maps.any() and not scores.any()


def test_scores_in_closed_form(monkeypatch):
    method = fitted()
    errors = torch.rand(2, 16, method.channels, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(method.decoder, "forward", lambda tokens: tokens - errors)
    maps, scores = method.score(kinds(3))
    torch.testing.assert_close(maps, errors.square().sum(2).sqrt().view(2, 4, 4), rtol=1e-4, atol=1e-4)
    large = nn.functional.interpolate(maps[:, None], size=(SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0]
    windows = np.lib.stride_tricks.sliding_window_view(large.numpy(), (16, 16), axis=(1, 2))
    np.testing.assert_allclose(scores, windows.mean((3, 4)).max((1, 2)), rtol=1e-5)


def test_a_transformer_keeps_its_grid_and_others_get_a_sixteenth():
    assert fitted(network(), epochs=0).target.grid == (4, 4) and fitted(network(), epochs=0).channels == 64
    assert fitted(epochs=0).target.grid == (4, 4) and fitted(epochs=0).channels == 8 + 12 + 16 + 20
    assert fitted(network(), epochs=0, grid=3).score(kinds(1))[0].shape == (2, 3, 3)
    assert fitted(epochs=0, grid=8, levels=(2, 3)).channels == 12 + 16


def test_levels_choose_maps_and_the_attention_of_the_same_blocks():
    method = agpnet(network(), levels=(2, 4), attention="column")
    looks = method._looks(network(), 4)
    blocks = network().model.model.blocks
    assert looks.modules == [blocks[index].attn for index in np.array(network().model.out_indices)[[1, 3]]]
    assert agpnet(network(), mask="D")._looks(network(), 4) is None


def test_the_final_norm_is_kept_with_the_decoder(tmp_path: Path):
    whole = timm.create_model("test_vit", num_classes=0, img_size=SIDE)
    nn.init.normal_(whole.norm.weight)
    save_file(whole.state_dict(), tmp_path / "vit.safetensors")
    extractor = network("test_vit", str(tmp_path / "vit.safetensors"))
    method = fitted(extractor, norm="final")
    other = agpnet(extractor, norm="final")
    other.restore(method.state())
    (tmp_path / "vit.safetensors").unlink()
    batch = kinds(3)
    assert torch.equal(other.score(batch)[0], method.score(batch)[0])
    assert torch.equal(method.state()["norm.weight"], whole.norm.weight)


def test_noise_closes_the_shortcut():
    """Trained on four kinds of images, a decoder that saw no noise rebuilds other kinds as well, for it copies."""
    options = {"width": 64, "epochs": 40, "lr": 3e-3, "image_noise": "-"}
    known, unseen = kinds(*range(4), each=4), kinds(*range(20, 26), seed=1)
    plain, noisy = (fitted(images=known, **options | noise) for noise in ({"feature_noise": "-"}, {"intensity": 2}))
    errors = [method.score(unseen)[0].mean() for method in (plain, noisy)]
    assert errors[0] < 0.65 * errors[1]
