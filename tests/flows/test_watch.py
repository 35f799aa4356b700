"""`adcore watch` as a command: killed again and again, and still one result an image."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.watch import watch

REPO = Path(__file__).parents[2]


@pytest.fixture
def places(finished_cell: dict[str, str]) -> list[str]:
    """Which cell, as arguments."""
    named = [f"--{name}={value}" for name, value in finished_cell.items()]
    return [*named, "--best=parts/bolt"]


def start(places: list[str], line: Path, *given: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.watch", *places, "--in", str(line / "in"), "--out", str(line / "out")]
    return subprocess.Popen([*command, *given], cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def results(line: Path) -> list[str]:
    found = [json.loads(path.read_text())["prediction"]["path"] for path in (line / "out" / "rows").glob("*.json")]
    return sorted(Path(path).name for path in found)


def test_once_scores_what_is_there_and_ends(places: list[str], parts: Path, tmp_path: Path) -> None:
    shutil.copytree(parts / "bolt" / "test" / "good", tmp_path / "in")
    process = start(places, tmp_path, "--once")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0 and output.startswith("3 images: "), errors


def test_it_ends_by_itself_when_all_has_a_result(
    finished_cell: dict[str, str], parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(parts / "bolt" / "test" / "good", tmp_path / "in")
    folders = {"source": tmp_path / "in", "out": tmp_path / "out"}
    given = {"run": "", "best": "parts/bolt", "alarms": None, "once": True, "every": 1.0}
    watch(argparse.Namespace(**finished_cell, **folders, **given))
    assert capsys.readouterr().out.startswith("3 images: ")


def test_ctrl_c_ends_it_with_what_there_is(places: list[str], parts: Path, tmp_path: Path) -> None:
    shutil.copytree(parts / "bolt" / "test" / "good", tmp_path / "in")
    process = start(places, tmp_path)
    wait(lambda: len(results(tmp_path)) == 3)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and output.startswith("3 images: "), errors
    assert len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) == 1 + 3


def test_a_mistake_is_one_line(places: list[str], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    process = start(places, tmp_path, "--every", "-1")
    _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (
        2,
        "error: --every -1 is no number of seconds; give one above 0, such as 1\n",
    )


def wait(ready) -> None:  # type: ignore[no-untyped-def]
    for _ in range(1200):
        if ready():
            return
        time.sleep(0.1)
    pytest.fail("it did not come to that")


@pytest.mark.slow
def test_a_thousand_images_and_ten_kills_make_a_thousand_results(places: list[str], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    names = [f"{n:04d}.png" for n in range(1000)]
    for kill in range(10):
        for name in names[100 * kill : 100 * (kill + 1)]:
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "in" / name)
        there = len(results(tmp_path))
        process = start(places, tmp_path)
        wait(lambda there=there: len(results(tmp_path)) > there + 20)
        process.kill()
        process.wait()
    process = start(places, tmp_path, "--once")
    assert process.wait(timeout=300) == 0
    assert results(tmp_path) == names
