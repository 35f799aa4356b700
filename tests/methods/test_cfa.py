"""CFA's loss, memory and score in closed form, and its training."""

import math

import pytest
import torch
from torch.nn.functional import conv2d

from adcore.core.contracts import Context
from adcore.methods.cfa import CFA, _pooled, hypersphere_loss


def cfa(context=None, **options):
    return CFA(CFA.Options(**{"epochs": 1, **options}), context or Context(seed=0))


def test_loss_in_closed_form():
    squared = torch.tensor([[0.2, 0.3, 0.4, 0.5, 0.5, 0.5]])
    assert float(hypersphere_loss(squared, torch.ones(1))) == pytest.approx(0.4 / 1e-3)  # only repulsion: 1 - 0.5 - 0.1
    assert float(hypersphere_loss(squared, torch.zeros(1))) == pytest.approx(0.3 / 1e-3)  # only attraction: the mean
    assert float(hypersphere_loss(squared, torch.full((1,), 0.3**0.5))) == pytest.approx(0.1 / 3 / 1e-3)


def test_descriptor_is_a_convolution_with_coordinates(make):
    method = cfa(gamma_d=2)
    method._start(5, torch.Generator().manual_seed(0))
    x = make(2, [(5, 4, 6)]).maps[0]
    rows = torch.linspace(-1, 1, 4)[:, None].expand(4, 6)
    columns = torch.linspace(-1, 1, 6).expand(4, 6)
    with_places = torch.cat([x, torch.stack([columns, rows]).expand(2, -1, -1, -1)], 1)
    expected = conv2d(with_places, method.weight[:, :, None, None], method.bias)
    assert method.weight.shape == (2, 7)
    torch.testing.assert_close(method._describe(x), expected.permute(0, 2, 3, 1).reshape(-1, 2))


def test_memory_is_the_mean_over_images_whatever_the_batches(make):
    method = cfa()
    features = make(12, batch=5)  # the last batch is smaller
    method._start(21, torch.Generator().manual_seed(0))
    expected = method._describe(_pooled(features.maps)).reshape(12, 64, 21).mean(0)
    torch.testing.assert_close(method._centroids(features), expected)


def test_gamma_c_divides_the_centroids_and_memory_stays_fixed(make):
    method = cfa(gamma_c=4)
    method._start(21, torch.Generator().manual_seed(0))
    before = method._centroids(make())
    method = cfa(gamma_c=4)
    method.fit(make())
    assert method.memory.shape == (16, 21)
    assert torch.equal(method.memory, before)
    assert not method.memory.requires_grad


def test_scores_in_closed_form(make, monkeypatch):
    method = cfa()
    method.memory = torch.eye(4)[:, :3]  # with 0: distances of the origin to it are 1, 1, 1, 0
    monkeypatch.setattr(method, "_describe", lambda pooled: torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    layers = [torch.zeros(1, 1, 1, 2)]
    score = method.score(layers)[0].flatten()
    assert score[0] == 0  # on a centroid
    assert float(score[1]) == pytest.approx(math.sqrt(2) / 3)  # three equal distances d: d / 3


def test_training_lowers_the_loss_and_moves_the_radius(make):
    method = cfa(epochs=20)
    curves = method.fit(make())
    assert len(curves["loss"]) == len(curves["radius"]) == 20
    assert curves["loss"][-1] < 0.8 * curves["loss"][0]
    assert curves["radius"][-1] > curves["radius"][0] > 1e-5


def test_radius_may_be_kept(make):
    method = cfa(train_radius=False)
    assert method.fit(make())["radius"] == [pytest.approx(1e-5)]


@pytest.mark.parametrize(("images", "steps"), [(3, 1), (4, 1), (7, 1), (8, 2)])
def test_last_batch_is_dropped_unless_it_is_the_only_one(images, steps):
    method = cfa(epochs=2)
    method.generator = torch.Generator().manual_seed(0)
    epochs = method._batches(images)
    assert [len(batches) for batches in epochs] == [steps, steps]
    for batches in epochs:
        assert {len(b) for b in batches} == {min(images, 4)}
        assert len({i for b in batches for i in b}) == steps * min(images, 4)
    assert epochs[0] != epochs[1]


@pytest.mark.usefixtures("every_epoch")
def test_a_killed_training_ends_with_the_weights_of_one_left_alone(make, tmp_path):
    def told(done):
        if done > 0.5:
            raise KeyboardInterrupt

    whole, killed, resumed = (cfa(Context(0, checkpoint=tmp_path / name), epochs=4) for name in "abb")
    whole.fit(make())
    with pytest.raises(KeyboardInterrupt):
        killed.fit(make(), told)
    resumed.fit(make())
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, resumed.state()[name]), name


def chosen(values, checkpoint=None):
    """A model that keeps the epoch whose value on the test images is the highest of these."""
    left = iter(values)
    judge = Context(seed=0, checkpoint=checkpoint, judge=lambda method: next(left))
    return cfa(judge, epochs=len(values), selection="best_test")


def test_the_best_epoch_on_test_is_kept_where_that_is_asked_for(make):
    method, two = chosen([0.5, 0.9, 0.9, 0.7]), cfa(epochs=2)
    curves = method.fit(make())
    two.fit(make())
    assert torch.equal(method.weight, two.weight)
    assert torch.equal(method.radius, two.radius)
    assert len(curves["loss"]) == 4


@pytest.mark.usefixtures("every_epoch")
def test_a_resumed_training_knows_what_was_best_before(make, tmp_path):
    def told(done):
        if done > 0.6:
            raise KeyboardInterrupt

    whole, parts = chosen([0.9, 0.5, 0.4, 0.3]), ([0.9, 0.5], [0.5, 0.4, 0.3])  # the second epoch is judged twice
    killed, resumed = (chosen(values, tmp_path / "c") for values in parts)
    killed.options = resumed.options = whole.options
    whole.fit(make())
    with pytest.raises(KeyboardInterrupt):
        killed.fit(make(), told)
    resumed.fit(make())
    assert torch.equal(whole.weight, resumed.weight)


def test_without_test_images_there_is_nothing_to_select_by(make):
    with pytest.raises(
        ValueError, match="selection best_test looks at test images, and there are none here; write last"
    ):
        cfa(selection="best_test").fit(make())


def test_seed_changes_the_model(make):
    models = [cfa(Context(seed=s)) for s in (0, 1)]
    for model in models:
        model.fit(make())
    assert not torch.equal(models[0].weight, models[1].weight)


def test_gradient_equals_that_of_the_dense_distances(make):
    method = cfa()
    method._start(21, torch.Generator().manual_seed(0))
    method.memory = method._centroids(make())
    method.radius = torch.full((1,), 2.0)  # so that both terms are awake
    method.weight.requires_grad_()
    layers = make(4, seed=1).maps
    sparse = torch.autograd.grad(method.loss(layers), method.weight)[0]
    every = torch.cdist(method._describe(_pooled(layers)), method.memory, compute_mode="donot_use_mm_for_euclid_dist")
    loss = hypersphere_loss(every.square().topk(6, largest=False).values, method.radius)
    torch.testing.assert_close(sparse, torch.autograd.grad(loss, method.weight)[0], rtol=1e-3, atol=1e-3)


def test_loss_that_is_not_finite_names_the_step(make):
    features = make()
    features.maps[0][0, 0, 0, 0] = float("nan")
    with pytest.raises(RuntimeError, match=r"cfa: the loss is nan in epoch 1 of 1, step \d of 3"):
        cfa().fit(features)


@pytest.mark.parametrize(
    ("options", "message"), [({"gamma_c": 16}, "gamma_c is 16"), ({"gamma_d": 22}, "gamma_d is 22")]
)
def test_divisors_that_leave_too_little(make, options, message):
    with pytest.raises(ValueError, match=message):
        cfa(**options).fit(make())
