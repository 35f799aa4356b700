"""A cell as a folder: it tells what adcore tells, and a model that does not is no bundle."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adcore import api
from adcore.core.packages import PACKAGES
from adcore.core.plan import Plan, PlanError
from adcore.engine import registry
from adcore.engine.bench import Bench, Layout
from adcore.engine.cells import Cell
from adcore.engine.enhancement import image_set
from adcore.line import _graph, _infer, _preprocess, bundle, prediction
from adcore.line.scorer import Scored, Scorer
from adcore.vision.images import ImageFile

METHODS = ("padim", "patchcore")


@pytest.fixture(scope="module")
def scorers(done: Bench, cells: dict[str, Cell]) -> dict[str, Scorer]:
    return {name: Scorer(done, cells[name]) for name in METHODS}


@pytest.fixture(scope="module")
def parities(done: Bench, scorers: dict[str, Scorer], out: Path) -> dict[str, bundle.Parity]:
    return {name: bundle.write(done, scorer, out / name) for name, scorer in scorers.items()}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(params=METHODS)
def name(request: pytest.FixtureRequest, parities: dict[str, bundle.Parity]) -> str:
    """A method, whose bundle is written."""
    found: str = request.param
    return found


def facts(out: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / name / "bundle.json").read_text())
    return found


def test_the_bundle_tells_what_adcore_tells(parities: dict[str, bundle.Parity], name: str) -> None:
    parity = parities[name]
    assert parity.failures == [] and parity.score < 1e-4 * parity.score_range and parity.map < 1e-4 * parity.map_range


def test_both_aurocs_are_that_of_the_benchmark(done: Bench, scorers: dict[str, Scorer], out: Path, name: str) -> None:
    cell = done.store.path("cell", scorers[name].cell.key)
    expected = json.loads((cell / "metrics.json").read_text())["i_auroc"]
    found = json.loads((out / name / "parity.json").read_text())["i_auroc"]
    assert found == pytest.approx({"adcore": expected, "bundle": expected})


def test_a_bundle_is_whole(out: Path, name: str) -> None:
    files = {"model.onnx", "bundle.json", "MODEL_CARD.md", "preprocess.py", "infer.py", "parity.json", "parity.md"}
    assert {path.name for path in (out / name).iterdir()} == files


def test_nothing_is_left_beside_it(out: Path, name: str) -> None:
    assert {path.name for path in out.iterdir()} <= set(METHODS)


def test_it_holds_thresholds_with_their_promise(scorers: dict[str, Scorer], out: Path, name: str) -> None:
    scorer, given = scorers[name], facts(out, name)["thresholds"]
    assert scorer.image is not None and scorer.map is not None and scorer.calibration is not None
    expected = [scorer.image.value, scorer.image.promised, scorer.map.value, len(scorer.calibration)]
    assert [*given["image"].values(), given["map"]["value"], given["normal_images"]] == expected


def test_any_number_of_images_goes_through(scorers: dict[str, Scorer], out: Path, name: str) -> None:
    run, content = _infer.model(out / name, facts(out, name)), facts(out, name)
    images = np.stack([_preprocess.load(p, content["image"]) for p in image_set(scorers[name].cell, "test").paths])
    np.testing.assert_allclose(run(images)[1][1:2], run(images[1:2])[1], rtol=1e-4)


def test_infer_gives_the_verdicts_of_predict(scorers: dict[str, Scorer], out: Path, name: str) -> None:
    """In a process that finds no adcore."""
    paths = image_set(scorers[name].cell, "test").paths
    command = [sys.executable, "-I", "-c", ISOLATED, str(out / name), *map(str, paths)]
    found = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    rows = prediction.predict(scorers[name], paths, out.parent / f"predicted-{out.name}-{name}")
    assert [line.split("\t")[0] for line in found.stdout.splitlines()] == [row.verdict for row in rows], found.stderr


ISOLATED = """
import runpy, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("adcore", "torch", "timm"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
sys.path.insert(0, sys.argv[1])
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0] + "/infer.py", run_name="__main__")
"""


def test_infer_is_short(out: Path, name: str) -> None:
    assert len((out / name / "infer.py").read_text().splitlines()) < 100


def test_infer_goes_on_behind_a_bad_image(
    scorers: dict[str, Scorer], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    out: Path, parities: dict[str, bundle.Parity],
) -> None:  # fmt: skip
    (tmp_path / "bad.png").write_bytes(b"no image")
    monkeypatch.setattr(_infer, "__file__", str(out / "padim" / "infer.py"))
    good = str(image_set(scorers["padim"].cell, "test").paths[0])
    code = _infer.main([str(tmp_path / "bad.png"), good])
    assert code == 3 and capsys.readouterr().out.startswith("failed\t")


def test_the_card_tells_the_licences_and_the_promise(out: Path, name: str) -> None:
    card = (out / name / "MODEL_CARD.md").read_text()
    assert "random weights, nobody's" in card and "probability of at most" in card


def broken(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes into the graph is a tenth more than what scored."""
    from adcore.line import _forms

    real = _forms.smoothed
    monkeypatch.setattr(_forms, "smoothed", lambda maps, size, sigma: 1.1 * real(maps, size, sigma))


def test_a_model_that_tells_otherwise_is_no_bundle(
    done: Bench, scorers: dict[str, Scorer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(scorers["padim"], monkeypatch)
    parity = bundle.write(done, scorers["padim"], tmp_path / "bundle")
    assert any(line.startswith("maps differ by") for line in parity.failures)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        "bundle.failed/parity.json",
        "bundle.failed/parity.md",
    }


def test_what_onnx_cannot_express_is_a_program_of_torch(
    done: Bench, scorers: dict[str, Scorer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(program: Any, path: Path) -> None:
        path.write_text("begun")
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setattr(_graph, "_write_onnx", fails)
    parity = bundle.write(done, scorers["padim"], tmp_path / "bundle")
    model = facts(tmp_path, "bundle")["model"]
    assert parity.failures == [] and model["not_onnx_because"] == "RuntimeError: no such operator"
    assert {path.name for path in (tmp_path / "bundle").glob("model.*")} == {"model.pt2"}


@pytest.mark.slow
@pytest.mark.parametrize("enhancer", sorted(registry.modules("enhancers")))
def test_an_enhancer_is_a_part_of_the_graph(enhancer: str, plan: Callable[..., Plan], tmp_path: Path) -> None:
    trial = dict(registry.enhancer(enhancer).trial)
    made = plan(enhancers=[{"name": enhancer, **trial}], methods=["padim"])
    made = made.model_copy(update={"datasets": (made.datasets[0].model_copy(update={"categories": ("bolt",)}),)})
    api.run(made, tmp_path)
    bench = api.in_place(made, Layout.of(tmp_path))[0]
    assert bundle.write(bench, Scorer(bench, bench.cells[0]), tmp_path / "bundle").failures == []


def parity_of(*scores: tuple[int, float, float]) -> bundle.Parity:
    rows = tuple(bundle.Compared("x", label, 0.0, ours, theirs) for label, ours, theirs in scores)
    return bundle.Parity(rows, 1.0, 1.0, 0)


def test_equal_scores_are_parity() -> None:
    assert parity_of((0, 0.1, 0.1), (1, 0.9, 0.9)).failures == []


def test_another_auroc_is_no_parity() -> None:
    assert "the image AUROC is 0.0000, not 1.0000" in parity_of((0, 0.5, 0.5004), (1, 0.5004, 0.5)).failures


def test_a_score_that_is_no_number_is_no_parity() -> None:
    assert parity_of((0, 0.1, float("nan")), (0, 0.9, 0.9)).failures


def test_test_images_of_one_class_have_no_auroc() -> None:
    assert parity_of((0, 0.1, 0.1), (0, 0.9, 0.9)).content["i_auroc"] == {"adcore": None, "bundle": None}


def test_a_missing_package_names_the_mend(
    done: Bench, scorers: dict[str, Scorer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else real(name))
    with pytest.raises(PlanError, match=r"adcore export needs onnxruntime: pip install 'adcore\[export\]'"):
        bundle.write(done, scorers["padim"], tmp_path / "bundle")


def test_a_folder_with_files_is_not_written_over(done: Bench, scorers: dict[str, Scorer], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlanError, match="is there already"):
        bundle.write(done, scorers["padim"], tmp_path)


def pictures(folder: Path) -> list[Path]:
    """A file of each kind that is decoded in a way of its own."""
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    see_through = Image.fromarray(rng.integers(0, 256, (40, 50, 4), dtype=np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    colours.save(folder / "rgb.png")
    colours.save(folder / "turned.jpg", exif=exif)
    colours.convert("CMYK").save(folder / "cmyk.jpg")
    colours.convert("P").save(folder / "palette.png")
    colours.convert("L").save(folder / "grey.png")
    see_through.save(folder / "rgba.png")
    Image.fromarray(rng.integers(0, 65536, (40, 50)).astype(np.uint16)).save(folder / "deep.png")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("rule", ["", "max=4095 alpha=ignore"])
def test_preprocessing_is_that_of_adcore(tmp_path: Path, rule: str) -> None:
    image = {"resize": 36, "size": 33, "white": 4095 if rule else 65535, "alpha": "ignore" if rule else "black"}
    for path in pictures(tmp_path):
        np.testing.assert_array_equal(_preprocess.load(path, image), ImageFile(path, rule=rule).load(36, 33), path.name)


def test_floats_have_no_known_range(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "x.tiff")
    with pytest.raises(ValueError, match="float pixels have no known range"):
        _preprocess.load(tmp_path / "x.tiff", {"resize": 4, "size": 4, "white": 65535, "alpha": "black"})


def test_the_weights_of_every_package_have_a_licence() -> None:
    assert all(package.licence for package in PACKAGES.values())


@pytest.mark.parametrize(
    ("name", "expected"), [("resnet18.a1_in1k", "apache-2.0"), ("hf-hub:somebody/model", "not stated by timm")]
)
def test_licences_of_other_weights_are_those_that_timm_knows(name: str, expected: str) -> None:
    assert bundle.licence(name) == expected


def test_maps_are_smoothed_ones(scorers: dict[str, Scorer], out: Path, name: str) -> None:
    content = facts(out, name)
    path = image_set(scorers[name].cell, "test").paths[-1]
    (found,) = scorers[name].scored([ImageFile(path)])
    assert isinstance(found, Scored)
    maps, _ = _infer.model(out / name, content)(_preprocess.load(path, content["image"])[None])
    np.testing.assert_allclose(maps[0], found.smooth, rtol=1e-3)
