"""`adcore export`: a finished cell as a folder, with Prefect and without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from adcore.core.plan import PlanError
from adcore.line import _forms
from flows.benchmark import benchmark
from flows.bundle import export

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A plan that was run, as a command names it."""
    workspace = tmp_path_factory.mktemp("finished")
    content = {
        "image": {"resize": 64},
        "backbone": {"name": "resnet18", "weights": "random"},
        "datasets": [{"name": "parts", "kind": "folder", "root": str(parts), "categories": ["bolt"]}],
        "methods": ["padim"],
        "alarms": 0.25,
        "device": "cpu",
    }
    plan = workspace / "plan.yaml"
    plan.write_text(yaml.safe_dump(content))
    benchmark(plan=str(plan), workspace=str(workspace), return_state=True)
    return {"plan": str(plan), "workspace": str(workspace)}


def command(finished: dict[str, str], *given: str) -> subprocess.CompletedProcess[str]:
    places = ["--plan", finished["plan"], "--workspace", finished["workspace"]]
    command = [sys.executable, "-m", "flows.bundle", *places, *given]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_the_command_needs_no_server(finished: dict[str, str], tmp_path: Path) -> None:
    done = command(finished, "--best", "parts/bolt", "--to", str(tmp_path / "bundle"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("parts/bolt padim seed 0: 6 test images told alike, scores within ")
    assert (tmp_path / "bundle" / "model.onnx").is_file()


@pytest.mark.slow
def test_a_bundle_that_is_not_the_cell_fails_the_run(
    finished: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _forms.smoothed
    monkeypatch.setattr(_forms, "smoothed", lambda maps, size, sigma: 1.1 * real(maps, size, sigma))
    state: Any = export(**finished, best="parts/bolt", to=str(tmp_path / "bundle"), return_state=True)
    assert state.is_failed() and not (tmp_path / "bundle").exists()
    assert "the bundle is not the cell: maps differ by" in state.message


def test_a_folder_that_is_taken_stops_it_before_anything_is_computed(finished: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    state: Any = export(**finished, best="parts/bolt", to=str(tmp_path), return_state=True)
    with pytest.raises(PlanError, match="is there already; give another --to"):
        state.result()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["--best", "parts/bold"], "the plan has no 'parts/bold' (did you mean 'parts/bolt'?)"),
        (["--best", "parts/bolt", "--alarms", "2"], "alarms: 2.0 is no share of false alarms"),
    ],
)
def test_a_mistake_is_one_line(finished: dict[str, str], tmp_path: Path, given: list[str], error: str) -> None:
    done = command(finished, "--to", str(tmp_path / "bundle"), *given)
    assert done.returncode == 2 and error in done.stderr and len(done.stderr.splitlines()) == 1
