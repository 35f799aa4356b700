"""What was counted once is read from the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from adcore.core.plan import Plan, parse
from adcore.engine import efficiency
from adcore.engine.bench import Layout
from adcore.engine.cells import Contender
from flows.efficiency import rows


def plan(**changes: object) -> Plan:
    small = {"image": {"resize": 64}, "backbone": {"name": "resnet18", "weights": "random"}}
    return parse({"datasets": ["elpv"], "methods": ["padim"], "seeds": [0, 1], **small, **changes})


def test_a_method_is_counted_once_whatever_its_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, counted = Layout(tmp_path), []
    real = efficiency.measure

    def measure(plan: Plan, contender: Contender) -> dict[str, object]:
        counted.append(contender)
        return real(plan, contender)

    monkeypatch.setattr(efficiency, "measure", measure)
    first = rows(plan(), layout)
    again = rows(plan(backbone={"name": "resnet18"}), layout)  # weights change no size
    assert len(counted) == len(first) == 1 and str(first) == str(again)  # NaN is not equal to itself
    assert first[0]["macs"] == first[0]["extractor_macs"] > 0
    assert rows(plan(image={"resize": 96}), layout)[0]["macs"] > first[0]["macs"] and len(counted) == 2
    assert len(rows(plan(methods=["padim", {"name": "padim", "n_features": 10}]), layout)) == 2
