"""anomalib's side of `benchmarks.peers`, run by an interpreter that has it: `python peer_anomalib.py SETTINGS.json`.

Imports nothing of ours. Prints one line of JSON: seconds to import, and of each method seconds to fit and to test, and
its metrics. No validation pass, no pictures, no loader processes: the shortest way that anomalib has to the numbers.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()

import torch  # noqa: E402
from anomalib.data import Folder  # noqa: E402
from anomalib.engine import Engine  # noqa: E402
from anomalib.metrics import AUPRO, AUROC, Evaluator  # noqa: E402
from anomalib.models import Cfa, Dfm, Padim, Patchcore, ReverseDistillation, Stfpm, Supersimplenet  # noqa: E402
from anomalib.models.components import TimmFeatureExtractor  # noqa: E402
from anomalib.models.image.cfa import torch_model as cfa_model  # noqa: E402
from anomalib.models.image.stfpm import torch_model as stfpm_model  # noqa: E402
from anomalib.models.image.supersimplenet import torch_model as supersimplenet_model  # noqa: E402
from anomalib.post_processing import PostProcessor  # noqa: E402
from anomalib.pre_processing import PreProcessor  # noqa: E402
from torchvision.transforms.v2 import Compose, Normalize, Resize  # noqa: E402

STRIDES_4_8_16 = [1, 2, 3]  # timm's out_indices, of ResNets and of EfficientNets
IMPORTED = time.perf_counter() - STARTED


class Scaled(PostProcessor):
    """Brings scores into [0, 1] by a power of two: outside it anomalib's AUROC applies a sigmoid, which makes ties."""

    def post_process_batch(self, batch: Any) -> None:
        batch.pred_score = batch.pred_score * 2.0**-14
        batch.anomaly_map = batch.anomaly_map * 2.0**-14


def extractor(settings: dict[str, Any], layers: list[int]) -> TimmFeatureExtractor:
    """anomalib's own extractor with the weights of the file."""
    made = TimmFeatureExtractor(settings["backbone"], layers=layers, pre_trained=False).eval()
    state = torch.load(settings["weights"], weights_only=True)
    wanted = made.feature_extractor.state_dict()
    made.feature_extractor.load_state_dict({name: value for name, value in state.items() if name in wanted})
    return made


def padim(settings: dict[str, Any], parts: dict[str, Any]) -> Padim:
    count = settings["padim_channels"]
    model = Padim(settings["backbone"], STRIDES_4_8_16, pre_trained=False, n_features=len(count), **parts)
    model.model.feature_extractor = extractor(settings, STRIDES_4_8_16)
    model.model.idx.copy_(torch.tensor(count))  # the same draw, so that the numbers can be compared
    return model


def patchcore(settings: dict[str, Any], parts: dict[str, Any]) -> Patchcore:
    layers, share = STRIDES_4_8_16[1:], settings["coreset"]
    model = Patchcore(settings["backbone"], layers, pre_trained=False, coreset_sampling_ratio=share, **parts)
    model.model.feature_extractor = extractor(settings, layers)
    return model


def cfa(settings: dict[str, Any], parts: dict[str, Any]) -> Cfa:
    """anomalib's CFA knows a few backbones by name and downloads their weights: it is given ours as its resnet18."""
    ours = extractor(settings, STRIDES_4_8_16)
    cfa_model.get_return_nodes = lambda backbone: STRIDES_4_8_16
    cfa_model.get_feature_extractor = lambda backbone, nodes: ours
    model = Cfa("resnet18", gamma_c=settings["gamma_c"], **parts)
    channels = sum(ours.out_dims)
    model.model.descriptor.layer = cfa_model.CoordConv2d(channels, channels, kernel_size=1)
    return model


def untrained(module: Any, make: Any) -> Any:
    """A model whose extractor, which its module makes, downloads no weights."""
    made = module.TimmFeatureExtractor
    module.TimmFeatureExtractor = lambda **given: made(**{**given, "pre_trained": False})
    try:
        return make()
    finally:
        module.TimmFeatureExtractor = made


def stpm(settings: dict[str, Any], parts: dict[str, Any]) -> Stfpm:
    """Its teacher is given our weights; the student stays as it makes it."""
    model: Stfpm = untrained(stfpm_model, lambda: Stfpm(settings["backbone"], STRIDES_4_8_16, **parts))
    model.model.teacher_model = extractor(settings, STRIDES_4_8_16).requires_grad_(False)
    return model


def rd4ad(settings: dict[str, Any], parts: dict[str, Any]) -> ReverseDistillation:
    """Its decoders are those of ResNets alone."""
    model = ReverseDistillation(settings["backbone"], STRIDES_4_8_16, pre_trained=False, **parts)
    model.model.encoder = extractor(settings, STRIDES_4_8_16)
    return model


def simplenet(settings: dict[str, Any], parts: dict[str, Any]) -> Supersimplenet:
    """SuperSimpleNet, which anomalib has in SimpleNet's place."""
    layers = STRIDES_4_8_16[1:]
    model: Supersimplenet = untrained(
        supersimplenet_model, lambda: Supersimplenet(backbone=settings["backbone"], layers=layers, **parts)
    )
    model.model.feature_extractor.feature_extractor = extractor(settings, layers)
    return model


def dfm(settings: dict[str, Any], parts: dict[str, Any]) -> Dfm:
    layer = STRIDES_4_8_16[-1]
    model = Dfm(settings["backbone"], layer, pre_trained=False, **parts)
    model.model.feature_extractor = extractor(settings, [layer])
    return model


MODELS = {
    **{"padim": padim, "patchcore": patchcore, "cfa": cfa, "stpm": stpm, "rd4ad": rd4ad},
    **{"simplenet": simplenet, "dfm": dfm},
}
TRAINED = ("cfa", "stpm", "rd4ad", "simplenet")


def folder(settings: dict[str, Any], category: str, batch: int) -> Folder:
    root = Path(settings["images"]) / category
    masks = root / "ground_truth" / "bad"
    return Folder(
        name="peers",
        root=root,
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir="test/bad",
        mask_dir="ground_truth/bad" if masks.is_dir() else None,
        train_batch_size=batch,
        eval_batch_size=settings["batch"],
        num_workers=0,
        val_split_mode="none",
    )


def metrics(settings: dict[str, Any], category: str) -> Evaluator:
    found = [AUROC(fields=["pred_score", "gt_label"], prefix="i_")]
    if (Path(settings["images"]) / category / "ground_truth").is_dir():
        found += [AUROC(fields=["anomaly_map", "gt_mask"], prefix="p_"), AUPRO(fields=["anomaly_map", "gt_mask"])]
    return Evaluator(test_metrics=found)


def cell(category: str, method: str, settings: dict[str, Any]) -> dict[str, float]:
    """Fit and test one model."""
    torch.manual_seed(settings["seed"])
    size = settings["size"]
    transform = Compose([Resize((size, size), antialias=True), Normalize(settings["mean"], settings["std"])])
    parts = {
        "pre_processor": PreProcessor(transform=transform),
        "post_processor": Scaled(enable_normalization=False, enable_thresholding=False),
        "evaluator": metrics(settings, category),
        "visualizer": False,
    }
    begin = time.perf_counter()
    model = MODELS[method](settings, parts)
    data = folder(settings, category, settings["cfa_batch"] if method == "cfa" else settings["batch"])
    epochs = {"max_epochs": settings["epochs"]} if method in TRAINED else {}
    engine = Engine(
        default_root_dir=Path(settings["images"]).parent / "anomalib",
        accelerator="cpu",
        devices=1,
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        **epochs,
    )
    engine.fit(model=model, datamodule=data)
    fitted = time.perf_counter()
    (values,) = engine.test(model=model, datamodule=data, verbose=False)
    tested = time.perf_counter()
    return {"fit_s": fitted - begin, "test_s": tested - fitted, **{key.lower(): value for key, value in values.items()}}


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    pairs = [(category, method) for category in settings["categories"] for method in settings["methods"]]
    cells = {f"{category} {method}": cell(category, method, settings) for category, method in pairs}
    print(json.dumps({"import_s": IMPORTED, "cells": cells}))


if __name__ == "__main__":
    main()
