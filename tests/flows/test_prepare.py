"""The prepare flow with --dataset: a public set from a copy of one's own, and what it says where there is none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageEnhance

from flows import command
from flows import prepare as module
from flows.prepare import prepare
from tests.datasets import layouts


def run(**arguments: Any) -> dict[str, Any]:
    outcome = prepare(**arguments, return_state=True).result(raise_on_failure=False)
    assert isinstance(outcome, dict), outcome
    return outcome


def test_a_folder_is_linked_read_and_validated(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    copy = layouts.write("btad", tmp_path / "copy")
    training = Image.open(copy / "01/train/ok/0000.bmp")
    ImageEnhance.Brightness(training).enhance(0.6).save(copy / "01/test/ok/0009.bmp")
    work = tmp_path / "work"
    outcome = run(dataset="btad", source=str(copy), workspace=str(work))
    assert outcome == {"failed": 0, "last_line": "categories: 3 ready, 0 failed"}
    told = capfd.readouterr().err
    assert "btad: licence CC BY-SA 4.0" in told
    assert "warning: btad/01: 1 of 7 test images (14.3%) have a twin in training" in told
    assert (work / "data/btad").readlink() == copy
    assert (work / "manifests/btad.csv").exists()
    page = (work / "results/validation.html").read_text()
    assert "train has 6 images and 400 are published" in page


def test_a_set_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    outcome = run(dataset="mvtec_loco", workspace=str(tmp_path / "work"))
    assert outcome["failed"] == 1
    first, last = outcome["last_line"].splitlines()
    assert first.startswith("failed: mvtec_loco/*: dataset mvtec_loco: its owners document no lasting address; fetch")
    assert last == "categories: 0 ready, 1 failed"


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        (["--dataset", "visa", "--plan", "params.yaml"], 2, "give either --plan or --dataset"),
        (["--from", "somewhere"], 2, "--from and --accept-licence go with --dataset"),
        (["--dataset", "visa", "--from", "fr\udcfch.tar"], 2, r"--from fr\xfch.tar is not printable text"),
        (["--dataset", "viza"], 2, "unknown dataset kind 'viza' (did you mean 'visa'?)"),
        (["--dataset", "visa", "--dry-run"], command.PARTLY, "missing: the files of visa"),
    ],
)
def test_arguments(
    given: list[str],
    code: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare", *given, "--workspace", str(tmp_path / "work")])
    with pytest.raises(SystemExit) as ended:
        module._arguments()
    shown = capsys.readouterr()
    assert ended.value.code == code and told in shown.out + shown.err
