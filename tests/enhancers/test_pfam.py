"""PFAM as an enhancer: the identity to the bit before training, a pretext that is learned, a backbone left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from adcore.core.contracts import Context, Host, Outcome
from adcore.core.plan import BackboneSpec
from adcore.core.training import Training
from adcore.enhancers import _maptraining as maptraining
from adcore.enhancers.pfam import PFAM, PFAMOptions
from adcore.features.drift import cosines
from adcore.features.extractor import Extractor
from adcore.methods.cfa import CFA, CFAOptions
from adcore.methods.padim import PaDiM

SMALL = {"epochs": 1, "min_steps": 1, "permutations": 5, "pool_kv": 2}


def pfam(**options) -> PFAM:
    return PFAM(PFAMOptions(**SMALL | options))


def applied(enhancer: PFAM, outcome: Outcome, extractor: Extractor, asked: tuple[int, ...]) -> Extractor:
    enhancer.apply(extractor, outcome.state, asked)
    return extractor


def images(subject) -> torch.Tensor:
    return torch.from_numpy(subject().pixels)


@pytest.mark.parametrize("levels", [(1, 2, 3), (2, 3), (3,)])
def test_identity_gives_the_backbones_maps_to_the_bit(levels, subject, extractor):
    enhancer = pfam(train="identity")
    outcome = enhancer.fit(extractor(*levels), subject(), Training(0))
    enhanced = applied(enhancer, outcome, extractor(*levels), levels)
    for plain, maps in zip(extractor(*levels)(images(subject)), enhanced(images(subject)), strict=True):
        assert torch.equal(plain, maps)
    assert outcome.curves == {} and outcome.facts["norm_ratio_1"] == pytest.approx(1)


def test_random_control_changes_the_first_and_last_map_only(subject, extractor):
    enhancer = pfam(train="random")
    outcome = enhancer.fit(extractor(1, 2, 3), subject(), Training(0))
    enhanced = applied(enhancer, outcome, extractor(1, 2, 3), (1, 2, 3))
    plain, maps = extractor(1, 2, 3)(images(subject)), enhanced(images(subject))
    assert [torch.equal(a, b) for a, b in zip(plain, maps, strict=True)] == [False, True, False]
    told = {name: value for name, value in outcome.facts.items() if name.startswith("cosine")}
    assert told == pytest.approx(cosines(plain, maps), abs=1e-5)
    assert told["cosine_1"] < 0.95


@pytest.mark.parametrize("texture", [True, False])
def test_trained_module_is_had_again_and_the_backbone_is_left_alone(texture, subject, extractor):
    enhancer, trained = pfam(), extractor(1, 2, 3)
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    outcome = enhancer.fit(trained, subject(texture=texture), Training(0))
    assert all(torch.equal(value, before[name]) for name, value in trained.model.state_dict().items())
    enhanced = applied(enhancer, outcome, extractor(1, 2, 3), (1, 2, 3))
    for mine, maps in zip(trained(images(subject)), enhanced(images(subject)), strict=True):
        assert torch.equal(mine, maps)
    assert not torch.equal(enhanced(images(subject))[0], extractor(1)(images(subject))[0])
    puzzles, drift = {"puzzle", "accuracy"}, {"cosine_1", "cosine_2", "cosine_3"}
    assert outcome.curves.keys() == {"loss", "mask", "change"} | drift | (set() if texture else puzzles)
    assert (outcome.chance is None) == texture


def test_training_repeats_itself_for_a_seed(subject, extractor):
    states = [pfam().fit(extractor(2, 3), subject(seed=s), Training(s)).state for s in (0, 0, 1)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert any(not torch.equal(value, states[2][name]) for name, value in states[0].items())


def test_pretext_is_learned(subject, extractor):
    outcome = pfam(epochs=12).fit(extractor(2, 3), subject(16, texture=True), Training(0))
    assert np.mean(outcome.curves["mask"][-3:]) < 0.9 * outcome.curves["mask"][0]


def test_jigsaw_only_has_no_masks_even_on_a_texture(subject, extractor):
    outcome = pfam(train="jigsaw_only").fit(extractor(2, 3), subject(texture=True), Training(0))
    assert outcome.curves.keys() == {"loss", "puzzle", "accuracy", "cosine_1", "cosine_2"}
    assert outcome.curves["loss"] == pytest.approx(outcome.curves["puzzle"])


def host(subject, method) -> Host:
    class Held:
        def __init__(self, extractor: Extractor) -> None:
            self.layers = extractor(images(subject))
            self.shapes = [tuple(layer.shape[1:]) for layer in self.layers]

        def __len__(self) -> int:
            return len(self.layers[0])

        def __iter__(self):
            yield self.layers

    return Host(method, cast(Any, Held))


@pytest.mark.usefixtures("every_epoch")
def test_host_loss_trains_by_cfas_own_after_a_warm_up(subject, extractor, tmp_path):
    enhancer, method = pfam(train="host_loss", epochs=3), CFA(CFAOptions(), Context(0))
    training = Training(0, checkpoint=tmp_path / "state")
    outcome = enhancer.fit(extractor(1, 2, 3), subject(), training, host(subject, method))
    assert len(outcome.curves["loss"]) == 1 and len(outcome.curves["host_loss"]) == 2
    again = enhancer.fit(extractor(1, 2, 3), subject(), training, host(subject, CFA(CFAOptions(), Context(0))))
    assert all(torch.equal(value, again.state[name]) for name, value in outcome.state.items())
    assert again.curves == outcome.curves


def test_host_loss_needs_a_method_that_has_a_loss():
    enhancer = pfam(train="host_loss")
    enhancer.check(BackboneSpec(), CFA)
    with pytest.raises(ValueError, match="host_loss needs a method with a loss, such as cfa; padim has none"):
        enhancer.check(BackboneSpec(), PaDiM)


def test_stages_two_to_four_leave_layer1_and_give_the_method_its_own(subject, extractor):
    enhancer = pfam(stages="layer2-4", train="random")
    assert enhancer.levels((1, 2, 3)) == (1, 2, 3, 4) and enhancer.levels((2, 3)) == (2, 3, 4)
    outcome = enhancer.fit(extractor(1, 2, 3, 4), subject(), Training(0))
    enhanced = applied(enhancer, outcome, extractor(1, 2, 3, 4), (1, 2, 3))
    plain, maps = extractor(1, 2, 3)(images(subject)), enhanced(images(subject))
    assert [torch.equal(a, b) for a, b in zip(plain, maps, strict=True)] == [True, False, True]


def test_concat_doubles_the_first_maps_channels(subject, extractor):
    enhancer = pfam(combine="concat")
    outcome = enhancer.fit(extractor(1, 2), subject(), Training(0))
    assert applied(enhancer, outcome, extractor(1, 2), (1, 2)).shapes() == [(128, 12, 12), (128, 6, 6)]
    assert {"cosine_1", "cosine_2"} <= outcome.facts.keys()


def test_it_stands_behind_what_enhances_before_it(subject, extractor):
    """The first enhancer's part of `behind` is its input, in training and after."""
    first, second = pfam(train="random"), pfam(train="identity")
    early = first.fit(extractor(1, 2), subject(), Training(0))
    both = applied(first, early, extractor(1, 2), (1, 2))
    late = second.fit(both, subject(seed=1), Training(1))
    assert len(both.behind) == 2
    other = applied(second, late, applied(first, early, extractor(1, 2), (1, 2)), (1, 2))
    assert torch.equal(other(images(subject))[0], applied(first, early, extractor(1, 2), (1, 2))(images(subject))[0])


def test_mask_loss_of_a_perfect_and_an_inverted_answer():
    masks = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    masks[0, :, :4] = True
    target = torch.nn.functional.avg_pool2d(masks.float(), 2)
    assert float(maptraining.mask_loss(40 * (target - 0.5), masks)) == pytest.approx(0, abs=1e-6)
    assert float(maptraining.mask_loss(-40 * (target - 0.5), masks)) > 10


def test_change_counts_normal_positions_only():
    before = [torch.ones(1, 2, 4, 4)]
    after = [before[0].clone()]
    after[0][:, :, 0, 0] = 3
    masks = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    assert float(maptraining.change(before, after, masks)) == pytest.approx(4 / 16)
    masks[:, :, 1, 1] = True  # one defective pixel makes its position defective
    assert float(maptraining.change(before, after, masks)) == 0


def test_synthetic_defects_come_from_a_folder_where_one_is_given(subject, tmp_path):
    from PIL import Image

    from adcore.enhancers._puzzles import pretext

    with pytest.raises(ValidationError, match="no images under"):
        pfam(sources=tmp_path)
    Image.new("RGB", (60, 60), (255, 0, 0)).save(tmp_path / "red.png")
    red = pfam(sources=tmp_path)
    shown = pretext(subject(texture=True), red.options)
    assert [file.path for file in shown.synthesiser.sources] == [
        tmp_path / "red.png"
    ] and shown.synthesiser.procedural == 0
    before = red.identity(BackboneSpec())
    (tmp_path / "red.png").rename(tmp_path / "crimson.png")
    assert before == pfam(sources=tmp_path).identity(BackboneSpec()) and str(tmp_path) not in str(before)


def test_more_permutations_than_there_are_are_refused():
    with pytest.raises(ValidationError, match="2 x 2 tiles have only 23"):
        pfam(n=2, permutations=24)


@pytest.mark.parametrize(("train", "control"), [("pretext", ""), ("identity", "identity"), ("random", "random")])
def test_controls_name_themselves(train: str, control: str, subject: Callable):
    assert pfam(train=train).control == control
    assert bool(pfam(train=train).examples(subject(), 0)) == (not control)


@pytest.mark.parametrize(("channels", "side"), [(256, 14), (1024, 7)])
def test_one_step_at_the_full_rate_leaves_wide_features_where_they_are(channels: int, side: int):
    """AdamW moves every weight by its rate: at one rate for all, 1e-3, features of these widths fall to 0.8 at once."""
    from adcore.enhancers._pfam import PFAM as Module

    def after_one_step(groups: Callable[[torch.nn.Module], list[dict]]) -> float:
        torch.manual_seed(0)
        module, heads = Module([(channels, side, side)]), maptraining.Heads([channels], 31)
        maps = [torch.randn(4, channels, side, side).relu()]
        masks = torch.rand(4, 1, 4 * side, 4 * side) > 0.5
        optimiser = torch.optim.AdamW([*groups(module), maptraining.head_group(heads)], weight_decay=maptraining.DECAY)
        enhanced = module(maps)
        loss = maptraining.mask_loss(heads.masks(enhanced), masks) + heads.classes(enhanced).logsumexp(1).mean()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            return cosines(maps, module(maps))["cosine_1"]

    assert after_one_step(lambda module: maptraining.by_fan_in(module, PFAMOptions().fan_in_lr)) > 0.99
    assert after_one_step(lambda module: [{"params": list(module.parameters()), "lr": 1e-3}]) < 0.8


def test_every_weight_of_the_module_has_its_rate(extractor):
    from adcore.enhancers._pfam import PFAM as Module

    module = Module([(24, 8, 8), (40, 4, 4)], convolutions="full")
    groups = maptraining.by_fan_in(module, 0.1)
    assert sum(len(group["params"]) for group in groups) == len(list(module.parameters()))
    rates = {id(weight): group["lr"] for group in groups for weight in group["params"]}
    assert rates[id(module.attention[0].convolutions[3].weight)] == pytest.approx(0.1 / (24 * 81))
    assert rates[id(module.attention[0].attention.alpha)] == pytest.approx(0.1)


def test_a_module_that_moves_its_maps_too_far_is_stopped_before_it_does(subject, extractor):
    enhancer = pfam(epochs=6, fan_in_lr=30.0, least_cosine=0.95)
    outcome = enhancer.fit(extractor(1, 2, 3), subject(), Training(0))
    assert "below least_cosine 0.95" in outcome.stopped
    assert min(outcome.facts[f"cosine_{n}"] for n in (1, 2, 3)) >= 0.95
