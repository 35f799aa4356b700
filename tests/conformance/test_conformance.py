"""What every registered method and dataset keeps to. A new file is tested here without a line being added."""

from __future__ import annotations

import functools
import inspect
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
import torch

from adcore.core.contracts import (
    CLS,
    POOLED,
    TOKENS,
    Context,
    Curves,
    FeatureMethod,
    ImageMethod,
    Level,
    Levels,
    Method,
    MethodOptions,
    block_of,
)
from adcore.core.plan import BackboneSpec, Choice, DatasetSpec, ImageSpec, PlanError, parse
from adcore.datasets.base import SPLITS, Dataset, Entry
from adcore.datasets.manifest import COLUMNS, build
from adcore.engine import registry
from adcore.engine.cells import contenders
from adcore.engine.sizes import size
from adcore.features.extractor import Extraction, Extractor
from adcore.features.held import Held, HeldImages
from adcore.vision.maps import image_scores, postprocess
from tests.datasets import layouts

METHODS, DATASETS = sorted(registry.modules("methods")), sorted(registry.modules("datasets"))
VIT = "test_vit"
BACKBONES = ("test_resnet", VIT)  # timm's own tiny ones, with random weights
SIDE, IMAGES = 64, 12
SAMPLES: dict[Any, set[Any]] = {bool: {True, False}, int: {1, 3}, float: {0.5, 0.9}}  # values of an option, by its type
OUTLIER = (0.5, 0.75)  # rows and columns of the test image that hold the anomaly, as shares of its sides


def extraction(backbone: str, levels: Sequence[Level]) -> Extraction:
    return Extraction(BackboneSpec(name=backbone, weights="random"), ImageSpec(resize=SIDE), tuple(levels))


@functools.cache
def extractor(backbone: str, levels: Levels) -> Extractor:
    return Extractor(extraction(backbone, levels), "cpu")


def images(seed: int, count: int = IMAGES) -> torch.Tensor:
    """Normal images: squares in colours that are the same in all, and a little noise."""
    colours = torch.randint(40, 216, (3, SIDE // 8, SIDE // 8), generator=torch.Generator().manual_seed(0))
    noise = torch.randint(-8, 9, (count, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))
    return (colours.repeat_interleave(8, 1).repeat_interleave(8, 2) + noise).byte()


def with_outlier(normal: torch.Tensor) -> torch.Tensor:
    """The same images, each with a patch that no training image has."""
    spoilt = normal.clone()
    rows = slice(*(int(share * SIDE) for share in OUTLIER))
    dots = 255 * torch.randint(0, 2, (3, 4, 4), generator=torch.Generator().manual_seed(5))
    spoilt[:, :, rows, rows] = dots.repeat(1, *(side // 4 for side in spoilt[0, 0, rows, rows].shape)).byte()
    return spoilt


@dataclass(frozen=True)
class Case:
    """A method on a backbone, and what it sees of images there."""

    cls: type[Method]
    backbone: str
    levels: Levels

    @property
    def extractor(self) -> Extractor:
        return extractor(self.backbone, self.levels)

    def made(self, quick: bool = False) -> Method:
        """Quick: after one epoch, to see that it works at all."""
        context = Context(seed=0, image_size=(SIDE, SIDE), extractor=lambda: self.extractor)
        options = self.cls.Options(**self.cls.trial)
        return self.cls(self.cls.quick(options) if quick else options, context)

    def source(self, seed: int, count: int = IMAGES) -> Held | HeldImages:
        pictures = HeldImages(images(seed, count), batch=5)
        if issubclass(self.cls, ImageMethod):
            return pictures
        return Held([maps.clone() for maps in self.extractor(pictures.all)], pictures, batch=5)

    def seen(self, pictures: torch.Tensor) -> Any:
        return pictures if issubclass(self.cls, ImageMethod) else [maps.clone() for maps in self.extractor(pictures)]


@pytest.fixture(scope="module", params=METHODS)
def cls(request: pytest.FixtureRequest) -> type[Method]:
    return registry.method(request.param)


@pytest.fixture(scope="module", params=BACKBONES)
def case(request: pytest.FixtureRequest, cls: type[Method]) -> Case:
    levels = cls.reads(cls.Options(**cls.trial))
    if request.param != VIT and not {level for level in levels if isinstance(level, str)} <= {POOLED}:
        pytest.skip("it reads tokens")
    return Case(cls, request.param, levels)


@dataclass(frozen=True)
class Fit:
    """A fit, what it told of its training, and of its progress. Fits are most of what these tests take."""

    method: Method
    curves: Curves
    heard: list[float]


@pytest.fixture(scope="module")
def fit(case: Case) -> Fit:
    method, heard = case.made(), list[float]()
    return Fit(method, method.fit(case.source(seed=1), heard.append), heard)


@pytest.fixture(scope="module")
def fitted(fit: Fit) -> Method:
    return fit.method


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def outputs(method: Method, seen: Any) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        maps, scores = method.score(seen)
    return {"maps": maps} | ({} if scores is None else {"scores": scores})


def test_a_module_holds_one_method_that_is_named_as_its_file(cls: type[Method]) -> None:
    module = inspect.getmodule(cls)
    assert module is not None and cls.__module__ == registry.modules("methods")[cls.name]
    own = [c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == cls.__module__]
    assert [c for c in own if issubclass(c, Method)] == [cls]
    assert module.__doc__
    assert cls.smoothing >= 0


def test_a_method_reads_levels_that_there_are(cls: type[Method]) -> None:
    levels = cls.reads(cls.Options())
    assert levels
    assert all(level in {0, 1, 2, 3, 4, TOKENS, CLS, POOLED} or block_of(level) for level in levels)


def test_it_reads_features_or_images(cls: type[Method]) -> None:
    assert issubclass(cls, FeatureMethod) != issubclass(cls, ImageMethod)


def test_every_option_has_a_default_and_is_closed(cls: type[Method]) -> None:
    assert issubclass(cls.Options, MethodOptions)
    assert not [name for name, field in cls.Options.model_fields.items() if field.is_required()]
    assert cls.Options.model_config["extra"] == "forbid" and cls.Options.model_config["frozen"]
    hash(cls.Options())  # an option that cannot be hashed could not be a key
    (contender,) = contenders(parse({"datasets": ["elpv"], "methods": [cls.name]}))
    assert contender.options == cls.Options() and contender.names["method_label"] == cls.name


def test_the_bytes_of_a_state_are_foreseen(case: Case, fitted: Method) -> None:
    """What a dry run says of a model's size is what a fit writes."""
    written = sum(tensor.nbytes for tensor in fitted.state().values())
    assert case.cls.state_bytes(fitted.options, case.extractor, IMAGES) == pytest.approx(written, rel=0.02, abs=200)


def test_the_parameters_that_it_learns_are_told(case: Case, fitted: Method) -> None:
    """A method that trains a network shows its size: never 0 learnable parameters, nor an untrained method's macs."""
    counted = size(case.extractor, case.cls.sized(fitted.options, case.extractor))
    trains = case.cls.passes(fitted.options) is not None
    assert (counted.learnable > 0) == trains
    assert (counted.own.total > 0) >= trains
    assert counted.total >= counted.learnable + sum(p.numel() for p in case.extractor.model.parameters())


def test_a_training_has_a_value_an_epoch(case: Case, fit: Fit) -> None:
    passes = case.cls.passes(fit.method.options)
    assert {len(values) for values in fit.curves.values()} == ({passes} if passes else set())


def test_the_quickest_training_leaves_a_network_of_the_same_size(case: Case, fitted: Method) -> None:
    quick = case.cls.quick(fitted.options)
    whole, short = (
        size(case.extractor, case.cls.sized(options, case.extractor)) for options in (fitted.options, quick)
    )
    assert whole == short
    assert case.cls.passes(quick) in (None, 1), "a method that trains overrides `quick`"


def test_a_wrong_option_is_answered_with_the_nearest(cls: type[Method]) -> None:
    for name in cls.Options.model_fields:
        wrong = name[:-1] + name[-1] * 2 + "x"
        with pytest.raises(PlanError, match=f"method '{cls.name}': unknown key '{wrong}'.*did you mean '{name}'"):
            registry.options(Choice.model_validate({"name": cls.name, wrong: 1}), cls.Options, "method")
    with pytest.raises(PlanError, match="unknown key 'zzzz'"):
        registry.options(Choice.model_validate({"name": cls.name, "zzzz": 1}), cls.Options, "method")


def test_scores_are_finite_maps_of_a_grid(case: Case, fitted: Method) -> None:
    for count in (1, 5):
        maps, scores = fitted.score(case.seen(images(seed=2, count=count)))
        assert maps.ndim == 3 and len(maps) == count and maps.dtype == torch.float32
        assert max(maps.shape[1:]) <= SIDE and torch.isfinite(maps).all()
        if scores is not None:
            assert scores.shape == (count,) and scores.dtype == torch.float32 and torch.isfinite(scores).all()


def test_an_outlier_stands_out_where_it_is(case: Case, fitted: Method) -> None:
    normal = images(seed=3, count=4)
    plain, odd = fitted.score(case.seen(normal)), fitted.score(case.seen(with_outlier(normal)))
    smooth = [postprocess(maps, (SIDE, SIDE), fitted.smoothing) for maps, _ in (plain, odd)]
    scores = [image_scores(maps, given) for maps, (_, given) in zip(smooth, (plain, odd), strict=True)]
    assert (scores[1] > scores[0].max()).all()
    cell = -(-SIDE // odd[0].shape[1])  # pixels: a map tells no place more exactly, and some average their neighbours
    inside, near = square(), square(cell)
    assert all(near.flatten()[maps.flatten().argmax()] for maps in smooth[1])
    assert (smooth[1][:, inside].mean(1) > smooth[0][:, inside].mean(1)).all()


def square(margin: int = 0) -> torch.Tensor:
    """The pixels (SIDE, SIDE) of the outlier, and those around it."""
    low, high = (int(share * SIDE) for share in OUTLIER)
    pixels = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    pixels[low - margin : high + margin, low - margin : high + margin] = True
    return pixels


def test_an_image_scores_the_same_in_any_company(case: Case, fitted: Method) -> None:
    batch = images(seed=4, count=4)
    together = outputs(fitted, case.seen(batch))
    alone = outputs(fitted, case.seen(batch[2:3]))
    for name in together:
        torch.testing.assert_close(together[name][2:3], alone[name], rtol=1e-4, atol=1e-4)


def test_scoring_changes_nothing(case: Case, fitted: Method) -> None:
    batch = case.seen(images(seed=5, count=2))
    before = {name: tensor.clone() for name, tensor in fitted.state().items()}
    kept = [one.clone() for one in batch]
    first, _ = fitted.score(batch)
    assert all(torch.equal(a, b) for a, b in zip(batch, kept, strict=True))
    assert torch.equal(fitted.score(batch)[0], first) and equal(fitted.state(), before)


def test_state_and_restore_give_the_same_bits(case: Case, fitted: Method, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file({name: tensor.contiguous() for name, tensor in fitted.state().items()}, tmp_path / "state.safetensors")
    other = case.made()
    other.restore(load_file(tmp_path / "state.safetensors"))
    batch = case.seen(images(seed=6, count=3))
    assert equal(outputs(other, batch), outputs(fitted, batch)) and equal(other.state(), fitted.state())


def test_two_fits_give_the_same_bits_whatever_the_global_generator(case: Case, fitted: Method) -> None:
    torch.manual_seed(99)
    again = case.made()
    again.fit(case.source(seed=1))
    batch = case.seen(images(seed=7, count=2))
    assert equal(again.state(), fitted.state()) and equal(outputs(again, batch), outputs(fitted, batch))


def test_options_that_score_alone_reads_do_not_change_the_fit(case: Case, fitted: Method) -> None:
    for name in case.cls.at_score:
        default, annotation = getattr(fitted.options, name), case.cls.Options.model_fields[name].annotation
        values = SAMPLES.get(annotation) or set(get_args(annotation))
        assert len(values) > 1
        for value in values - {default}:
            other = case.cls(fitted.options.model_copy(update={name: value}), fitted.context)
            other.fit(case.source(seed=1))
            assert equal(other.state(), fitted.state()), (name, value)


def test_progress_rises_to_one(fit: Fit) -> None:
    heard = fit.heard
    assert all(0 <= done <= 1 + 1e-9 for done in heard) and heard == sorted(heard)
    assert not heard or heard[-1] == pytest.approx(1)


@pytest.mark.parametrize(("levels", "count"), [(1, 5), (None, 2), (None, 1)])
def test_a_method_takes_any_number_of_layers_and_few_images(case: Case, levels: int | None, count: int) -> None:
    """The plan's `layers` may give one map where the method's own levels give three."""
    fewer = Case(case.cls, case.backbone, case.levels[:levels])
    method = fewer.made(quick=True)
    try:
        method.fit(fewer.source(seed=8, count=count))
    except ValueError as error:  # or it says at once how many it needs
        assert levels == 1 and f"{case.cls.name}: it reads" in str(error) and "layers" in str(error)
    else:
        assert torch.isfinite(method.score(fewer.seen(images(seed=9, count=2)))[0]).all()


# Datasets


@pytest.fixture(params=DATASETS)
def kind(request: pytest.FixtureRequest) -> type[Dataset]:
    return registry.dataset(request.param)


def test_a_kind_tells_what_it_is(kind: type[Dataset]) -> None:
    assert kind.__module__ == registry.modules("datasets")[kind.kind]
    assert isinstance(kind.textures, tuple) and all(isinstance(name, str) for name in kind.textures)
    assert isinstance(kind.licence, str) and isinstance(kind.note, str) and isinstance(kind.show_images, bool)
    assert kind.licence or kind.kind == "folder"  # what we bring has a licence
    assert inspect.getdoc(kind)


def solar_cells(root: Path, parts: Path) -> None:
    """The layout of the package elpv-dataset, with the pictures of the tiny dataset."""
    (root / "images").mkdir(parents=True)
    lines = []
    for number, path in enumerate(sorted(parts.rglob("*.png"))):
        if "ground_truth" not in path.parts:
            shutil.copyfile(path, root / "images" / f"cell{number:04d}.png")
            lines.append(
                f"images/cell{number:04d}.png {float('good' not in path.parts)} {['mono', 'poly'][number % 2]}"
            )
    (root / "labels.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def tiny(kind: type[Dataset], parts: Path, tmp_path: Path) -> Dataset:
    """The kind over a few files of its layout, so that nothing is fetched or generated."""
    root = parts
    if kind.kind.startswith("elpv"):
        root = tmp_path / "cells"
        solar_cells(root, parts)
    elif kind.kind in layouts.WRITERS:
        root = layouts.write(kind.kind, tmp_path / "copy")
    whole = kind(DatasetSpec(name="tiny", kind=kind.kind, root=root), tmp_path / "data")
    spec = whole.spec.model_copy(update={"categories": tuple(whole.categories_in(root)) or None})
    return kind(spec, tmp_path / "data")


def test_entries_are_sorted_and_relative(tiny: Dataset) -> None:
    tiny.prepare()
    entries = tiny.entries()
    assert len(entries) >= 24 and all(isinstance(entry, Entry) for entry in entries)
    assert [entry.path for entry in entries] == sorted(entry.path for entry in entries)
    for entry in entries:
        assert (tiny.root / entry.path).is_file() and entry.category and entry.split in (*SPLITS, "")
        assert not entry.mask or (tiny.root / entry.mask).exists()


def test_a_manifest_has_its_columns_and_a_split_for_each_row(tiny: Dataset, tmp_path: Path) -> None:
    frame = build(tiny, tmp_path / "files.sqlite")
    assert list(frame.columns) == COLUMNS and len(frame) and not frame["error"].any()
    assert set(frame["split"]) <= set(SPLITS) and set(frame["label"]) == {0, 1}
    assert not frame.loc[frame["split"] != "test", "label"].any()
    assert frame["sha256"].str.fullmatch("[0-9a-f]{64}").all() and (frame[["width", "height"]] >= 64).all(axis=None)
    pd.testing.assert_frame_equal(frame, build(tiny, tmp_path / "files.sqlite"))


def test_a_root_that_is_not_there_is_named(kind: type[Dataset], tmp_path: Path) -> None:
    from adcore.datasets.base import DataError

    spec = DatasetSpec(name="mine", kind=kind.kind, root=tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"mine.*nowhere"):
        kind(spec, tmp_path / "data").prepare()
