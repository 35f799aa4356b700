"""A finished cell as a folder that tells images without adcore, and a proof that it tells what the benchmark told."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from adcore.core.costs import environment
from adcore.core.disk import write_file
from adcore.core.names import printable, written
from adcore.core.packages import PACKAGES
from adcore.core.plan import PlanError
from adcore.core.rules import FULL, PixelRule
from adcore.engine.bench import Bench
from adcore.engine.enhancement import image_set
from adcore.line import _card, _graph, _infer, _preprocess
from adcore.line._forms import Model
from adcore.line.prediction import DEFECTIVE, NORMAL
from adcore.line.scorer import Scored, Scorer

TOLERANCE = 1e-3  # of the range that maps, or scores, have over the test images
SAME = 1e-4  # by which the two AUROCs may differ: pairs of images whose scores are equal up to rounding
FACTS, CARD = "bundle.json", "MODEL_CARD.md"
PARITY = ("parity.json", "parity.md")
LABELS = {"normal": NORMAL, "defective": DEFECTIVE}

Floats = npt.NDArray[np.float32]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Compared:
    """A test image in adcore and in the bundle: largest difference of the smoothed maps, and both scores."""

    path: str
    label: int
    map: float
    score: float
    exported: float

    @property
    def difference(self) -> float:
        """Of the scores."""
        return abs(self.score - self.exported)


@dataclass(frozen=True)
class Parity:
    """All test images. map_range, score_range: what the differences are held against. flipped: verdicts that differ."""

    images: tuple[Compared, ...]
    map_range: float
    score_range: float
    flipped: int

    @property
    def map(self) -> float:
        """The largest difference of maps."""
        return _largest([each.map for each in self.images])

    @property
    def score(self) -> float:
        """The largest difference of scores."""
        return _largest([each.difference for each in self.images])

    @property
    def aurocs(self) -> tuple[float, float]:
        """Of adcore and of the bundle; NaN where the test images are of one class."""
        from sklearn.metrics import roc_auc_score

        labels = [each.label for each in self.images]
        if len(set(labels)) < 2:
            return math.nan, math.nan
        columns = ([each.score for each in self.images], [each.exported for each in self.images])
        return tuple(float(roc_auc_score(labels, column)) for column in columns)  # type: ignore[return-value]

    @property
    def failures(self) -> list[str]:
        """Why the bundle is not the cell; none where it is. A difference that is no number fails."""
        ours, theirs = self.aurocs
        found = []
        if not self.map <= TOLERANCE * self.map_range:
            found.append(f"maps differ by {self.map:.3g}, more than {TOLERANCE:g} of their range {self.map_range:.3g}")
        if not self.score <= TOLERANCE * self.score_range:
            found.append(
                f"scores differ by {self.score:.3g}, more than {TOLERANCE:g} of their range {self.score_range:.3g}"
            )
        if not math.isnan(ours) and not abs(ours - theirs) <= SAME:
            found.append(f"the image AUROC is {theirs:.4f}, not {ours:.4f}")
        return found

    @property
    def content(self) -> dict[str, Any]:
        """As JSON."""
        ours, theirs = (None if math.isnan(value) else value for value in self.aurocs)
        return {
            "passed": not self.failures,
            "failures": self.failures,
            "tolerance": {"of_range": TOLERANCE, "auroc": SAME},
            "range": {"map": self.map_range, "score": self.score_range},
            "largest_difference": {"map": self.map, "score": self.score},
            "i_auroc": {"adcore": ours, "bundle": theirs},
            "verdicts_that_differ": self.flipped,
            "images": [asdict(each) | {"difference": each.difference} for each in self.images],
        }


def require_free(out: Path) -> None:
    """Raise PlanError where something is in the way of a bundle."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PlanError(f"{printable(str(out))} is there already; give another --to, or remove it")


def write(bench: Bench, scorer: Scorer, out: Path, progress: Progress = lambda done: None) -> Parity:
    """Write the bundle, which appears whole where parity holds; else only its report does, in the folder OUT.failed.

    Raises PlanError where a package of the extra `export` is missing, or something is in the way."""
    _graph.require_packages()
    require_free(out)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.{os.urandom(4).hex()}")
    temporary.mkdir(parents=True)
    try:
        graph = _graph.write(Model(scorer.method, scorer.reader), scorer.cell.image.size, temporary)
        content = facts(bench, scorer, graph)
        parity = compared(scorer, temporary, content, progress)
        _report(temporary, parity, content)
        if parity.failures:
            failed = out.with_name(f"{out.name}.failed")
            for name in PARITY:
                write_file(failed / name, (temporary / name).read_bytes())
            return parity
        _finish(bench, scorer, temporary, content, parity)
        if out.exists():
            out.rmdir()
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return parity


def compared(scorer: Scorer, folder: Path, content: dict[str, Any], progress: Progress) -> Parity:
    """The cell's test images through adcore, and through the files of the bundle as `infer.py` reads them."""
    run = _infer.model(folder, content)
    images = image_set(scorer.cell, "test")
    labels = [int(label > 0) for label in scorer.cell.test["label"]]
    rows, low, high, flipped = [], math.inf, -math.inf, 0
    names = [str(path) for path in scorer.cell.test["path"]]  # as the manifest has them, of no machine
    files = zip(images.paths, names, labels, strict=True)
    for (path, name, label), found in zip(files, scorer.scored(images.files), strict=True):
        if not isinstance(found, Scored):
            raise found
        maps, scores = run(_preprocess.load(path, content["image"])[None])
        rows.append(Compared(written(name), label, _apart(found.smooth, maps[0]), found.score, float(scores[0])))
        low, high = min(low, float(found.smooth.min())), max(high, float(found.smooth.max()))
        verdicts = [_infer.verdict(score, content) for score in (found.score, float(scores[0]))]
        flipped += verdicts[0] != verdicts[1]
        progress(len(rows))
    return Parity(tuple(rows), _range([low, high]), _range([each.score for each in rows]), flipped)


def facts(bench: Bench, scorer: Scorer, graph: _graph.Graph) -> dict[str, Any]:
    """What stands in bundle.json."""
    cell = scorer.cell
    rule = PixelRule.of(scorer.rule)
    return {
        "cell": {"title": cell.title, **cell.names},
        "keys": {"cell": cell.key, "fit": cell.fit_key, "maps": cell.maps_key, "calibration": cell.calibration_key},
        "model": {"file": graph.file, "batch": graph.batch, "not_onnx_because": graph.why},
        "image": {
            "resize": cell.image.resize,
            "size": cell.image.size,
            "white": rule.max or FULL,
            "alpha": rule.alpha or "black",
        },
        "thresholds": _thresholds(scorer),
        "labels": LABELS,
        "scale": list(scorer.scale),
        "licences": {"data": bench.dataset(cell.category.dataset).licence or "not stated", "weights": _weights(scorer)},
        "versions": _versions(),
    }


def _thresholds(scorer: Scorer) -> dict[str, Any] | None:
    if scorer.image is None or scorer.map is None or scorer.calibration is None:
        return None
    return {
        "wanted": scorer.cell.alarms,
        "normal_images": len(scorer.calibration),
        "image": asdict(scorer.image),
        "map": asdict(scorer.map),
    }


def _weights(scorer: Scorer) -> dict[str, str]:
    """Name of each network with weights of somebody else -> its licence, as timm knows it."""
    backbone = scorer.cell.backbone
    found = {}
    if backbone.weights == "random":
        found[backbone.name] = "random weights, nobody's"
    elif backbone.weights == "pretrained":
        package = PACKAGES.get(backbone.name)
        name = f"{backbone.name} ({package.install})" if package else backbone.name
        found[name] = package.licence if package else licence(backbone.name)
    else:
        found[f"{backbone.name} ({Path(backbone.weights).name})"] = "a file of yours; not known"
    for options in (scorer.cell.contender.options, *(link.options for link in scorer.cell.links)):
        if name := str(options.model_dump().get("cait") or ""):  # MFFA's second network
            found[f"{name}, unless it is a stand-in"] = licence(name)
    return found


def licence(name: str) -> str:
    """Of the weights of a model of timm's."""
    import timm

    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return (config.license if config else None) or "not stated by timm"


def _versions() -> dict[str, str]:
    from importlib import metadata

    own = {name: metadata.version(name) for name in _graph.PACKAGES}
    return {**environment()["versions"], **own}


def _finish(bench: Bench, scorer: Scorer, folder: Path, content: dict[str, Any], parity: Parity) -> None:
    """All that stands beside the model and its parity."""
    _write(folder / FACTS, json.dumps(content, indent=1, ensure_ascii=False))
    _write(folder / CARD, _card.card(bench, scorer, content, parity))
    _write(folder / "preprocess.py", Path(_preprocess.__file__).read_text(encoding="utf-8"))
    infer = Path(_infer.__file__).read_text(encoding="utf-8")
    _write(folder / "infer.py", infer.replace("from adcore.line._preprocess import", "from preprocess import"))


def _report(folder: Path, parity: Parity, content: dict[str, Any]) -> None:
    """parity.json and parity.md."""
    _write(folder / PARITY[0], json.dumps(parity.content, indent=1, ensure_ascii=False))
    _write(folder / PARITY[1], _card.parity(parity.content, content))


def _write(path: Path, text: str) -> None:
    write_file(path, (text.rstrip("\n") + "\n").encode())


def _apart(ours: Floats, theirs: Floats) -> float:
    return float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else math.inf


def _largest(values: Sequence[float]) -> float:
    """Infinite where one is no number, so that it is no agreement."""
    return math.inf if any(math.isnan(value) for value in values) else max(values, default=0.0)


def _range(values: Sequence[float]) -> float:
    """From the least to the greatest; where all are alike, their size."""
    span = max(values, default=0.0) - min(values, default=0.0)
    return span or max(map(abs, values), default=0.0) or 1.0
