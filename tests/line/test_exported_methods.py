"""Every registered method as a graph: what the table in docs/line.md says of it. A new method needs a row.

`pytest tests/line/test_exported_methods.py -m slow` tries them all, on a convolutional network and a transformer."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from adcore.core.contracts import POOLED, Context, FeatureMethod, Method
from adcore.core.plan import BackboneSpec, ImageSpec
from adcore.engine import registry
from adcore.features.extractor import Extraction, Extractor, reader
from adcore.features.held import Held, HeldImages
from adcore.line import _forms, _graph, _infer
from adcore.vision.maps import image_scores, postprocess

REPO = Path(__file__).parents[2]
METHODS = sorted(registry.modules("methods"))
SIDE = 64
CLOSE = 1e-4  # of the largest value
ROW = re.compile(r"^\| `(\w+)` \| (ONNX|torch) \| (any|1) \|", re.MULTILINE)


def table() -> dict[str, tuple[str, str]]:
    """Method -> how it is exported, and how many images go through at once."""
    text = (REPO / "docs" / "line.md").read_text(encoding="utf-8")
    return {name: (form, batch) for name, form, batch in ROW.findall(text)}


def pictures(seed: int, count: int) -> torch.Tensor:
    """Squares in colours that are the same in all, and noise."""
    colours = torch.randint(40, 216, (3, 8, 8), generator=torch.Generator().manual_seed(0))
    noise = torch.randint(-8, 9, (count, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))
    return (colours.repeat_interleave(8, 1).repeat_interleave(8, 2) + noise).byte()


def fitted(cls: type[Method], extractor: Extractor) -> Method:
    method = cls(cls.Options(**cls.trial), Context(0, image_size=(SIDE, SIDE), extractor=lambda: extractor))
    images = HeldImages(pictures(1, 12), batch=5)
    if not issubclass(cls, FeatureMethod):
        method.fit(images)
    else:
        method.fit(Held([maps.clone() for maps in extractor(images.all)], images, batch=5))
    return method


def test_the_table_has_every_method() -> None:
    assert sorted(table()) == METHODS


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_exported_as_the_table_says(name: str, backbone: str, tmp_path: Path) -> None:
    cls = registry.method(name)
    levels = cls.reads(cls.Options(**cls.trial))
    if backbone == "test_resnet" and not {level for level in levels if isinstance(level, str)} <= {POOLED}:
        pytest.skip("it reads tokens")
    spec = Extraction(BackboneSpec(name=backbone, weights="random"), ImageSpec(resize=SIDE), levels)
    extractor = Extractor(spec, "cpu")
    method, read = fitted(cls, extractor), reader(cls, lambda: extractor, "cpu")
    images = torch.cat([pictures(2, 2), torch.flip(pictures(3, 1), (2,))])
    with torch.inference_mode():
        raw, given = method.score(read(images))
        smooth = postprocess(raw, (SIDE, SIDE), method.smoothing)
        scores = image_scores(smooth, given)
    graph = _graph.write(_forms.Model(method, read), SIDE, tmp_path)
    run = _infer.model(tmp_path, {"model": {"file": graph.file}})
    parts = [images] if graph.batch is None else images.split(graph.batch)
    found = [run(part.numpy()) for part in parts]
    for ours, theirs in zip((smooth, scores), map(np.concatenate, zip(*found, strict=True)), strict=True):
        np.testing.assert_allclose(theirs, ours.numpy(), rtol=0, atol=CLOSE * float(ours.abs().max()))
    told = ("ONNX" if graph.file == _graph.ONNX else "torch", "any" if graph.batch is None else str(graph.batch))
    assert told == table()[name], graph.why
