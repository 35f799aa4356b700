"""SBM and PSG: the backbone learns the pretext, keeps what it must keep, and can be had again from its state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from adcore.core.contracts import STAGES, Enhancer
from adcore.core.training import Training
from adcore.enhancers._finetuning import PREFIX
from adcore.enhancers.psg import PSG, PSGOptions
from adcore.enhancers.sbm import SBM, SBMOptions
from adcore.features.drift import cosines


def norms(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


def sbm(**options) -> SBM:
    return SBM(SBMOptions(**{"epochs": 1, "min_steps": 1, "permutations": 5} | options))


def psg(**options) -> PSG:
    return PSG(PSGOptions(**{"epochs": 1, "min_steps": 1, "least_cosine": -1} | options))


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


@pytest.mark.parametrize("make", [sbm, psg])
def test_the_statistics_of_batch_norm_stay_and_its_scale_is_trained(make, subject, extractor):
    plain = dict(extractor(*STAGES).model.named_buffers())
    trained = extractor(*STAGES)
    scale = trained.model.bn1.weight.clone()
    make(lr=0.01, warm_up=1, least_cosine=-1).fit(trained, subject(), Training(0))
    assert plain and all(torch.equal(value, plain[name]) for name, value in trained.model.named_buffers())
    assert not torch.equal(trained.model.bn1.weight, scale)


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
    # rates for a network of random weights, whose features are alike, and no bound on them
    rates = {"lr": 0.01, "head_lr": 1.0, "warm_up": 1, "least_cosine": -1}
    outcome = psg(epochs=20, min_steps=0, **rates).fit(extractor(*STAGES), subject(16), Training(0))
    losses = outcome.curves["loss"]
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.02 and outcome.chance == pytest.approx(1 / 3)


def test_psg_shows_every_image_normal_with_a_patch_and_with_a_scar(subject):
    whole = subject()
    (caption, patch), (_, scar) = psg().examples(whole, 3)
    assert caption == "CutPaste" and (patch != whole.pixels[3]).any() and (scar != whole.pixels[3]).any()
    assert (patch != whole.pixels[3]).any(0).sum() > (scar != whole.pixels[3]).any(0).sum()
    shown = [psg(rotations=True)._three(whole, 0, epoch)[0] for epoch in range(20)]
    assert all((normal == whole.pixels[0]).all() for normal in shown)  # the paper turns the patch, never the image


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


def test_few_images_are_shown_more_often_and_many_as_often_as_the_paper_says():
    options = SBMOptions(epochs=30, min_steps=120)
    assert options.passes(steps=3) == 40
    assert options.passes(steps=14) == 30
    assert SBMOptions(epochs=0).passes(steps=3) == 0


@pytest.mark.parametrize("make", [sbm, psg])
def test_the_head_learns_faster_than_the_backbone(make, subject, extractor):
    """Of weights of one rate the head's would move as little as the backbone's."""
    given = make(lr=1e-4, head_lr=1e-2, warm_up=1)
    trained, moved = extractor(*STAGES), {}

    class Watching(Training):
        def run(self, what, modules, optimiser, *rest):
            groups = {name: group["lr"] for name, group in zip(modules, optimiser.param_groups, strict=True)}
            moved.update(groups)
            return super().run(what, modules, optimiser, *rest)

    given.fit(trained, subject(), Watching(0))
    assert moved == {"backbone": 1e-4, "head": 1e-2}


def test_the_backbone_waits_for_its_head(subject, extractor):
    """In a warm-up of ten steps the first one moves the backbone a tenth as far."""
    fall = {}
    for steps in (1, 10):
        outcome = sbm(lr=0.1, warm_up=steps, least_cosine=-1).fit(extractor(*STAGES), subject(), Training(0))
        plain = extractor(*STAGES).model.state_dict()["conv1.weight"]
        fall[steps] = float((outcome.state[PREFIX + "conv1.weight"] - plain).norm())
    assert fall[10] == pytest.approx(fall[1] / 10, rel=0.01)


@pytest.mark.parametrize("make", [sbm, psg])
def test_features_that_move_too_far_end_the_training_before_they_do(make, subject, extractor):
    trained = extractor(*STAGES)
    outcome = make(epochs=6, lr=0.3, warm_up=6, least_cosine=0.98).fit(trained, subject(), Training(0))
    kept = len(outcome.curves.get("loss", []))
    assert kept < 6
    assert f"stopped after {kept} of 6 epochs" in outcome.stopped
    assert min(outcome.facts[f"cosine_{n}"] for n in (1, 2, 3)) >= 0.98
    again = extractor(*STAGES)
    make().apply(again, outcome.state, STAGES)
    images = torch.from_numpy(subject().pixels)
    now = cosines(extractor(*STAGES)(images), again(images))
    assert now == pytest.approx({f"cosine_{n}": outcome.facts[f"cosine_{n}"] for n in STAGES}, abs=1e-5)


def test_drift_is_logged_after_the_first_step_and_after_every_epoch(subject, extractor):
    outcome = sbm(epochs=3, lr=0.01, warm_up=1, least_cosine=-1).fit(extractor(*STAGES), subject(), Training(0))
    assert len(outcome.curves["cosine_1"]) == 3
    assert outcome.curves["cosine_3"][-1] == pytest.approx(outcome.facts["cosine_3"])
    assert outcome.facts["cosine_3"] < outcome.facts["first_step_cosine_3"] < 1
    assert not any(name.startswith("first_step") for name in outcome.curves)
