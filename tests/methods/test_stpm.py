"""STPM: a student that equals its teacher sees no defect, and one that learned finds what the teacher alone knows."""

from __future__ import annotations

import functools
from functools import partial

import numpy as np
import pytest
import torch

from adcore.core.contracts import Context, Curves
from adcore.core.plan import BackboneSpec, ImageSpec
from adcore.engine.sizes import size
from adcore.features.extractor import Extraction, Extractor
from adcore.features.held import HeldImages
from adcore.methods.stpm import STPM, STPMOptions
from tests.methods.kills import alone_and_killed

SIDE = 32


@functools.cache
def teacher() -> Extractor:
    return Extractor(
        Extraction(BackboneSpec(name="resnet18", weights="random"), ImageSpec(resize=SIDE), (1, 2, 3)), "cpu"
    )


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def stpm(seed: int = 0, checkpoint=None, **options) -> STPM:
    given = {"epochs": 2, "batch": 4, "lr": 0.1} | options
    return STPM(STPMOptions(**given), Context(seed, image_size=(SIDE, SIDE), extractor=teacher, checkpoint=checkpoint))


def trained(count: int = 10, **options) -> tuple[STPM, Curves]:
    method = stpm(**options)
    return method, method.fit(HeldImages(images(count), batch=3))


def twin() -> STPM:
    """A student with its teacher's weights."""
    method = stpm()
    method.restore({f"student.{name}": value for name, value in teacher().network.state_dict().items()})
    return method


def test_a_student_that_equals_its_teacher_gives_a_zero_map():
    maps, scores = twin().score(images(2, seed=1))
    torch.testing.assert_close(maps, torch.zeros(2, 8, 8))
    torch.testing.assert_close(scores, torch.zeros(2))


def test_the_map_is_the_product_of_squared_distances_of_unit_vectors():
    method = trained(epochs=0)[0]
    pictures = images(2, seed=1)
    product = np.ones((2, 8, 8))
    with torch.no_grad():
        for ours, theirs in zip(teacher()(pictures), method.student(pictures), strict=True):
            a, b = (x.double() / x.double().norm(dim=1, keepdim=True) for x in (ours, theirs))
            far = ((a - b) ** 2).sum(1, keepdim=True)
            product *= torch.nn.functional.interpolate(far, (8, 8), mode="bilinear")[:, 0].numpy()
    maps, scores = method.score(pictures)
    np.testing.assert_allclose(maps, product, rtol=1e-3)
    np.testing.assert_allclose(scores, product.max((1, 2)), rtol=1e-3)


def test_the_loss_in_closed_form():
    """Opposite unit vectors are 2 apart: half of 4, at each of three levels."""
    method = twin()
    student = method.student
    method.student = lambda batch: [-maps for maps in student(batch)]
    assert float(method._loss(images(2))) == pytest.approx(3 * 2)


def test_training_lowers_the_loss():
    curves = trained(epochs=20)[1]
    assert curves["loss"][-1] < 0.7 * curves["loss"][0]


def test_the_student_starts_elsewhere_than_its_teacher_though_both_are_random():
    weights = [
        network.state_dict()["model.conv1.weight"] for network in (teacher().network, trained(epochs=0)[0].student)
    ]
    assert not torch.equal(*weights)


def test_the_teacher_stays_as_it_was():
    before = {name: value.clone() for name, value in teacher().network.state_dict().items()}
    trained()
    assert all(torch.equal(value, before[name]) for name, value in teacher().network.state_dict().items())


def test_the_epoch_of_the_least_loss_on_images_held_back_is_kept(monkeypatch):
    losses = iter([0.5, 0.2, 0.2, 0.9])
    monkeypatch.setattr(STPM, "_loss_on", lambda *_: next(losses))
    method = trained(epochs=4)[0]
    two = trained(epochs=2, validation=0)[0]
    assert method._parts(10)[0] == [place for place in range(10) if place not in method._parts(10)[1]]
    monkeypatch.undo()
    other = stpm(epochs=2)
    other._parts = lambda count: (method._parts(count)[0], [])
    other.fit(HeldImages(images(10)))
    assert all(torch.equal(value, other.state()[name]) for name, value in method.state().items())
    assert not all(torch.equal(value, two.state()[name]) for name, value in method.state().items())


@pytest.mark.parametrize(("count", "kept"), [(1, 0), (4, 0), (5, 1), (10, 2), (100, 20)])
def test_a_fifth_is_held_back_where_there_are_five(count, kept):
    learn, check = stpm()._parts(count)
    assert len(check) == kept
    assert sorted(learn + check) == list(range(count))


def test_the_student_counts_as_a_second_backbone():
    counted = size(teacher(), STPM.sized(STPMOptions(), teacher()))
    backbone = sum(p.numel() for p in teacher().model.parameters())
    assert counted.learnable == backbone
    assert counted.total == 2 * backbone
    assert counted.own == counted.before


@pytest.mark.usefixtures("every_epoch")
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    make = partial(stpm, epochs=4)
    alone, again = alone_and_killed(make, lambda: HeldImages(images(10), batch=3), tmp_path)
    assert all(torch.equal(value, again[name]) for name, value in alone.items())


def test_enhancers_that_leave_other_maps_are_refused():
    method = stpm()
    one = Extractor(
        Extraction(BackboneSpec(name="resnet18", weights="random"), ImageSpec(resize=SIDE), (1, 2, 3)), "cpu"
    )
    one.add(torch.nn.Identity(), lambda maps: maps[:1])
    method.context = Context(0, image_size=(SIDE, SIDE), extractor=lambda: one)
    with pytest.raises(ValueError, match=r"stpm: the enhancers leave maps \[\(64, 8, 8\)\].*leave them out"):
        method.fit(HeldImages(images(4)))
