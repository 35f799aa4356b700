"""SimpleNet: its embedding, map and losses by hand, its size; SuperSimpleNet beside anomalib's."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional

from adcore.core.contracts import Context, Curves
from adcore.features.held import Held
from adcore.methods import _simplenet as simplenet
from adcore.methods.simplenet import SimpleNet, SimpleNetOptions
from tests.methods.fixtures import make_simplenet
from tests.methods.kills import alone_and_killed

SHAPES = [(6, 8, 8), (10, 4, 4)]


def features(count: int = 6, shapes=SHAPES, seed: int = 0) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(count, *shape, generator=random) for shape in shapes]


def method(seed: int = 0, checkpoint=None, **options) -> SimpleNet:
    given = {"preset": "small", "epochs": 2} | options
    return SimpleNet(SimpleNetOptions(**given), Context(seed, image_size=(32, 32), checkpoint=checkpoint))


def trained(maps: list[torch.Tensor], **options) -> tuple[SimpleNet, Curves]:
    made = method(**options)
    return made, made.fit(Held(maps))


# What the network is given


def test_pool1536_equals_the_released_steps_by_hand():
    """3 x 3 neighbourhoods of each layer to 1536 means in a row, the two rows behind each other to 1536 means."""
    layers = features(2, [(512, 4, 4), (1024, 2, 2)])
    found = simplenet.embedded(layers, "pool1536")
    unfolded = [functional.unfold(one, 3, padding=1).unflatten(2, one.shape[2:]) for one in layers]
    unfolded[1] = functional.interpolate(unfolded[1], size=(4, 4), mode="bilinear", align_corners=False)
    for image, y, x in [(0, 0, 0), (0, 3, 1), (1, 2, 2)]:
        rows = [one[image, :, y, x].double().numpy() for one in unfolded]
        joined = np.concatenate([row.reshape(1536, -1).mean(1) for row in rows])
        np.testing.assert_allclose(found[image, :, y, x], joined.reshape(1536, 2).mean(1), rtol=1e-4, atol=1e-6)


def test_double_enlarges_to_twice_the_grid_and_averages_neighbourhoods():
    """The image's corners are the maps' corners, and zeros beyond the border count."""
    layers = features(1)
    found = simplenet.embedded(layers, "double")
    expected = np.zeros((16, 18, 18))
    first = 0
    for one in layers:
        channels, side, _ = one.shape[1:]
        for y, x in np.ndindex(16, 16):
            row, column = y * (side - 1) / 15, x * (side - 1) / 15
            for i, j in np.ndindex(side, side):
                near = max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j))
                expected[first : first + channels, y + 1, x + 1] += near * one[0, :, i, j].double().numpy()
        first += channels
    means = [expected[:, y : y + 3, x : x + 3].mean((1, 2)) for y, x in np.ndindex(16, 16)]
    np.testing.assert_allclose(found[0], np.stack(means, 1).reshape(16, 16, 16), rtol=1e-4, atol=1e-5)


def test_the_spread_is_the_root_of_the_mean_variance():
    maps = features(5)[0] * torch.arange(1.0, 7)[:, None, None] + 3
    expected = np.sqrt(maps.double().numpy().transpose(1, 0, 2, 3).reshape(6, -1).var(1).mean())
    assert float(simplenet.spread(maps.split(2))) == pytest.approx(expected, rel=1e-6)


def test_an_untrained_adaptor_keeps_the_spread():
    """So that noise which is a share of what it is given is the same share of what it gives."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = simplenet.SimpleNet(256, head=False)
    given = features(4, [(256, 8, 8)])[0] * 0.3
    ratio = simplenet.spread([network.adaptor(given).detach()]) / simplenet.spread([given])
    assert float(ratio) == pytest.approx(1, abs=0.05)


# The map


def test_the_map_equals_its_twin_by_hand():
    shapes = [(6, 4, 4), (10, 2, 2)]
    made = trained(features(4, shapes))[0]
    maps, scores = made.score(features(2, shapes, seed=1))
    given = simplenet.embedded(features(2, shapes, seed=1), "concat1536")
    w = {name.removeprefix("network."): value.double().numpy() for name, value in made.state().items()}
    for image, y, x in np.ndindex(*maps.shape):
        row = w["adaptor.weight"][:, :, 0, 0] @ given[image, :, y, x].double().numpy() + w["adaptor.bias"]
        row = w["discriminator.0.weight"][:, :, 0, 0] @ row + w["discriminator.0.bias"]
        row = (row - w["discriminator.1.running_mean"]) / np.sqrt(w["discriminator.1.running_var"] + 1e-5)
        row = row * w["discriminator.1.weight"] + w["discriminator.1.bias"]
        row = np.where(row > 0, row, 0.2 * row)
        assert float(maps[image, y, x]) == pytest.approx(w["discriminator.3.weight"][0, :, 0, 0] @ row, abs=1e-4)
    assert torch.equal(scores, maps.flatten(1).amax(1))


def test_adaptor_and_discriminator_have_the_printed_parameters():
    with torch.device("meta"):
        network = simplenet.SimpleNet(1536, head=False)
    count = sum(one.numel() for one in network.parameters())
    assert count == (1536**2 + 1536) + (1536 * 1024 + 1024) + 2 * 1024 + 1024
    assert round(count / 1e6, 2) == 3.94


# The losses


@pytest.mark.parametrize(
    ("normal", "odd", "loss"), [(0, 0, 1), (-0.5, 0.5, 0), (-9, 9, 0), (0.25, 0.25, 1), (0, 9, 0.5), (1, -2, 4)]
)
def test_the_truncated_loss_in_closed_form(normal, odd, loss):
    """max(0, s + 0.5) of the normal positions and max(0, 0.5 - s) of the odd ones, each with its own mean."""
    mask = torch.zeros(2, 3, 3)
    mask[1, :, :2] = 1
    assert float(simplenet.truncated(torch.where(mask > 0, odd, normal).float(), mask)) == pytest.approx(loss)


def test_the_truncated_loss_takes_a_batch_without_odd_positions():
    assert float(simplenet.truncated(torch.ones(1, 2, 2), torch.zeros(1, 2, 2))) == pytest.approx(1.5)


# SuperSimpleNet beside anomalib's


@pytest.fixture(scope="module")
def kept() -> dict[str, np.ndarray]:
    with np.load(make_simplenet.FILE) as file:
        return dict(file)


PARTS = {  # ours -> anomalib's
    r"adaptor": "adaptor.projection",
    r"discriminator\.(\d)": r"segdec.seg_head.\1",
    r"head\.body\.(\d)": r"segdec.cls_conv.\1",
    r"head\.score": "segdec.cls_fc",
}


def theirs(name: str) -> str:
    """What anomalib calls a tensor of ours."""
    for ours, other in PARTS.items():
        name = re.sub(rf"^{ours}\b", other, name)
    return name


@pytest.fixture(scope="module")
def alike() -> tuple[torch.Tensor, torch.Tensor]:
    """Maps and image scores of our network with the weights that anomalib's had."""
    network = simplenet.SimpleNet(make_simplenet.CHANNELS, head=True).eval()
    for name, tensor in network.state_dict().items():
        if tensor.dim():
            tensor.copy_(torch.from_numpy(make_simplenet.fill(theirs(name), tuple(tensor.shape))))
    with torch.inference_mode():
        maps, scores = network(torch.from_numpy(make_simplenet.features()))
    assert scores is not None
    return maps, scores


def test_maps_equal_anomalibs(alike, kept):
    np.testing.assert_allclose(alike[0], kept["maps"], rtol=1e-4, atol=1e-4)


def test_image_scores_equal_anomalibs(alike, kept):
    np.testing.assert_allclose(alike[1], kept["scores"], rtol=1e-4, atol=1e-4)


def test_the_loss_equals_anomalibs(alike, kept):
    odd = torch.from_numpy(make_simplenet.mask())
    maps, scores = alike
    found = simplenet.truncated(maps, odd) + simplenet.focal(maps, odd) + simplenet.focal(scores, odd.amax((1, 2)))
    assert float(found) == pytest.approx(float(kept["loss"]), rel=1e-5)


def test_it_has_the_parameters_of_anomalibs(kept):
    with torch.device("meta"):
        network = simplenet.SimpleNet(1536, head=True)
    assert sum(one.numel() for one in network.parameters()) == int(kept["parameters"])


def test_the_map_takes_no_gradient_from_the_head():
    network = simplenet.SimpleNet(8, head=True)
    scores = network(torch.randn(2, 8, 4, 4))[1]
    scores.sum().backward()
    assert all(one.grad is None for one in network.discriminator.parameters())
    assert all(one.grad is not None for one in network.adaptor.parameters())


def masks(index: list[int], epoch: int = 0, **options) -> torch.Tensor:
    found = method(supersimple=True, embed="double", **options)._masks((6, 8, 8), index, epoch)
    assert found is not None
    return found


def test_half_of_the_images_stay_normal():
    found = masks(list(range(200)))
    assert found.shape == (400, 16, 16) and set(found.unique().tolist()) == {0, 1}
    assert 0.4 < float((found.amax((1, 2)) == 0).float().mean()) < 0.65  # a pattern may lie below the threshold


def test_a_mask_depends_on_image_and_epoch_alone():
    assert torch.equal(masks([3, 7])[[1, 3]], masks([7]))
    assert not torch.equal(masks(list(range(9)), 0), masks(list(range(9)), 1))


def test_a_higher_threshold_leaves_less():
    assert masks(list(range(40)), threshold=0.6).sum() < masks(list(range(40))).sum() / 2


# Training


def test_the_noise_is_the_papers_behind_its_network_and_a_share_of_the_spread_elsewhere():
    paper = [(512, 2, 2), (1024, 1, 1)]
    for shapes, options, std in [(paper, {}, 0.015), (paper, {"noise": 0.5}, None), (SHAPES, {}, None)]:
        curves = trained(features(2, shapes), epochs=1, **options)[1]
        expected = options.get("noise", 0.2) * curves["spread"][0] if std is None else std
        assert curves["noise"] == pytest.approx([expected])


def on_a_plane(count: int) -> list[torch.Tensor]:
    """Features that vary along two directions alone."""
    across = torch.randn(16, 2, generator=torch.Generator().manual_seed(5))
    return [torch.einsum("cd,ndyx->ncyx", across, features(count, [(2, 8, 8)])[0])]


def beside(maps: list[torch.Tensor]) -> list[torch.Tensor]:
    """The same features, but for a square that lies off the plane."""
    odd = maps[0].clone()
    odd[:, :, 2:6, 2:6] += 2 * torch.randn(*odd.shape[:2], 4, 4, generator=torch.Generator().manual_seed(1))
    return [odd]


def test_what_is_told_from_normal_is_the_noise():
    maps = on_a_plane(16)
    made, curves = trained(maps, epochs=40, noise=1.0)
    plain, odd = made.score(maps)[0], made.score(beside(maps))[0]
    assert float((plain < 0).float().mean()) > 0.8
    assert float((odd[:, 3:5, 3:5] > 0).float().mean()) > 0.8
    assert curves["loss"][-1] < 0.7 * curves["loss"][0]


def test_adaptor_and_discriminator_have_rates_and_decays_of_their_own():
    network = simplenet.SimpleNet(8, head=True)
    told = ("lr", "weight_decay", "decoupled_weight_decay")
    groups = [[tuple(group[name] for name in told) for group in made._optimiser(network).param_groups]
              for made in (method(), method(supersimple=True))]  # fmt: skip
    assert groups[0] == [(1e-4, 1e-2, True), (2e-4, 1e-5, False)]
    assert groups[1] == [(1e-4, 1e-2, True), (2e-4, 1e-5, True)]


def test_supersimplenets_rates_fall_twice():
    made = method(supersimple=True, epochs=10)
    assert [made._rate(epoch) for epoch in (0, 7, 8, 9)] == pytest.approx([1, 1, 0.4, 0.16])
    assert method(epochs=10)._rate(9) == 1


def test_supersimple_stands_for_its_own_sizes():
    chosen = SimpleNetOptions.model_validate({"supersimple": True})
    assert (chosen.embed, chosen.batch, chosen.epochs) == ("double", 32, 300)
    assert SimpleNetOptions.model_validate({"supersimple": True, "preset": "small"}).embed == "concat1536"


def test_supersimplenet_finds_what_is_odd():
    maps = on_a_plane(12)
    made = trained(maps, supersimple=True, epochs=30, noise=1.0)[0]
    (before, plain), (after, scores) = made.score(maps), made.score(beside(maps))
    assert after[:, 3:5, 3:5].mean() > before.mean() + 0.5
    assert scores is not None and plain is not None and scores.min() > plain.max()


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("supersimple", [False, True])
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, supersimple):
    make = partial(method, epochs=4, supersimple=supersimple)
    alone, again = alone_and_killed(make, lambda: Held(features()), tmp_path)
    assert all(torch.equal(value, again[name]) for name, value in alone.items())


def test_features_that_are_all_alike_are_refused():
    with pytest.raises(ValueError, match=r"simplenet: all features are alike.*other images or layers"):
        trained([torch.zeros(2, *shape) for shape in SHAPES])
