"""The stages of dvc.yaml as DVC runs them elsewhere than in this folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).parents[1]


@pytest.mark.slow
def test_an_experiment_runs_in_a_copy_that_has_no_environment(own_parts: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git = ["git", "-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    subprocess.run([*git, "clone", "--quiet", str(REPO), str(clone)], check=True)
    shutil.copy(REPO / "dvc.yaml", clone)
    (clone / ".venv").symlink_to(Path(sys.executable).parents[1])
    plan = {
        "image": {"resize": 64},
        "backbone": {"name": "resnet18", "weights": "random"},
        "datasets": [{"name": "parts", "kind": "folder", "root": str(own_parts)}],
        "methods": ["padim"],
    }
    (clone / "params.yaml").write_text(yaml.safe_dump(plan))
    (clone / ".git" / "info" / "exclude").write_text(".venv\n")
    subprocess.run([*git, "commit", "--quiet", "--all", "--message", "a plan"], cwd=clone, check=True)
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--force", "--single-item", "validate"]
    environment = os.environ | {"PREFECT_API_URL": "", "GIT_AUTHOR_NAME": "Somebody", "GIT_AUTHOR_EMAIL": "a@b.c"}
    environment |= {"GIT_COMMITTER_NAME": "Somebody", "GIT_COMMITTER_EMAIL": "a@b.c"}
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=290, check=False)
    assert done.returncode == 0, done.stderr
    assert "categories: 2 ready, 0 failed" in done.stdout
    assert not (clone / "results").exists()  # it ran elsewhere
