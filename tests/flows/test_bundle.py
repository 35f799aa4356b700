"""`adcore export`: a finished cell as a folder, with Prefect and without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adcore.core.plan import PlanError
from adcore.line import _forms
from flows.bundle import export

REPO = Path(__file__).parents[2]


def command(finished_cell: dict[str, str], *given: str) -> subprocess.CompletedProcess[str]:
    places = ["--plan", finished_cell["plan"], "--workspace", finished_cell["workspace"]]
    command = [sys.executable, "-m", "flows.bundle", *places, *given]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_the_command_needs_no_server(finished_cell: dict[str, str], tmp_path: Path) -> None:
    done = command(finished_cell, "--best", "parts/bolt", "--to", str(tmp_path / "bundle"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("parts/bolt padim seed 0: 6 test images told alike, scores within ")
    assert (tmp_path / "bundle" / "model.onnx").is_file()


@pytest.mark.slow
def test_a_bundle_that_is_not_the_cell_fails_the_run(
    finished_cell: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _forms.smoothed
    monkeypatch.setattr(_forms, "smoothed", lambda maps, size, sigma: 1.1 * real(maps, size, sigma))
    state: Any = export(**finished_cell, best="parts/bolt", to=str(tmp_path / "bundle"), return_state=True)
    assert state.is_failed() and not (tmp_path / "bundle").exists()
    assert "the bundle is not the cell: maps differ by" in state.message


@pytest.mark.slow
def test_a_flow_knows_the_home_folder(
    finished_cell: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    state: Any = export(**finished_cell, best="parts/bolt", to="~/bundle", return_state=True)
    assert state.is_completed() and (tmp_path / "bundle" / "model.onnx").is_file()


def test_a_home_that_is_not_there_is_one_line(finished_cell: dict[str, str]) -> None:
    done = command(finished_cell, "--best", "parts/bolt", "--to", "~nobody-at-all/bundle")
    assert done.returncode == 2 and "the home folder is not known here" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_that_is_taken_stops_it_before_anything_is_computed(
    finished_cell: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    state: Any = export(**finished_cell, best="parts/bolt", to=str(tmp_path), return_state=True)
    with pytest.raises(PlanError, match="is there already; give another --to"):
        state.result()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["--best", "parts/bold"], "the plan has no 'parts/bold' (did you mean 'parts/bolt'?)"),
        (["--best", "parts/bolt", "--alarms", "2"], "alarms: 2.0 is no share of false alarms"),
    ],
)
def test_a_mistake_is_one_line(finished_cell: dict[str, str], tmp_path: Path, given: list[str], error: str) -> None:
    done = command(finished_cell, "--to", str(tmp_path / "bundle"), *given)
    assert done.returncode == 2 and error in done.stderr and len(done.stderr.splitlines()) == 1
