"""What every method here must do: the same twice, the same restored, batch by batch as one by one."""

import pytest
import torch
from pydantic import ValidationError

from adcore.core.contracts import Context
from adcore.methods.cfa import CFA
from adcore.methods.padim import PaDiM
from adcore.methods.patchcore import PatchCore

METHODS = [
    (PaDiM, {}),
    (PaDiM, {"n_features": 4}),
    (PatchCore, {}),
    (PatchCore, {"embed": "pool1024", "reweight": False}),
    (CFA, {"epochs": 2}),
    (CFA, {"epochs": 1, "gamma_c": 4, "gamma_d": 2}),
]


@pytest.fixture(params=METHODS, ids=lambda p: f"{p[0].name}-{p[1]}")
def fitted(request, make, context):
    cls, options = request.param
    method = cls(cls.Options(**options), context)
    method.fit(make())
    return method


def outcome(method, features):
    maps, scores = method.score(features)
    return [maps] if scores is None else [maps, scores]


def test_shapes_and_types(fitted, make):
    maps, scores = fitted.score(make(3, seed=1).maps)
    assert maps.shape == (3, 8, 8)
    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()
    assert not maps.requires_grad
    assert scores is None or scores.shape == (3,)


def test_two_fits_and_a_restored_one_are_bit_equal(fitted, make, context):
    again = type(fitted)(fitted.options, context)
    again.fit(make())
    restored = type(fitted)(fitted.options, context)
    restored.restore({name: tensor.clone() for name, tensor in fitted.state().items()})
    assert fitted.state().keys() == again.state().keys()
    for name, tensor in fitted.state().items():
        assert torch.equal(tensor, again.state()[name]), name
        assert tensor.is_contiguous(), "safetensors refuses others"
        assert not tensor.requires_grad
    queries = make(3, seed=1).maps
    for other in (again, restored):
        for a, b in zip(outcome(fitted, queries), outcome(other, queries), strict=True):
            assert torch.equal(a, b)


def test_images_are_scored_apart(fitted, make):
    queries = make(3, seed=1)
    whole = outcome(fitted, queries.maps)
    for i in range(3):
        for a, b in zip(whole, outcome(fitted, queries.at([i])), strict=True):
            torch.testing.assert_close(a[i : i + 1], b, rtol=1e-4, atol=1e-5)


def test_progress_rises_to_one(fitted, make, context):
    seen = []
    type(fitted)(fitted.options, context).fit(make(), seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1


@pytest.mark.parametrize("cls", [PaDiM, PatchCore, CFA])
def test_an_unknown_option_is_an_error_that_names_it(cls):
    with pytest.raises(ValidationError, match="nonsense"):
        cls.Options(nonsense=1)


def test_a_far_image_scores_higher(fitted, make):
    queries = make(3, seed=1).maps
    near, far = fitted.score(queries)[0], fitted.score([10 + 5 * layer for layer in queries])[0]
    assert far.amax((1, 2)).min() > near.amax((1, 2)).max()


def test_context_is_frozen():
    with pytest.raises(AttributeError):
        Context(seed=0).seed = 1
