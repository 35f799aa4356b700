"""Counts of parameters and multiply-accumulates against closed forms, and a table of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from adcore.core.plan import Plan
from adcore.engine import efficiency
from adcore.engine.cells import contenders
from adcore.engine.efficiency import measure
from adcore.engine.sizes import Macs, counted, size
from adcore.features.extractor import Extraction, Extractor
from adcore.report.efficiency import in_print, markdown, printed, write


def test_a_convolution_and_a_linear_map_in_closed_form() -> None:
    convolution, linear = nn.Conv2d(3, 8, 5, stride=2, groups=1), nn.Linear(7, 11)
    assert counted(lambda: convolution(torch.zeros(1, 3, 21, 21))) == Macs(9 * 9 * 8 * 3 * 25, 0)
    assert counted(lambda: linear(torch.zeros(4, 6, 7))) == Macs(4 * 6 * 7 * 11, 0)


@pytest.mark.parametrize("training", [True, False])
def test_attention_products_are_seen_and_counted_apart(training: bool) -> None:
    attention = nn.MultiheadAttention(16, 2, batch_first=True).train(training)
    tokens = torch.zeros(1, 10, 16)
    found = counted(lambda: attention(tokens, tokens, tokens, need_weights=False))
    assert found == Macs(10 * 16 * 16 * 4, 2 * 10 * 10 * 16)  # four projections; weights and their sums


def test_rows_of_methods_with_and_without_a_network(plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficiency, "SECONDS", 0.0)
    made = plan(methods=["padim", {"name": "cfa", "gamma_d": 2}])
    padim, cfa = (measure(made, contender) for contender in contenders(made))
    # resnet18 up to layer3 of 256 channels: 11,176,512 without the classifier, of which layer4 has 8,393,728
    assert padim["learnable_params"] == 0 and padim["total_params"] == 11_176_512 - 8_393_728
    channels, width = 64 + 128 + 256, 224
    assert cfa["learnable_params"] == width * (channels + 2) + width
    assert cfa["total_params"] == padim["total_params"] + cfa["learnable_params"]
    assert cfa["macs"] - padim["macs"] == 16 * 16 * width * (channels + 2)
    # resnet18 has 1.814 GMAC at 224 pixels; layer4 and the classifier are 0.411 + 0.0005 of it
    assert padim["macs"] == pytest.approx(1.4026e9 * (64 / 224) ** 2, rel=2e-3)
    assert all(math.isnan(row["images_per_s_b1"]) for row in (padim, cfa))


def test_what_enhancers_add_is_counted(plan: Callable[..., Plan]) -> None:
    extractor = Extractor(Extraction(plan().backbone, plan().image, (1, 2)), "cpu")
    before = size(extractor, None)
    convolution = nn.Conv2d(64, 64, 1)
    extractor.add(convolution, lambda maps: [convolution(maps[0]), *maps[1:]])
    after = size(extractor, None)
    assert after.total - before.total == 64 * 64 + 64 and after.learnable == 0
    assert after.before.total - before.before.total == 16 * 16 * 64 * 64
    assert after.columns["macs"] == after.before.total


def test_a_table_is_written(plan: Callable[..., Plan], tmp_path: Path) -> None:
    made = plan(methods=["padim"])
    rows = [measure(made, contender) for contender in contenders(made)]
    write(tmp_path, rows)
    assert pd.read_csv(tmp_path / "efficiency.csv")["total_params"].tolist() == [rows[0]["total_params"]]
    assert "| padim | resnet18 | 64 | 0.00 | 2.78 | 0.11 | 0.11 | 0.00 | 0.11 | – | – |  |" in markdown(rows)


def test_printed_values_stand_beside_with_a_verdict() -> None:
    row: dict[str, Any] = {
        "method_label": "agpnet",
        "backbone": "vit_small_patch16_224.dino",
        "image": "224",
        "device": "cpu",
    }
    row |= {"learnable_params": 4_415_000, "macs_as_published": 5.7e9, "images_per_s_b1": 1.0, "images_per_s_b32": 9.0}
    known = in_print()
    assert printed(row, known)[:2] == ["learnable_params 4.42 M: within tolerance", "FLOPs 5.63 G: worse"]
    assert printed(row, known)[2].startswith("FPS 326.65 1/s: not comparable: timed on cpu")
    assert all("image 256 instead of 224" in text for text in printed({**row, "image": "256"}, known))
    assert printed({**row, "backbone": "resnet18"}, known) == []


def test_a_template_beyond_the_images_that_are_timed(
    plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(efficiency, "SECONDS", 0.0)
    method = {"name": "tfa_net", "preset": "small", "grid": 8, "template": 5, "template_raw": True}
    made = plan(methods=[method])
    (row,) = (measure(made, contender) for contender in contenders(made))
    assert row["images_per_s_b1"] > 0
