"""What is written down of a training, and what people are warned of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adcore.core.contracts import Outcome, Subject
from adcore.engine.enhancement import Enhanced
from adcore.enhancers.sbm import SBM, SBMOptions

SOUND = {"cosine_1": 0.97, "cosine_2": 0.95, "cosine_3": 0.92, "cosine_4": 0.3, "first_step_cosine_1": 0.999}


def enhanced(
    facts: dict[str, float] | None = None, accuracy: float = 0.95, options: dict[str, Any] | None = None, **changes: Any
) -> Enhanced:
    subject = Subject(np.zeros((0, 3, 48, 48), np.uint8), (), False, (), None, 0)
    curves = {"loss": [2.0, 1.0], "accuracy": [0.5, accuracy]}
    outcome = Outcome({}, curves, chance=1 / 31, facts=SOUND | (facts or {}), **changes)
    return Enhanced(SBM(SBMOptions(**options or {})), subject, outcome)


def test_a_sound_training_warns_of_nothing():
    summary = enhanced().summary
    assert summary["warnings"] == []
    assert summary["cosine"] == {"map 1": 0.97, "map 2": 0.95, "map 3": 0.92, "map 4": 0.3}
    assert summary["cosine_after_first_step"] == {"map 1": 0.999}
    assert summary["facts"] == {}


@pytest.mark.parametrize(("changes", "warning"), [
    ({"stopped": "stopped after 2 of 40 epochs"}, "stopped after 2 of 40 epochs"),
    ({"facts": {"cosine_2": 0.6}}, "the features of map 2 moved far: mean cosine 0.60"),
    ({"facts": {"first_step_cosine_1": 0.65}}, "the first step moved map 1 to a mean cosine of 0.65"),
    ({"accuracy": 0.04}, "the pretext task was not learned: accuracy 4% where guessing gives 3%; raise min_steps"),
])  # fmt: skip
def test_what_went_wrong_is_said_once(changes: dict[str, Any], warning: str):
    (only,) = enhanced(**changes).summary["warnings"]
    assert only.startswith(warning)


def test_a_control_is_not_warned_of():
    assert enhanced(options={"epochs": 0}, accuracy=0.0, facts={"cosine_1": 0.1}).summary["warnings"] == []


def test_the_summary_of_equal_trainings_is_equal_to_the_bit(tmp_path: Path):
    """A folder of textures counts by its content, so that its name must not stand there."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (60, 60), "red").save(tmp_path / name / "red.png")
        enhanced(stopped="why", options={"sources": tmp_path / name}).write(tmp_path / name)
    assert (tmp_path / "one/summary.json").read_bytes() == (tmp_path / "other/summary.json").read_bytes()
    assert json.loads((tmp_path / "one/summary.json").read_text())["stopped"] == "why"
