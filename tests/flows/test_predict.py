"""`adcore predict`: new images through a finished cell, with Prefect and without."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from adcore.core.plan import PlanError
from flows.predict import alone, predict

REPO = Path(__file__).parents[2]


def good(parts: Path) -> str:
    return str(parts / "bolt" / "test" / "good")


def test_a_flow_predicts(finished_cell: dict[str, str], parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    state: Any = predict(**finished_cell, best="parts/bolt", images=[good(parts)], out=str(out), return_state=True)
    assert state.is_completed()
    assert len(pd.read_csv(out / "predictions.csv")) == 3


def test_a_flow_knows_the_home_folder(
    finished_cell: dict[str, str], parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    state: Any = predict(**finished_cell, best="parts/bolt", images=[good(parts)], out="~/out", return_state=True)
    assert state.is_completed() and (tmp_path / "out" / "predictions.csv").exists()


def test_a_bad_image_fails_the_run_but_not_the_others(
    finished_cell: dict[str, str], parts: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"")
    images = [good(parts), str(tmp_path / "bad.png")]
    state: Any = predict(
        **finished_cell, best="parts/bolt", images=images, out=str(tmp_path / "out"), return_state=True
    )
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert state.is_failed() and (table["verdict"] != "failed").sum() == 3


def test_without_prefect_it_gives_what_the_flow_does(
    finished_cell: dict[str, str], parts: Path, tmp_path: Path
) -> None:
    given = {"run": "", "best": "parts/bolt", "images": [good(parts)], "out": str(tmp_path / "out"), "alarms": None}
    summary = alone(argparse.Namespace(**finished_cell, **given))
    assert summary["failed"] == 0 and len(pd.read_csv(tmp_path / "out" / "predictions.csv")) == 3


def test_nothing_is_computed_for_images_that_are_not_there(finished_cell: dict[str, str], tmp_path: Path) -> None:
    state: Any = predict(
        **finished_cell,
        best="parts/bolt",
        images=[str(tmp_path / "*.png")],
        out=str(tmp_path / "out"),
        return_state=True,
    )
    with pytest.raises(PlanError, match=r"is no image, folder or pattern"):
        state.result()


def command(finished_cell: dict[str, str], *given: str) -> subprocess.CompletedProcess[str]:
    places = ["--plan", finished_cell["plan"], "--workspace", finished_cell["workspace"]]
    command = [sys.executable, "-m", "flows.predict", *places, *given]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300, check=False)


def test_the_command_needs_no_server(finished_cell: dict[str, str], parts: Path, tmp_path: Path) -> None:
    done = command(finished_cell, "--best", "parts/bolt", good(parts), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        rf"parts/bolt padim seed 0: .*(normal|defective); {tmp_path}/out/predictions.csv\n", done.stdout
    )


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["--best", "parts/bold"], "the plan has no 'parts/bold' (did you mean 'parts/bolt'?)"),
        (["--best", "parts/bolt", "--alarms", "2"], "alarms: 2.0 is no share of false alarms"),
        ([], "say which cell"),
        (["--best", "parts/bolt", "--out", "~nobody-of-this-name/out"], "the home folder is not known here"),
    ],
)
def test_a_mistake_is_one_line(
    finished_cell: dict[str, str], parts: Path, tmp_path: Path, given: list[str], error: str
) -> None:
    done = command(finished_cell, good(parts), "--out", str(tmp_path / "out"), *given)
    assert done.returncode == 2 and error in done.stderr and len(done.stderr.splitlines()) == 1
