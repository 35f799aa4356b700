"""The commands as scripts use them: exit codes, stdout and stderr."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adcore.api import require_device
from adcore.core.plan import PlanError

PlanFile = Callable[..., Path]
REPO = Path(__file__).parents[2]


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *(str(argument) for argument in arguments)]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=280, check=False)


def test_benchmark_prints_its_counts_last(plan_file: PlanFile, tmp_path: Path) -> None:
    plan, workspace = plan_file(methods=["padim"]), tmp_path / "work"
    dry = call("flows.benchmark", "--plan", plan, "--workspace", workspace, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert [line for line in dry.stdout.splitlines() if line.startswith("missing")] == [
        "missing: parts/bolt padim seed 0",
        "missing: parts/cloth padim seed 0",
    ]
    assert "largest model: " in dry.stdout
    assert not (workspace / ".cache/adcore/store/fit").exists()
    done = call("flows.benchmark", "--plan", plan, "--workspace", workspace)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "cells: 2 computed, 0 cached, 0 failed"
    assert "fit parts/bolt padim" in done.stderr
    assert {path.name for path in workspace.iterdir()} == {
        ".cache", "manifests", "mlartifacts", "mlflow.db", "results",
    }  # fmt: skip


def test_a_wrong_key_is_told_in_one_line(plan_file: PlanFile, tmp_path: Path) -> None:
    for name in ("flows.benchmark", "flows.prepare"):
        done = call(name, "--plan", plan_file(imge={"resize": 3}), "--workspace", tmp_path / "work")
        assert done.returncode == 2
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert "'imge' (did you mean 'image'?)" in done.stderr


def test_an_unwritable_workspace_is_told_in_one_line(plan_file: PlanFile, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = call("flows.benchmark", "--plan", plan_file(), "--workspace", tmp_path / "file" / "work")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path / "file" / "work") in done.stderr


@pytest.mark.parametrize("device", ["cuda:9"] if torch.cuda.is_available() else ["cuda", "cuda:1"])
def test_a_device_that_is_not_here_is_told_before_anything(plan_file: PlanFile, tmp_path: Path, device: str) -> None:
    with pytest.raises(PlanError, match=f"device: {device}: torch sees .* here; write auto, or cpu"):
        require_device(device)
    done = call("flows.efficiency", "--plan", plan_file(device=device), "--workspace", tmp_path / "work")
    assert done.returncode == 2
    assert f"device: {device}" in done.stderr


def test_partial_failure_has_its_own_code(plan_file: PlanFile, own_parts: Path, tmp_path: Path) -> None:
    for path in (own_parts / "bolt" / "train" / "good").iterdir():
        path.unlink()
    done = call("flows.prepare", "--plan", plan_file(), "--workspace", tmp_path / "work")
    assert done.returncode == 3, done.stderr
    assert done.stdout.splitlines()[-1] == "categories: 1 ready, 1 failed"
    assert "no training images" in done.stdout


def test_an_unknown_backbone_is_told_before_anything_is_computed(plan_file: PlanFile, tmp_path: Path) -> None:
    plan = plan_file(backbone={"name": "resnet81", "weights": "random"})
    done = call("flows.benchmark", "--plan", plan, "--workspace", tmp_path / "work")
    assert done.returncode == 2
    assert "timm has no model 'resnet81'" in done.stderr
    assert not (tmp_path / "work" / "results" / "leaderboard.csv").exists()
