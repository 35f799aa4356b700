"""What every registered method and dataset keeps to. A new file is tested here without a line being added."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
import torch

from adcore import registry
from adcore.cells import arms
from adcore.datasets.base import Dataset, Entry
from adcore.datasets.manifest import COLUMNS, build
from adcore.maps import image_scores, postprocess
from adcore.methods.base import Context, Method, Options
from adcore.plan import Choice, DatasetSpec, PlanError, parse
from tests.datasets import layouts
from tests.methods.pooled import Pooled

METHODS, DATASETS = sorted(registry.modules("methods")), sorted(registry.modules("datasets"))
SIDE, IMAGES = 64, 12
CHANNELS = {0: 6, 1: 8, 2: 12, 3: 16, 4: 20}
SHORT = {"preset": "small", "epochs": 2, "grid": 16}  # of a method that has a preset: it would train for hours
SHORT_ON_IMAGES = {"preset": "small", "epochs": 20, "width": 32, "depth": 1, "batch": 4}
OUTLIER = (0.5, 0.75)  # rows and columns of the test image that hold the anomaly, as shares of its sides


class Tensors:
    """A FeatureSource over tensors in memory, in batches of five."""

    def __init__(self, levels: list[torch.Tensor]) -> None:
        self.levels = levels

    def __len__(self) -> int:
        return len(self.levels[0])

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        for start in range(0, len(self), 5):
            yield [level[start : start + 5].clone() for level in self.levels]

    def at(self, indices: Sequence[int]) -> list[torch.Tensor]:
        return [level[list(indices)] for level in self.levels]

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        return [(level.shape[1], level.shape[2], level.shape[3]) for level in self.levels]


def features(levels: Sequence[int], seed: int, count: int = IMAGES) -> list[torch.Tensor]:
    """Maps of normal images: a pattern that is the same in all, and a little noise."""
    found = []
    for level in levels:
        side = SIDE // 2 ** (max(level, 1) + 1)  # level 0 is pooled to the side of level 1
        shape = (CHANNELS[level], side, side)
        pattern = torch.randn(shape, generator=torch.Generator().manual_seed(level))
        found.append(pattern + 0.1 * torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed)))
    return found


def images(seed: int, count: int = IMAGES) -> list[torch.Tensor]:
    """Normal images: squares in colours that are the same in all, and a little noise."""
    colours = torch.randint(40, 216, (3, SIDE // 8, SIDE // 8), generator=torch.Generator().manual_seed(0))
    noise = torch.randint(-20, 21, (count, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))
    return [(colours.repeat_interleave(8, 1).repeat_interleave(8, 2) + noise).byte()]


def given(cls: type[Method], levels: Sequence[int], seed: int, count: int = IMAGES) -> list[torch.Tensor]:
    """What a method sees of normal images: maps, or the images themselves."""
    return images(seed, count) if cls.on_images else features(levels, seed, count)


def with_outlier(levels: list[torch.Tensor]) -> list[torch.Tensor]:
    """The same images, each with a patch that no training image has, at the same place in every level."""
    spoilt = [level.clone() for level in levels]
    for level in spoilt:
        rows = slice(*(int(share * level.shape[2]) for share in OUTLIER))
        if level.dtype == torch.uint8:
            dots = 255 * torch.randint(0, 2, (3, 4, 4), generator=torch.Generator().manual_seed(5))
            level[:, :, rows, rows] = dots.repeat(1, *(side // 4 for side in level[0, 0, rows, rows].shape)).byte()
        else:
            level[:, :, rows, rows] += 4
    return spoilt


def made(cls: type[Method], levels: Sequence[int] | None = None, seed: int = 0) -> Method:
    """`levels`: those of the maps that it is given; by default its own."""
    fields = cls.Options.model_fields
    shorter = SHORT_ON_IMAGES if cls.on_images else SHORT
    short = {key: value for key, value in shorter.items() if key in fields} if "preset" in fields else {}
    extractor: Any = None
    if cls.on_images:
        read = levels or cls.levels
        frozen = Pooled(read, [CHANNELS[level] for level in read], SIDE)
        extractor = lambda: frozen  # noqa: E731
    return cls(cls.Options(**short), Context(seed=seed, image_size=(SIDE, SIDE), extractor=extractor))


@pytest.fixture(scope="module", params=METHODS)
def cls(request: pytest.FixtureRequest) -> type[Method]:
    return registry.method(request.param)


@pytest.fixture(scope="module")
def fitted(cls: type[Method]) -> Method:
    method = made(cls)
    method.fit(Tensors(given(cls, cls.levels, seed=1)))
    return method


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def outputs(method: Method, levels: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        maps, scores = method.score([level.clone() for level in levels])
    return {"maps": maps} | ({} if scores is None else {"scores": scores})


def test_a_module_holds_one_method_that_is_named_as_its_file(cls: type[Method]) -> None:
    module = inspect.getmodule(cls)
    assert module is not None and cls.__module__ == registry.modules("methods")[cls.name]
    own = [c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == cls.__module__]
    assert [c for c in own if issubclass(c, Method)] == [cls]
    assert module.__doc__ and cls.levels and set(cls.levels) <= set(CHANNELS) and cls.smoothing >= 0


def test_every_option_has_a_default_and_is_closed(cls: type[Method]) -> None:
    assert issubclass(cls.Options, Options)
    assert not [name for name, field in cls.Options.model_fields.items() if field.is_required()]
    assert cls.Options.model_config["extra"] == "forbid" and cls.Options.model_config["frozen"]
    hash(cls.Options())  # an option that cannot be hashed could not be a key
    arm = arms(parse({"datasets": ["elpv"], "methods": [cls.name]}))[0]
    assert arm.options == cls.Options() and arm.names["method_label"] == cls.name


def test_the_bytes_of_a_state_are_foreseen(cls: type[Method], fitted: Method) -> None:
    """What a dry run says of a model's size is what a fit writes."""
    shapes = [(CHANNELS[level], side, side) for level in cls.levels for side in [SIDE // 2 ** (max(level, 1) + 1)]]
    written = sum(tensor.nbytes for tensor in fitted.state().values())
    assert cls.state_bytes(fitted.options, shapes, IMAGES) == pytest.approx(written, rel=0.02)


def test_a_wrong_option_is_answered_with_the_nearest(cls: type[Method]) -> None:
    for name in cls.Options.model_fields:
        wrong = name[:-1] + name[-1] * 2 + "x"
        with pytest.raises(PlanError, match=f"method '{cls.name}': unknown key '{wrong}'.*did you mean '{name}'"):
            registry.options(Choice.model_validate({"name": cls.name, wrong: 1}), cls.Options, "method")
    with pytest.raises(PlanError, match="unknown key 'zzzz'"):
        registry.options(Choice.model_validate({"name": cls.name, "zzzz": 1}), cls.Options, "method")


def test_scores_are_finite_maps_of_a_grid(fitted: Method) -> None:
    for count in (1, 5):
        maps, scores = fitted.score(given(type(fitted), fitted.levels, seed=2, count=count))
        assert maps.ndim == 3 and len(maps) == count and maps.dtype == torch.float32
        assert max(maps.shape[1:]) <= SIDE and torch.isfinite(maps).all()
        if scores is not None:
            assert scores.shape == (count,) and scores.dtype == torch.float32 and torch.isfinite(scores).all()


def test_an_outlier_stands_out_where_it_is(fitted: Method) -> None:
    normal = given(type(fitted), fitted.levels, seed=3, count=4)
    plain, odd = fitted.score(normal), fitted.score(with_outlier(normal))
    smooth = [postprocess(maps, (SIDE, SIDE), fitted.smoothing) for maps, _ in (plain, odd)]
    scores = [image_scores(maps, given) for maps, (_, given) in zip(smooth, (plain, odd), strict=True)]
    assert (scores[1] > scores[0].max()).all()
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    low, high = (int(share * SIDE) for share in OUTLIER)
    inside[low:high, low:high] = True
    assert all(inside.flatten()[maps.flatten().argmax()] for maps in smooth[1])
    assert (smooth[1][:, inside].mean(1) > smooth[0][:, inside].mean(1)).all()


def test_an_image_scores_the_same_in_any_company(fitted: Method) -> None:
    batch = given(type(fitted), fitted.levels, seed=4, count=4)
    together = outputs(fitted, batch)
    alone = outputs(fitted, [level[2:3] for level in batch])
    for name in together:
        torch.testing.assert_close(together[name][2:3], alone[name], rtol=1e-4, atol=1e-4)


def test_scoring_changes_nothing(fitted: Method) -> None:
    batch = given(type(fitted), fitted.levels, seed=5, count=2)
    before = {name: tensor.clone() for name, tensor in fitted.state().items()}
    kept = [level.clone() for level in batch]
    first, _ = fitted.score(batch)
    assert all(torch.equal(a, b) for a, b in zip(batch, kept, strict=True))
    assert torch.equal(fitted.score(batch)[0], first) and equal(fitted.state(), before)


def test_state_and_restore_give_the_same_bits(cls: type[Method], fitted: Method, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file({name: tensor.contiguous() for name, tensor in fitted.state().items()}, tmp_path / "state.safetensors")
    other = made(cls)
    other.restore(load_file(tmp_path / "state.safetensors"))
    batch = given(cls, cls.levels, seed=6, count=3)
    assert equal(outputs(other, batch), outputs(fitted, batch)) and equal(other.state(), fitted.state())


def test_two_fits_give_the_same_bits_whatever_the_global_generator(cls: type[Method], fitted: Method) -> None:
    torch.manual_seed(99)
    again = made(cls)
    again.fit(Tensors(given(cls, cls.levels, seed=1)))
    batch = given(cls, cls.levels, seed=7, count=2)
    assert equal(again.state(), fitted.state()) and equal(outputs(again, batch), outputs(fitted, batch))


def test_options_that_score_alone_reads_do_not_change_the_fit(cls: type[Method], fitted: Method) -> None:
    for name in cls.at_score:
        default, annotation = getattr(fitted.options, name), cls.Options.model_fields[name].annotation
        values = {True, False} if annotation is bool else set(get_args(annotation))
        assert len(values) > 1
        for value in values - {default}:
            other = cls(fitted.options.model_copy(update={name: value}), fitted.context)
            other.fit(Tensors(given(cls, cls.levels, seed=1)))
            assert equal(other.state(), fitted.state()), (name, value)


def test_progress_rises_to_one(cls: type[Method]) -> None:
    heard: list[float] = []
    made(cls).fit(Tensors(given(cls, cls.levels, seed=1)), heard.append)
    assert all(0 <= done <= 1 + 1e-9 for done in heard) and heard == sorted(heard)
    assert not heard or heard[-1] == pytest.approx(1)


def test_a_method_takes_any_number_of_layers_and_few_images(cls: type[Method]) -> None:
    """The plan's `layers` may give one map where the method's own levels give three."""
    for levels, count in ((cls.levels[:1], 5), (cls.levels, 2), (cls.levels, 1)):
        method = made(cls, levels)
        try:
            method.fit(Tensors(given(cls, levels, seed=8, count=count)))
        except ValueError as error:  # or it says at once how many it needs
            assert len(levels) == 1 and f"{cls.name}: it reads" in str(error) and "layers" in str(error)
            continue
        assert torch.isfinite(method.score(given(cls, levels, seed=9, count=2))[0]).all()


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
        assert (tiny.root / entry.path).is_file() and entry.category and entry.split in ("train", "test", "")
        assert not entry.mask or (tiny.root / entry.mask).exists()


def test_a_manifest_has_its_columns_and_a_split_for_each_row(tiny: Dataset, tmp_path: Path) -> None:
    frame = build(tiny, tmp_path / "files.sqlite")
    assert list(frame.columns) == COLUMNS and len(frame) and not frame["error"].any()
    assert set(frame["split"]) <= {"train", "test"} and set(frame["label"]) == {0, 1}
    assert not frame.loc[frame["split"] == "train", "label"].any()
    assert frame["sha256"].str.fullmatch("[0-9a-f]{64}").all() and (frame[["width", "height"]] >= 64).all(axis=None)
    pd.testing.assert_frame_equal(frame, build(tiny, tmp_path / "files.sqlite"))


def test_a_root_that_is_not_there_is_named(kind: type[Dataset], tmp_path: Path) -> None:
    from adcore.datasets.base import DataError

    spec = DatasetSpec(name="mine", kind=kind.kind, root=tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"mine.*nowhere"):
        kind(spec, tmp_path / "data").prepare()
