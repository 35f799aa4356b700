"""RD4AD: its map and losses in closed form and by hand, its student beside anomalib's and the released one's size."""

from __future__ import annotations

import math
import re
from functools import partial

import numpy as np
import pytest
import torch

from adcore.core.contracts import Context, Curves
from adcore.core.plan import BackboneSpec, ImageSpec
from adcore.engine.sizes import size
from adcore.features.extractor import Extraction, Extractor
from adcore.features.held import Held
from adcore.methods import _rd4ad as rd4ad
from adcore.methods.rd4ad import RD4AD, RD4ADOptions, _student
from adcore.vision.maps import postprocess
from tests.methods.fixtures import make_rd4ad
from tests.methods.kills import alone_and_killed

SHAPES = [(6, 16, 16), (8, 8, 8), (10, 4, 4)]
OUT = (5, 7)


def features(count: int = 6, shapes=SHAPES, seed: int = 0, least: float = 0.0) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(count, *shape, generator=random).clamp(min=least) for shape in shapes]


def method(seed: int = 0, checkpoint=None, **options) -> RD4AD:
    given = {"preset": "small", "epochs": 2, "batch": 4} | options
    return RD4AD(RD4ADOptions(**given), Context(seed, image_size=OUT, checkpoint=checkpoint))


def trained(maps: list[torch.Tensor], **options) -> tuple[RD4AD, Curves]:
    made = method(**options)
    return made, made.fit(Held(maps))


# The map


def test_a_student_that_rebuilds_everything_gives_a_zero_map():
    maps = features(2, least=-9)
    torch.testing.assert_close(rd4ad.anomaly_map(maps, maps, OUT), torch.zeros(2, *OUT), rtol=0, atol=1e-5)


def test_opposite_maps_are_two_apart_at_each_level():
    maps = features(2, least=-9)
    far = rd4ad.anomaly_map(maps, [-one for one in maps], OUT)
    torch.testing.assert_close(far, torch.full((2, *OUT), 6.0))


def test_the_map_equals_its_twin_by_hand():
    """1 - cosine at each position, between positions linear, the image's corners at the centres of the map's."""
    teacher, student = features(2, least=-9), features(2, least=-9, seed=1)
    expected = np.zeros((2, *OUT))
    for a, b in zip(teacher, student, strict=True):
        far = np.zeros((2, *a.shape[2:]))
        for image, y, x in np.ndindex(far.shape):
            u, v = (one[image, :, y, x].double().numpy() for one in (a, b))
            far[image, y, x] = 1 - u @ v / math.sqrt((u @ u) * (v @ v))
        for image, y, x in np.ndindex(expected.shape):
            row = y * (far.shape[1] - 1) / (OUT[0] - 1)
            column = x * (far.shape[2] - 1) / (OUT[1] - 1)
            for i, j in np.ndindex(*far.shape[1:]):
                near = max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j))
                expected[image, y, x] += near * far[image, i, j]
    np.testing.assert_allclose(rd4ad.anomaly_map(teacher, student, OUT), expected, rtol=1e-4)


# The losses


def scaled(maps: list[torch.Tensor], low: float, high: float) -> list[torch.Tensor]:
    """Unit vectors, in the upper half of a map of one length and in the lower half of another."""
    unit = [torch.nn.functional.normalize(one, dim=1) for one in maps]
    half = [torch.full(one.shape[2:], low).index_fill(0, torch.arange(one.shape[2] // 2), high) for one in unit]
    return [one * length for one, length in zip(unit, half, strict=True)]


def test_lengths_that_differ_by_position_count_in_the_cosine_of_whole_maps_alone():
    """With lengths 1 and k in halves of a map: 1 - (1 + k) / sqrt(2 (1 + k^2)), at each of three levels."""
    maps = features(4, least=-9)
    teacher, student = scaled(maps, 1, 1), scaled(maps, 1, 3)
    assert float(rd4ad.loss(teacher, student, "whole")) == pytest.approx(3 * (1 - 4 / math.sqrt(20)), rel=1e-4)
    assert float(rd4ad.loss(teacher, student, "position")) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("kind", ["whole", "position"])
def test_a_loss_equals_its_twin_by_hand(kind):
    teacher, student = features(3, least=-9), features(3, least=-9, seed=1)
    expected = 0.0
    for a, b in zip(teacher, student, strict=True):
        cosines = []
        for image in range(3):
            u, v = a[image].double().numpy(), b[image].double().numpy()
            axis = None if kind == "whole" else 0
            cosines.append(np.mean((u * v).sum(axis) / np.sqrt((u * u).sum(axis) * (v * v).sum(axis))))
        expected += 1 - np.mean(cosines)
    assert float(rd4ad.loss(teacher, student, kind)) == pytest.approx(expected, rel=1e-4)


# The student beside anomalib's


@pytest.fixture(scope="module")
def kept() -> dict[str, np.ndarray]:
    with np.load(make_rd4ad.FILE) as file:
        return dict(file)


PARTS = {  # ours -> anomalib's
    r"down\.0\.0\.0": "bottleneck.conv1",
    r"down\.0\.0\.1": "bottleneck.bn1",
    r"down\.0\.1\.0": "bottleneck.conv2",
    r"down\.0\.1\.1": "bottleneck.bn2",
    r"down\.1\.0\.0": "bottleneck.conv3",
    r"down\.1\.0\.1": "bottleneck.bn3",
    r"embedding\.(\d)\.shortcut": r"bottleneck.bn_layer.\1.downsample",
    r"embedding\.(\d)": r"bottleneck.bn_layer.\1",
    r"up\.0\.(\d)": r"decoder.layer1.\1",
    r"up\.1\.(\d)": r"decoder.layer2.\1",
    r"up\.2\.(\d)": r"decoder.layer3.\1",
    r"main\.0": "conv1",
    r"main\.1": "bn1",
    r"main\.3": "conv2",
    r"main\.4": "bn2",
    r"main\.6": "conv3",
    r"main\.7": "bn3",
    r"shortcut": "upsample",
}


def theirs(name: str) -> str:
    """What anomalib calls a tensor of ours."""
    for ours, other in PARTS.items():
        name = re.sub(rf"\b{ours}\b", other, name)
    return name


@pytest.fixture(scope="module", params=sorted(make_rd4ad.CHANNELS))
def alike(request) -> tuple[str, list[torch.Tensor], list[torch.Tensor]]:
    """The kind, the teacher's maps, and those of our student with the weights that anomalib's had."""
    maps = [torch.from_numpy(one) for one in make_rd4ad.maps(request.param)]
    with torch.device("meta"):
        student = rd4ad.Student(rd4ad.BUILDS[request.param], [(*one.shape[1:],) for one in maps], [False] * 3)
    state = {
        name: torch.from_numpy(make_rd4ad.fill(theirs(name), tuple(value.shape))) if value.dim() else torch.tensor(0)
        for name, value in student.state_dict().items()
    }
    state["layout"] = torch.tensor([[*one.shape[1:], 0] for one in maps])
    with torch.inference_mode():
        return request.param, maps, rd4ad.made(state, rd4ad.BUILDS[request.param], False).eval()(maps)


def test_maps_equal_anomalibs(alike, kept):
    kind, teacher, student = alike
    maps = rd4ad.anomaly_map(teacher, student, (make_rd4ad.RAW, make_rd4ad.RAW))
    np.testing.assert_allclose(maps, kept[f"{kind}.raw"], rtol=1e-4)


def test_smoothed_maps_equal_anomalibs_where_no_border_reaches(alike, kept):
    kind, teacher, student = alike
    side = (make_rd4ad.SMOOTH, make_rd4ad.SMOOTH)
    smooth = postprocess(rd4ad.anomaly_map(teacher, student, side), side, RD4AD.smoothing)
    centre = smooth[:, make_rd4ad.CENTRE, make_rd4ad.CENTRE]
    np.testing.assert_allclose(centre, kept[f"{kind}.smooth"], rtol=1e-4)


def test_the_released_loss_equals_anomalibs(alike, kept):
    kind, teacher, student = alike
    assert float(rd4ad.loss(teacher, student, "whole")) == pytest.approx(float(kept[f"{kind}.loss"]), rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "channels"),
    [("resnet18", (64, 128, 256)), ("resnet50", (256, 512, 1024)), ("wide_resnet50_2", (256, 512, 1024))],
)
def test_a_student_has_the_parameters_of_the_released_one(kind, channels, kept):
    shapes = [(count, side, side) for count, side in zip(channels, (64, 32, 16), strict=True)]
    with torch.device("meta"):
        student = rd4ad.Student(rd4ad.BUILDS[kind], shapes, [False] * 3)
    assert sum(one.numel() for one in student.parameters()) == int(kept[f"{kind}.parameters"])


# The student on any backbone


@pytest.mark.parametrize(
    "shapes",
    [
        [(6, 4, 4), (6, 4, 4), (6, 4, 4)],  # a transformer's
        [(6, 7, 7), (6, 7, 7)],
        [(4, 63, 50), (5, 32, 25), (6, 16, 13)],  # halved and rounded up
        [(4, 15, 15), (5, 7, 7), (6, 3, 3)],  # or down
        [(4, 16, 16), (5, 4, 4)],  # a level is left out
        [(4, 16, 16), (5, 8, 8), (6, 4, 4), (7, 2, 2)],
        [(5, 8, 8)],
    ],
)
@pytest.mark.parametrize("student", ["resnet18", "light"])
def test_what_is_rebuilt_has_the_teachers_shapes(shapes, student):
    maps = features(2, shapes)
    made = trained(maps, student=student, epochs=1)[0]
    assert [one.shape for one in made.student(maps)] == [one.shape for one in maps]


def test_grids_that_do_not_change_take_no_stride_between_levels():
    """A transformer's: the embedding alone halves the grid."""
    student = trained(features(2, [(6, 4, 4)] * 3), epochs=0)[0].student
    strides = [one.stride for one in student.modules() if isinstance(one, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    assert [stride for stride in strides if stride != (1, 1)] == [(2, 2)] * 4  # two convolutions, twice a shortcut


@pytest.mark.parametrize("channels", [(64, 128, 256), (256, 512, 1024), (24, 40, 112)])
def test_the_blocks_go_by_the_channels_where_no_student_is_named(channels):
    shapes = [(count, side, side) for count, side in zip(channels, (8, 4, 2), strict=True)]
    named = "resnet18" if channels[0] == 64 else "wide_resnet50_2"
    with torch.device("meta"):
        own, expected = (_student(RD4ADOptions(student=name), shapes, [False] * 3) for name in (None, named))
    assert [(name, one.shape) for name, one in own.named_parameters()] == [
        (name, one.shape) for name, one in expected.named_parameters()
    ]


@pytest.mark.parametrize("below", range(3))
def test_a_map_with_values_below_zero_is_rebuilt_without_a_relu(below):
    maps = features()
    maps[below] -= 1
    rebuilt = trained(maps)[0].student(maps)
    assert [bool((one < 0).any()) for one in rebuilt] == [level == below for level in range(3)]


def test_the_fusing_convolution_leaves_one_maps_channels_of_all():
    plain, fused = (trained(features(), epochs=0, fuse=fuse)[0].student for fuse in (False, True))
    assert plain.fuse(plain.joined(features())).shape == (6, 30, 4, 4)
    assert fused.fuse(fused.joined(features())).shape == (6, 10, 4, 4)
    assert all(one.shape == maps.shape for one, maps in zip(fused(features()), features(), strict=True))


def test_the_student_is_counted():
    extractor = Extractor(
        Extraction(BackboneSpec(name="resnet18", weights="random"), ImageSpec(resize=64), (1, 2, 3)), "cpu"
    )
    assert size(extractor, RD4AD.sized(RD4ADOptions(), extractor)).learnable == 15_383_168


# Training


@pytest.mark.parametrize("kind", ["whole", "position"])
def test_training_lowers_the_loss(kind):
    curves = trained(features(12), epochs=40, loss=kind)[1]
    assert curves["loss"][-1] < 0.7 * curves["loss"][0]


def test_the_weights_follow_the_seed():
    weights = [trained(features(), epochs=0, seed=seed)[0].state()["student.down.0.0.0.weight"] for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.usefixtures("every_epoch")
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    alone, again = alone_and_killed(partial(method, epochs=4), lambda: Held(features()), tmp_path)
    assert all(torch.equal(value, again[name]) for name, value in alone.items())


def test_maps_from_coarse_to_fine_are_refused():
    with pytest.raises(ValueError, match=r"rd4ad: it reads maps from fine to coarse, but .*order the layers so"):
        trained(features(2, SHAPES[::-1]))


@pytest.mark.parametrize(("count", "batch"), [(1, 4), (5, 4), (4, 1)])
def test_a_single_image_in_a_single_position_is_refused(count, batch):
    with pytest.raises(
        ValueError, match=r"rd4ad: a batch of one image.*\(2, 2\).*take larger images, or another batch"
    ):
        trained(features(count, [(4, 4, 4), (5, 2, 2)]), batch=batch)


def test_a_single_image_is_enough_where_the_embedding_has_positions():
    assert len(trained(features(1))[1]["loss"]) == 2
