"""TFA-Net: its template, its training, its options, and the figures of the paper's Table 3."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from adcore.core.contracts import Context, Curves
from adcore.core.plan import BackboneSpec, Choice, ImageSpec, load
from adcore.engine import registry
from adcore.engine.sizes import counted
from adcore.features import backbones
from adcore.features.extractor import Extraction, Extractor
from adcore.features.held import HeldImages
from adcore.methods._tfa_net import joined, patchify
from adcore.methods.tfa_net import TFANet, TFANetOptions

SUITES = Path(__file__).parents[2] / "suites"
TINY = {"grid": 8, "patch": 2, "width": 16, "depth": 1, "heads": 2} | {
    "refine_width": 8, "refine_depth": 1, "refine_heads": 2, "epochs": 1, "lr": 1e-3,
}  # fmt: skip


def tfa_net(context: Context | None = None, **options) -> TFANet:
    return TFANet(TFANetOptions(**TINY | options), context or Context(0, image_size=(32, 32)))


def fitted(features, context: Context | None = None, **options) -> TFANet:
    return trained(features, context, **options)[0]


def trained(features, context: Context | None = None, **options) -> tuple[TFANet, Curves]:
    method = tfa_net(context, **options)
    return method, method.fit(features)


# Table 3


@pytest.mark.parametrize(
    ("suite", "channels", "millions", "giga"),
    [
        ("tfa-net_table1", 1856, 173.57, 89.91),
        ("tfa-net_table3-wrn101", 1856, 231.58, 119.65),
        ("tfa-net_table3-vgg19", 960, 140.93, 104.38),
        ("tfa-net_table3-mobilenetv2", 104, 112.86, 51.41),
    ],
)
def test_parameters_and_macs_are_those_of_table_3(suite, channels, millions, giga):
    """The paper counts the frozen extractor, and runs it again for the template; its MACs also hold norms, so they are
    a little higher."""
    spec = load(SUITES / f"{suite}.yaml").every_backbone[0].model_copy(update={"weights": "random"})
    network = TFANet.sized(TFANetOptions(), SimpleNamespace(shapes=lambda: [(channels, 64, 64)]))
    with torch.device("meta"):
        extractor = backbones.build(spec, () if spec.layers else TFANet.levels, 256)
        image = torch.zeros(1, 3, 256, 256)
        assert sum(one.shape[1] for one in extractor(image)) == channels
        once = counted(lambda: extractor(image))
        macs = counted(network.run) + once + once
    parameters = sum(p.numel() for model in (extractor, network.module) for p in model.parameters())
    assert round(parameters / 1e6, 2) == millions
    assert 0.997 * giga < macs.linear / 1e9 < giga
    # each of 513 tokens by each, twice, 768 wide, in 12 blocks; and of 257, 512 wide, in 8
    assert macs.attention == 12 * 2 * 513**2 * 768 + 8 * 2 * 257**2 * 512


# the template


def test_a_template_by_index_is_part_of_the_state(make):
    features = make()
    state = fitted(features, template=7).state()
    assert torch.equal(state["template"], joined(features.at([7]), 8, normalise=False))
    assert "template" not in fitted(features, variant="vanilla").state()


def test_the_medoid_is_nearest_to_all_others(make):
    features = make(batch=5)
    for level in features.maps:
        level[4] *= 0.5
    everything = joined(features.maps, 8, normalise=False).flatten(1).double()
    brute = int((torch.cdist(everything, everything) ** 2).sum(1).argmin())
    assert torch.equal(fitted(features, template="medoid").template, joined(features.at([brute]), 8, normalise=False))


def test_a_template_by_index_is_counted_in_the_order_of_paths(make):
    context = Context(0, image_size=(32, 32), by_path=(3, 0, *range(4, 12), 1, 2))
    for index, place in ((0, 3), (1, 0), (11, 2)):
        template = fitted(make(), context, template=index, epochs=0).template
        assert torch.equal(template, joined(make().at([place]), 8, normalise=False))


def test_a_template_that_is_not_there(make):
    with pytest.raises(ValueError, match="template is 12, but there are 12 training images"):
        fitted(make(), template=12)


def test_what_is_kept_of_the_template_equals_its_recomputation(make):
    method, features = fitted(make()), make(3, seed=1)
    maps, _ = method.score(features.maps)
    method._embedded = method.network.embed(patchify(joined(make().at([0]), 8, normalise=False), 2))
    assert torch.equal(method.score(features.maps)[0], maps)


def test_a_raw_template_is_seen_by_the_backbone_without_mean_and_deviation(make):
    spec = Extraction(BackboneSpec(name="resnet18", weights="random"), ImageSpec(resize=32), (0, 1))
    extractor = Extractor(spec, "cpu")
    pictures = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features = make()
    features.maps, features.images = extractor(pictures), HeldImages(pictures)
    context = Context(0, image_size=(32, 32), extractor=lambda: extractor)
    raw, plain = (fitted(features, context, template=1, template_raw=raw, epochs=0).template for raw in (True, False))
    with torch.no_grad():
        expected = joined(extractor.model(pictures[1:2] / 255), 8, normalise=False)
    torch.testing.assert_close(raw, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(raw, plain)


def test_a_raw_template_needs_images(make):
    with pytest.raises(ValueError, match="template_raw needs the training images"):
        fitted(make(), template_raw=True)


# standardised channels


def uneven(make, count: int = 12, seed: int = 0):
    """Features whose channels have scales from 0.01 to 100, and one that is constant."""
    features = make(count, seed=seed)
    for level in features.maps:
        level.mul_(torch.logspace(-2, 2, level.shape[1])[:, None, None]).add_(3)
    features.maps[0][:, 0] = 7.0
    return features


def test_standardised_channels_have_mean_0_and_deviation_1(make):
    features = uneven(make)
    method = fitted(features, standardise=True, epochs=0)
    values = method._joined(features.maps).double()
    expected = torch.ones(values.shape[1], dtype=torch.float64)
    expected[0] = 0  # the constant one
    torch.testing.assert_close(values.mean((0, 2, 3)), torch.zeros_like(expected), atol=1e-4, rtol=0)
    torch.testing.assert_close(values.std((0, 2, 3), correction=0), expected, atol=1e-4, rtol=0)
    assert torch.equal(method.template, method._joined(features.at([0])))


def test_their_scale_does_not_change_the_scores(make):
    """A positive factor of each channel is taken out again, so that neither training nor maps see it."""
    plain, factors = make(), [torch.logspace(-2, 2, level.shape[1])[:, None, None] for level in make().maps]
    scaled = make()
    scaled.maps = [level * factor for level, factor in zip(scaled.maps, factors, strict=True)]
    given = make(3, seed=1).maps
    one = fitted(plain, standardise=True).score(given)[0]
    other = fitted(scaled, standardise=True).score([x * f for x, f in zip(given, factors, strict=True)])[0]
    torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("standardise", [True, False])
def test_what_is_unexplained_is_the_error_over_that_of_the_mean_feature_map(make, standardise):
    features = uneven(make)
    method, curves = trained(features, standardise=standardise, epochs=1, lr=1e-9)
    values = method._joined(features.maps).double()
    variance = (values - values.mean(0)).square().mean()
    assert curves["unexplained"] == [pytest.approx(curves["euclidean"][0] / float(variance), rel=1e-4)]


def test_one_image_explains_nothing(make):
    assert "unexplained" not in trained(make(1))[1]


# training and scores


def test_training_lowers_both_terms_of_the_loss(make):
    curves = {name: np.array(values) for name, values in trained(make(), epochs=20)[1].items()}
    for name in ("loss", "euclidean", "cosine"):
        assert curves[name].shape == (20,) and curves[name][-1] < 0.95 * curves[name][0]
    np.testing.assert_allclose(curves["loss"], curves["euclidean"] + 5 * curves["cosine"], rtol=1e-5)


def test_no_epochs_leave_the_untrained_network(make):
    (method, curves), other = trained(make(), epochs=0), fitted(make(), epochs=0, lr=1.0)
    assert not curves
    assert all(torch.equal(value, other.state()[name]) for name, value in method.state().items())


def test_the_seed_decides_the_weights(make):
    weights = [fitted(make(), Context(seed, image_size=(32, 32))).network.head.weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.usefixtures("every_epoch")
def test_a_killed_fit_ends_with_the_weights_of_one_left_alone(make, tmp_path):
    class Killed(Exception):
        pass

    options = {"masking": "drop", "epochs": 3}  # with random numbers in every step
    alone = fitted(make(), **options)
    context = Context(0, image_size=(32, 32), checkpoint=tmp_path / "state")

    def die(done):
        if done > 0.5:
            raise Killed

    with pytest.raises(Killed):
        tfa_net(context, **options).fit(make(), die)
    assert context.checkpoint.exists()
    again = fitted(make(), context, **options)
    assert all(torch.equal(value, again.state()[name]) for name, value in alone.state().items())


def test_a_loss_that_is_not_finite_names_the_step(make):
    features = make()
    features.maps[0][3, 0, 0, 0] = float("nan")
    with pytest.raises(RuntimeError, match=r"tfa_net: the loss is nan in epoch 1 of 2, step \d of 3"):
        fitted(features, epochs=2)


@pytest.mark.parametrize(
    "options",
    [
        {"variant": "A"},
        {"variant": "B", "masking": "drop", "mask_ratio": 0.25},
        {"variant": "vanilla"},
        {"masking": "complementary", "distance": "cosine"},
        {"use_cls": False, "loss": "pixel", "distance": "euclidean"},
        {"l2_channels": True, "patch": 4},
        {"standardise": True},
    ],
)
def test_every_option_is_kept_by_state_and_restore(make, options):
    method, other = fitted(make(), **options), tfa_net(**options)
    other.restore({name: value.clone() for name, value in method.state().items()})
    given = make(5, seed=1).maps
    maps, scores = method.score(given)
    again, same = other.score(given)
    assert torch.equal(maps, again) and torch.equal(scores, same)
    assert maps.shape == (5, 32, 32) and (maps >= 0).all()
    plain = fitted(make(), **({"variant": "A"} if options != {"variant": "A"} else {}))
    assert not torch.allclose(maps, plain.score(given)[0])


def test_the_image_score_is_the_standard_deviation_of_the_map(make):
    maps, scores = fitted(make()).score(make(3, seed=1).maps)
    np.testing.assert_allclose(scores, maps.double().numpy().std((1, 2)), rtol=1e-4)
    assert TFANet.smoothing == 0  # the map is smoothed as it is


# options


def test_small_replaces_what_is_not_given():
    options = TFANetOptions(preset="small", width=96, grid=64)
    sizes = options.depth, options.refine_depth, options.width, options.grid, options.refine_width
    assert sizes == (4, 2, 96, 64, 128)
    assert options.epochs < TFANetOptions().epochs == 400
    assert TFANetOptions.model_validate(options.model_dump()) == options
    assert TFANetOptions(width=96).depth == 12


def test_the_label_tells_the_preset_and_its_epochs():
    choice = Choice.model_validate({"name": "tfa_net", "preset": "small", "epochs": 7})
    label = registry.label(choice, registry.options(choice, TFANetOptions, "method"))
    assert all(part in label for part in ("preset=small", "epochs=7"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": 30, "patch": 4}, "grid 30 is not two or more patches of 4"),
        ({"grid": 8, "patch": 8}, "grid 8 is not two or more patches of 8"),
        ({"width": 100}, "width 100 must be a multiple of 4 and of heads, 12"),
        ({"refine_width": 24, "refine_heads": 16}, "refine_width 24 must be"),
        ({"variant": "vanilla", "template": "medoid"}, "vanilla has no template"),
        ({"variant": "A", "masking": "drop"}, "choose variant B or C"),
        ({"masking": "complementary", "mask_ratio": 0.25}, "mask_ratio belongs to masking: drop"),
        ({"patch": 3}, "patch"),
    ],
)
def test_combinations_that_cannot_work(options, message):
    with pytest.raises(ValidationError, match=message):
        TFANetOptions(**options)
