"""The texts of a bundle: what it is, and how it was held against the cell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from adcore.engine import calibrated, registry
from adcore.engine.bench import Bench
from adcore.engine.chains import NONE
from adcore.line.scorer import Scorer

if TYPE_CHECKING:
    from adcore.line.bundle import Parity


def card(bench: Bench, scorer: Scorer, content: dict[str, Any], parity: Parity) -> str:
    """MODEL_CARD.md."""
    cell, names = scorer.cell, content["cell"]
    folder = bench.store.path("cell", cell.key)
    numbers: dict[str, float | None] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    image, side = content["image"], content["image"]["size"]
    caveat = bench.remarks().get(cell.category.dataset, "")
    enhancer = "" if names["enhancer"] == NONE else f", enhancer {names['enhancer_label']}"
    weights = "; ".join(f"{name}: {licence}" for name, licence in content["licences"]["weights"].items())
    return f"""# {content["cell"]["title"]}

Tells normal from defective images of `{names["dataset"]}/{names["category"]}`, and where a defect is.

* Method {names["method_label"]}{enhancer}, on {names["backbone"]} (weights: {names["weights"]}), seed {names["seed"]}.
* `{content["model"]["file"]}`: images (B, 3, {side}, {side}), uint8, RGB -> `maps` (B, {side}, {side}), smoothed,
  and `scores` (B,), float32; B is {content["model"]["batch"] or "any number"}. Mean and deviation of the backbone
  are inside. Before it: both sides resized to {image["resize"]} by Pillow's bilinear filter with antialiasing,
  the centre of {side} cropped (`preprocess.py`).
* `python infer.py IMAGE...` prints verdicts. `bundle.json` has thresholds, labels, keys and versions.

## Data

{len(cell.train)} normal training images and {len(cell.test)} test images, protocol {names["protocol_label"]}.
Licence of the data: {content["licences"]["data"]}. Licence of the weights: {weights}.
{f"Caveats: {caveat}." if caveat else ""}

## Metrics on the test images

As the benchmark measured them, on the plan's data and protocol; they say nothing of other parts, lamps or cameras.

| metric | value |
|---|--:|
{_rows(numbers)}

The bundle gives the same: `parity.md` ({len(parity.images)} images, largest difference of scores {parity.score:.2g}).

## Threshold

{_promise(bench, scorer, content)}

## Limits

* It was fitted on normal images of one category, and scores whatever it is shown: images of something else have a
  meaningless score.
* A defect that is smaller than a few pixels of {side} is not seen.
* Scores are on a scale of this model alone; those of another fit do not compare.
"""


def _rows(numbers: dict[str, float | None]) -> str:
    metrics = registry.metrics()
    told = [
        (metrics[name].column.meaning if name in metrics else "", name, value)
        for name, value in numbers.items()
        if value is not None
    ]
    return "\n".join(f"| `{name}`{': ' if meaning else ''}{meaning} | {value:.4f} |" for meaning, name, value in told)


def _promise(bench: Bench, scorer: Scorer, content: dict[str, Any]) -> str:
    given = content["thresholds"]
    if given is None:
        return "None: there were no unseen normal images to set one by. `infer.py` prints scores alone."
    image, peak = given["image"], given["map"]
    text = f"""An image whose score is above {image["value"]:.6g} is told as defective. That was set by
{given["normal_images"]} normal images that their models had not seen: a further one of the same kind passes it with a
probability of at most {image["promised"]:.4g} (wanted: {given["wanted"]:g}), and its smoothed map passes
{peak["value"]:.6g} anywhere with one of at most {peak["promised"]:.4g}. That is an average over such sets of images,
and holds while new normal images come from where those came from."""
    told = calibrated.alarms(bench.store, scorer.cell)
    if told is not None:
        false, missed = f"{told.false_alarms} of {told.good}", f"{told.misses} of {told.bad}"
        text += f"""

On the test images {false} normal ones were told as defective, and {missed} defective ones were missed."""
    return text


def parity(found: dict[str, Any], content: dict[str, Any]) -> str:
    """parity.md, of what parity.json holds."""
    passed = "passed" if found["passed"] else "FAILED: " + "; ".join(found["failures"])
    ours, theirs = (_number(found["i_auroc"][name]) for name in ("adcore", "bundle"))
    rows = "\n".join(
        f"| {each['path'].replace('|', chr(92) + '|')} | {each['label']} | {each['map']:.3g} | {each['score']:.6g} "
        f"| {each['exported']:.6g} | {each['difference']:.3g} |"
        for each in found["images"]
    )
    return f"""# Parity of {content["cell"]["title"]}

{passed}. Each test image of the cell through adcore, and through `{content["model"]["file"]}` with `preprocess.py`.

| | largest difference | allowed |
|---|--:|--:|
| smoothed maps | {found["largest_difference"]["map"]:.3g} | {_allowed(found, "map")} |
| scores | {found["largest_difference"]["score"]:.3g} | {_allowed(found, "score")} |

Allowed is {found["tolerance"]["of_range"]:g} of the range over all test images. Image AUROC: {ours} in adcore, {theirs}
in the bundle (allowed difference {found["tolerance"]["auroc"]:g}). Verdicts that differ:
{found["verdicts_that_differ"]}.

| image | defective | map | score | in the bundle | difference |
|---|--:|--:|--:|--:|--:|
{rows}
"""


def _allowed(found: dict[str, Any], what: str) -> str:
    return f"{found['tolerance']['of_range'] * found['range'][what]:.3g}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"
