"""anomalib beside adcore: the same images, weights, image size, batches, coreset share and epochs, both cold.

    python3.11 -m venv /tmp/peers
    /tmp/peers/bin/pip install anomalib==2.7.0 -c constraints.txt
    python -m benchmarks.peers --python /tmp/peers/bin/python [--dataset elpv --categories mono]
    ... --backbone resnet18 --categories brick pill nut --methods padim patchcore cfa stpm rd4ad dfm

Cells one after another in one process each: anomalib; adcore's computing alone; and `python -m flows.benchmark` whole,
which also starts Prefect's server, measures latencies, draws galleries, writes the report and logs to MLflow; of it
also until the leaderboard is printed. Nothing is downloaded: both read one file of weights, the package's where adcore
has one for the backbone, else random ones. RD4AD wants a ResNet there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measuring import REPO, Run, print_conditions, print_table, run

METHODS = ("padim", "patchcore", "cfa", "stpm", "rd4ad", "dfm", "simplenet")
THREE = METHODS[:3]
SHOWN = {"i_auroc", "p_auroc", "aupro"}
BATCH, CFA_BATCH = 16, 4  # what adcore takes
Result = dict[str, Any]


def write_images(given: argparse.Namespace, folder: Path) -> Path:
    """Categories as train/good, test/good, test/bad and ground_truth/bad, whatever their dataset looks like."""
    from adcore.core.plan import parse
    from adcore.engine.bench import Bench, Layout, prepare

    spec = {"name": given.dataset, "categories": given.categories, "max_train": given.train, "max_test": given.test}
    plan = parse({"datasets": [spec], "methods": ["padim"]})
    layout = Layout(folder / "source")
    bench = Bench(plan, layout.workspace, {given.dataset: prepare(plan.datasets[0], layout)})
    for cell in bench.cells:
        target = folder / "images" / cell.category.name
        for split, rows in (("train", cell.train), ("test", cell.test)):
            for number, row in enumerate(rows.itertuples()):
                kind = "bad" if row.label else "good"
                _copy(cell.category.root / str(row.path), target / split / kind / f"{number:03d}.png")
                if row.mask:
                    _copy(cell.category.root / str(row.mask), target / "ground_truth" / kind / f"{number:03d}_mask.png")
    return folder / "images"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def write_weights(backbone: str, path: Path) -> str:
    """The weights that both sides read, and which they are."""
    import timm
    import torch

    from adcore.core.packages import PACKAGES
    from adcore.core.plan import BackboneSpec
    from adcore.features import backbones

    package = PACKAGES.get(backbone)
    source = package and backbones.weights_file(BackboneSpec(name=backbone))
    if package and source:
        state = package.read(source)
    else:
        torch.manual_seed(0)
        state = timm.create_model(backbone, pretrained=False).state_dict()
    torch.save(state, path)
    return f"ImageNet weights of the package {package.modules[0]}" if package else "random weights"


def write_plan(given: argparse.Namespace, images: Path, weights: Path, path: Path) -> None:
    methods = {
        "padim": {"name": "padim", "n_features": given.channels},
        "patchcore": {"name": "patchcore", "coreset": given.coreset},
        "cfa": {"name": "cfa", "epochs": given.epochs, "gamma_c": given.gamma_c},
        "stpm": {"name": "stpm", "epochs": given.epochs, "batch": BATCH, "validation": 0},
        "rd4ad": {"name": "rd4ad", "epochs": given.epochs, "batch": BATCH},
        "dfm": {"name": "dfm"},
        "simplenet": {"name": "simplenet", "supersimple": True, "epochs": given.epochs, "batch": BATCH},
    }
    plan = {
        "image": {"resize": given.size},
        "backbone": {"name": given.backbone, "weights": str(weights)},
        "datasets": [{"name": "peers", "kind": "folder", "root": str(images)}],
        "methods": [methods[name] for name in given.methods],
        "seeds": [given.seed],
        "device": "cpu",
    }
    path.write_text(yaml.safe_dump(plan), encoding="utf-8")


def write_settings(given: argparse.Namespace, images: Path, weights: Path, path: Path) -> None:
    """What anomalib's side is told. PaDiM's channels are drawn as adcore draws them."""
    import timm
    import torch

    model = timm.create_model(given.backbone, pretrained=False, features_only=True, out_indices=(1, 2, 3))
    drawn = torch.randperm(sum(model.feature_info.channels()), generator=torch.Generator().manual_seed(given.seed))
    names = ("backbone", "size", "coreset", "epochs", "gamma_c", "methods", "categories", "seed")
    settings = {name: getattr(given, name) for name in names} | {
        "images": str(images),
        "weights": str(weights),
        "mean": model.pretrained_cfg["mean"],
        "std": model.pretrained_cfg["std"],
        "padim_channels": drawn[: given.channels].sort().values.tolist(),
        "batch": BATCH,
        "cfa_batch": CFA_BATCH,
    }
    path.write_text(json.dumps(settings), encoding="utf-8")


def result(finished: Run) -> Result:
    """The JSON in the last line."""
    found: Result = json.loads(finished.output.splitlines()[-1])
    return found


def print_cells(theirs: Result, ours: Result) -> None:
    """Where the time goes, and how far the metrics are apart."""
    rows: list[tuple[object, ...]] = [
        ("import", theirs["import_s"], ours["import_s"], ""),
        ("extract", "", ours["extract_s"], ""),
    ]
    for method in dict.fromkeys(name.split()[-1] for name in theirs["cells"]):
        for step in ("fit_s", "test_s"):
            slow, mine = (
                sum(cell[step] for name, cell in side["cells"].items() if name.split()[-1] == method)
                for side in (theirs, ours)
            )
            rows.append((f"{method} {step.removesuffix('_s')}", slow, mine, slow / mine))
    print_table(("seconds", "anomalib", "adcore", "x"), rows)
    print()
    metrics: list[tuple[object, ...]] = []
    for name, cell in theirs["cells"].items():
        for key in cell.keys() & ours["cells"][name].keys() & SHOWN:
            mine = ours["cells"][name][key]
            values = (f"{cell[key]:.4f}", f"{mine:.4f}", f"{100 * (mine - cell[key]):+.2f}")
            metrics.append((f"{name} {key}", *values))
    print_table(("metric", "anomalib", "adcore", "points"), sorted(metrics))


def main() -> None:
    """Print wall seconds, peak memory and ratios, where the time goes, and the metrics of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="an interpreter that has anomalib")
    parser.add_argument("--dataset", default="generated", choices=("generated", "elpv"))
    parser.add_argument("--categories", nargs="+", default=["brick"])
    parser.add_argument("--train", type=int, default=40, help="images")
    parser.add_argument("--test", type=int, default=47)
    parser.add_argument("--methods", nargs="+", default=THREE, choices=METHODS)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="a ResNet or EfficientNet of timm")
    parser.add_argument("--channels", type=int, default=100, help="of PaDiM")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--coreset", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--gamma-c", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0, help="of both sides")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()

    print_conditions("torch", "timm", "prefect", "mlflow")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, weights = write_images(given, folder), folder / "weights.pth"
        kind = write_weights(given.backbone, weights)
        write_plan(given, images, weights, folder / "plan.yaml")
        write_settings(given, images, weights, folder / "settings.json")
        threads = str(given.threads)
        quiet = {"OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}
        ours = ["benchmarks.peer_adcore", str(folder / "plan.yaml"), str(folder / "computing")]
        whole = ["flows.benchmark", "--plan", str(folder / "plan.yaml"), "--workspace", str(folder / "whole")]
        script = REPO / "benchmarks" / "peer_anomalib.py"
        runs = {
            "anomalib": run([given.python, str(script), str(folder / "settings.json")], quiet),
            "adcore, computing": run([sys.executable, "-m", *ours], quiet),
            "adcore, whole command": run([sys.executable, "-m", *whole], quiet, "best marked *"),
        }
    images = f"{given.train} + {given.test} images of {given.size} x {given.size}"
    print(f"{given.dataset}: {', '.join(given.categories)}, {images} each; {given.backbone}, {kind}")
    print(f"coreset {given.coreset}, {given.epochs} epochs, seed {given.seed}, {threads} thread(s)\n")
    slow = runs["anomalib"]
    rows: list[tuple[object, ...]] = [
        (name, found.seconds, slow.seconds / found.seconds, f"{found.peak_mb:.0f}", slow.peak_mb / found.peak_mb)
        for name, found in runs.items()
    ]
    printed = runs["adcore, whole command"].marked
    rows.append(("adcore, until the leaderboard is printed", printed, slow.seconds / printed, "", ""))
    print_table(("cold, from start to end", "s", "x", "peak MB", "x"), rows)
    print()
    print_cells(result(slow), result(runs["adcore, computing"]))


if __name__ == "__main__":
    main()
