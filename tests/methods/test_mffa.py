"""MFFA: the product of two maps that PatchCore and PaDiM give, and what each option takes away from it."""

from __future__ import annotations

import pytest
import torch

from adcore.core.contracts import Context
from adcore.core.plan import BackboneSpec
from adcore.enhancers._lgffp import LGFFP as Fusion
from adcore.enhancers._lgffp import Blocks
from adcore.methods.mffa import MFFA, MFFAOptions, View
from adcore.methods.padim import PaDiM, PaDiMOptions
from adcore.methods.patchcore import PatchCore, PatchCoreOptions
from adcore.vision.maps import postprocess

CONTEXT = Context(seed=0, image_size=(32, 32))
SIZE = (32, 32)
WIDE = BackboneSpec(name="wide_resnet50_2.tv_in1k")


def mffa(**options) -> MFFA:
    return MFFA(MFFAOptions(**{"coreset": 0.3, "blocks": 1} | options), CONTEXT)


def fitted(make, **options) -> MFFA:
    method = mffa(**options)
    method.fit(make())
    return method


def alone(make, branch: str, fused: bool = False, n_features: int | None = None):
    """A branch as PatchCore or PaDiM by themselves give it, (B, h, w), for the test images."""
    layers = make(3, seed=9).maps
    if branch == "nns":
        patchcore = PatchCore(PatchCoreOptions(coreset=0.3, reweight=False), CONTEXT)
        patchcore.fit(View(make(), lambda maps: maps[1:]))
        return patchcore.score(layers[1:])[0]
    source = make()
    fusion = Fusion(source.shapes, Blocks(torch.nn.ModuleList(), 12, "none"), seed=0)
    fusion.fit(source)
    padim = PaDiM(PaDiMOptions(n_features=n_features), CONTEXT)
    padim.fit(View(source, lambda maps: [fusion(maps)]) if fused else source)
    return padim.score([fusion(layers)] if fused else layers)[0]


def test_without_blocks_it_is_padim_of_the_plain_aggregate_times_patchcore(make):
    maps, scores = fitted(make, blocks=0, n_features=9).score(make(3, seed=9).maps)
    nns, gaussian = alone(make, "nns"), alone(make, "gaussian", fused=True, n_features=9)
    product = postprocess(nns, SIZE, 0) * postprocess(gaussian, SIZE, 0)
    torch.testing.assert_close(maps, postprocess(product, SIZE, 4), rtol=1e-4, atol=1e-5)
    assert scores is None and maps.shape == (3, *SIZE)


def test_each_branch_alone(make):
    layers = make(3, seed=9).maps
    nns = fitted(make, branches="nns").score(layers)[0]
    torch.testing.assert_close(nns, postprocess(alone(make, "nns"), SIZE, 4))
    gaussian = fitted(make, branches="gaussian", lgffp=False, n_features=12).score(layers)[0]
    torch.testing.assert_close(gaussian, postprocess(alone(make, "gaussian", n_features=12), SIZE, 4))


def test_smoothing_each_before_the_product(make):
    options = {"lgffp": False, "n_features": 12}
    maps = fitted(make, smooth="each", **options).score(make(3, seed=9).maps)[0]
    expected = postprocess(alone(make, "nns"), SIZE, 4) * postprocess(alone(make, "gaussian", n_features=12), SIZE, 4)
    torch.testing.assert_close(maps, expected)
    product = fitted(make, **options).score(make(3, seed=9).maps)[0]
    assert not torch.allclose(maps, product)


def test_a_positive_factor_on_either_branch_changes_no_rank(make, monkeypatch):
    method, layers = fitted(make, lgffp=False), make(3, seed=9).maps
    before = method.score(layers)[0].flatten().argsort()
    whole = method.nns.score
    monkeypatch.setattr(method.nns, "score", lambda maps: (8 * whole(maps)[0], None))
    assert torch.equal(method.score(layers)[0].flatten().argsort(), before)


def test_one_constant_branch_leaves_the_order_to_the_other_and_zero_stays_zero(make, monkeypatch):
    method, layers = fitted(make, lgffp=False), make(3, seed=9).maps
    nns = postprocess(method.nns.score(layers[1:])[0], SIZE, 4)
    monkeypatch.setattr(method.gaussian, "score", lambda maps: (torch.full((3, 8, 8), 2.0), None))
    torch.testing.assert_close(method.score(layers)[0], 2 * nns)
    monkeypatch.setattr(method.gaussian, "score", lambda maps: (torch.zeros(3, 8, 8), None))
    assert (method.score(layers)[0] == 0).all()


@pytest.mark.parametrize("options", [{}, {"lgffp": False}, {"branches": "nns"}, {"branches": "gaussian"}])
def test_restored_it_scores_to_the_bit(make, options):
    method, layers = fitted(make, **options), make(3, seed=9).maps
    other = mffa(**options)
    other.restore({name: value.clone() for name, value in method.state().items()})
    assert torch.equal(other.score(layers)[0], method.score(layers)[0])


def test_a_branch_that_is_not_used_is_not_kept(make):
    assert {name.split(".")[0] for name in fitted(make, branches="nns").state()} == {"nns"}
    assert {name.split(".")[0] for name in fitted(make, branches="gaussian").state()} == {"gaussian", "fusion"}


def test_the_papers_sizes():
    assert MFFAOptions().coreset == 0.01
    options = MFFAOptions().fusion().options
    assert (options.blocks, options.cait) == (11, "cait_m36_384.fb_dist_in1k")
    small = MFFAOptions(preset="small").fusion().options
    assert (small.blocks, small.grid) == (2, 16)
    assert MFFAOptions(preset="small", blocks=3).fusion().options.blocks == 3


@pytest.mark.parametrize("lgffp", [True, False])
def test_the_gaussian_keeps_570_channels_at_the_papers_widths_fused_or_not(make, lgffp):
    """The paper prints 570; of the 1,792 channels side by side the same share would be 1,330, and 29 GB a model
    (docs/papers/mffa.md#gaussian-branch)."""
    widths = [(256, 2, 2), (512, 2, 2), (1024, 1, 1)]
    method = mffa(branches="gaussian", lgffp=lgffp, blocks=0)
    method.fit(make(shapes=widths))
    assert method.state()["gaussian.mean"].shape == (4, 570)
    whiteners = 4 * 570 * 571 // 2
    assert method.state()["gaussian.whitener"].numel() == whiteners


@pytest.mark.parametrize("lgffp", [True, False])
def test_elsewhere_it_keeps_that_share_of_the_first_two_layers(make, lgffp):
    method = fitted(make, branches="gaussian", lgffp=lgffp)
    first, second, _ = (channels for channels, _, _ in make().shapes)
    assert method.state()["gaussian.mean"].shape[1] == (first + second) * 570 // 768


def test_a_fine_grid_gives_the_gaussian_as_many_positions(make):
    """The paper reads it at the resolution of the largest map, 64 x 64; the default is layer2's."""
    positions = {grid: len(fitted(make, grid=grid).state()["gaussian.mean"]) for grid in (None, 8)}
    assert positions == {None: make().shapes[1][1] ** 2, 8: 64}


def test_stand_in_blocks_are_told():
    assert MFFA.stand_in(MFFAOptions(), BackboneSpec())
    assert MFFA.stand_in(MFFAOptions(weights="stand-in"), WIDE)
    for options in ({}, {"lgffp": False}, {"branches": "nns"}, {"blocks": 0, "weights": "stand-in"}):
        assert not MFFA.stand_in(MFFAOptions(**options), WIDE)


def test_caits_weights_by_default_and_asked_for_are_the_same_model():
    identities = [MFFA.identity(MFFAOptions(weights=weights), WIDE) for weights in ("auto", "pretrained", "stand-in")]
    assert identities[0] == identities[1]
    assert identities[0] != identities[2]


def test_two_layers_are_refused(make):
    with pytest.raises(ValueError, match="mffa: it reads three layers and got 2"):
        mffa().fit(make(shapes=[(5, 8, 8), (7, 4, 4)]))


def test_progress_goes_to_the_end(make):
    told: list[float] = []
    mffa().fit(make(), told.append)
    assert told == sorted(told) and told[-1] == 1
