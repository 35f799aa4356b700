"""SBM and PSG: the backbone learns the pretext, keeps what it must keep, and can be had again from its state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from adcore.enhancers.base import STAGES, Enhancer
from adcore.enhancers.psg import PSG, PSGOptions
from adcore.enhancers.sbm import SBM, SBMOptions
from adcore.finetuning import PREFIX, cosines
from adcore.training import Training


def norms(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


def sbm(**options) -> SBM:
    return SBM(SBMOptions(**{"epochs": 1, "permutations": 5} | options))


def psg(**options) -> PSG:
    return PSG(PSGOptions(**{"epochs": 1} | options))


@pytest.mark.parametrize("make", [sbm, psg])
def test_applied_to_a_new_extractor_it_gives_the_features_of_the_trained_one(make, subject, extractor):
    trained, images = extractor(*STAGES), torch.from_numpy(subject().pixels)
    before = [maps.clone() for maps in trained(images)]
    outcome = make().fit(trained, subject(), Training(0))
    after = trained(images)
    assert not torch.equal(before[0], after[0])
    for levels in ((1, 2, 3), (2, 3), (4,)):
        other = extractor(*levels)
        make().apply(other, outcome.state, levels)
        for level, maps in zip(levels, other(images), strict=True):
            assert torch.equal(maps, after[level - 1])
    assert not any(parameter.requires_grad for parameter in trained.model.parameters())
    assert not trained.model.training and not any(layer.training for layer in norms(trained.model))


@pytest.mark.parametrize("make", [sbm, psg])
def test_no_epochs_change_nothing(make, subject, extractor):
    plain = extractor(*STAGES)
    outcome = make(epochs=0).fit(extractor(*STAGES), subject(), Training(0))
    for name, value in plain.model.state_dict().items():
        assert torch.equal(outcome.state[PREFIX + name], value)
    assert outcome.curves == {} and outcome.facts["cosine_1"] == pytest.approx(1)


@pytest.mark.parametrize("make", [sbm, psg])
def test_training_repeats_itself_for_a_seed(make, subject, extractor):
    states = [make().fit(extractor(*STAGES), subject(seed=seed), Training(seed)).state for seed in (0, 0, 1)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0] if key.startswith(PREFIX))


def test_sbm_keeps_the_statistics_of_batch_norm_and_trains_its_scale(subject, extractor):
    plain = dict(extractor(*STAGES).model.named_buffers())
    trained = extractor(*STAGES)
    scale = trained.model.bn1.weight.clone()
    sbm().fit(trained, subject(), Training(0))
    assert plain and all(torch.equal(value, plain[name]) for name, value in trained.model.named_buffers())
    assert not torch.equal(trained.model.bn1.weight, scale)


def test_psg_updates_the_statistics_of_batch_norm(subject, extractor):
    trained = extractor(*STAGES)
    mean = trained.model.bn1.running_mean.clone()
    psg().fit(trained, subject(), Training(0))
    assert not torch.equal(trained.model.bn1.running_mean, mean)


def test_frozen_features_solve_puzzles_of_numbered_tiles(subject, extractor):
    """A linear classifier on the network's features, untrained: the puzzles and their labels go together."""
    from sklearn.linear_model import LogisticRegression

    from adcore.enhancers._puzzles import pretext

    shown = pretext(subject(20, texture=True), SBMOptions(permutations=5))
    made = [shown.puzzle(shown.subject.pixels[i], i, epoch, "puzzle") for i in range(20) for epoch in range(15)]
    labels = np.array([label for _, label in made])
    maps = extractor(2)(torch.from_numpy(np.stack([picture for picture, _ in made])))[0]
    features = torch.nn.functional.adaptive_avg_pool2d(maps, 3).flatten(1).numpy()
    model = LogisticRegression(max_iter=200).fit(features[:200], labels[:200])
    assert model.score(features[200:], labels[200:]) > 0.95 > 1 / 6
    assert np.bincount(labels, minlength=6).min() > 25  # 50 expected of each


def test_sbm_learns_its_pretext(subject, extractor):
    outcome = sbm(epochs=12, permutations=2).fit(extractor(*STAGES), subject(24, texture=True), Training(0))
    assert outcome.chance == pytest.approx(1 / 3)
    assert np.mean(outcome.curves["accuracy"][-3:]) > 0.6 and outcome.curves["loss"][-1] < outcome.curves["loss"][0]


def test_psg_learns_its_pretext(subject, extractor):
    outcome = psg(epochs=10).fit(extractor(*STAGES), subject(16), Training(0))
    losses = outcome.curves["loss"]
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.02 and outcome.chance == pytest.approx(1 / 3)


def test_psg_shows_every_image_normal_with_a_patch_and_with_a_scar(subject):
    whole = subject()
    (caption, patch), (_, scar) = psg().examples(whole, 3)
    assert caption == "CutPaste" and (patch != whole.pixels[3]).any() and (scar != whole.pixels[3]).any()
    assert (patch != whole.pixels[3]).any(0).sum() > (scar != whole.pixels[3]).any(0).sum()
    turned = {psg(rotations=True)._three(whole, 0, epoch)[0].tobytes() for epoch in range(20)}
    assert len(turned) == 4


def test_mlp_head_is_wider(subject, extractor):
    assert psg(head="mlp").fit(extractor(*STAGES), subject(), Training(0)).chance == pytest.approx(1 / 3)


def test_puzzles_fill_a_side_that_nine_tiles_do_not(subject):
    from adcore.enhancers._puzzles import pretext

    whole = subject()
    odd = np.pad(whole.pixels, ((0, 0), (0, 0), (0, 2), (0, 2)))
    shown = pretext(type(whole)(odd, whole.hashes, True, (), None, 0), SBMOptions())
    picture, label = shown.puzzle(odd[0], 0, 0, "puzzle")
    assert picture.shape == (3, 50, 50) and 0 <= label <= 30
    assert (picture[:, 48:] == picture[:, 47:48]).all()


def test_cosines_of_equal_opposed_and_orthogonal_maps():
    one = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    other = torch.tensor([0.0, 2.0]).reshape(1, 2, 1, 1)
    assert cosines([one, one, one], [3 * one, -one, other]) == {"cosine_1": 1, "cosine_2": -1, "cosine_3": 0}


@pytest.mark.parametrize("enhancer", [sbm(), psg()])
def test_they_are_shared_by_all_methods(enhancer: Enhancer):
    assert not enhancer.on_maps and not enhancer.wants_host and enhancer.outputs(3) == 3
